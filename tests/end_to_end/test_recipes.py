"""Every shipped recipe makes pairs from real pictures: built-in photographs, frames and trees cut from them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from blursynth import ShardDataset, make
from blursynth.recipe import load_recipe, summaries
from isp import command
from isp.files import pictures

PHOTOS = Path(pictures.__file__).parents[2].parent / "shared" / "data" / "sharp"


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    clips = load_recipe("realblur_j").source.open(None).clips
    return next(clip for clip in clips if clip.name.endswith("coffee.png")).read().sharp


def frames(folder: Path, photograph: np.ndarray) -> None:
    """A clip of 11 frames: the camera pans one pixel a frame."""
    (folder / "clip").mkdir(parents=True)
    for at in range(11):
        pictures.write_image(folder / "clip" / f"{at:04d}.png", photograph[20:320, 20 + at : 340 + at])


def tree(folder: Path, photograph: np.ndarray, layout: str) -> None:
    """One ready-made triple in a published layout: blurred by a box of 9 pixels, its mask, the sharp picture."""
    day = folder / ("RSBlur/0007/0001" if layout == "rsblur" else "seq/000001")
    blurred, mask, sharp = {
        "gopro_u": (
            folder / "centroid_blurred_img/1_blurred.png",
            folder / "centroid_blurred_mask_100/1_blurred.png",
            folder / "target_img/1_gt.png",
        ),
        "gopro_abme": (
            day / "avg_inter_img/avg_blur.png",
            day / "avg_inter_mask_100/avg_blur.png",
            day / "gt/gt_sharp.png",
        ),
        "rsblur": (day / "avg65_img/avg_blur.png", day / "avg65_mask_100/avg_blur.png", day / "gt/gt_sharp.png"),
    }[layout]
    light = uniform_filter1d(photograph.astype(float), 9, axis=1)
    clipped = uniform_filter1d((photograph == 255) * 255.0, 9, axis=1)
    for path, pixels in ((blurred, light), (mask, clipped), (sharp, photograph.astype(float))):
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.write_image(path, pixels.round().astype(np.uint8))


@pytest.fixture(scope="module", params=sorted(summaries()))
def made(request, tmp_path_factory, photograph):
    """(recipe, folder of its shards)"""
    recipe = load_recipe(request.param)
    scratch = tmp_path_factory.mktemp(recipe.name)
    data = []
    if recipe.source.use != "photos":
        if recipe.source.use == "frames":
            frames(scratch / "data", photograph)
        else:
            tree(scratch / "data", photograph, recipe.source.layout)
        data = ["--data", str(scratch / "data")]
    arguments = ["--recipe", recipe.name, "--out", str(scratch / "out"), "--count", "3", "--workers", "0", *data]
    assert make.main(arguments) == command.DONE
    return recipe, scratch / "out"


def test_every_recipe_makes_pairs_of_its_size(made):
    recipe, folder = made
    pairs = ShardDataset(folder)
    assert len(pairs) == 3
    assert recipe.size == (256, 256)
    for at in range(3):
        blur, sharp = pairs[at]["blur"], pairs[at]["sharp"]
        assert blur.shape == sharp.shape == (3, 256, 256)
        assert 0.5 < float(blur.mean()) / float(sharp.mean()) < 2
        assert float((blur - sharp).abs().mean()) > 1e-3


def test_every_recipe_leaves_a_contact_sheet_and_a_manifest(made):
    recipe, folder = made
    sheet = pictures.read_image(folder / "contact_sheet.png")
    assert sheet.shape[0] > 256 and sheet.std() > 10
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["count"] == 3 and manifest["recipe"]["name"] == recipe.name


def test_blurred_and_sharp_are_registered(made):
    """A centred kernel shifts nothing: the best integer shift of blurred onto sharp is none."""
    recipe, folder = made
    for pair in (ShardDataset(folder)[at] for at in range(3)):
        blur, sharp = (np.log(pair[name].mean(0).double().numpy() + 0.05) for name in ("blur", "sharp"))
        blur, sharp = blur - blur.mean(), sharp - sharp.mean()
        correlation = np.fft.ifft2(np.fft.fft2(blur) * np.conj(np.fft.fft2(sharp))).real
        row, column = np.unravel_index(correlation.argmax(), correlation.shape)
        assert max(min(row, 256 - row), min(column, 256 - column)) <= 2, recipe.name


SAMPLES = """
import hashlib, json, os, sys
from pathlib import Path
from blursynth import synthesis
from blursynth.recipe import load_recipe
from blursynth.shards import arrays
from blursynth.shards.record import record_of

for name, data in json.loads(sys.argv[1]).items():
    recipe = load_recipe(name)
    clip = recipe.source.open(None if data is None else Path(data)).clips[0]
    with synthesis.one_thread():
        sample = synthesis.synthesise(clip, recipe, 3)
    pair = arrays.arrays_of(sample, recipe.bits)
    content = b"".join(array.tobytes() for array in pair.values()) + record_of(sample, clip.digest, pair).encode()
    print(name, hashlib.sha256(content).hexdigest())
"""


def test_a_default_device_changes_no_sample(tmp_path, photograph):
    """`torch.set_default_device`, in a user's script or a sitecustomize.py, sends what is made without a device elsewhere."""
    places = {}
    for name in summaries():
        recipe = load_recipe(name)
        if recipe.source.use == "frames":
            frames(tmp_path / name, photograph)
        elif recipe.source.use == "pairs":
            tree(tmp_path / name, photograph, recipe.source.layout)
        places[name] = None if recipe.source.use == "photos" else str(tmp_path / name)
    said = []
    for before in ("", "import torch; torch.set_default_device('meta')\n"):
        command_line = [sys.executable, "-c", before + SAMPLES, json.dumps(places)]
        environment = os.environ | {"PYTHONPATH": str(Path(pictures.__file__).parents[2])}
        done = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    assert said[0] == said[1]
    assert len(said[0]) == len(places)


def test_no_data_where_none_is_built_in(tmp_path, capsys):
    assert make.main(["--recipe", "gopro_u", "--out", str(tmp_path / "out")]) == command.BAD_DATA
    assert "centroid_blurred_img" in capsys.readouterr().err
    assert make.main(["--recipe", "realblur_j_frames", "--out", str(tmp_path / "out")]) == command.BAD_DATA
    assert "--data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"{PHOTOS} is not there")
def test_real_photographs(tmp_path):
    """Night scenes of the RealBlur camera: sensor noise, clipped street lamps, no border artefact."""
    arguments = [
        "--recipe",
        "realblur_j",
        "--data",
        str(PHOTOS),
        "--out",
        str(tmp_path),
        "--count",
        "8",
        "--workers",
        "0",
    ]
    assert make.main(arguments) == command.DONE
    for at in range(8):
        blur = ShardDataset(tmp_path)[at]["blur"].double()
        inner = blur[:, 8:-8, 8:-8]
        rows = roughness(blur[:, :, :4]), roughness(inner[:, :, :4])
        assert rows[0] < 6 * rows[1] + 0.02


def roughness(strip) -> float:
    return float((strip[:, 1:] - strip[:, :-1]).std())

"""ISPs that need the sRGB picture of the scene: the pipeline blurs it like the light, crops and turns it along."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from blursynth import make, synthesis
from blursynth.recipe import bind
from blursynth.sources import LAYOUTS
from blursynth.stages import isp as isp_stages
from blursynth.stages.geometry import DIHEDRAL, turn
from isp.files.pictures import read_image, write_image
from isp.light.convolution import convolve

ECHOED: dict[str, Any] = {
    "name": "echoed",
    "seed": 3,
    "samples_per_shard": 2,
    "isp": "echo",
    "source": {"use": "photos"},
    "save": ["kernel"],
    "stages": [
        {"crop": {"size": [64, 72]}},
        {"dihedral": {"choose": ["turn_180", "flip_rows"]}},
        {"camera": {"profile": "a7r3"}},
        "inverse_isp",
        {"camera_shake": {"sizes": [5, 7, 9]}},
        {"saturate": {"strength": [0.25, 1.75]}},
        "mosaic",
        {"sensor_noise": {"profile": "a7r3"}},
        "forward_isp",
        {"crop_border": {"pixels": 6}},
    ],
}

CUT = {"crop_border": {"pixels": 2}}


@pytest.fixture(autouse=True)
def _echo(reference_isp):
    isp_stages.opened.cache_clear()
    yield
    isp_stages.opened.cache_clear()


def finished(document: dict[str, Any], data: Path | None = None, index: int = 0):
    recipe = bind(document, "test")
    footage = recipe.source.open(data)
    return synthesis.synthesise(footage.clips[index % len(footage.clips)], recipe, index)


@pytest.mark.parametrize("index", range(4))
def test_the_reference_is_the_source_blurred_with_the_same_kernel(index) -> None:
    """The ISP returns its reference, so the blurred picture is the sharp one, blurred in sRGB by the stored kernel."""
    sample = finished(ECHOED, index=index)
    sharp = sample.sharp
    kernel = sample.kernel
    radius = len(kernel) // 2
    inner = (..., slice(radius, -radius), slice(radius, -radius))
    expected = convolve(sharp, kernel)
    assert torch.allclose(sample.image[inner], expected[inner], atol=2e-6)
    assert float((sample.image - sharp).abs().max()) > 0.02


@pytest.mark.parametrize("element", DIHEDRAL)
def test_it_is_cropped_and_turned_before_and_after_the_isp(element) -> None:
    """Whatever moves the picture moves its reference; what moves the result finds both still there."""
    stages = copy.deepcopy(ECHOED["stages"])
    stages[0] = {"crop": {"size": 64}}
    stages[1] = {"dihedral": {"choose": [element]}}
    plain = finished(ECHOED | {"stages": [*stages[:1], *stages[2:]]})
    turned = finished(ECHOED | {"stages": stages})
    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.equal(turned.sharp, turn(plain.sharp, element))
    expected = convolve(turn(plain.sharp, element), turned.kernel)
    assert torch.allclose(turned.image[inner], expected[inner], atol=2e-6)
    late = finished(ECHOED | {"stages": [*stages[:1], *stages[2:], stages[1], {"crop": {"size": 40}}]})
    at = (..., slice(late.draws["crop.1.top"], None), slice(late.draws["crop.1.left"], None))
    assert torch.equal(late.image, turn(plain.image, element)[at][..., :40, :40])
    assert late.reference.shape == (1, 3, 40, 40)


def test_a_measured_kernel_blurs_it(tmp_path) -> None:
    kernel = np.zeros((5, 5), np.float32)
    kernel[1, 1:4] = (0.5, 0.3, 0.2)
    np.save(tmp_path / "one.npy", kernel)
    stages = [
        {"kernel_bank": {"path": str(tmp_path)}} if "camera_shake" in stage else stage for stage in ECHOED["stages"]
    ]
    sample = finished(ECHOED | {"stages": stages})
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(sample.image[inner], convolve(sample.sharp, sample.kernel)[inner], atol=2e-6)
    assert not torch.equal(sample.kernel, torch.zeros(5, 5))


def test_a_response_that_the_isp_starts_from_applies_to_it() -> None:
    stages = list(ECHOED["stages"])
    stages.insert(3, "tone_curve")
    sample = finished(ECHOED | {"stages": stages})
    radius = len(sample.kernel) // 2
    inner = (..., slice(radius, -radius), slice(radius, -radius))
    assert torch.allclose(sample.image[inner], convolve(sample.sharp, sample.kernel)[inner], atol=2e-6)
    assert not torch.equal(sample.sharp, finished(ECHOED).sharp)


def test_of_ready_made_pairs_it_is_the_blurred_picture(tmp_path) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    written = {}
    for folder, name in LAYOUTS["gopro_u"]:
        path = tmp_path / folder / name.replace("*", "a")
        path.parent.mkdir()
        written[folder] = rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)
        write_image(path, written[folder])
    stages = [{"crop": {"size": 32}}, {"camera": {"profile": "a7r3"}}, "inverse_isp", "mosaic", "forward_isp", CUT]
    document = ECHOED | {"source": {"use": "pairs", "layout": "gopro_u"}, "save": [], "stages": stages}
    sample = finished(document | {"target": "rendered"}, tmp_path)
    top, left = sample.draws["crop.top"] + 2, sample.draws["crop.left"] + 2
    for made, folder in ((sample.image, "centroid_blurred_img"), (sample.sharp, "target_img")):
        expected = torch.from_numpy(written[folder][top : top + 28, left : left + 28].astype(np.float32) / 255)
        assert torch.equal(made[0].permute(1, 2, 0), expected)


def test_frames_are_averaged(tmp_path) -> None:
    levels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (5, 40, 44, 3), dtype=np.uint8)
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(levels):
        write_image(tmp_path / "clip" / f"{number:02d}.png", frame)
    stages = [
        {"crop": {"size": [32, 36]}},
        {"camera": {"profile": "a7r3"}},
        "inverse_isp",
        "accumulate",
        "mosaic",
        "forward_isp",
        CUT,
    ]
    document = ECHOED | {"source": {"use": "frames", "window": 5}, "save": [], "stages": stages}
    sample = finished(document, tmp_path)
    top, left = sample.draws["crop.top"], sample.draws["crop.left"]
    mean = torch.from_numpy(levels[:, top + 2 : top + 30, left + 2 : left + 34].mean(0, dtype=np.float64) / 255)
    assert torch.allclose(sample.image[0].permute(1, 2, 0).double(), mean, atol=1e-6)


def test_a_rendered_target_gets_the_sharp_picture() -> None:
    sample = finished(ECHOED | {"target": "rendered"})
    plain = finished(ECHOED)
    assert torch.equal(sample.sharp, plain.sharp)  # the ISP returns its reference, here the sharp source
    assert torch.equal(sample.image, plain.image)
    assert not torch.equal(sample.image, sample.sharp)


def test_recipes_whose_isp_needs_none_carry_none() -> None:
    recipe = bind(ECHOED | {"isp": "rsblur/a7r3"}, "test")
    (clip, *_) = recipe.source.open(None).clips
    assert synthesis.start(clip, recipe, 0, "cpu").reference is None
    assert synthesis.start(clip, bind(ECHOED, "test"), 0, "cpu").reference is not None
    stages = [
        {"forward_isp": {"isp": "rsblur/a7r3"}} if stage == "forward_isp" else stage for stage in ECHOED["stages"]
    ]
    inverse_only = bind(ECHOED | {"stages": stages}, "test")  # its inverse needs none
    assert synthesis.start(clip, inverse_only, 0, "cpu").reference is None


def test_it_changes_no_draw() -> None:
    draws = [finished(ECHOED | {"isp": name}, index=2).draws for name in ("echo", "rsblur/a7r3")]
    assert draws[0] == draws[1]


def test_make_accepts_it(tmp_path, capsys) -> None:
    path = tmp_path / "echoed.yaml"
    path.write_text(json.dumps(ECHOED))
    assert make.main(["--recipe", str(path), "--out", str(tmp_path / "out"), "--count", "4", "--workers", "0"]) == 0
    with h5py.File(tmp_path / "out" / "shard-00000.h5") as file:
        blur, sharp, kernels = (file[name][:] for name in ("blur", "sharp", "kernel"))
    assert blur.shape == (2, 52, 60, 3)
    for blurred, target, kernel in zip(blur, sharp, kernels, strict=True):
        planes = torch.from_numpy(target.astype(np.float32)).permute(2, 0, 1)[None]
        expected = convolve(planes, torch.from_numpy(kernel))[0].permute(1, 2, 0).numpy()
        assert np.abs(blurred - expected)[4:-4, 4:-4].max() < 0.501  # rounded once
        assert np.abs(blurred.astype(int) - target)[4:-4, 4:-4].max() > 5
    assert read_image(tmp_path / "out" / "contact_sheet.png").size

"""ISPs that need the sRGB picture of the scene: the pipeline blurs it like the light, crops and turns it along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blursynth import make, synthesis
from blursynth.recipe import bind
from blursynth.shards import shard
from blursynth.stages import isp as isp_stages
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
        {"crop_border": {"pixels": 2}},
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


def test_recipes_whose_isp_needs_none_carry_none() -> None:
    recipe = bind(ECHOED | {"isp": "rsblur/a7r3"}, "test")
    (clip, *_) = recipe.source.open(None).clips
    assert synthesis.start(clip, recipe, 0, "cpu").reference is None
    assert synthesis.start(clip, bind(ECHOED, "test"), 0, "cpu").reference is not None


def test_make_accepts_it(tmp_path, capsys) -> None:
    path = tmp_path / "echoed.yaml"
    path.write_text(json.dumps(ECHOED))
    assert make.main(["--recipe", str(path), "--out", str(tmp_path / "out"), "--count", "4", "--workers", "0"]) == 0
    with shard.open_shard(tmp_path / "out" / "shard-00000.h5") as file:
        blur, sharp = file["blur"][:].astype(int), file["sharp"][:].astype(int)
    assert blur.shape == (2, 52, 60, 3)
    assert abs(blur.mean() - sharp.mean()) < 2  # in sRGB, without noise: blur keeps the mean
    assert read_image(tmp_path / "out" / "contact_sheet.png").size

"""Parity with Unprocessing: the published TensorFlow code, and the variant of the ParamISP authors."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from isp import cfa, color, tone
from isp.backends import upi
from isp.camera import Camera

_spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)

TOLERANCE = 1e-5  # of max(1, the largest recorded value)


def recording(name: str) -> dict[str, torch.Tensor]:
    """As tensors, images as `b c h w`."""
    path = golden.folder() / "baselines" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not recorded in this folder")
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(values) for key, values in file.items()}


def published_case(letter: str) -> dict[str, torch.Tensor]:
    found = recording("upi")
    return {key.removeprefix(f"{letter}_"): value for key, value in found.items() if key.startswith(f"{letter}_")}


def planes(image: torch.Tensor) -> torch.Tensor:
    """h w c, or b h w c, as b c h w."""
    return (image[None] if image.ndim == 3 else image).permute(0, 3, 1, 2)


def assert_close(ours: torch.Tensor, recorded: torch.Tensor) -> None:
    assert ours.shape == recorded.shape
    largest = max(1.0, float(recorded.abs().max()))
    assert float((ours.double() - recorded.double()).abs().max()) <= TOLERANCE * largest


def shots(red: torch.Tensor, blue: torch.Tensor, matrices: torch.Tensor) -> Camera:
    count = len(matrices)
    return Camera(
        name=("recorded",) * count,
        cfa=("RGGB",) * count,
        white_balance=torch.stack([red, torch.ones(count), blue], 1),
        sensor_to_linear=matrices,
    )


def test_the_comparison_of_this_file_sees_a_difference():
    recorded = torch.ones(2, 2)
    assert_close(recorded + 0.9 * TOLERANCE, recorded)
    with pytest.raises(AssertionError):
        assert_close(recorded + 2 * TOLERANCE, recorded)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_golden_upi_published_inverse(monkeypatch, case):
    recorded = published_case(case)
    camera = shots(recorded["red_gain"][None], recorded["blue_gain"][None], recorded["cam2rgb"][None])
    srgb = planes(recorded["srgb"])
    untoned = tone.inverse_smoothstep(srgb)
    assert_close(untoned, planes(recorded["inv_smoothstep"]))
    linear = tone.inverse_gamma_curve(planes(recorded["inv_smoothstep"]))
    assert_close(linear, planes(recorded["inv_gamma"]))
    balanced = color.apply_matrix(planes(recorded["inv_gamma"]), recorded["rgb2cam"][None])
    assert_close(balanced, planes(recorded["inv_ccm"]))
    gains = camera.white_balance * recorded["rgb_gain"]
    assert_close(upi._restored_highlights(planes(recorded["inv_ccm"]), gains), planes(recorded["inv_gains"]))

    monkeypatch.setattr(upi, "RGB_GAIN", float(recorded["rgb_gain"]))
    published = upi.UPI("published")
    sensor = published.inverse(srgb, camera)
    assert_close(sensor, planes(recorded["inv_gains"]).clamp(0, 1))
    assert_close(pixel_unshuffle(cfa.mosaic(sensor, camera.cfa), 2), planes(recorded["raw_rggb"]))


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_golden_upi_published_forward(case):
    recorded = published_case(case)
    camera = shots(recorded["bayer_red_gain"], recorded["bayer_blue_gain"], recorded["bayer_cam2rgb"])
    bayer = pixel_shuffle(planes(recorded["bayer_in"]), 2)
    balanced = color.white_balance(bayer, camera).clamp(0, 1)
    assert_close(pixel_unshuffle(balanced, 2), planes(recorded["fwd_gained_clipped"]))
    balanced = pixel_shuffle(planes(recorded["fwd_gained_clipped"]), 2)
    assert_close(upi._bilinear_demosaic(balanced, camera.cfa), planes(recorded["fwd_demosaic"]))
    linear = color.apply_matrix(planes(recorded["fwd_demosaic"]), camera.sensor_to_linear)
    assert_close(linear, planes(recorded["fwd_ccm"]))
    assert_close(upi.UPI("published").forward(bayer, camera), planes(recorded["fwd_srgb"]))


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_golden_upi_paramisp(pattern):
    recorded = recording("upi_paramisp")
    of = pattern.lower()
    camera = Camera(
        name=("recorded",),
        cfa=(pattern,),
        white_balance=recorded[f"{of}_wb"],
        sensor_to_linear=recorded[f"{of}_cam2rgb"],
    )
    paramisp = upi.UPI("paramisp")
    assert_close(cfa.mosaic(paramisp.inverse(recorded[f"{of}_rgb"], camera), camera.cfa), recorded[f"{of}_raw"])
    assert_close(paramisp.forward(recorded[f"{of}_raw"].clamp(0, 1), camera), recorded[f"{of}_rgb_out"])

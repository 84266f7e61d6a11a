"""The RSBlur ISP: what each variant does, step by step, and where they differ."""

import numpy as np
import pytest
import torch

from isp import cfa, profile, tone
from isp.backends.rsblur import VARIANTS, RSBlur, create
from isp.camera import Camera

CURVES = {
    "a7r3": (tone.a7r3_response, tone.inverse_a7r3_response),
    "srgb": (tone.srgb_curve, tone.inverse_srgb_curve),
    "published": (tone.srgb_curve, tone.inverse_srgb_curve),
    "tensorflow": (tone.srgb_curve, tone.inverse_srgb_curve),
}


def noise(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    unit = np.random.Generator(np.random.PCG64(0)).random(shape, dtype=np.float32)
    return torch.from_numpy(unit * np.float32(high - low) + np.float32(low))


def shot(pattern: str = "RGGB", gains: tuple[float, float] = (2.0, 1.7)) -> Camera:
    return profile.load("a7r3").camera(gains, pattern)


def test_the_variants():
    assert tuple(CURVES) == VARIANTS
    assert create("", "cpu").name == "rsblur/a7r3"


@pytest.mark.parametrize("variant", VARIANTS)
def test_inverse_step_by_step(variant):
    srgb, camera = noise(1, 3, 6, 7), shot()
    linear = CURVES[variant][1](srgb)
    balanced = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(camera.sensor_to_linear[0]), linear)
    expected = balanced / camera.white_balance[:, :, None, None]
    assert torch.allclose(RSBlur(variant).inverse(srgb, camera), expected, atol=1e-6)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_step_by_step(variant, pattern):
    bayer, camera = noise(1, 1, 7, 8, low=-0.1, high=0.8), shot(pattern)
    gains = torch.zeros(7, 8)
    for row in range(7):
        for column in range(8):
            gains[row, column] = camera.white_balance[0, "RGB".index(pattern[2 * (row % 2) + column % 2])]
    border = "phase" if variant in ("a7r3", "srgb") else "zero"
    demosaiced = cfa.demosaic(bayer * gains, (pattern,), border)
    assert float(demosaiced.max()) > 1.2 and float(demosaiced.min()) < -0.1
    clipped = {
        "a7r3": demosaiced.clamp(max=1),
        "srgb": demosaiced.clamp(max=1),
        "published": demosaiced,
        "tensorflow": demosaiced.clamp(0, 1),
    }[variant]
    linear = torch.einsum("ij,bjhw->bihw", camera.sensor_to_linear[0], clipped)
    expected = CURVES[variant][0](linear).clamp(0, 1)
    assert torch.allclose(RSBlur(variant).forward(bayer, camera), expected, atol=2e-6)


@pytest.mark.parametrize("variant", ["a7r3", "srgb"])
@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_a_flat_colour_comes_back_to_the_border(variant, pattern):
    colour = torch.tensor([0.6, 0.35, 0.2])[None, :, None, None].expand(1, 3, 9, 10)
    made = RSBlur(variant)
    back = made.forward(cfa.mosaic(made.inverse(colour, shot()), (pattern,)), shot(pattern))
    assert torch.allclose(back, colour, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saturated_sensor_is_white_only_where_the_variant_clips_before_the_matrix(variant):
    saturated = torch.ones(1, 1, 8, 8)
    red, green, blue = RSBlur(variant).forward(saturated, shot())[0, :, 4, 4].tolist()
    if variant == "published":
        assert (red, blue) == (1, 1) and green < 0.8  # magenta
    else:
        assert (red, green, blue) == pytest.approx((1, 1, 1), abs=1e-6)


def test_what_a_variant_renders_like():
    """A sensor grey of 0.2: the camera's response makes it much brighter than the sRGB curve does."""
    grey = torch.full((1, 1, 8, 8), 0.2)
    for variant, (like, value) in {
        "a7r3": ("camera", 0.74), "srgb": ("srgb", 0.485), "published": ("srgb", 0.485), "tensorflow": ("srgb", 0.485)
    }.items():  # fmt: skip
        made = RSBlur(variant)
        assert made.limits.renders == like
        rendered = made.forward(grey, shot(gains=(1.0, 1.0)))[..., 2:-2, 2:-2]
        assert torch.allclose(rendered, torch.tensor(value), atol=8e-3)

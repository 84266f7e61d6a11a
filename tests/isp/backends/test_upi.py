"""Unprocessing: a pair that is one, and two released codes with the quirks that `isp.backends.upi` lists."""

import dataclasses

import numpy as np
import pytest
import torch

from isp import cfa, profile, tone
from isp.backends import upi
from isp.backends.upi import UPI, VARIANTS, create

LEVELS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def noise(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    unit = np.random.Generator(np.random.PCG64(0)).random(shape, dtype=np.float32)
    return torch.from_numpy(unit * np.float32(high - low) + np.float32(low))


def flat(*colour: float, side: int = 8) -> torch.Tensor:
    return torch.tensor(colour)[None, :, None, None].expand(1, -1, side, side).clone()


def there_and_back(isp: UPI, srgb: torch.Tensor, pattern: str = "RGGB") -> torch.Tensor:
    camera = profile.load("a7r3").camera((2.0, 1.7), pattern)
    return isp.forward(cfa.mosaic(isp.inverse(srgb, camera), camera.cfa), camera)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize("variant", ["pair", "paramisp"])
def test_both_sides_of_the_tone_curve_cancel_on_flat_fields(variant, pattern):
    for level in LEVELS:
        srgb = flat(level, level, level)
        inside = (..., slice(2, -2), slice(2, -2)) if variant == "paramisp" else ...
        # Its floors: the gamma curve's in the pair comes out as 1.6e-7; the variant's at black as 3.5e-6.
        assert torch.allclose(there_and_back(UPI(variant), srgb, pattern)[inside], srgb[inside], atol=2e-5)
    colour = flat(0.25, 0.5, 0.4)
    assert torch.allclose(there_and_back(UPI("pair"), colour, pattern), colour, atol=1e-5)


def test_the_published_pair_is_none(monkeypatch):
    """No tone curve on the way back: 0.25 comes back otherwise, darker by the brightness gain, but white stays."""
    camera = profile.load("a7r3").camera((2.0, 1.7))
    linear = tone.inverse_gamma_curve(tone.inverse_smoothstep(torch.tensor(0.25)))
    for rgb_gain in (1.0, 1.25, 2.0):
        monkeypatch.setattr(upi, "RGB_GAIN", rgb_gain)
        published = UPI("published")
        back = there_and_back(published, flat(0.25, 0.25, 0.25))
        assert torch.allclose(back, tone.gamma_curve(linear / rgb_gain).expand_as(back), atol=1e-5)
        sensor = published.inverse(flat(1.0, 1.0, 1.0), camera)
        assert torch.allclose(sensor, torch.ones(1), atol=1e-5)


def test_the_brightness_gain():
    grey = flat(0.5, 0.5, 0.5)
    linear = tone.inverse_gamma_curve(tone.inverse_smoothstep(torch.tensor(0.5)))
    back = there_and_back(UPI("published"), grey)
    assert torch.allclose(back, tone.gamma_curve(linear / 1.25).expand_as(back), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_sensor_of_white(variant):
    """Undoing the gains takes white below saturation, except where the highlights are kept."""
    sensor = create(variant, "cpu").inverse(flat(1.0, 1.0, 1.0), profile.load("a7r3").camera((2.0, 1.6)))
    expected = (1.0, 1.0, 1.0) if variant == "published" else (1 / 2.0, 1.0, 1 / 1.6)
    assert sensor[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_only_the_published_inverse_clips_the_sensor():
    white, camera = flat(1.0, 1.0, 1.0), profile.load("a7r3").camera((0.5, 0.5))
    largest = {variant: float(UPI(variant).inverse(white, camera).max()) for variant in VARIANTS}
    assert largest == {"pair": pytest.approx(2, abs=1e-5), "published": 1, "paramisp": pytest.approx(2, abs=1e-5)}


def test_paramisp_folds_what_its_matrix_drives_above_1():
    """3 x^2 - 2 x^3 without a clip falls back to 0 at 1.5: a bright saturated red turns dark. The pair has it at 1."""
    camera = profile.load("a7r3").camera((1.0, 1.0))
    sensor = flat(1.0, 0.2, 0.2)
    bayer = cfa.mosaic(sensor, camera.cfa)
    red = float((camera.sensor_to_linear[0, 0] * sensor[0, :, 0, 0]).sum())
    assert red > 1.5
    assert float(UPI("paramisp").forward(bayer, camera)[0, 0, 4, 4]) < 0.01
    assert float(UPI("pair").forward(bayer, camera)[0, 0, 4, 4]) == 1


def test_paramisp_stays_in_range_where_the_matrix_gives_much_less_than_0():
    camera = profile.load("s7").camera((1.0, 1.0))
    bayer = cfa.mosaic(flat(0.0, 1.0, 1.0), camera.cfa)
    linear = float((camera.sensor_to_linear[0, 0] * torch.tensor([0.0, 1.0, 1.0])).sum())
    assert linear < -0.5
    assert float(UPI("paramisp").forward(bayer, camera)[0, 0, 4, 4]) == 1


def test_paramisp_takes_an_srgb_that_rounding_took_above_1():
    camera = profile.load("a7r3").camera((2.0, 1.7))
    above = flat(1.0, 1.0, 1.0) + 1e-6
    assert torch.allclose(UPI("paramisp").inverse(above, camera), UPI("paramisp").inverse(flat(1.0, 1.0, 1.0), camera))


def test_the_published_demosaicing_is_bilinear_and_keeps_samples():
    plain = dataclasses.replace(profile.load("a7r3").camera((1.0, 1.0)), sensor_to_linear=torch.eye(3)[None])
    bayer = noise(1, 1, 6, 8)
    rgb = tone.inverse_gamma_curve(UPI("published").forward(bayer, plain))
    assert torch.allclose(cfa.mosaic(rgb, plain.cfa), bayer, atol=1e-5)
    mosaicked = bayer[0, 0]
    assert float(rgb[0, 0, 2, 3]) == pytest.approx(float(mosaicked[2, [2, 4]].mean()), abs=1e-5)
    assert float(rgb[0, 0, 3, 3]) == pytest.approx(float(mosaicked[2:5:2, 2:5:2].mean()), abs=1e-5)
    green = mosaicked[[1, 3, 2, 2], [2, 2, 1, 3]].mean()
    assert float(rgb[0, 1, 2, 2]) == pytest.approx(float(green), abs=1e-5)
    assert float(rgb[0, 2, 0, 0]) == pytest.approx(float(mosaicked[1, 1]), abs=1e-5)
    assert float(rgb[0, 0, 5, 7]) == pytest.approx(float(mosaicked[4, 6]), abs=1e-5)


def test_what_the_published_forward_cannot_take_is_refused_in_words():
    published = UPI("published")
    known = profile.load("a7r3")
    with pytest.raises(
        ValueError, match=r"upi/published: needs the CFA pattern RGGB, got GBRG; set camera.cfa to \[RGGB\]"
    ):
        published.forward(noise(1, 1, 8, 8), known.camera((2.0, 1.7), "GBRG"))
    with pytest.raises(ValueError, match=r"upi/published: height and width must be multiples of 2, got 7x8"):
        published.forward(noise(1, 1, 7, 8), known.camera((2.0, 1.7)))

"""Raw values and `bayer`: each site has the black level of its own colour, in both directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.camera import Camera
from isp.cfa import PATTERNS
from isp.levels import bayer_of_raw, raw_of_bayer

BLACK = {"R": 100.0, "G": 200.0, "B": 300.0}
WHITE = 1100.0


def camera(pattern: str, **changes) -> Camera:
    levels = {"black": torch.tensor([list(BLACK.values())]), "white": torch.tensor([WHITE])}
    return Camera(
        name=("x",),
        cfa=(pattern,),
        white_balance=torch.ones(1, 3),
        sensor_to_linear=torch.eye(3)[None],
        **levels | changes,
    )


def at_every_site(pattern: str, of_letter, height: int = 5, width: int = 7) -> np.ndarray:
    """A mosaic with the value of each site's colour, spelt out pixel by pixel."""
    return np.array([[of_letter(pattern[2 * (y % 2) + x % 2]) for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_site_has_the_levels_of_its_own_colour(pattern, share):
    raw = at_every_site(pattern, lambda letter: BLACK[letter] + share * (WHITE - BLACK[letter])).astype(np.uint16)
    flat = torch.full((1, 1, 5, 7), share)
    assert torch.allclose(bayer_of_raw(torch.from_numpy(raw), camera(pattern)), flat, atol=1e-6)
    assert raw_of_bayer(flat, camera(pattern)).numpy().tolist() == raw.tolist()


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(PATTERNS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_every_raw_value_comes_back(pattern, height, width, seed):
    raw = np.random.Generator(np.random.PCG64(seed)).integers(0, int(WHITE) + 1, (height, width)).astype(np.uint16)
    bayer = bayer_of_raw(torch.from_numpy(raw), camera(pattern))
    assert np.array_equal(raw_of_bayer(bayer, camera(pattern)).numpy(), raw)


def test_below_0_and_above_white_is_clipped_but_not_at_black():
    bayer = torch.tensor([[[[-0.05, -0.5], [0.5, 1.5]]]])
    assert raw_of_bayer(bayer, camera("RGGB")).numpy().tolist() == [[50, 0], [650, 1100]]


def test_neither_direction_changes_its_input():
    raw, bayer = torch.full((4, 4), 500).to(torch.uint16), torch.full((1, 1, 4, 4), 0.3)
    bayer_of_raw(raw, camera("GRBG"))
    raw_of_bayer(bayer, camera("GRBG"))
    assert bool((raw.int() == 500).all()) and bool((bayer == 0.3).all())


@pytest.mark.parametrize("unknown", ["black", "white"])
def test_unknown_levels_are_refused(unknown):
    blind = camera("RGGB", **{unknown: None})
    for convert in (
        lambda: bayer_of_raw(torch.zeros(4, 4).to(torch.uint16), blind),
        lambda: raw_of_bayer(torch.zeros(1, 1, 4, 4), blind),
    ):
        with pytest.raises(ValueError, match="raw: expected a camera with known black and white levels, got none"):
            convert()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="raw: expected numbers in the mosaic, got NaN"):
        raw_of_bayer(torch.full((1, 1, 2, 2), value), camera("RGGB"))

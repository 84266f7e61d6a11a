"""Colour filter arrays: a Bayer mosaic is recognised however it is written, and anything else gets its name."""

import numpy as np
import pytest

from isp import cfa
from isp.files.sensor import filters

NUMBER = {letter: number for number, letter in enumerate("RGBCMYW")}


def cells(text):
    return np.array([[NUMBER[letter] for letter in row] for row in text.split("/")])


def libraw(text):
    """LibRaw's numbers, as far as a mosaic goes on: RGBG, the second green being 3."""
    cell = np.array([["RGB".index(letter) for letter in row] for row in text.split("/")])
    sites = np.tile(cell, (filters.PERIOD // cell.shape[0], filters.PERIOD // cell.shape[1]))
    odd = (np.arange(filters.PERIOD) % 2 == 1)[:, None]
    return np.where((sites == 1) & odd, 3, sites)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize(("down", "along"), [(1, 1), (2, 1), (1, 2), (4, 1), (3, 3)])
def test_a_bayer_mosaic_may_be_written_as_a_larger_cell(pattern, down, along):
    cell = np.tile(cells(f"{pattern[:2]}/{pattern[2:]}"), (down, along))
    assert filters.pattern_of_dng(cell, 1, 0, 0)[0] == pattern
    assert filters.pattern_of_dng(cell, 1, 3, 2)[0] == cfa.shift(pattern, 3, 2)
    assert filters.pattern_of_libraw(libraw(f"{pattern[:2]}/{pattern[2:]}"), "RGBG")[0] == pattern


XTRANS = "GGRGGB/GGBGGR/BRGRBG/GGBGGR/GGRGGB/RBGBRG"
NAMED = {
    "RRGG/RRGG/GGBB/GGBB": "a quad-Bayer pattern of 4x4 pixels (RGGB in blocks of 2x2)",
    "BBBGGG/BBBGGG/BBBGGG/GGGRRR/GGGRRR/GGGRRR": "a nona-Bayer pattern of 6x6 pixels (BGGR in blocks of 3x3)",
    XTRANS: "the X-Trans pattern of Fujifilm",
    "RG/GB/RG/GB/GR/BG/GR/BG": "a pattern that repeats after 8x2 pixels (RG/GB/RG/GB/GR/BG/GR/BG)",
    "RG/GB/GR/BG": "a pattern that repeats after 4x2 pixels",
    "RGGB/GRBG": "a pattern that repeats after 2x4 pixels",
    "RGB": "a pattern that repeats after 1x3 pixels",
    "RG/BG": "a pattern that repeats after 2x2 pixels (RG/BG)",
    "GG/GG": "a monochrome sensor",
}


@pytest.mark.parametrize("cell", NAMED)
def test_every_other_pattern_has_its_name(cell):
    for found, said in (
        filters.pattern_of_dng(cells(cell), 1, 0, 0),
        filters.pattern_of_libraw(np.array(["RGB".index(letter) for letter in "R"]).reshape(1, 1), "RGBG"),
        filters.pattern_of_libraw(libraw(cell), "RGBG"),
    )[::2]:
        assert found is None
        assert said.severity == "fatal"
        assert said.text.startswith(f"expected a Bayer mosaic of 2x2 pixels, got {NAMED[cell]}")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("RW/WB", "colours B, R, W"),
        ("CM/YG", "colours C, G, M, Y"),
        ("RG/WB", "colours B, G, R, W"),
        ("CY/YM", "colours C, M, Y"),
    ],
)
def test_other_colours_are_named(cell, said):
    assert said in filters.pattern_of_dng(cells(cell), 1, 0, 0)[1].text


def test_four_colours_of_libraw_are_named():
    sites = np.tile([[0, 1], [3, 2]], (filters.PERIOD // 2, filters.PERIOD // 2))
    assert "colours B, E, G, R" in filters.pattern_of_libraw(sites, "RGBE")[1].text
    assert "colours C, G, M, Y" in filters.pattern_of_libraw(sites, "GMCY")[1].text
    assert filters.pattern_of_libraw(sites, "")[1].severity == "fatal"


def test_staggered_sites_and_files_without_filters():
    assert "staggered" in filters.pattern_of_dng(cells("RG/GB"), 2, 0, 0)[1].text
    assert "Foveon" in filters.absent(3, is_foveon=True).text
    assert "3 colours in each pixel" in filters.absent(3, is_foveon=False).text
    assert "monochrome" in filters.absent(1, is_foveon=False).text

"""Judges which colour filter array a sensor has: only Bayer mosaics of 2x2 pixels can be rendered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isp import cfa
from isp.files.findings import Finding

PERIOD = 24  # sites across; every known pattern repeats within them (2, 3, 4, 6, 8 and 12 sites)

_DNG_LETTERS = "RGBCMYW"
_REMEDY = "use another camera, or convert the file to a picture"


def pattern_of_dng(cells: np.ndarray, layout: int, top: int, left: int) -> tuple[str | None, Finding]:
    """Return (the CFA pattern at row `top` and column `left` of the active area, or None; the finding on it).

    `cells` has the numbers of the DNG specification for the colours of the cell that repeats.
    """
    letters = np.array([*_DNG_LETTERS, "?"])[np.clip(cells, 0, len(_DNG_LETTERS))]
    if layout != 1:
        return None, _unlike("a staggered layout, as that of a Fujifilm Super CCD")
    return _judged(np.roll(letters, (-top, -left), (0, 1)))


def pattern_of_libraw(colours: np.ndarray, names: str) -> tuple[str | None, Finding]:
    """Return (the CFA pattern at the first pixel, or None; the finding on it).

    `colours` are LibRaw's numbers of the colours of `PERIOD` x `PERIOD` sites, which `names` name. LibRaw gives the second
    green the number 3.
    """
    known = np.array([*names.ljust(16, "?")])
    return _judged(known[np.clip(colours, 0, 15)])


def absent(channels: int, is_foveon: bool) -> Finding:
    """Return the finding on a file without a colour filter array, of `channels` values in each pixel."""
    if is_foveon:
        return _unlike("three layers in each pixel (a Foveon sensor)")
    if channels > 1:
        text = (
            f"expected a Bayer mosaic, got {channels} colours in each pixel (a linear file, already demosaicked, or "
            "a scan); give the camera's own RAW, or convert it to a picture"
        )
        return Finding("CFA", "fatal", text)
    return _unlike("a monochrome sensor, without a colour filter array")


def _judged(letters: np.ndarray) -> tuple[str | None, Finding]:
    cell = _smallest(letters)
    if cell.shape == (2, 2) and "".join(cell.ravel()) in cfa.PATTERNS:
        found = "".join(cell.ravel())
        return found, Finding("CFA", "ok", found)
    return None, _unlike(_name_of(cell))


def _unlike(what: str) -> Finding:
    return Finding("CFA", "fatal", f"expected a Bayer mosaic of 2x2 pixels, got {what}; {_REMEDY}")


def _smallest(letters: np.ndarray) -> np.ndarray:
    """Return the smallest cell that repeats to `letters`."""
    height, width = letters.shape
    heights = (step for step in _divisors(height) if (letters == np.tile(letters[:step], (height // step, 1))).all())
    widths = (step for step in _divisors(width) if (letters == np.tile(letters[:, :step], (1, width // step))).all())
    return letters[: next(heights), : next(widths)]


def _divisors(number: int) -> Iterator[int]:
    yield from (step for step in range(1, number + 1) if number % step == 0)


def _name_of(cell: np.ndarray) -> str:
    colours = "".join(sorted(set(cell.ravel())))
    rows = "/".join(map("".join, cell[:8, :8]))
    size = f"{cell.shape[0]}x{cell.shape[1]}"
    if len(colours) == 1:
        return "a monochrome sensor, without a colour filter array"
    if cell.shape == (6, 6) and np.count_nonzero(cell == "G") == 20:
        return "the X-Trans pattern of Fujifilm, which repeats after 6x6 pixels"
    for side, name in ((2, "quad-Bayer"), (3, "nona-Bayer"), (4, "hexadeca-Bayer")):
        blocks = cell[::side, ::side]
        if cell.shape == (2 * side, 2 * side) and (cell == blocks.repeat(side, 0).repeat(side, 1)).all():
            return f"a {name} pattern of {size} pixels ({''.join(blocks.ravel())} in blocks of {side}x{side})"
    if set(colours) - set("RGB"):
        return f"a sensor of the colours {', '.join(colours)} ({rows})"
    return f"a pattern that repeats after {size} pixels ({rows})"

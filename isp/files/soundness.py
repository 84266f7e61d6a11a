"""Judges the values that a RAW file gives for its sensor: returns each usable value and a `Finding` on it.

The functions take plain values and open no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt16
from torch import Tensor

from isp import color
from isp.files.containers.contents import MOST_PIXELS_VARIABLE, most_pixels
from isp.files.findings import Finding
from isp.files.tiff import Page, blocks

Raw = UInt16[np.ndarray, "h w *colours"]

MOST_EMPTY, BLOCK = 0.01, 16
LEAST_BITS = {8: 1 / 128, 34892: 1 / 128}  # a pixel: Deflate and lossy compression pack whole areas into a few bits
LEAST_BITS_ELSE = 1 / 4  # every other code takes at least one bit, or codes pairs
EQUAL_GAINS = 0.01  # relative difference: no sensor is so even, but a file that is balanced already
MOST_GAIN = 20.0  # and its reciprocal: no light source is so coloured

_MOSAIC, _LINEAR = 32803, 34892
COMPRESSIONS = {
    1: "uncompressed", 6: "JPEG", 7: "JPEG", 8: "Deflate", 9: "VC-5 (GoPro GPR)", 32767: "Sony ARW", 32769: "packed",
    32770: "Samsung", 32867: "Kodak", 34713: "Nikon NEF", 34892: "lossy DNG", 52546: "JPEG XL", 65000: "Kodak DCR",
    65535: "Pentax PEF",
}  # fmt: skip
_NOT_IN_LIBRAW = (9, 52546)
_NO_GAINS = "give --white-balance to isp.apply"
_NO_MATRIX = "give --matrix to isp.apply, or convert the file to a DNG that has one"


# ---------------------------------------------------------------- the file


def main_page(pages: Iterable[Page]) -> Page | None:
    """Return the directory of the RAW data: that of the mosaic, else the one with the most bytes."""
    return max(
        (page for page in pages if any(True for _ in blocks(page))),
        # A DNG may hold a mask, a depth map or a demosaicked copy, which say so by their kind.
        key=lambda page: (
            page["colours"][0] in (_MOSAIC, _LINEAR),
            page["subfile"] == (0,),
            sum(length for _, length in blocks(page)),
        ),
        default=None,
    )


def encoding(page: Page) -> Finding:
    """Return the finding on how the RAW data of `page` are stored."""
    (number, *_), bits = page["compression"], max(page["bits"])
    name = COMPRESSIONS.get(number, f"compression {number}")
    return Finding("encoding", "ok", f"{name}, {bits} bits" if bits > 1 else name)  # 1 stands for an absent tag


def undecodable(page: Page | None, size: int, reason: str) -> Finding:
    """Return the finding on why LibRaw refused a file of `size` bytes with the RAW data of `page`."""
    text = f'expected a whole RAW file of a supported camera, got "{reason}"; copy it again, or convert it to DNG'
    if page is not None and page["compression"][0] in _NOT_IN_LIBRAW:
        name = COMPRESSIONS[page["compression"][0]]
        text = (
            f"expected a RAW file of a supported camera, got one compressed by {name}, which LibRaw cannot decode; "
            "convert it to an uncompressed DNG"
        )
    elif page is not None and (missing := _cut_short(page, size)) is not None:
        text = missing
    return Finding("data", "fatal", text)


def pixels(page: Page | None, height: int, width: int, size: int) -> Finding | None:
    """Return the finding on `height` x `width` pixels that a file of `size` bytes cannot hold, or that are too many.

    None if there is nothing wrong. A damaged size would otherwise cost gigabytes.
    """
    compression = 1 if page is None else page["compression"][0]
    least = int(height * width * LEAST_BITS.get(compression, LEAST_BITS_ELSE)) // 8
    if size < least:
        text = f"expected a whole RAW file of {height}x{width} pixels, which take at least {least} bytes, got {size}; "
        return Finding("data", "fatal", f"{text}it is damaged or truncated, copy it again")
    if height * width > (most := most_pixels()):
        text = f"expected at most {most} pixels, got {height}x{width}; raise the limit with the environment variable "
        return Finding("data", "fatal", f"{text}{MOST_PIXELS_VARIABLE}")
    return None


def _cut_short(page: Page, size: int) -> str | None:
    end = max((offset + length for offset, length in blocks(page)), default=0)
    if end <= size:
        return None
    return f"expected a whole RAW file of at least {end} bytes, got {size}; it is truncated, copy it again"


def data(raw: Raw, black: Sequence[float], page: Page | None, size: int) -> Finding:
    """Return the finding on whether the pixels are a picture from the first row to the last.

    If the bytes of some compressed formats end early, LibRaw fills the rest with zeros, one value, or repeated rows, and
    reports nothing.
    """
    # LibRaw itself counts the bytes of uncompressed files, whose directories are sometimes wrong.
    if page is not None and page["compression"] != (1,) and (missing := _cut_short(page, size)) is not None:
        return Finding("data", "fatal", missing)
    if not raw.any():
        return Finding("data", "fatal", "expected a picture, got zeros in every pixel; it is truncated, copy it again")
    if raw.min() == raw.max():
        return Finding("data", "fatal", f"expected a picture, got {raw.max()} in every pixel; copy it again")
    stop = _live_rows(raw)
    if stop < len(raw):
        kind = "zeros" if not raw[stop:].any() else "one value, or the rows above again,"
        text = f"expected pixels in all {len(raw)} rows, got {kind} from row {stop} on; it is truncated, copy it again"
        return Finding("data", "fatal", text)
    if min(black) > 0 and (empty := _empty(raw)) > MOST_EMPTY:
        text = f"expected pixels near or above the black level {min(black):g}, got zeros in {empty:.1%}; copy it again"
        return Finding("data", "fatal", text)
    return Finding("data", "ok", f"pixels in all {len(raw)} rows")


def _live_rows(raw: Raw) -> int:
    """Return the number of rows before the dead ones at the end: those with one value a colour, or that repeat."""
    most = raw.max()
    for row in range(len(raw) - 1, -1, -1):
        values = raw[row]
        flat = all(bool((values[start::2] == values[start]).all()) for start in range(min(2, len(values))))
        again = row >= 2 and np.array_equal(values, raw[row - 2])
        # A blown-out sky is flat too, but white.
        if not (flat or again) or values.max() == most:
            return row + 1
    return 0


def _empty(raw: Raw) -> float:
    """Return the share of blocks of zeros: tiles that were not decoded. Noise around a black level makes none."""
    height, width = (side // BLOCK for side in raw.shape[:2])
    whole = raw[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK, -1)
    return 1 - float(whole.any(axis=(1, 3, 4)).mean()) if whole.size else 0.0


# ---------------------------------------------------------------- the sensor


def matrix(
    xyz_to_sensor: np.ndarray, to_linear: np.ndarray
) -> tuple[tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"] | None] | None, Finding]:
    """Return ((sensor_to_linear, xyz_to_sensor or None), or None if there is no usable matrix; the finding on it).

    `sensor_to_linear` is float64 with rows that sum to 1; it follows from whichever matrix LibRaw has.
    """
    try:
        if xyz_to_sensor.any():
            found = color.matrix_from_libraw(xyz_to_sensor), torch.from_numpy(np.array(xyz_to_sensor))
            return found, Finding("matrix", "ok", "LibRaw's table has this camera (xyz_to_sensor)")
        if to_linear.any():
            rows = torch.from_numpy(to_linear.astype(np.float64))
            rows = rows / rows.sum(1, keepdim=True)
            if not bool(torch.isfinite(rows).all()) or abs(float(torch.linalg.det(rows))) < 1e-6:
                raise ValueError(f"a singular colour matrix {to_linear.tolist()}")
            return (rows, None), Finding("matrix", "ok", "the file's own (sensor_to_linear)")
    except (ValueError, RuntimeError) as cause:
        reason = " ".join(str(cause).split())
        text = f"expected a usable colour matrix, got: {reason}; {_NO_MATRIX}"
        return None, Finding("matrix", "fatal", text)
    text = f"expected a camera with a known colour matrix, got none; {_NO_MATRIX}"
    return None, Finding("matrix", "fatal", text)


# ---------------------------------------------------------------- white balance


def white_balance(
    as_shot: Sequence[float], daylight: Sequence[float], analog: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[tuple[float, float, float] | None, Finding]:
    """Return (gains with green 1, or None if there are no usable ones; the finding on them).

    They are the gains as shot, or LibRaw's daylight gains if those as shot cannot be right. They are judged together with
    the `analog` gains by which a DNG was balanced before it was digitised.
    """
    if not all(math.isfinite(gain) and gain > 0 for gain in analog):
        analog = (1.0, 1.0, 1.0)
    in_all, in_daylight = (
        [gain * before for gain, before in zip(gains, analog, strict=True)] for gains in (as_shot, daylight)
    )
    trouble, no_daylight = _trouble(in_all, in_daylight), _trouble(in_daylight, in_daylight)
    if _trouble(as_shot, as_shot) == _ALL_THE_SAME and _trouble(analog, analog) is None:
        trouble = None  # that is what balancing before digitising is for
    if not trouble:
        gains = _green_1(as_shot)
        also = "" if no_daylight else f"; daylight {_text(_green_1(daylight))}"
        return gains, Finding("white balance", "ok", f"{_text(gains)} as shot{also}")
    written = ", ".join(f"{gain:.3g}" for gain in as_shot)
    if no_daylight:
        text = f"expected white-balance gains, got {trouble} ({written}), and no daylight gains; {_NO_GAINS}"
        return None, Finding("white balance", "fatal", text)
    gains = _green_1(daylight)
    text = f"its white balance ({written}) is {trouble}; using LibRaw's daylight gains {_text(gains)}"
    if trouble == _ALL_THE_SAME:
        text += "; if the colours are far off, the mosaic is balanced already and needs --white-balance 1,1"  # as a Nikon D1
    return gains, Finding("white balance", "warning", text, "white balance replaced by daylight")


_ALL_THE_SAME = "the same for all colours"


def _green_1(gains: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = gains
    return red / green, 1.0, blue / green


def _text(gains: Sequence[float]) -> str:
    return " ".join(f"{gain:.4g}" for gain in gains)


def _trouble(gains: Sequence[float], daylight: Sequence[float]) -> str | None:
    """Return what is wrong with white-balance gains, None if nothing is."""
    if not all(math.isfinite(gain) for gain in gains):
        return "not finite"
    if min(gains) <= 0:
        return "zero or negative"
    if max(gains) < (1 + EQUAL_GAINS) * min(gains):
        return _ALL_THE_SAME
    if max(gains) > MOST_GAIN * gains[1] or min(gains) < gains[1] / MOST_GAIN:
        return "implausible for any light source"
    if min(daylight) > 0:
        # Light is seldom so far from daylight that the reciprocal gains would suit daylight better.
        stops = [[math.log(gain / green) for gain in (red, green, blue)] for red, green, blue in (gains, daylight)]
        as_written = sum((gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        inverted = sum((-gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        if inverted < as_written:
            return "inverted"
    return None

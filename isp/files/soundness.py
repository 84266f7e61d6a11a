"""Whether what a RAW file says of its sensor can be true: each value that can be used, and a `Finding` on it.

Plain values only; no file is opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt16
from torch import Tensor

from isp import cfa, color
from isp.files.findings import Finding
from isp.files.tiff import Page, blocks

Raw = UInt16[np.ndarray, "h w *colours"]

MOST_OF_WHITE = 1.5  # times the white level: LibRaw's is often a little low, but never so much
LEAST_OF_WHITE = 1 / 16
MOST_BELOW_BLACK = 0.5  # share of the pixels: noise takes half of a dark frame there, never more
MANY_BELOW_BLACK, MANY_ABOVE_WHITE = 0.2, 0.01  # shares that are worth a word
MOST_EMPTY, BLOCK = 0.01, 16
EQUAL_GAINS = 0.01  # apart: no sensor is so even, but a file that is balanced already
MOST_GAIN = 20.0  # and its reciprocal: no light is so coloured
_SHARES = (1e-12, 0.001, 0.5, 0.999, 1 - 1e-12)  # of the pixels, up to the least, ..., the most value

_MOSAIC, _LINEAR = 32803, 34892
COMPRESSIONS = {
    1: "uncompressed", 6: "JPEG", 7: "JPEG", 8: "Deflate", 9: "VC-5 (GoPro GPR)", 32767: "Sony ARW", 32769: "packed",
    32770: "Samsung", 32867: "Kodak", 34713: "Nikon NEF", 34892: "lossy DNG", 52546: "JPEG XL", 65000: "Kodak DCR",
    65535: "Pentax PEF",
}  # fmt: skip
_NOT_IN_LIBRAW = (9, 52546)


# ---------------------------------------------------------------- the file


def main_page(pages: Iterable[Page]) -> Page | None:
    """The directory of the RAW data: the mosaic's, else the one with the most bytes."""
    return max(
        (page for page in pages if any(True for _ in blocks(page))),
        key=lambda page: (page["colours"][0] in (_MOSAIC, _LINEAR), sum(length for _, length in blocks(page))),
        default=None,
    )


def encoding(page: Page) -> Finding:
    """How the RAW data of `page` are stored."""
    (number, *_), bits = page["compression"], max(page["bits"])
    name = COMPRESSIONS.get(number, f"compression {number}")
    return Finding("encoding", "ok", f"{name}, {bits} bits" if bits > 1 else name)  # 1 is that of an absent tag


def undecodable(page: Page | None, size: int, reason: str) -> Finding:
    """Why LibRaw refused a file of `size` bytes with the RAW data of `page`."""
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


def _cut_short(page: Page, size: int) -> str | None:
    end = max((offset + length for offset, length in blocks(page)), default=0)
    if end <= size:
        return None
    return f"expected a whole RAW file of at least {end} bytes, got {size}; it is truncated, copy it again"


def data(raw: Raw, black: Sequence[float], page: Page | None, size: int) -> Finding:
    """Whether the pixels are a picture from the first row to the last.

    LibRaw gives zeros, one value, or repeats itself, where the bytes of some compressed formats end early, and says nothing.
    """
    # It counts the bytes of uncompressed ones itself; their directories are sometimes wrong.
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
        text = f"expected pixels about its black {min(black):g} at least, got solid zeros in {empty:.1%}; copy it again"
        return Finding("data", "fatal", text)
    return Finding("data", "ok", f"pixels in all {len(raw)} rows")


def _live_rows(raw: Raw) -> int:
    """How many rows stand before those at the end that hold one value a colour or repeat the rows above."""
    most = raw.max()
    for row in range(len(raw) - 1, -1, -1):
        values = raw[row]
        flat = all(bool((values[start::2] == values[start]).all()) for start in range(min(2, len(values))))
        again = row >= 2 and np.array_equal(values, raw[row - 2])
        # A blown-out sky is flat too, but it is white.
        if not (flat or again) or values.max() == most:
            return row + 1
    return 0


def _empty(raw: Raw) -> float:
    """Share of the blocks in which every pixel is 0: tiles that were not decoded; noise about a black level makes none."""
    height, width = (side // BLOCK for side in raw.shape[:2])
    whole = raw[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK, -1)
    return 1 - float(whole.any(axis=(1, 3, 4)).mean()) if whole.size else 0.0


# ---------------------------------------------------------------- what the sensor is


def pattern(colours: np.ndarray | None, letters: str, channels: int) -> tuple[str | None, Finding]:
    """The CFA pattern from LibRaw's numbers of the colours; `channels` values stand in each pixel."""
    if channels > 1:
        text = (
            f"expected a Bayer mosaic, got {channels} colours in each pixel: a linear file, demosaicked already, or a "
            "scan; give the camera's own RAW, or convert it to a picture"
        )
        return None, Finding("CFA", "fatal", text)
    if colours is None:
        text = "expected a Bayer mosaic, got a file without a colour pattern; give the camera's own RAW"
        return None, Finding("CFA", "fatal", text)
    # LibRaw numbers the second green 3.
    found = "".join(letters[index] for index in colours.flat) if letters == "RGBG" else f"{letters} {colours.tolist()}"
    if found not in cfa.PATTERNS:
        text = f"expected a Bayer mosaic of 2x2 pixels, got the pattern {found}; use another camera"
        return None, Finding("CFA", "fatal", text)
    return found, Finding("CFA", "ok", found)


def matrix(
    xyz_to_sensor: np.ndarray, to_linear: np.ndarray
) -> tuple[tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"] | None] | None, Finding]:
    """(sensor_to_linear in float64 with rows that sum to 1, xyz_to_sensor or None), from whichever LibRaw has."""
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
        said = " ".join(str(cause).split())
        text = f"expected a usable colour matrix, got: {said}; convert the file to DNG"
        return None, Finding("matrix", "fatal", text)
    text = "expected a camera with a known colour matrix, got none; convert the file to DNG"
    return None, Finding("matrix", "fatal", text)


# ---------------------------------------------------------------- levels


def levels(raw: Raw, blacks: Sequence[float], white: float) -> tuple[tuple[float, ...] | None, list[Finding]]:
    """(black of red, green, blue, or None where the levels cannot be right; what the histogram says of them).

    `blacks` are those of red, green, blue and the other green.
    """
    red, green, blue, other = blacks
    black = (red, (green + other) / 2, blue)
    # In parts, because bincount makes eight bytes of each pixel.
    parts = np.array_split(raw, 1 + raw.size // 2**22)
    counts = np.sum([np.bincount(part.ravel(), minlength=2**16) for part in parts], axis=0)
    share_up_to = counts.cumsum() / max(1, raw.size)
    least, low, middle, high, most = (int(np.searchsorted(share_up_to, share)) for share in _SHARES)
    above, at_white = (1 - float(share_up_to[int(level)]) for level in (min(white, 65535), max(0, white - 1)))
    below = float(counts[: max(0, math.ceil(min(black)))].sum()) / max(1, raw.size)
    findings = [
        Finding("black", "ok", " ".join(f"{level:g}" for level in black) + f"; {below:.2%} of the pixels lie below"),
        Finding(
            "white",
            "ok",
            f"{white:g} ({int(white).bit_length()} bits); {max(0.0, at_white):.2%} of the pixels lie at or above",
        ),
        Finding("histogram", "ok", f"least {least}, 0.1 % {low}, median {middle}, 99.9 % {high}, most {most}"),
    ]
    if abs(green - other) > 0.01 * white:
        text = f"its greens have the black levels {green:g} and {other:g}; their mean is used"
        findings.append(Finding("black", "warning", text, "black of the two greens averaged"))
    if white <= max(black):
        text = f"expected white above black, got {white:g} and {list(black)}; convert it to DNG"
    elif high > MOST_OF_WHITE * white:
        text = f"expected pixels up to the white level {white:g}, got {above:.1%} above it, up to {most}; convert it to DNG"
    elif below > MOST_BELOW_BLACK:
        text = f"expected pixels above the black level {min(black):g}, got {below:.1%} below it; convert it to DNG"
    else:
        return black, findings + _doubts(below, above, most, white)
    return None, [*findings, Finding("levels", "fatal", text)]


def _doubts(below: float, above: float, most: int, white: float) -> list[Finding]:
    found = []
    if below > MANY_BELOW_BLACK:
        text = f"its black level lies above {below:.1%} of the pixels; they become negative"
        found.append(Finding("black", "warning", text, "black level doubtful"))
    if above > MANY_ABOVE_WHITE:
        text = f"its white level {white:g} lies below {above:.1%} of the pixels, up to {most}; they become white"
        found.append(Finding("white", "warning", text, "white level doubtful"))
    if most < LEAST_OF_WHITE * white:
        text = (
            f"no pixel comes near its white level {white:g}: the most is {most}; it is very dark, or the level is wrong"
        )
        found.append(Finding("white", "warning", text, "very dark or white level doubtful"))
    return found


# ---------------------------------------------------------------- white balance


def white_balance(
    as_shot: Sequence[float], daylight: Sequence[float]
) -> tuple[tuple[float, float, float] | None, Finding]:
    """Gains with green 1: as shot, or LibRaw's for daylight where those cannot be right; None where both cannot."""
    trouble, no_daylight = _trouble(as_shot, daylight), _trouble(daylight, daylight)
    if not trouble:
        gains = _green_1(as_shot)
        offered = "" if no_daylight else f"; daylight {_spoken(_green_1(daylight))}"
        return gains, Finding("white balance", "ok", f"{_spoken(gains)} as shot{offered}")
    said = ", ".join(f"{gain:.3g}" for gain in as_shot)
    if no_daylight:
        text = f"expected white-balance gains, got {trouble} ({said}), and no daylight gains; use another file"
        return None, Finding("white balance", "fatal", text)
    gains = _green_1(daylight)
    text = f"its white balance ({said}) is {trouble}; LibRaw's daylight gains {_spoken(gains)} are used"
    if trouble == _ALL_THE_SAME:
        text += "; if colours are far off, the mosaic is balanced already and wants gains of 1"  # a Nikon D1 does
    return gains, Finding("white balance", "warning", text, "white balance replaced by daylight")


_ALL_THE_SAME = "the same for all colours"


def _green_1(gains: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = gains
    return red / green, 1.0, blue / green


def _spoken(gains: Sequence[float]) -> str:
    return " ".join(f"{gain:.4g}" for gain in gains)


def _trouble(gains: Sequence[float], daylight: Sequence[float]) -> str | None:
    """What is wrong with white-balance gains, if anything."""
    if not all(math.isfinite(gain) for gain in gains):
        return "not finite"
    if min(gains) <= 0:
        return "zero or negative"
    if max(gains) < (1 + EQUAL_GAINS) * min(gains):
        return _ALL_THE_SAME
    if max(gains) > MOST_GAIN * gains[1] or min(gains) < gains[1] / MOST_GAIN:
        return "that of no light"
    if min(daylight) > 0:
        # Light is seldom so far from daylight that the reciprocal gains would suit daylight better.
        stops = [[math.log(each / of[1]) for each in of] for of in (gains, daylight)]
        as_written = sum((gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        inverted = sum((-gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        if inverted < as_written:
            return "inverted"
    return None

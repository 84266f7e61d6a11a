"""Judges the black and white levels of a RAW file by the histogram of its pixels, site by site of the 2x2 cell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt16

from isp.files.findings import Finding
from isp.files.sensor.levels import Black

MOST_OF_WHITE = 1.5  # times the white level: LibRaw's is often a little low, but never that much
LEAST_OF_WHITE = 1 / 16
MOST_BELOW_BLACK = 0.5  # share of the pixels: noise takes half of a dark frame below black, never more
MANY_BELOW_BLACK, MANY_ABOVE_WHITE = 0.2, 0.01  # shares that deserve a warning
_SHARES = (1e-12, 0.001, 0.5, 0.999, 1 - 1e-12)  # of the pixels: up to the minimum, ..., up to the maximum

Counts = Int[np.ndarray, "4 65536"]


def counts_of(raw: UInt16[np.ndarray, "h w"]) -> Counts:
    """Return how often each value occurs at each of the four sites of the 2x2 cell."""
    counts = np.zeros((4, 2**16), np.int64)
    for site in range(4):
        # In parts, because bincount converts each pixel to eight bytes.
        for part in np.array_split(raw[site // 2 :: 2], 1 + raw.size // 2**23):
            counts[site] += np.bincount(part[:, site % 2 :: 2].ravel(), minlength=2**16)
    return counts


# ---------------------------------------------------------------- levels


def levels(counts: Counts, black: Black, shown: str, white: float) -> tuple[bool, list[Finding]]:
    """Return (whether the levels can be right; the findings on the histogram). `shown` are the black levels in words."""
    pixels = max(1, int(counts.sum()))
    share_up_to = counts.sum(0).cumsum() / pixels
    least, low, middle, high, most = (int(np.searchsorted(share_up_to, share)) for share in _SHARES)
    lowest, highest = black.least(), black.most()
    # A damaged file may state levels of any size.
    above, at_white = (1 - float(share_up_to[_value(level)]) for level in (white, white - 1))
    below = float(share_up_to[_value(math.ceil(lowest) - 1.0)]) if lowest > 0 else 0.0
    findings = [
        Finding("black", "ok", f"{shown}; {below:.2%} of the pixels are below"),
        Finding(
            "white",
            "ok",
            f"{white:g} ({int(white).bit_length()} bits); {max(0.0, at_white):.2%} of the pixels are at or above",
        ),
        Finding("histogram", "ok", f"minimum {least}, 0.1 % {low}, median {middle}, 99.9 % {high}, maximum {most}"),
    ]
    if white <= highest:
        text = f"expected white above black, got {white:g} and {highest:g}; convert it to DNG"
    elif high > MOST_OF_WHITE * white:
        text = f"expected pixels up to the white level {white:g}, got {above:.1%} above it, up to {most}; convert it to DNG"
    elif below > MOST_BELOW_BLACK:
        text = f"expected pixels above the black level {lowest:g}, got {below:.1%} below it; convert it to DNG"
    else:
        return True, findings + _doubts(below, above, most, white)
    return False, [*findings, Finding("levels", "fatal", text)]


def _value(level: float) -> int:
    """Return the pixel value, 0..65535, at or next to a level."""
    return int(min(max(level, 0), 65535))


def _doubts(below: float, above: float, most: int, white: float) -> list[Finding]:
    found = []
    if below > MANY_BELOW_BLACK:
        text = f"{below:.1%} of its pixels are below the black level; they become negative"
        found.append(Finding("black", "warning", text, "black level doubtful"))
    if above > MANY_ABOVE_WHITE:
        text = f"{above:.1%} of its pixels are above the white level {white:g}, up to {most}; they become white"
        found.append(Finding("white", "warning", text, "white level doubtful"))
    if most < LEAST_OF_WHITE * white:
        text = f"its brightest pixel is {most}, far below the white level {white:g}; it is very dark, or the level is wrong"
        found.append(Finding("white", "warning", text, "very dark or white level doubtful"))
    return found


# ---------------------------------------------------------------- where the sensor clips

# A clipped sensor gives one value, or a narrow peak, and nothing above it: a step in the histogram that no scene makes,
# because light falls off at the edges of bright things and photons are noisy.
_PEAKS = (0.002, 0.005)  # widths of the peak, as shares of the range from black to white
_BELOW = 16  # peak widths below the peak, with which it is compared
_TIMES = 5.0  # as many pixels in the peak as on average in each of these
_LEAST_PIXELS, _LEAST_SHARE = 100, 2e-4  # of one site: less is a highlight
_STRAY = 2e-5  # share of pixels that may lie above it: hot pixels, or errors of the camera
_TOGETHER = 0.5  # share of the pixels in the peak with a neighbour in the peak: hot pixels lie alone
_NEAR_WHITE = 0.99  # of the range: clipping above this is as good as at white
_ALIKE = 0.01  # of the range: sites that clip at the same value
_FLAT, _VARIED = 0.5, 0.95  # shares of neighbours with equal values: of the clipped colour, and of the others there


@dataclass(frozen=True)
class _Peak:
    site: int
    level: int  # the median
    lowest: int
    highest: int


def white_of(
    raw: UInt16[np.ndarray, "h w"], counts: Counts, pattern: str, black: Black, white: float
) -> tuple[float, list[Finding]]:
    """Return (the level at which the sensor clips: `white`, or a lower one at which pixels pile up; findings on that).

    Clipping shows at the same value in two colours, or in one colour that is flat where the others are not. If colours
    clip at different values, the lowest is white for all, so that what is blown out stays neutral.
    """
    phases, widest = black.of_phases().ravel(), white - black.most()
    if widest <= 0:
        return white, []
    peaks = [_peak(raw, counts[site], site, float(phases[site]), widest) for site in range(4)]
    found = [peak for peak in peaks if peak is not None]
    if not found:
        return white, []
    lowest = min(found, key=lambda peak: peak.level)
    alike = {pattern[peak.site] for peak in found if peak.level - lowest.level <= _ALIKE * widest}
    if len(alike) < 2 and not any(_is_flat_alone(raw, peak, pattern) for peak in found):
        return white, []
    text = f"its {_named({pattern[peak.site] for peak in found})} pixels pile up at {lowest.level}"
    highest = max(found, key=lambda peak: peak.level).level
    text += f" to {highest}" if highest - lowest.level > _ALIKE * widest else ""
    text += f", below the white level {white:g}"
    brighter = {
        pattern[site]
        for site, peak in enumerate(peaks)
        if peak is None and _top(counts[site]) - lowest.highest > _ALIKE * widest
    }
    if brighter:
        text += (
            f", but {_named(brighter)} pixels are brighter; the white level stays, and blown-out areas may be tinted"
        )
        return white, [Finding("white", "warning", text, "white level doubtful")]
    text += f"; using {lowest.level} for white"
    consequence = "white level lowered to where its pixels pile up"
    return float(lowest.level), [Finding("white", "warning", text, consequence)]


def _named(letters: Iterable[str]) -> str:
    names = [name for letter, name in (("R", "red"), ("G", "green"), ("B", "blue")) if letter in letters]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _top(counts: Int[np.ndarray, " 65536"]) -> int:
    """Return the largest value of a site, but for stray pixels."""
    from_above = counts[::-1].cumsum()
    return 65535 - int(np.searchsorted(from_above, _STRAY * from_above[-1], side="right"))


def _peak(
    raw: UInt16[np.ndarray, "h w"], counts: Int[np.ndarray, " 65536"], site: int, black: float, widest: float
) -> _Peak | None:
    """Return the peak at the top of one site's histogram if it is clipped well below white."""
    pixels, top = int(counts.sum()), _top(counts)
    for share in _PEAKS:
        width = max(1, round(share * widest))
        lowest = top - width + 1
        if lowest - _BELOW * width <= max(black, 0):
            return None  # too dark to tell
        piled = int(counts[lowest : top + 1].sum())
        below = int(counts[lowest - _BELOW * width : lowest].sum()) / _BELOW
        level = lowest + int(np.searchsorted(counts[lowest : top + 1].cumsum(), piled / 2))
        if (
            piled >= max(_LEAST_PIXELS, _LEAST_SHARE * pixels)
            and piled >= _TIMES * below
            and level - black < _NEAR_WHITE * widest
            and _lie_together(raw[site // 2 :: 2, site % 2 :: 2], lowest)
        ):
            return _Peak(site, level, lowest, top)
    return None


def _lie_together(values: UInt16[np.ndarray, "h w"], lowest: int) -> bool:
    high = values >= lowest
    beside = np.zeros_like(high)
    beside[:, 1:] |= high[:, :-1]
    beside[:, :-1] |= high[:, 1:]
    return int(np.count_nonzero(high & beside)) >= _TOGETHER * int(np.count_nonzero(high))


def _is_flat_alone(raw: UInt16[np.ndarray, "h w"], peak: _Peak, pattern: str) -> bool:
    """Return whether neighbours in the peak have equal values, but those of other colours beside them have not."""
    sites = [raw[site // 2 :: 2, site % 2 :: 2] for site in range(4)]
    height, width = (min(sides) for sides in zip(*(values.shape for values in sites), strict=True))
    sites = [values[:height, :width] for values in sites]
    own = sites[peak.site]
    high = np.minimum(own[:, :-1], own[:, 1:]) >= peak.lowest
    pairs = max(1, int(np.count_nonzero(high)))
    equal = [int(np.count_nonzero((values[:, :-1] == values[:, 1:]) & high)) / pairs for values in sites]
    others = [share for share, letter in zip(equal, pattern, strict=True) if letter != pattern[peak.site]]
    return equal[peak.site] >= _FLAT and max(others) <= _VARIED

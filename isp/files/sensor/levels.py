"""Black levels that differ from site to site, and a mosaic brought to levels that a `Camera` can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16

from isp import cfa
from isp.files.sensor.opcodes import Gain, Window

# Levels of a corrected mosaic: noise stays whole down to a seventh of the range below black.
BLACK, WHITE = 8192.0, 65535.0
MOST_SPREAD = 0.002  # of the range: levels that differ by less shift a colour by less than half a step of 8 bits
_BAND = 256  # rows at a time; even, so that each band begins with the same colours


@dataclass(frozen=True)
class Black:
    """Black levels of a mosaic: `tile` repeats from its top-left pixel; each row and each column may add its own value."""

    tile: Float[np.ndarray, "r c"]
    rows: Float[np.ndarray, " h"]
    columns: Float[np.ndarray, " w"]

    def band(self, first: int, height: int) -> Float[np.ndarray, "height w"]:
        """Return the levels of `height` rows from row `first` on."""
        down = np.arange(first, first + height)
        along = np.arange(len(self.columns)) % self.tile.shape[1]
        levels = self.tile[down % self.tile.shape[0]][:, along] + self.rows[down, None] + self.columns
        return np.asarray(levels, np.float32)

    def _extreme(self, of: np.ufunc) -> float:
        """Return the smallest or largest level."""
        height, width = (min(sides) for sides in zip(self.tile.shape, (len(self.rows), len(self.columns)), strict=True))
        down = np.array([of.reduce(self.rows[row :: self.tile.shape[0]]) for row in range(height)])
        along = np.array([of.reduce(self.columns[column :: self.tile.shape[1]]) for column in range(width)])
        return float(of.reduce(self.tile[:height, :width] + down[:, None] + along, axis=None))

    def least(self) -> float:
        """Return the smallest level."""
        return self._extreme(np.minimum)

    def most(self) -> float:
        """Return the largest level."""
        return self._extreme(np.maximum)

    def of_phases(self) -> Float[np.ndarray, "2 2"]:
        """Return the mean level of each of the four phases of a 2x2 cell."""
        cell = np.tile(self.tile, (2, 2))
        mean = [[cell[row::2, column::2].mean() for column in (0, 1)] for row in (0, 1)]
        return np.array(mean, np.float64) + float(self.rows.mean() + self.columns.mean())

    def of_colours(self, pattern: str) -> tuple[float, float, float]:
        """Return the mean level of red, green and blue."""
        phases = self.of_phases().ravel()
        red, green, blue = (
            float(np.mean([level for level, found in zip(phases, pattern, strict=True) if found == letter]))
            for letter in "RGB"
        )
        return red, green, blue

    def fits(self, white: float) -> bool:
        """Return whether one level for each colour, and one range for all, are good enough."""
        return self.most() - self.least() <= MOST_SPREAD * (white - self.most())


def uniform(levels: Sequence[Sequence[float]], height: int, width: int) -> Black:
    """Return the levels of a cell of any size that repeats over a mosaic."""
    return Black(np.array(levels, np.float64), np.zeros(height), np.zeros(width))


def at_common_levels(
    raw: UInt16[np.ndarray, "h w"], black: Black, white: float, gains: Sequence[Gain], window: Window
) -> UInt16[np.ndarray, "h w"]:
    """Return a mosaic at the levels `BLACK` and `WHITE`, each site corrected by its own level and by all gains.

        result = BLACK + gain (raw - black) / (white - largest black) (WHITE - BLACK)

    All colours have one range, because white-balance gains belong to differences of raw values. A site at white stays
    there, whatever its gain. The result is rounded and clipped to [0, WHITE].

    Source: dng2021, chapter 5
    """
    corrected = np.empty_like(raw)
    scale = np.float32(1 / (white - black.most()))
    for first in range(0, len(raw), _BAND):
        recorded = raw[first : first + _BAND]
        band = (recorded - black.band(first, len(recorded))) * scale
        for gain in gains:
            gain.multiply(band, dataclasses.replace(window, top=window.top + first))
        np.maximum(band, 1, out=band, where=recorded >= white)
        corrected[first : first + _BAND] = (band * (WHITE - BLACK) + BLACK).round().clip(0, WHITE)
    return corrected


def colours_of(pattern: str) -> np.ndarray:
    """Return the colours of a 2x2 cell: red 0, green 1, blue 2."""
    found = np.empty((2, 2), int)
    for colour, rows, columns in cfa.sites(pattern):
        found[rows, columns] = colour
    return found

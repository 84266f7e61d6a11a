"""The opcode lists of a DNG: corrections that its camera leaves to the reader, and the two of them that are gains.

A list is big-endian whatever the order of the file: a count, then of each opcode its number, version, flags, and the
length of its body. Coordinates are those of the active area.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

NAMES = {
    1: "WarpRectilinear", 2: "WarpFisheye", 3: "FixVignetteRadial", 4: "FixBadPixelsConstant", 5: "FixBadPixelsList",
    6: "TrimBounds", 7: "MapTable", 8: "MapPolynomial", 9: "GainMap", 10: "DeltaPerRow", 11: "DeltaPerColumn",
    12: "ScalePerRow", 13: "ScalePerColumn", 14: "WarpRectilinear2",
}  # fmt: skip
MOST_BYTES = 2**24  # of a list: a map of 1000 x 1000 points takes 4 MB
MOST_GAINS = 64  # opcodes in all lists that are applied: each takes a pass over the picture
MOST_GAIN = 1000.0

_MOSAIC, _DEMOSAICKED = 2, 3  # the lists that act on the mosaic after black is subtracted, and on the three colours


@dataclass(frozen=True)
class Opcode:
    """One entry of OpcodeList1, 2 or 3, which `place` tells."""

    place: int
    number: int
    body: bytes

    @property
    def name(self) -> str:
        """Return its name in the DNG specification."""
        return NAMES.get(self.number, f"opcode {self.number}")


@dataclass(frozen=True)
class Window:
    """Rows and columns of a picture: those of `top` and `left` first, in an active area of `height` x `width`.

    colours  red 0, green 1, blue 2 of the 2x2 cell at the first row and column
    """

    top: int
    left: int
    height: int
    width: int
    colours: Int[np.ndarray, "2 2"]


def listed(content: bytes, place: int) -> list[Opcode]:
    """Return the opcodes of a list. Raises `ValueError` if it is damaged."""
    found = []
    (count,), at = _unpack(">I", content, 0), 4
    for _ in range(count):
        number, _version, _flags, length = _unpack(">4I", content, at)
        at += 16
        if at + length > len(content):
            raise ValueError("the list ends early")
        found.append(Opcode(place, number, content[at : at + length]))
        at += length
    return found


def _unpack(form: str, content: bytes, at: int) -> tuple[Any, ...]:
    if at + struct.calcsize(form) > len(content):
        raise ValueError("the list ends early")
    return struct.unpack_from(form, content, at)


def _checked(gains: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest gain. Raises `ValueError` if they are not gains."""
    least, most = min(gains), max(gains)
    if not (math.isfinite(least) and math.isfinite(most)) or least <= 0 or most > MOST_GAIN:
        raise ValueError(f"gains of {least:g} to {most:g}")
    return least, most


# ---------------------------------------------------------------- GainMap


@dataclass(frozen=True)
class GainMap:
    """Gains on a grid, which are interpolated between its points.

    area     top, left, bottom, right; it takes every `pitch`-th row and column of them
    planes   the colours: in OpcodeList2, the mosaic is plane 0
    spacing  of the points, and `origin` of the first, as shares of the height and the width of the active area
    points   the gains; the last plane stands for all that follow

    Source: dng2021, GainMap
    """

    place: int
    area: tuple[int, int, int, int]
    planes: range
    pitch: tuple[int, int]
    spacing: tuple[float, float]
    origin: tuple[float, float]
    points: Float[np.ndarray, "rows columns planes"]

    @staticmethod
    def of(opcode: Opcode) -> GainMap:
        """Read the body of an opcode. Raises `ValueError` if it is damaged."""
        numbers = _unpack(">10I4dI", opcode.body, 0)
        top, left, bottom, right, plane, planes, row_pitch, column_pitch, rows, columns = numbers[:10]
        spacing, origin, depth = numbers[10:12], numbers[12:14], numbers[14]
        if not (rows and columns and depth and row_pitch and column_pitch) or bottom < top or right < left:
            raise ValueError("a map without points")
        if len(opcode.body) < 76 + 4 * rows * columns * depth:
            raise ValueError("the map ends early")
        for count, step, start in zip((rows, columns), spacing, origin, strict=True):
            if not (math.isfinite(start) and math.isfinite(step)) or (count > 1 and step <= 0):
                raise ValueError(f"a map with a spacing of {step:g}")
        points = np.frombuffer(opcode.body, ">f4", rows * columns * depth, 76).astype(np.float32)
        _checked((float(points.min()), float(points.max())))
        return GainMap(
            opcode.place,
            (top, left, bottom, right),
            range(plane, plane + planes),
            (row_pitch, column_pitch),
            (spacing[0], spacing[1]),
            (origin[0], origin[1]),
            points.reshape(rows, columns, depth),
        )

    def least_and_most(self) -> tuple[float, float]:
        """Return the smallest and the largest gain of the points."""
        return float(self.points.min()), float(self.points.max())

    def multiply(self, band: Float[np.ndarray, "rows columns"], window: Window) -> None:
        """Multiply the pixels of the area whose colour has a plane."""
        top, left, bottom, right = self.area
        rows = _every(top, bottom, self.pitch[0], window.top, band.shape[0])
        columns = _every(left, right, self.pitch[1], window.left, band.shape[1])
        down = self._between(0, np.arange(band.shape[0])[rows] + window.top, window.height)
        along = self._between(1, np.arange(band.shape[1])[columns] + window.left, window.width)
        taken = band[rows, columns]
        for plane, where in self._planes(band, window, rows, columns):
            points = self.points[..., min(plane, self.points.shape[2] - 1)]
            np.multiply(taken, _interpolated(points, down, along), out=taken, where=where)

    def _planes(
        self, band: np.ndarray, window: Window, rows: slice, columns: slice
    ) -> Iterator[tuple[int, np.ndarray | bool]]:
        """Yield each plane that has pixels in the band, and which of the taken pixels these are."""
        if self.place == _MOSAIC:
            yield from [(0, True)] * (0 in self.planes)
            return
        down, along = np.arange(band.shape[0])[rows] % 2, np.arange(band.shape[1])[columns] % 2
        colours = window.colours[down][:, along]
        yield from ((colour, colours == colour) for colour in range(3) if colour in self.planes)

    def _between(self, axis: int, places: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of each row or column the point before it, the point behind it, and the share of the latter."""
        last = self.points.shape[axis] - 1
        if last == 0:
            return np.zeros_like(places), np.zeros_like(places), np.zeros(places.shape, np.float32)
        at = ((places + 0.5) / side - self.origin[axis]) / self.spacing[axis]
        at = at.clip(0, last)  # outside the grid, its border holds
        before = np.minimum(at.astype(int), last - 1)
        return before, before + 1, (at - before).astype(np.float32)


def _every(first: int, stop: int, pitch: int, start: int, length: int) -> slice:
    """Return the slice of a band of `length` from `start` on with every `pitch`-th of `first` to `stop`."""
    begin = first - start if first >= start else (first - start) % pitch
    return slice(min(begin, length), max(0, min(stop - start, length)), pitch)


def _interpolated(
    points: Float[np.ndarray, "rows columns"], down: tuple[np.ndarray, ...], along: tuple[np.ndarray, ...]
) -> Float[np.ndarray, "height width"]:
    above, below, share = down
    rows = points[above] + (points[below] - points[above]) * share[:, None]
    before, behind, share = along
    gains: np.ndarray = rows[:, before] + (rows[:, behind] - rows[:, before]) * share
    return gains


# ---------------------------------------------------------------- FixVignetteRadial


@dataclass(frozen=True)
class Vignette:
    """Gains that grow with the distance r from the optical centre; r is 1 in the corner farthest from it.

        gain = 1 + k0 r^2 + k1 r^4 + k2 r^6 + k3 r^8 + k4 r^10

    centre  (x, y) as shares of the width and the height

    Source: dng2021, FixVignetteRadial
    """

    terms: tuple[float, ...]
    centre: tuple[float, float]

    @staticmethod
    def of(opcode: Opcode) -> Vignette:
        """Read the body of an opcode. Raises `ValueError` if it is damaged."""
        *terms, across, down = _unpack(">7d", opcode.body, 0)
        if not (0 <= across <= 1 and 0 <= down <= 1):
            raise ValueError(f"an optical centre at {across:g}, {down:g}")
        found = Vignette(tuple(terms), (across, down))
        _checked(found._gain(np.linspace(0, 1, 65)).tolist())
        return found

    def _gain(self, square: np.ndarray) -> np.ndarray:
        """Return the gains at squares of r."""
        gain: np.ndarray = 1 + square * np.polynomial.polynomial.polyval(square, self.terms)
        return gain

    def least_and_most(self) -> tuple[float, float]:
        """Return the smallest and the largest gain."""
        return _checked(self._gain(np.linspace(0, 1, 65)).tolist())

    def multiply(self, band: Float[np.ndarray, "rows columns"], window: Window) -> None:
        """Multiply all pixels."""
        (across, down), (height, width) = self.centre, (window.height - 1, window.width - 1)
        most = (max(across, 1 - across) * width) ** 2 + (max(down, 1 - down) * height) ** 2
        rows = np.arange(band.shape[0], dtype=np.float32) + (window.top - down * height)
        columns = np.arange(band.shape[1], dtype=np.float32) + (window.left - across * width)
        band *= self._gain((rows[:, None] ** 2 + columns**2) / max(1, most)).astype(np.float32)


Gain = GainMap | Vignette


def gain_of(opcode: Opcode) -> Gain | None:
    """Return the gains of an opcode; None if it is of another kind. Raises `ValueError` if it is damaged."""
    if opcode.place not in (_MOSAIC, _DEMOSAICKED):
        return None
    if opcode.number == 9:
        return GainMap.of(opcode)
    return Vignette.of(opcode) if opcode.number == 3 else None

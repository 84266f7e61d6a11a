"""Converts pictures to sRGB from colours that primaries and curves define, in 8 and 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from isp import color, tone
from isp.files.orientation import Picture

Matrix = Float[np.ndarray, "3 3"]
# From values of a file to linear light, both in [0, 1].
Curve = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]

# x and y of white, red, green and blue
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
BT_2020 = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_RGB_EXPONENT = 563 / 256
_D50 = (0.9642, 1.0, 0.8249)  # of the ICC: the white of all profiles
# Bradford cone responses. Source: lam1985, in Lindbloom's notation
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_AT_ONCE = 2**20  # pixels that are converted together
_LEVELS = 9  # of each channel, in the colours that decide whether a space is sRGB


@dataclass(frozen=True)
class Space:
    """RGB colours: for each channel the curve to linear light, and the matrix from there to XYZ under D50."""

    curves: tuple[Curve, Curve, Curve]
    to_xyz: Matrix


def srgb_curve(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the linear light of sRGB values."""
    return tone.inverse_srgb_curve(torch.from_numpy(values)).numpy()


def power(exponent: float) -> Curve:
    """Return the curve from values to linear light that is a plain exponent."""
    return lambda values: values**exponent


def matrix_of(chromaticities: Sequence[float]) -> Matrix:
    """Return the matrix from linear RGB to XYZ under D50, of x and y of white, red, green and blue.

    Raises `ValueError` if they are no primaries: out of range, or on one line.
    """
    points = np.array(chromaticities, np.float64).reshape(4, 2)
    if not ((points >= 0) & (points <= 1)).all() or not (points[:, 1] > 1e-3).all():
        raise ValueError(f"expected chromaticities in (0, 1], got {points.tolist()}")
    x, y = points.T
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    white, primaries = columns[:, 0], columns[:, 1:]
    if abs(np.linalg.det(points[1:3] - points[3])) < 1e-3:
        raise ValueError(f"expected primaries that span a triangle, got {points[1:].tolist()}")
    unadapted = primaries * np.linalg.solve(primaries, white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    to_xyz: Matrix = adapt @ unadapted
    return to_xyz


def is_srgb(space: Space, tolerance: int) -> bool:
    """Return whether no colour of a coarse grid changes by more than `tolerance` of 255 in the conversion to sRGB."""
    grid = coarse_grid()
    return int(np.abs(converted(grid, space).astype(int) - grid).max()) <= tolerance


def coarse_grid() -> UInt8[np.ndarray, "1 n 3"]:
    """Return colours of every kind, as a picture of one row."""
    levels = np.linspace(0, 255, _LEVELS).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)


def converted(picture: Picture, space: Space) -> Picture:
    """Convert a picture to sRGB, in its own depth; colours outside of sRGB end on its border."""
    most = int(np.iinfo(picture.dtype).max)
    tables = [curve(np.linspace(0, 1, most + 1)) for curve in space.curves]
    to_linear = np.linalg.solve(_SRGB_TO_XYZ, space.to_xyz).T
    result = np.empty_like(picture)
    for part, into in zip(parts(picture), parts(result), strict=True):
        linear = np.stack([table[part[..., channel]] for channel, table in enumerate(tables)], -1) @ to_linear
        encoded = tone.srgb_curve(torch.from_numpy(np.clip(linear, 0, 1, out=linear))).numpy()
        into[...] = np.rint(encoded * most)
    return result


def parts(picture: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a picture in runs of rows, so that a conversion needs little more memory than its result."""
    rows = max(1, _AT_ONCE // max(1, picture.shape[1]))
    yield from (picture[at : at + rows] for at in range(0, len(picture), rows))


_SRGB_TO_XYZ = np.array(color.D65_TO_D50) @ np.array(color.LINEAR_TO_XYZ)

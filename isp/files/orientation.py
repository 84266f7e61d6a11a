"""Turns pictures upright, and back to how the sensor lies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8, UInt16

Picture = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]
Turned = UInt8[np.ndarray, "u v 3"] | UInt16[np.ndarray, "u v 3"]

# {EXIF orientation: turns an upright picture back to how the sensor lies}
UNTURN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def turned_back(picture: Picture, orientation: int) -> Turned:
    """Turn an upright picture back to how the sensor lies, for a shot of that EXIF orientation."""
    return UNTURN[orientation](picture)


def upright(picture: Picture, orientation: int) -> Turned:
    """Turn a picture that lies as the sensor upright; undoes `turned_back`."""
    return turned_back(picture, {6: 8, 8: 6}.get(orientation, orientation))  # the others are their own inverse

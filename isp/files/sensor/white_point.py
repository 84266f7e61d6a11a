"""The light of a DNG that states its chromaticity (AsShotWhiteXY) in place of the sensor's response to grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isp import color

_DAYLIGHT = (0.3127, 0.3290)  # D65
# The temperatures in kelvin of the EXIF light sources for which a matrix may hold. Source: dng2021, chapter 6
KELVIN = {
    1: 5500.0, 2: 4150.0, 3: 2850.0, 4: 5500.0, 9: 5500.0, 10: 6500.0, 11: 7500.0, 12: 6400.0, 13: 5050.0, 14: 4150.0,
    15: 3525.0, 16: 2925.0, 17: 2850.0, 18: 5500.0, 19: 6500.0, 20: 5500.0, 21: 6500.0, 22: 7500.0, 23: 5000.0,
    24: 3200.0,
}  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """The matrix from XYZ to what the sensor records under one light, and the temperature of that light if it is known."""

    xyz_to_sensor: Float[np.ndarray, "3 3"]
    kelvin: float | None


def gains_of_light(calibrations: Sequence[Calibration], xy: Sequence[float] = _DAYLIGHT) -> tuple[float, ...]:
    """Return the gains of red, green and blue for a light of the chromaticity `xy`, green 1; empty if there are none.

    The sensor sees the light as `xyz_to_sensor @ (x / y, 1, (1 - x - y) / y)`. Two matrices are mixed by the reciprocal
    temperatures of their lights.

    Source: dng2021, chapter 6
    """
    x, y = xy
    if not calibrations or y <= 0:
        return ()
    response = _mixed(calibrations, (x, y)) @ (x / y, 1, (1 - x - y) / y)
    if not (response > 0).all():
        return ()
    return tuple(float(value) for value in response[1] / response)


def _mixed(calibrations: Sequence[Calibration], xy: tuple[float, float]) -> Float[np.ndarray, "3 3"]:
    first, last = calibrations[0], calibrations[-1]
    if first.kelvin is None or last.kelvin is None or first.kelvin == last.kelvin:
        return last.xyz_to_sensor
    share = (1 / _kelvin(*xy) - 1 / last.kelvin) / (1 / first.kelvin - 1 / last.kelvin)
    share = min(max(share, 0.0), 1.0)
    return share * first.xyz_to_sensor + (1 - share) * last.xyz_to_sensor


def _kelvin(x: float, y: float) -> float:
    """Return the colour temperature of a light from its chromaticity, from 1,000 to 50,000 K.

        n = (x - 0.3320) / (0.1858 - y);  T = 449 n^3 + 3525 n^2 + 6823.3 n + 5520.33

    Source: mccamy1992, cubic formula
    """
    n = (x - 0.3320) / ((0.1858 - y) or 1e-9)
    return min(max(449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33, 1000.0), 50000.0)


def without_light(
    to_linear: np.ndarray, xy: Sequence[float], calibrations: Sequence[Calibration]
) -> Float[Tensor, "3 3"]:
    """Return LibRaw's matrix from sensor to linear RGB without the light that AsShotWhiteXY folds into it.

    If it takes the only matrix of a file, LibRaw multiplies the columns of xyz_to_sensor by the light's XYZ, relative to
    D65; if it chooses between two, it does not. The matrices of the file tell which. The rows of the result sum to 1.
    Raises `ValueError` for a light or a matrix that cannot be undone.
    """
    x, y = xy
    xyz = (
        torch.tensor([x, y, 1 - x - y], dtype=torch.float64, device="cpu")
        / torch.tensor([0.95047, 1.0, 1.08883], device="cpu").double()
    )
    to_xyz = torch.tensor(color.LINEAR_TO_XYZ, dtype=torch.float64, device="cpu")
    rows = torch.from_numpy(to_linear.astype(np.float64))
    if not bool((xyz > 0).all()) or abs(float(torch.linalg.det(rows))) < 1e-9:
        raise ValueError(f"a light of the chromaticity {x:g}, {y:g}")
    to_sensor = torch.linalg.inv(rows) @ torch.linalg.inv(to_xyz) @ torch.diag(1 / xyz) @ to_xyz
    undone: Tensor = torch.linalg.inv(to_sensor / to_sensor.sum(1, keepdim=True))
    expected = [color.matrix_from_libraw(calibration.xyz_to_sensor) for calibration in calibrations]
    return min((rows, undone), key=lambda matrix: min(float((matrix - other).abs().max()) for other in expected))

"""Values of the caller that go before those of a RAW file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from isp.camera import Camera


@dataclass(frozen=True)
class Given:
    """Checked values; None leaves that of the file.

    gains             of red, green and blue; green is 1
    sensor_to_linear  as that of `Camera`
    black, white      levels in the numbers of the file; black of red, green and blue
    """

    gains: tuple[float, float, float] | None = None
    sensor_to_linear: Float[Tensor, "3 3"] | None = None
    black: tuple[float, float, float] | None = None
    white: float | None = None

    @staticmethod
    def of(
        white_balance: Sequence[float] | None,
        sensor_to_linear: Sequence[Sequence[float]] | None,
        black: Sequence[float] | None,
        white: float | None,
    ) -> Given:
        """Check the values of a caller; `black` may be one level for all colours. Raises `ValueError` if one is unusable."""
        return Given(
            None if white_balance is None else _gains(white_balance),
            None if sensor_to_linear is None else _matrix(sensor_to_linear),
            None if black is None else _black(black),
            None if white is None else _white(white),
        )

    def applied(self, camera: Camera) -> Camera:
        """Return `camera` with these values in place of its own."""
        if self.gains is not None:
            camera = dataclasses.replace(camera, white_balance=torch.tensor([self.gains], device="cpu"))
        if self.sensor_to_linear is not None:
            matrix = self.sensor_to_linear.float()[None]
            camera = dataclasses.replace(camera, sensor_to_linear=matrix, xyz_to_sensor=None)
        if self.black is not None:
            camera = dataclasses.replace(camera, black=torch.tensor([self.black], device="cpu"))
        if self.white is not None:
            camera = dataclasses.replace(camera, white=torch.tensor([self.white], device="cpu"))
        return camera


def _gains(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3 or not all(math.isfinite(gain) and gain > 0 for gain in values):
        raise ValueError(f"white balance: expected three gains above 0, got {list(values)}; check them")
    red, green, blue = map(float, values)
    return red / green, 1.0, blue / green


def _matrix(rows: Sequence[Sequence[float]]) -> Float[Tensor, "3 3"]:
    if [len(row) for row in rows] != [3, 3, 3]:
        raise ValueError(f"matrix: expected three rows of three numbers, got {[list(row) for row in rows]}; check them")
    found = torch.tensor([list(row) for row in rows], dtype=torch.float64, device="cpu")
    if not bool(torch.isfinite(found).all()) or abs(float(torch.linalg.det(found))) < 1e-6:
        raise ValueError(f"matrix: expected one that can be inverted, got {found.tolist()}; check its values")
    return found


def _black(levels: Sequence[float]) -> tuple[float, float, float]:
    if len(levels) not in (1, 3) or not all(0 <= level <= 65535 for level in levels):
        raise ValueError(f"black: expected one level from 0 to 65535 or three, got {list(levels)}; check them")
    red, green, blue = map(float, levels if len(levels) == 3 else list(levels) * 3)
    return red, green, blue


def _white(level: float) -> float:
    if not 0 < level <= 65535:
        raise ValueError(f"white: expected a level above 0, up to 65535, got {level}; check it")
    return float(level)

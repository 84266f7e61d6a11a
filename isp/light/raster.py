"""Blur kernels from trajectories: how long a point of light stays on each pixel.

A kernel is a square float32 array of odd side, non-negative, with sum 1. Its centroid lies on the centre pixel, so that
the blurred image stays registered with the sharp one. Kernels are convolved, not correlated: the image of a point of
light is the kernel itself, unflipped.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from isp.light.trajectories import FAMILIES, Trajectory

Kernel = Float32[np.ndarray, "n n"]
Kernels = list[Float32[np.ndarray, "_ _"]]

_SPACING_PX = 1 / 8  # largest distance between splatted points: keeps an oblique line even within 1 %


def camera_shake(rng: np.random.Generator, family: str, size: int) -> Kernel:
    """Draw a kernel of one of `FAMILIES`, with its published parameters, that spans `size` pixels.

    Raises `ValueError` for an unknown family or a size that is not odd and at least 3.
    """
    _check_size("camera_shake", size)
    if family not in FAMILIES:
        raise ValueError(f"camera_shake: expected a family out of {', '.join(FAMILIES)}, got {family!r}")
    return rasterise(FAMILIES[family](rng), size)


def rasterise(trajectory: Trajectory, size: int) -> Kernel:
    """Return the kernel of a trajectory: how long its point of light stays on each of `size` x `size` pixels.

    The trajectory is moved and scaled, by the same factor in y and x, until its centroid lies on the centre pixel and
    the point farthest from it (in y or in x) lies on the centre of a border pixel. The segments between its points take
    equal times; each is spread evenly along the segment, with bilinear weights. The kernel has sum 1, and its centroid
    lies at the centre within 1e-5 px.
    Raises `ValueError` for a size that is not odd and at least 3, or a trajectory that does not move.
    """
    _check_size("rasterise", size)
    if len(trajectory) < 2 or not np.isfinite(trajectory).all() or not np.ptp(trajectory, axis=0).any():
        raise ValueError(
            f"rasterise: expected a trajectory of finite positions, at least two of them different, got "
            f"{len(trajectory)} that are not"
        )
    middles = (trajectory[1:] + trajectory[:-1]) / 2
    offsets = trajectory - middles.mean(axis=0)
    radius_px = (size - 1) / 2
    points_px = radius_px + offsets / np.abs(offsets).max() * radius_px

    segments_px = np.diff(points_px, axis=0)
    parts = np.maximum(np.ceil(np.hypot(*segments_px.T) / _SPACING_PX), 1).astype(np.intp)
    segment = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(segment)) - np.repeat(np.cumsum(parts) - parts, parts)
    fraction = (part + 0.5) / parts[segment]
    return splat(points_px[segment] + fraction[:, None] * segments_px[segment], 1 / parts[segment], size)


def splat(positions_px: Float64[np.ndarray, "k 2"], weights: Float64[np.ndarray, " k"], size: int) -> Kernel:
    """Distribute weighted points over the four pixels around each, which keeps their centroid; normalised to sum 1."""
    positions_px = positions_px.clip(0, size - 1)  # removes rounding errors only
    corner = positions_px.astype(np.intp).clip(max=max(size - 2, 0))  # on the far border: the pixel before, share 0
    low_y, low_x = (1 - (positions_px - corner)).T
    index = corner[:, 0] * size + corner[:, 1]
    cells = np.concatenate((index, index + 1, index + size, index + size + 1))
    shares = np.concatenate((low_y * low_x, low_y * (1 - low_x), (1 - low_y) * low_x, (1 - low_y) * (1 - low_x)))
    times = np.bincount(cells, shares * np.tile(weights, 4), size * size)[: size * size].reshape(size, size)
    kernel: Kernel = (times / times.sum()).astype(np.float32)
    return kernel


def pad(kernel: Kernel, size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Return the kernel surrounded by zeros, `size` x `size`.

    Raises `ValueError` if the size is even or smaller than the kernel, or the kernel has an even side.
    """
    _check_size("pad", size)
    if len(kernel) > size or len(kernel) % 2 == 0:
        raise ValueError(f"pad: expected a kernel of odd side up to {size} px, got {len(kernel)} px")
    return np.pad(kernel, (size - len(kernel)) // 2)


def _check_size(function: str, size: int) -> None:
    if size < 3 or size % 2 == 0:
        raise ValueError(f"{function}: expected a kernel size in pixels that is odd and at least 3, got {size}")

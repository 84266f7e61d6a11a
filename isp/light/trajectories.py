"""Trajectories of random camera shake, in three published families.

A trajectory is the path of one point of light across the sensor during an exposure: (y, x) at equal steps of time, in
arbitrary units. `isp.light.raster` turns it into a blur kernel.

To add a family, write its function here and add it to `FAMILIES`: recipes then accept its name. A recipe that does not
name the new family keeps its pixels, because the default of the stage `camera_shake` lists its families.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

Trajectory = Float64[np.ndarray, "points 2"]

# How strongly the hand trembles: one value is drawn for each path.
# Source: boracchi2012, DeblurGAN@af5ad45 (motion_blur/blur_image.py)
ANXIETIES = (0.003, 0.005, 0.007, 0.008, 0.009, 0.01)


def _check_points(family: str, points: int) -> None:
    if points < 2:
        raise ValueError(f"{family}: expected at least 2 points of a trajectory, got {points}")


def boracchi_foi(
    rng: np.random.Generator, anxieties: Sequence[float] = ANXIETIES, points: int = 2000, length_px: float = 60.0
) -> Trajectory:
    """Draw the path of a hand that trembles, is pulled back to its start, and sometimes jerks; its speed is constant.

        v <- v + J + e (s n - c x) step,    v <- v / |v| step,    x <- x + v,    step = length_px / (points - 1)

    All values are complex numbers, starting from x = 0 and v = e exp(i U[0, 2 pi]). n is complex standard normal;
    J = 2 v exp(i (pi + u)), u in U[-1/2, 1/2], with probability p e, else 0. Four numbers are drawn once for the path:
    e from `anxieties` (0 gives a straight line), the tremor s from U[0, 10], the pull c from U[0, 0.7], and p from
    U[0, 0.2]. `length_px` is the length of the whole path in pixels of the published 64-px canvas; the pull is
    relative to it.
    Raises `ValueError` for fewer than two points, a path without length, or a negative anxiety.
    Source: boracchi2012, DeblurGAN@3dbe63b (motion_blur/generate_trajectory.py)
    """
    _check_points("boracchi_foi", points)
    if not length_px > 0:
        raise ValueError(f"boracchi_foi: expected a path length above 0, got {length_px}")
    if not anxieties or min(anxieties) < 0:
        raise ValueError(f"boracchi_foi: expected one or more anxieties of at least 0, got {tuple(anxieties)}")
    anxiety = anxieties[int(rng.integers(len(anxieties)))]
    pull, jerk_probability, tremor, angle = rng.random(4) * (0.7, 0.2, 10.0, 2 * math.pi)
    normal = rng.standard_normal((2, points - 1))
    uniform = rng.random((2, points - 1))

    step = length_px / (points - 1)
    pushes = anxiety * step * tremor * (normal[0] + 1j * normal[1])
    jerks = 2 * np.exp(1j * (math.pi + uniform[1] - 0.5))
    turns = np.where(uniform[0] < jerk_probability * anxiety, 1 + jerks, 1)
    pull = float(pull) * anxiety * step
    # A loop, because the velocity is normalised at every step; Python's complex numbers are the fastest way to do it.
    velocity = (anxiety or step) * complex(math.cos(angle), math.sin(angle))
    position = 0j
    path = [position]
    for turn, push in zip(turns.tolist(), pushes.tolist(), strict=True):
        velocity = turn * velocity + push - pull * position
        velocity *= step / abs(velocity)
        position += velocity
        path.append(position)
    complex_path = np.array(path)
    return np.stack((complex_path.imag, complex_path.real), axis=1)


def schmidt(rng: np.random.Generator, points: int = 250) -> Trajectory:
    """Draw the path of a camera that drifts and turns in three dimensions, projected along the optical axis.

        r_t = (1 + g) r_(t-1) + g n_t / (t + 1),    v_t = v_(t-1) + m_t / (t + 1),    g = 2 pi / points
        x_t = x_(t-1) + Rz(r_t) Ry(r_t) Rx(r_t) v_t

    n_t, m_t and v_0 are standard normal in three dimensions; r_0 = 0, x_0 = 0. The angles grow by a factor of exp(2 pi),
    about 500, over a trajectory of any number of points, so its end curls.
    Raises `ValueError` for fewer than two points.
    Source: schmidt2013, KAIR@f36c972 (utils/utils_deblur.py)
    """
    _check_points("schmidt", points)
    start = rng.standard_normal((3, 1))
    time = np.arange(1, points)
    turn_shocks, drift_shocks = rng.standard_normal((2, 3, points - 1)) / (time + 1)
    gain = 2 * math.pi / points
    growth = (1 + gain) ** time
    angles = growth * np.cumsum(gain * turn_shocks / growth, axis=1)
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(angles), np.cos(angles)
    v_x, v_y, v_z = start + np.cumsum(drift_shocks, axis=1)

    v_y, v_z = cos_x * v_y - sin_x * v_z, sin_x * v_y + cos_x * v_z
    v_x = cos_y * v_x + sin_y * v_z
    v_x, v_y = cos_z * v_x - sin_z * v_y, sin_z * v_x + cos_z * v_y
    trajectory = np.zeros((points, 2))
    np.cumsum(np.stack((v_y, v_x), axis=1), axis=0, out=trajectory[1:])
    return trajectory


def gaussian_process(
    rng: np.random.Generator, length_scale: float = 0.3, std: float = 0.25, period_points: int = 1000
) -> Trajectory:
    """Draw a smooth path: y and x are independent Gaussian processes with a Matern-5/2 covariance.

        k(d) = std^2 (1 + a + a^2 / 3) exp(-a),    a = sqrt(5) |d| / length_scale

    The unit of time is one exposure. The process has a period of 2 pi, is sampled by FFT at `period_points` points, and
    the points of one exposure are kept. `length_scale` lies in (0, 1]; the period would distort longer covariances.
    Raises `ValueError` for fewer than two points in the exposure, or a `length_scale` or `std` out of range.
    Source: schuler2016, deepinv@0252656 (deepinv/physics/generator/blur.py, which calls it Matern 3/2)
    """
    points = int(period_points / (2 * math.pi))
    _check_points("gaussian_process", points)
    if not 0 < length_scale <= 1:
        raise ValueError(f"gaussian_process: expected a length_scale in (0, 1] exposures, got {length_scale}")
    if not std > 0:
        raise ValueError(f"gaussian_process: expected a std above 0, got {std}")
    lag = 2 * math.pi / period_points * np.arange(period_points)
    a = math.sqrt(5) / length_scale * np.minimum(lag, 2 * math.pi - lag)
    covariance = std**2 * (1 + a + a**2 / 3) * np.exp(-a)
    # The covariance has a kink half a period away, which can push its smallest frequencies below 0.
    spectrum = np.fft.rfft(covariance).real.clip(min=0)
    noise = np.fft.rfft(rng.standard_normal((2, period_points)))
    return np.fft.irfft(noise * np.sqrt(spectrum), period_points)[:, :points].T


FAMILIES: dict[str, Callable[[np.random.Generator], Trajectory]] = {
    "boracchi_foi": boracchi_foi,
    "schmidt": schmidt,
    "gaussian_process": gaussian_process,
}

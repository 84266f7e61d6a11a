"""Trajectories of camera shake: the published recurrences step by step, and the statistics that were published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.light import trajectories
from isp.rng import generator

seeds = st.integers(0, 2**32)

# ---------------------------------------------------------------- boracchi2012


def boracchi_foi_by_steps(rng: np.random.Generator, e: float, n: int, length: float) -> np.ndarray:
    """The published recurrence as it stands in the facts, term by term."""
    rng.integers(1)
    c, p, s, angle = rng.random(4) * [0.7, 0.2, 10, 2 * np.pi]
    normal, uniform = rng.standard_normal((2, n - 1)), rng.random((2, n - 1))
    v = np.exp(1j * angle) * (e if e > 0 else length / (n - 1))
    x = np.zeros(n, complex)
    for t in range(n - 1):
        jump = 2 * v * np.exp(1j * (np.pi + uniform[1, t] - 0.5)) if uniform[0, t] < p * e else 0
        v = v + jump + e * (s * (normal[0, t] + 1j * normal[1, t]) - c * x[t]) * length / (n - 1)
        v = v / np.abs(v) * length / (n - 1)
        x[t + 1] = x[t] + v
    return np.stack([x.imag, x.real], axis=1)


@pytest.mark.parametrize(("e", "points", "length_px"), [(0.01, 2000, 60.0), (0.003, 2000, 60.0), (0.9, 300, 45.0)])
def test_boracchi_foi_is_the_published_recurrence(e: float, points: int, length_px: float) -> None:
    for index in range(3):
        path = trajectories.boracchi_foi(generator(10, index, "path"), (e,), points, length_px)
        by_steps = boracchi_foi_by_steps(generator(10, index, "path"), e, points, length_px)
        np.testing.assert_allclose(path, by_steps, atol=1e-8)


@settings(deadline=None, max_examples=20)
@given(seeds, st.sampled_from(trajectories.ANXIETIES))
def test_boracchi_foi_keeps_its_speed(seed: int, e: float) -> None:
    path = trajectories.boracchi_foi(generator(seed, 0, "path"), (e,))
    np.testing.assert_allclose(np.hypot(*np.diff(path, axis=0).T), 60 / 1999, rtol=1e-9)


def test_boracchi_foi_is_straight_without_anxiety() -> None:
    path = trajectories.boracchi_foi(generator(11, 0, "path"), (0.0,))
    assert np.hypot(*(path[-1] - path[0])) == pytest.approx(60)


@pytest.mark.parametrize(
    ("e", "published_px"), [(0.003, (14, 22, 33)), (0.005, (12, 17, 28)), (0.01, (8, 13, 28))], ids=str
)
def test_boracchi_foi_extends_as_published(e: float, published_px: tuple[int, int, int]) -> None:
    """Larger side of the bounding box, 5, 50 and 95 % of trajectories.

    The published quantiles are whole pixels, of some 100 trajectories: standard errors of 0.7, 0.8 and 3 px.
    """
    rng = [generator(12, index, "path") for index in range(800)]
    extents_px = [np.ptp(trajectories.boracchi_foi(each, (e,)), axis=0).max() for each in rng]
    low, median, high = np.quantile(extents_px, [0.05, 0.5, 0.95])
    assert abs(low - published_px[0]) < 1.5
    assert abs(median - published_px[1]) < 1.5
    assert abs(high - published_px[2]) < 6


def test_boracchi_foi_jerks_turn_it_back_as_often_as_published() -> None:
    """p e per step with p from U[0, 0.2]: 0.1 e (points - 1) jerks a trajectory; each turns it by 180 degrees or so."""
    jerks = 0
    for index in range(200):
        steps = np.diff(trajectories.boracchi_foi(generator(13, index, "path"), (0.01,)), axis=0)
        cosine = (steps[1:] * steps[:-1]).sum(axis=1) / np.hypot(*steps[0]) ** 2
        jerks += int((cosine < 0).sum())
    expected = 200 * 0.1 * 0.01 * 1999
    assert abs(jerks - expected) < 4 * np.sqrt(expected * 1.7)  # Poisson, and p varies


def test_boracchi_foi_draws_its_anxiety() -> None:
    """Out of 0 and 0.01: half of the trajectories are straight."""
    paths = (trajectories.boracchi_foi(generator(14, index, "path"), (0.0, 0.01)) for index in range(100))
    straight = sum(np.hypot(*(path[-1] - path[0])) > 59.99 for path in paths)
    assert 30 < straight < 70


# ---------------------------------------------------------------- schmidt2013


def schmidt_by_steps(rng: np.random.Generator, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The published recurrence as it stands in the facts, matrix by matrix: trajectory and angles."""
    v = rng.standard_normal((3, 1))[:, 0]
    normal = rng.standard_normal((2, 3, steps - 1))
    r, x = np.zeros((steps, 3)), np.zeros((steps, 3))
    for t in range(1, steps):
        f_rot = normal[0, :, t - 1] / (t + 1) + r[t - 1]
        f_trans = normal[1, :, t - 1] / (t + 1)
        r[t] = r[t - 1] + 2 * np.pi / steps * f_rot
        v = v + f_trans
        (sx, sy, sz), (cx, cy, cz) = np.sin(r[t]), np.cos(r[t])
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        x[t] = x[t - 1] + about_z @ about_y @ about_x @ v
    return x[:, [1, 0]], r


@pytest.mark.parametrize("points", [2, 40, 250, 1000])
def test_schmidt_is_the_published_recurrence(points: int) -> None:
    for index in range(3):
        path = trajectories.schmidt(generator(20, index, "path"), points)
        by_steps, _ = schmidt_by_steps(generator(20, index, "path"), points)
        np.testing.assert_allclose(path, by_steps, atol=1e-8 * points)


def test_schmidt_angles_grow_about_500_times() -> None:
    """A free rotation grows by (1 + 2 pi / 250)^249 = 483; the first shock alone is as good as free."""
    angles = np.array([schmidt_by_steps(generator(21, index, "path"), 250)[1] for index in range(40)])
    growth = np.median(np.abs(angles[:, -1])) / np.median(np.abs(angles[:, 1]))
    assert 483 <= growth < 2 * 483


def test_schmidt_curls_at_its_end() -> None:
    """Mean turn between steps, in the first and the last fifth."""
    paths = np.stack([trajectories.schmidt(generator(22, index, "path")) for index in range(200)])
    steps = np.diff(paths, axis=1) @ [1j, 1]
    turns = np.abs(np.angle(steps[:, 1:] / steps[:, :-1]))
    assert np.median(turns[:, -50:]) > 10 * np.median(turns[:, 20:70])


# ---------------------------------------------------------------- schuler2016


def matern(distance: np.ndarray, length_scale: float, nu: float) -> np.ndarray:
    """The Matern correlation by its definition, with a Bessel function."""
    a = np.sqrt(2 * nu) * np.maximum(distance, 1e-9) / length_scale
    return np.asarray(2 ** (1 - nu) / scipy.special.gamma(nu) * a**nu * scipy.special.kv(nu, a))


@pytest.mark.parametrize(("length_scale", "std"), [(0.3, 0.25), (0.1, 1.0), (0.6, 0.25)])
def test_gaussian_process_has_a_matern_covariance_of_5_halves(length_scale: float, std: float) -> None:
    paths = np.stack(
        [trajectories.gaussian_process(generator(30, index, "path"), length_scale, std) for index in range(4000)]
    )
    assert paths.shape == (4000, 159, 2)
    lags = np.array([0, 3, 10, 25, 50, 100])
    products = np.stack([(paths[:, : 159 - lag] * paths[:, lag:]).mean(axis=1).mean(axis=1) for lag in lags])
    measured, error = products.mean(axis=1), products.std(axis=1) / np.sqrt(4000)
    distance = lags * 2 * np.pi / 1000
    assert (np.abs(measured - std**2 * matern(distance, length_scale, 2.5)) < 4 * error).all()
    other = std**2 * matern(distance, length_scale, 1.5)
    roughness = measured[0] - measured[1]  # 5/2 starts flatter than the 3/2 that the published code names
    assert roughness < 0.75 * (other[0] - other[1])
    cross = (paths[..., 0] * paths[..., 1]).mean(axis=1)
    assert abs(cross.mean()) < 4 * cross.std() / np.sqrt(4000)


def test_gaussian_process_extends_as_published() -> None:
    """Larger side of the bounding box, 5, 50 and 95 % of trajectories, on the published canvas [-1, 1]."""
    extents = [np.ptp(trajectories.gaussian_process(generator(31, i, "path")), axis=0).max() / 2 for i in range(2000)]
    np.testing.assert_allclose(np.quantile(extents, [0.05, 0.5, 0.95]), [0.17, 0.30, 0.47], atol=0.015)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda rng: trajectories.boracchi_foi(rng, points=1), "boracchi_foi: expected at least 2 points"),
        (
            lambda rng: trajectories.boracchi_foi(rng, length_px=0.0),
            "boracchi_foi: expected a path length above 0, got 0.0",
        ),
        (lambda rng: trajectories.boracchi_foi(rng, ()), r"expected one or more anxieties of at least 0, got \(\)"),
        (lambda rng: trajectories.boracchi_foi(rng, (0.01, -0.01)), r"anxieties of at least 0, got \(0.01, -0.01\)"),
        (lambda rng: trajectories.schmidt(rng, 1), "schmidt: expected at least 2 points of a trajectory, got 1"),
        (
            lambda rng: trajectories.gaussian_process(rng, period_points=12),
            "gaussian_process: expected at least 2 points",
        ),
        (
            lambda rng: trajectories.gaussian_process(rng, 1.1),
            r"expected a length_scale in \(0, 1\] exposures, got 1.1",
        ),
        (lambda rng: trajectories.gaussian_process(rng, std=0.0), "expected a std above 0, got 0.0"),
    ],
)
def test_parameters_out_of_range_are_refused(draw: Callable[[np.random.Generator], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(generator(0, 0, "path"))

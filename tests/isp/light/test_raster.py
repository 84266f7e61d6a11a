"""Kernels of trajectories: centred, of sum 1, spanning their size, whatever the family and the path."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.light import raster, trajectories
from isp.rng import generator

GOPRO_U_SIZES = range(5, 30, 2)
families = pytest.mark.parametrize("family", trajectories.FAMILIES)
odd_sizes = st.integers(1, 30).map(lambda half: 2 * half + 1)
seeds = st.integers(0, 2**32)


def border(kernel: np.ndarray) -> float:
    """The part of the kernel on its outermost pixels."""
    return float(kernel.sum() - kernel[1:-1, 1:-1].sum())


def random_walk(seed: int, points: int = 60) -> np.ndarray:
    return np.cumsum(generator(seed, 0, "walk").standard_normal((points, 2)), axis=0)


def test_the_assertions_fail_on_what_is_no_kernel(
    assert_kernel: Callable[..., None], centroid_offset_px: Callable[[np.ndarray], np.ndarray]
) -> None:
    delta = np.zeros((5, 5), np.float32)
    delta[2, 2] = 1
    assert_kernel(delta, 5)
    off_centre = np.roll(delta, 1, axis=0)
    assert centroid_offset_px(off_centre).tolist() == [1, 0]
    for wrong in (off_centre, 2 * delta, delta - 1 / 25 + 1 / 25 * np.eye(5, dtype=np.float32) * 5, delta[:4, :4]):
        with pytest.raises(AssertionError):
            assert_kernel(wrong, 5)


# ---------------------------------------------------------------- every family


@families
@pytest.mark.parametrize("size", [3, *GOPRO_U_SIZES, 63])
def test_a_kernel_is_centred_and_spans_its_size(assert_kernel: Callable[..., None], family: str, size: int) -> None:
    for index in range(10):
        kernel = raster.camera_shake(generator(1, index, "kernel"), family, size)
        assert_kernel(kernel, size)
        assert border(kernel) > 0


@families
def test_a_kernel_is_one_connected_line(family: str) -> None:
    for index in range(60):
        kernel = raster.camera_shake(generator(2, index, "kernel"), family, 29)
        _, parts = scipy.ndimage.label(kernel > 0, np.ones((3, 3)))
        assert parts == 1
        assert np.count_nonzero(kernel) < 0.75 * kernel.size  # a line, not a blob


@families
def test_kernels_are_not_all_straight(family: str) -> None:
    def straightness(kernel: np.ndarray) -> float:
        """Share of the variance that lies along the main axis: 1 for a straight line."""
        spread = np.linalg.eigvalsh(np.cov(np.indices(kernel.shape).reshape(2, -1), aweights=kernel.ravel()))
        return float(spread[1] / spread.sum())

    line = raster.rasterise(np.array([[0.0, 0], [1, 2]]), 29)
    assert straightness(line) > 0.99
    rng = [generator(3, index, "kernel") for index in range(60)]
    assert np.median([straightness(raster.camera_shake(each, family, 29)) for each in rng]) < 0.97


@families
def test_a_kernel_depends_on_its_address_alone(family: str) -> None:
    first = raster.camera_shake(generator(4, 7, "kernel"), family, 15)
    raster.camera_shake(generator(4, 8, "kernel"), family, 29)
    assert np.array_equal(first, raster.camera_shake(generator(4, 7, "kernel"), family, 15))
    for other in (generator(5, 7, "kernel"), generator(4, 8, "kernel"), generator(4, 7, "other")):
        assert not np.array_equal(first, raster.camera_shake(other, family, 15))


@families
def test_no_direction_is_preferred(family: str) -> None:
    """Mean products of y and x of the centred kernels: equal variances, no covariance, within 4 standard errors."""
    moments = []
    for index in range(500):
        kernel = raster.camera_shake(generator(6, index, "kernel"), family, 15)
        y, x = np.indices(kernel.shape) - 7
        moments.append([(kernel * (y * y - x * x)).sum(), (kernel * y * x).sum()])
    mean, error = np.mean(moments, axis=0), np.std(moments, axis=0) / np.sqrt(len(moments))
    assert (np.abs(mean) < 4 * error).all()
    assert (error < 0.6).all()  # px^2, of a mean variance of some 10: the test sees a preference of a few tenths of it


def test_an_unknown_family_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"out of boracchi_foi, schmidt, gaussian_process, got 'schmid'$"):
        raster.camera_shake(generator(0, 0, "kernel"), "schmid", 15)


@pytest.mark.parametrize("size", [-3, 0, 1, 2, 16])
def test_sizes_are_odd_and_at_least_3(size: int) -> None:
    message = f"expected a kernel size in pixels that is odd and at least 3, got {size}$"
    with pytest.raises(ValueError, match="camera_shake: " + message):
        raster.camera_shake(generator(0, 0, "kernel"), "schmidt", size)
    with pytest.raises(ValueError, match="rasterise: " + message):
        raster.rasterise(random_walk(0), size)
    with pytest.raises(ValueError, match="pad: " + message):
        raster.pad(np.ones((1, 1), np.float32), size)


# ---------------------------------------------------------------- rasterise, pad


@settings(deadline=None, max_examples=60)
@given(seeds, odd_sizes, st.integers(2, 80))
def test_any_path_becomes_a_centred_kernel_that_spans_its_size(
    assert_kernel: Callable[..., None], seed: int, size: int, points: int
) -> None:
    kernel = raster.rasterise(random_walk(seed, points), size)
    assert_kernel(kernel, size)
    assert border(kernel) > 0


@settings(deadline=None, max_examples=40)
@given(seeds, odd_sizes, st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(-100, 100))
def test_scale_position_and_direction_of_time_do_not_matter(
    seed: int, size: int, scale: float, shift_y: float, shift_x: float
) -> None:
    path = random_walk(seed)
    kernel = raster.rasterise(path, size)
    np.testing.assert_allclose(raster.rasterise(scale * path + [shift_y, shift_x], size), kernel, atol=1e-5)
    np.testing.assert_allclose(raster.rasterise(path[::-1], size), kernel, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seeds, odd_sizes)
def test_a_turned_or_flipped_path_gives_a_turned_or_flipped_kernel(seed: int, size: int) -> None:
    path = random_walk(seed)
    kernel = raster.rasterise(path, size)
    y, x = path.T
    np.testing.assert_allclose(raster.rasterise(np.stack([-x, y], 1), size), np.rot90(kernel), atol=1e-5)
    np.testing.assert_allclose(raster.rasterise(np.stack([y, -x], 1), size), kernel[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(raster.rasterise(np.stack([x, y], 1), size), kernel.T, atol=1e-5)


def test_the_scale_is_the_same_in_y_and_x() -> None:
    """A rectangle of 4 : 1 stays one: 29 px give 28 px between centres, hence 7 px the other way."""
    rectangle = np.array([[0.0, 0], [0, 4], [1, 4], [1, 0], [0, 0]])
    kernel = raster.rasterise(rectangle, 29)
    rows = np.flatnonzero(kernel.sum(axis=1) > 0)
    columns = np.flatnonzero(kernel.sum(axis=0) > 0)
    assert (columns[0], columns[-1]) == (0, 28)
    assert (rows[0], rows[-1]) == (10, 18)


@pytest.mark.parametrize("angle", np.linspace(0, np.pi / 4, 11))
def test_a_straight_line_is_not_dotted(angle: float) -> None:
    """Two points far apart: the light along the line is even."""
    kernel = raster.rasterise(np.array([[0.0, 0], [np.sin(angle), np.cos(angle)]]), 63)
    along = kernel.sum(axis=0)[2:-2]
    assert along.max() / along.min() < 1.01


def test_a_line_of_two_points_is_known_exactly() -> None:
    """From (0, 0) to (0, 4) on 5 px: whole pixels get 1/4, the ends half of that."""
    kernel = raster.rasterise(np.array([[0.0, 0], [0, 4]]), 5)
    expected = np.zeros((5, 5))
    expected[2] = [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8]
    np.testing.assert_allclose(kernel, expected, atol=1e-7)


def test_every_segment_takes_the_same_time() -> None:
    """One unit, then three: the short segment is three times as bright, and the centroid lies at 1.5, not at 2."""
    kernel = raster.rasterise(np.array([[0.0, 0], [0, 1], [0, 4]]), 51)  # 10 px to the unit, 1.5 at pixel 25
    along = kernel.sum(axis=0)
    assert along[12:19].mean() == pytest.approx(0.5 / 10, rel=0.02)
    assert along[22:49].mean() == pytest.approx(0.5 / 30, rel=0.02)
    assert along[:10].max() < 1e-9


def test_the_trajectory_is_left_as_it_was() -> None:
    path = random_walk(3)
    copy = path.copy()
    raster.rasterise(path, 15)
    assert np.array_equal(path, copy)


@pytest.mark.parametrize(
    "path",
    [
        np.zeros((0, 2)),
        np.zeros((1, 2)),
        np.ones((9, 2)),
        np.array([[0, 0], [1, np.nan]]),
        np.array([[0, 0], [1, np.inf]]),
    ],
    ids=["empty", "one point", "still", "nan", "inf"],
)
def test_what_does_not_move_is_refused(path: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a trajectory of finite positions, .* different, got [0129] that"):
        raster.rasterise(path, 15)


@settings(deadline=None, max_examples=30)
@given(seeds, odd_sizes, st.integers(0, 10))
def test_pad_adds_zeros_alone(assert_kernel: Callable[..., None], seed: int, size: int, rim: int) -> None:
    kernel = raster.rasterise(random_walk(seed), size)
    padded = raster.pad(kernel, size + 2 * rim)
    assert_kernel(padded, size + 2 * rim)
    assert np.array_equal(padded[rim : rim + size, rim : rim + size], kernel)
    assert np.count_nonzero(padded) == np.count_nonzero(kernel)


@pytest.mark.parametrize("side", [7, 4])
def test_pad_refuses_kernels_that_do_not_fit(side: int) -> None:
    with pytest.raises(ValueError, match=f"pad: expected a kernel of odd side up to 5 px, got {side} px"):
        raster.pad(np.ones((side, side), np.float32), 5)

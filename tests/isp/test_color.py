"""White balance and matrices: `sensor` and `linear` into each other, and where camera matrices come from."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isp import cfa, color, profile
from isp.camera import Camera

# As published: rim2022, RSBlur@ae33a6c
A7R3_LIBRAW = [[0.6640, -0.1847, -0.0503], [-0.5238, 1.3010, 0.2474], [-0.0993, 0.1673, 0.6527]]
A7R3_LINEAR_TO_SENSOR = [
    [0.596505882, 0.253665481, 0.149828627],
    [0.061001997, 0.720361797, 0.218636172],
    [0.009242591, 0.206654884, 0.784102541],
]
A7R3_SENSOR_TO_LINEAR = [
    [1.736537297, -0.561196534, -0.175340761],
    [-0.153087267, 1.558362965, -0.40527564],
    [0.019877664, -0.404100728, 1.384223027],
]
A7R3_XYZ_TO_SENSOR = [
    [1.6954175654007513, -0.4716018438697571, -0.12843298725852076],
    [-0.4883823389175844, 1.213030589789571, 0.23067161253953877],
    [-0.126723194569989, 0.21350242146585263, 0.8329529616901491],
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape, dtype=np.float32))


def shots(gains: np.ndarray, matrices: np.ndarray, pattern: str = "RGGB") -> Camera:
    return Camera(
        name=("x",) * len(gains),
        cfa=(pattern,) * len(gains),
        white_balance=torch.from_numpy(gains),
        sensor_to_linear=torch.from_numpy(matrices),
    )


@given(
    gains=arrays(np.float32, (2, 3), elements=st.floats(0.5, 4, width=32)),
    off=arrays(np.float32, (2, 3, 3), elements=st.floats(-0.25, 0.25, width=32)),
    scale=st.floats(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_sensor_and_linear_convert_into_each_other(gains, off, scale):
    """Any invertible matrix: rows need not sum to 1."""
    camera = shots(gains, (np.eye(3, dtype=np.float32) + off) * np.float32(scale))
    image = noise(2, 3, 4, 5) * 1.5 - 0.2
    assert torch.allclose(color.linear_to_sensor(color.sensor_to_linear(image, camera), camera), image, atol=2e-5)
    assert torch.allclose(color.sensor_to_linear(color.linear_to_sensor(image, camera), camera), image, atol=2e-5)


def test_white_balance_comes_before_the_matrix():
    gains, matrices = noise(2, 3) + 1, noise(2, 3, 3, seed=1)
    camera, image = shots(gains.numpy(), matrices.numpy()), noise(2, 3, 4, 5, seed=2)
    expected = torch.einsum("bij,bjhw->bihw", matrices, gains[:, :, None, None] * image)
    assert torch.allclose(color.sensor_to_linear(image, camera), expected, atol=1e-6)


def test_one_matrix_acts_on_all_images_as_on_each():
    image, matrix = noise(3, 3, 4, 5), noise(1, 3, 3, seed=1)
    for_each = color.apply_matrix(image, matrix.expand(3, 3, 3))
    assert torch.allclose(color.apply_matrix(image, matrix), for_each, atol=1e-6)
    column = matrix[0] @ image[1, :, 2, 3]
    assert torch.allclose(color.apply_matrix(image, matrix)[1, :, 2, 3], column, atol=1e-6)
    with pytest.raises(ValueError, match=r"matrix: expected one 3x3 or one for each of the 3 images, got 2"):
        color.apply_matrix(image, matrix.expand(2, 3, 3))


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_balancing_a_mosaic_is_mosaicking_what_was_balanced(pattern):
    camera = shots(np.array([[2.0, 1.0, 1.7]], np.float32), np.eye(3, dtype=np.float32)[None], pattern)
    sensor = noise(1, 3, 7, 8)
    balanced = sensor * camera.white_balance[:, :, None, None]
    assert torch.equal(color.white_balance(cfa.mosaic(sensor, (pattern,)), camera), cfa.mosaic(balanced, (pattern,)))


# ---------------------------------------------------------------- matrices


def test_the_a7r3_matrices_are_the_published_ones():
    matrix = color.matrix_from_libraw(A7R3_LIBRAW)
    assert matrix.dtype == torch.float64
    assert np.abs(matrix.numpy() - A7R3_SENSOR_TO_LINEAR).max() < 1e-6
    to_sensor = torch.linalg.inv(matrix)
    assert np.abs(to_sensor.numpy() - A7R3_LINEAR_TO_SENSOR).max() < 1e-6
    from_xyz = to_sensor @ torch.linalg.inv(torch.tensor(color.LINEAR_TO_XYZ, dtype=torch.float64))
    assert np.abs(from_xyz.numpy() - A7R3_XYZ_TO_SENSOR).max() < 1e-6
    assert profile.load("a7r3").xyz_to_sensor == tuple(map(tuple, A7R3_LIBRAW))


@given(arrays(np.float64, (3, 3), elements=st.floats(-0.2, 0.2)))
@settings(deadline=None, max_examples=60)
def test_libraw_matrices_keep_white_and_ignore_the_scale_of_a_row(off):
    coefficients = np.array(A7R3_LIBRAW) + off
    to_sensor = coefficients @ np.array(color.LINEAR_TO_XYZ)
    assume(np.abs(to_sensor.sum(1)).min() > 0.05 and abs(np.linalg.det(to_sensor)) > 0.01)
    matrix = color.matrix_from_libraw(coefficients.tolist())
    size = float(matrix.abs().max())
    assert torch.allclose(matrix.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-10 * size**2)
    rescaled = color.matrix_from_libraw((coefficients * [[2.0], [0.5], [3.0]]).tolist())
    assert torch.allclose(rescaled, matrix, atol=1e-10 * size**2)


@pytest.mark.parametrize("coefficients", [[[0.0] * 3] * 3, [[1.0, 2.0, 3.0]] * 3, [[0.0] * 3, *A7R3_LIBRAW[1:]]])
def test_useless_libraw_coefficients_are_refused(coefficients):
    with pytest.raises(ValueError, match=r"xyz_to_sensor: expected an invertible 3x3 with non-zero row sums, got"):
        color.matrix_from_libraw(coefficients)


def test_xyz_constants():
    to_xyz, from_xyz = (torch.tensor(m, dtype=torch.float64) for m in (color.LINEAR_TO_XYZ, color.XYZ_TO_LINEAR))
    assert float((to_xyz @ from_xyz - torch.eye(3)).abs().max()) < 1e-7
    assert to_xyz.sum(1).tolist() == pytest.approx([0.95047, 1, 1.08883], abs=1e-6)
    d50 = torch.tensor(color.D65_TO_D50, dtype=torch.float64) @ torch.tensor([0.95047, 1, 1.08883], dtype=torch.float64)
    assert d50.tolist() == pytest.approx([0.964167, 0.999999, 0.825123], abs=1e-6)


@pytest.mark.parametrize(("day", "white"), [("0001", (0.995, 0.990, 1.019)), ("0019", (1.107, 1.053, 1.048))])
def test_the_matrices_of_capture_days_send_white_where_the_published_ones_do(day, white):
    rsblur = profile.load("rsblur")
    shot = next(shot for shot in rsblur.shots if shot.day == day)
    to_sensor = torch.linalg.inv(rsblur.matrix(shot))
    assert to_sensor.sum(1).tolist() == pytest.approx(white, abs=6e-4)

"""What makes an array a blur kernel."""

from collections.abc import Callable

import numpy as np
import pytest


def centroid_offset_px(kernel: np.ndarray) -> np.ndarray:
    """From the centre of the array, (y, x)."""
    y, x = np.indices(kernel.shape)
    weights = kernel.astype(np.float64) / kernel.sum(dtype=np.float64)
    return np.array([(weights * y).sum(), (weights * x).sum()]) - (np.array(kernel.shape) - 1) / 2


def assert_kernel(kernel: np.ndarray, size: int, centred_within_px: float = 1e-5) -> None:
    assert kernel.dtype == np.float32
    assert kernel.shape == (size, size)
    assert size % 2 == 1
    assert kernel.min() >= 0
    assert abs(kernel.sum() - 1) <= 1e-6
    assert np.abs(centroid_offset_px(kernel)).max() <= centred_within_px


@pytest.fixture(scope="session", name="centroid_offset_px")
def _centroid_offset_px() -> Callable[[np.ndarray], np.ndarray]:
    return centroid_offset_px


@pytest.fixture(scope="session", name="assert_kernel")
def _assert_kernel() -> Callable[..., None]:
    return assert_kernel

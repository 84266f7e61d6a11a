"""Exposure fusion: several renderings of one scene become one picture with the best-exposed of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def needed_bytes(count: int, height: int, width: int) -> int:
    """Memory at the peak of `fused`: measured, 28 bytes a pixel for each exposure and 37 more."""
    return (28 * count + 37) * height * width


def fused(exposures: Iterable[Float[Tensor, "1 3 h w"]]) -> Float[Tensor, "1 3 h w"]:
    """One sRGB image in [0, 1] of several; every pixel weighs by contrast, saturation and how near 1/2 it is.

    Raises `ValueError` where there is none.
    Computed by OpenCV. Source: mertens2007, §3
    """
    import cv2

    # OpenCV divides whatever it is given by 255, and calls the first channel red.
    images = [np.multiply(image[0].permute(1, 2, 0).cpu().numpy(), np.float32(255), order="C") for image in exposures]
    if not images:
        raise ValueError("fused: expected at least one exposure, got none")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # each more takes 37 bytes a pixel, too
    try:
        image: np.ndarray = cv2.createMergeMertens().process(images)
    finally:
        cv2.setNumThreads(threads)
    return torch.from_numpy(image).permute(2, 0, 1)[None].clamp_(0, 1)

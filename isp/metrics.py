"""Image similarity as the ParamISP authors measure it: PSNR, SSIM, and the windows of their test."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from torch import Tensor

from isp import cfa

BORDER = 2  # pixels that the authors' demosaicing spoils
_TEST_PATTERN = "RGGB"  # the CFA pattern of all their windows

Window = tuple[int, int, int, int]  # top, left, height, width


def _inside(image: Float[Tensor, "b c h w"], border: int) -> Float[Tensor, "b c inner_h inner_w"]:
    frame = slice(border, -border or None)
    return image[..., frame, frame]


def psnr_db(predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], border: int = BORDER) -> float:
    """Return -10 log10 of the mean squared error over the whole batch, without the outer `border` pixels; peak 1.

    Source: kim2024, ParamISP@0e4913f
    """
    error = float((_inside(predicted, border) - _inside(target, border)).double().square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(
    predicted: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    data_range: float | None = 1.0,
) -> float:
    """Return the structural similarity with an 11x11 Gaussian of 1.5 pixels, mean over the batch.

    The outer `BORDER` pixels, and those at which the Gaussian would leave the rest, do not count. If `data_range` is None,
    it is the larger range of the two batches, as in the published code.
    Source: wang2004; kim2024, ParamISP@0e4913f
    """
    from skimage.metrics import structural_similarity

    ours, theirs = (_inside(image, BORDER).double().cpu().numpy() for image in (predicted, target))
    if data_range is None:
        data_range = float(max(np.ptp(ours), np.ptp(theirs)))
    maps = [
        structural_similarity(  # type: ignore[no-untyped-call]
            one, other, channel_axis=0, data_range=data_range, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )[1][:, 5:-5, 5:-5]
        for one, other in zip(ours, theirs, strict=True)
    ]  # fmt: skip
    return float(np.mean(maps))


def aligned(window: Window, size: tuple[int, int], pattern: str) -> Window:
    """Move a window of a picture of that size and CFA pattern by up to a pixel each way, so that its pattern is RGGB.

    Source: kim2024, ParamISP@0e4913f (dataset loader)
    """
    top, left, height, width = window
    rows = {cfa.shift(_TEST_PATTERN, row, column): (row, column) for row in (0, 1) for column in (0, 1)}
    wanted_row, wanted_column = rows[pattern]
    top += (top % 2) != wanted_row
    left += (left % 2) != wanted_column
    top -= 2 * (top + height > size[0])
    left -= 2 * (left + width > size[1])
    return top, left, height, width


def five_windows(size: tuple[int, int], crop: int, pattern: str) -> Iterator[Window]:
    """Yield the authors' test windows: the middle, then the four corners, aligned to RGGB.

    Raises `ValueError` for a picture that is not larger than `crop`.
    Source: kim2024, ParamISP@0e4913f (dataset loader)
    """
    height, width = size
    if min(height, width) <= crop:
        raise ValueError(f"expected pictures larger than {crop}x{crop} for the official protocol, got {height}x{width}")
    bottom, right = height - crop, width - crop
    for top, left in ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)):
        yield aligned((top, left, crop, crop), size, pattern)

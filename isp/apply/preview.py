"""Pictures to look at: the preview of a mosaic, and a picture before and after."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from isp import cfa, color, tone
from isp.camera import Camera
from isp.files.pictures import Picture
from isp.files.shot import picture_of

_STRIP = 512  # rows of a preview at a time; even, to keep the CFA phase
_WIDEST = 2000  # pixels of a comparison


def preview(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """Demosaic a mosaic, balance its white, apply the camera's matrix and the sRGB curve; no look is added."""
    height, width = bayer.shape[-2:]
    extended = cfa.mirrored(bayer, max(height, 3), max(width, 3))
    picture = np.empty((*extended.shape[-2:], 3), np.uint8)
    gains = camera.white_balance[:, :, None, None]
    for place, window, inner in cfa.strips(extended.shape[2], _STRIP, cfa.DEMOSAIC_HALO):
        sensor = cfa.demosaic(extended[:, :, window], camera.cfa)[:, :, inner]
        linear = color.apply_matrix((sensor * gains).clamp_(0, 1), camera.sensor_to_linear)
        picture[place] = picture_of(tone.srgb_curve(linear.clamp_(0, 1)), np.uint8)
    return picture[:height, :width]


def before_after(before: Picture, after: Picture) -> UInt8[np.ndarray, "u v 3"]:
    """Two pictures of one size side by side in 8 bits, reduced by a whole factor to at most 2000 pixels of width."""
    step = max(1, -(-2 * before.shape[1] // _WIDEST))
    return np.concatenate([_reduced(picture, step) for picture in (before, after)], axis=1)


def _reduced(picture: Picture, step: int) -> UInt8[np.ndarray, "u v 3"]:
    """Means of cells of `step` x `step` pixels, in 8 bits."""
    height, width = (max(1, side // step) for side in picture.shape[:2])
    down, right = (min(step, side) for side in picture.shape[:2])
    cells = picture[: height * down, : width * right].reshape(height, down, width, right, 3)
    mean = cells.mean(axis=(1, 3), dtype=np.float32) / np.float32(np.iinfo(picture.dtype).max / 255)
    reduced: UInt8[np.ndarray, "u v 3"] = np.rint(mean).astype(np.uint8)
    return reduced

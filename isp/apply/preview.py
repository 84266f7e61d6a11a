"""Pictures for the eye: what a mosaic shows, and a picture before and after."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from isp import cfa, color, tone
from isp.camera import Camera
from isp.files.pictures import Picture
from isp.files.shot import picture_of

_STRIP = 512  # rows of a preview at a time; even, so that the CFA phase stays


def preview(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """The mosaic demosaiced, white-balanced, through the camera's matrix and the sRGB curve; no look is added."""
    height, width = bayer.shape[-2:]
    extended = cfa.mirrored(bayer, max(height, 3), max(width, 3))
    picture = np.empty((*extended.shape[-2:], 3), np.uint8)
    gains = camera.white_balance[:, :, None, None]
    for place, window, inner in cfa.strips(extended.shape[2], _STRIP, cfa.DEMOSAIC_HALO):
        sensor = cfa.demosaic(extended[:, :, window], camera.cfa)[:, :, inner]
        linear = color.apply_matrix((sensor * gains).clamp_(0, 1), camera.sensor_to_linear)
        picture[place] = picture_of(tone.srgb_curve(linear.clamp_(0, 1)), np.uint8)
    return picture[:height, :width]


def before_after(before: Picture, after: Picture, width: int = 2000) -> UInt8[np.ndarray, "u v 3"]:
    """Two pictures of one size side by side in 8 bits, reduced by a whole factor to `width` pixels at most."""
    step = max(1, -(-2 * before.shape[1] // width))
    return np.concatenate([_reduced(picture, step) for picture in (before, after)], axis=1)


def _reduced(picture: Picture, step: int) -> UInt8[np.ndarray, "u v 3"]:
    height, width = (max(1, side // step) for side in picture.shape[:2])
    down, right = (min(step, side) for side in picture.shape[:2])
    cells = picture[: height * down, : width * right].reshape(height, down, width, right, 3)
    mean = cells.mean(axis=(1, 3), dtype=np.float32) / np.float32(np.iinfo(picture.dtype).max / 255)
    reduced: UInt8[np.ndarray, "u v 3"] = np.rint(mean).astype(np.uint8)
    return reduced

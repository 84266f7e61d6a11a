"""Whole photographs through an ISP (a stand-in: it runs them in one piece)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from isp.camera import Camera
from isp.contract import ISP


def inverse(
    camera_isp: ISP, srgb: Float[Tensor, "b 3 h w"], camera: Camera, memory_bytes: int
) -> Float[Tensor, "b 3 h w"]:
    """`sensor` of an sRGB image, not clipped. Raises `ValueError` where the memory is too small."""
    return camera_isp.inverse(srgb, camera)


def forward(
    camera_isp: ISP, bayer: Float[Tensor, "b 1 h w"], camera: Camera, memory_bytes: int
) -> Float[Tensor, "b 3 h w"]:
    """sRGB in [0, 1] of a mosaic. Raises `ValueError` where the memory is too small."""
    return camera_isp.forward(bayer, camera)

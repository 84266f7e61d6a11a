"""Raw values, numbered by the camera from its black level to its white level, to `bayer` and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt16
from torch import Tensor

from isp import cfa
from isp.camera import Camera


def _black_and_white(camera: Camera) -> tuple[Float[Tensor, " 3"], Float[Tensor, ""]]:
    """Return the levels of a single shot: black of each colour, white."""
    if camera.black is None or camera.white is None:
        raise ValueError("raw: expected a camera with known black and white levels, got none; set them")
    return camera.black[0], camera.white[0]


def bayer_of_raw(raw: UInt16[Tensor, "h w"], camera: Camera) -> Float[Tensor, "1 1 h w"]:
    """Return the mosaic with black at 0 and saturation at 1; nothing is clipped. Inverse: `raw_of_bayer`.

        bayer = (raw - black) / (white - black),   black being the level of each site's own colour

    Raises `ValueError` if the levels are unknown.
    """
    black, white = _black_and_white(camera)
    gain = 1 / (white - black)
    bayer = raw.float()[None, None]
    for colour, rows, columns in cfa.sites(camera.cfa[0]):
        bayer[..., rows, columns].sub_(black[colour]).mul_(gain[colour])
    return bayer


def raw_of_bayer(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt16[Tensor, "h w"]:
    """Return the mosaic at the camera's levels, on the CPU. Inverse: `bayer_of_raw`.

        raw = black + bayer (white - black),   black being the level of each site's own colour

    The result is rounded and clipped to [0, white]: noise below black is cut off at 0, not at black.
    Raises `ValueError` if the levels are unknown or the mosaic holds NaN or infinity.
    """
    blacks, white = (levels.tolist() for levels in _black_and_white(camera))
    if not bool(torch.isfinite(bayer).all()):
        raise ValueError("raw: expected numbers in the mosaic, got NaN; check the EXIF values and the ISP's weights")
    raw = torch.empty(bayer.shape[-2:], dtype=torch.uint16, device="cpu")
    for colour, rows, columns in cfa.sites(camera.cfa[0]):
        black = blacks[colour]
        values = (bayer[0, 0, rows, columns] * (white - black) + black).round_().clamp_(0, white)
        raw[rows, columns] = values.to("cpu", torch.uint16)
    return raw

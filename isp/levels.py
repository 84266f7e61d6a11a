"""Raw values, as a camera numbers them from its black to its white level, to `bayer` and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt16
from torch import Tensor

from isp import cfa
from isp.camera import Camera


def bayer_of_raw(raw: UInt16[Tensor, "h w"], camera: Camera) -> Float[Tensor, "1 1 h w"]:
    """The mosaic with black at 0 and saturation at 1; nothing is clipped. Reverse: `raw_of_bayer`.

        bayer = (raw - black) / (white - black),   with the black level of each site's own colour

    Raises `ValueError` if the levels are unknown.
    """
    if camera.black is None or camera.white is None:
        raise ValueError("raw: expected a camera with known black and white levels, got none; set them")
    levels = raw.float()[None, None]
    # Every site has the black level of its own colour: that of a flat picture in the three blacks, mosaicked.
    height, width = raw.shape
    black = cfa.mosaic(camera.black[:1, :, None, None].expand(1, 3, height, width), camera.cfa)
    range_ = camera.white[:1, None] - camera.black[:1]
    return cfa.site_gains(levels - black, 1 / range_, camera.cfa)


def raw_of_bayer(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt16[Tensor, "h w"]:
    """The mosaic at the camera's levels, on the CPU. Reverse: `bayer_of_raw`.

        raw = black + bayer (white - black),   with the black level of each site's own colour

    Rounded and clipped to [0, white]: noise below black is cut off at 0, not at black.
    Raises `ValueError` if the levels are unknown or the mosaic holds NaN or infinity.
    """
    if camera.black is None or camera.white is None:
        raise ValueError("raw: expected a camera with known black and white levels, got none; set them")
    if not bool(torch.isfinite(bayer).all()):
        raise ValueError("raw: expected numbers in the mosaic, got NaN; check the EXIF values and the ISP's weights")
    raw = torch.empty(bayer.shape[-2:], dtype=torch.uint16)
    white = float(camera.white[0])
    for site, colour in enumerate(cfa.channels(camera.cfa[0])):
        black = float(camera.black[0, colour])
        place = (slice(site // 2, None, 2), slice(site % 2, None, 2))
        values = (bayer[(0, 0, *place)] * (white - black) + black).round_().clamp_(0, white)
        raw[place] = values.to("cpu", torch.uint16)
    return raw

"""The operations of the published RSBlur code (rim2022) on one patch, reimplemented as a yardstick for speed.

They have the cost of the published code: full float passes, matrix products as broadcast sums, demosaicing masks rebuilt on
every call, a float32 polynomial. They were written from a description, not copied. `synthesis.py` checks that the result
equals that of `gopro_u` before it times anything.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isp import cfa, color, tone
from isp.camera import Camera

_POLYNOMIAL = torch.tensor(tone._A7R3_POLYNOMIAL, dtype=torch.float32)


def _linear(srgb: Tensor) -> Tensor:
    sign, size = torch.sign(srgb), torch.abs(srgb)
    return sign * torch.where(size < 0.04045, size / 12.92, torch.exp(torch.log((size + 0.055) / 1.055) * 2.4))


def _srgb(linear: Tensor) -> Tensor:
    sign, size = torch.sign(linear), torch.abs(linear)
    return sign * torch.where(size < 0.0031308, size * 12.92, 1.055 * torch.exp(torch.log(size) / 2.4) - 0.055)


def _broadcast_product(image: Tensor, matrix: Tensor) -> Tensor:
    return (image[..., None, :] * matrix).sum(-1)


def _response(srgb: Tensor) -> Tensor:
    linear = _linear(srgb)
    powers = torch.stack([linear**power for power in range(8)], -1)
    return torch.clamp((powers * _POLYNOMIAL).sum(-1), 0, 1)


def _masks(height: int, width: int, pattern: str) -> tuple[Tensor, Tensor, Tensor]:
    masks = [np.zeros((height, width), np.float32) for _ in range(3)]
    for site, channel in enumerate(cfa.channels(pattern)):
        masks[channel][site // 2 :: 2, site % 2 :: 2] = 1
    red, green, blue = (torch.from_numpy(mask) for mask in masks)
    return red, green, blue


def _malvar(bayer: Tensor, pattern: str) -> Tensor:
    height, width = bayer.shape
    red, green, blue = _masks(height, width, pattern)

    def filtered(kernel: object) -> Tensor:
        weight = torch.tensor(kernel, dtype=torch.float32)[None, None] / 8
        return torch.nn.functional.conv2d(bayer[None, None], weight, padding=2)[0, 0]

    at_red_or_blue = filtered(cfa._GREEN_AT_RED_OR_BLUE)
    along_row, along_column, across = (filtered(k) for k in (cfa._ALONG_ROW, cfa._ALONG_COLUMN, cfa._ACROSS))
    red_rows, red_columns = red.amax(1, keepdim=True), red.amax(0, keepdim=True)
    blue_rows, blue_columns = blue.amax(1, keepdim=True), blue.amax(0, keepdim=True)
    r = bayer * red
    r = torch.where((red_rows * blue_columns) == 1, along_row, r)
    r = torch.where((blue_rows * red_columns) == 1, along_column, r)
    r = torch.where((blue_rows * blue_columns) == 1, across, r)
    b = bayer * blue
    b = torch.where((blue_rows * red_columns) == 1, along_row, b)
    b = torch.where((red_rows * blue_columns) == 1, along_column, b)
    b = torch.where((red_rows * red_columns) == 1, across, b)
    g = torch.where((red + blue) == 1, at_red_or_blue, bayer * green)
    return torch.stack([r, g, b], -1)


def pair(
    blurred: Tensor, mask: Tensor, sharp: Tensor, camera: Camera, strength: float, noise: tuple[float, float] | None
) -> tuple[Tensor, Tensor]:
    """Return (blurred, sharp) sRGB of one patch, all `h w 3`, before the border is cut; `noise` is (shot gain, read std)."""
    pattern = camera.cfa[0]
    to_xyz = torch.tensor(color.LINEAR_TO_XYZ)
    from_xyz = torch.tensor(color.XYZ_TO_LINEAR)
    xyz_to_camera = torch.linalg.inv(camera.sensor_to_linear[0].double()).float() @ from_xyz
    camera_to_xyz = torch.linalg.inv(xyz_to_camera)
    gains = camera.white_balance[0]

    saturated = torch.clamp(_linear(blurred) + strength * mask, 0, 1)
    full = saturated >= 1.0
    white_balanced = _broadcast_product(saturated @ to_xyz.T, xyz_to_camera)
    planes = [white_balanced[s // 2 :: 2, s % 2 :: 2, c] / gains[c] for s, c in enumerate(cfa.channels(pattern))]
    packed = torch.stack(planes, -1)
    if noise is not None:
        shot_gain, read_std = noise
        packed = torch.poisson(packed / shot_gain) * shot_gain + torch.randn(packed.shape) * read_std  # noqa: TID251
    packed = torch.stack([packed[..., s] * gains[c] for s, c in enumerate(cfa.channels(pattern))], -1)
    bayer = torch.nn.functional.pixel_shuffle(packed.permute(2, 0, 1)[None], 2)[0, 0]
    demosaiced = _malvar(bayer, pattern)
    linear = _broadcast_product(demosaiced, camera_to_xyz) @ from_xyz.T
    rendered = torch.clamp(_srgb(linear), 0, 1)
    composited = saturated * full + rendered * ~full
    return _response(composited), _response(sharp)

"""The features of an image that LocalNet and GlobalNet see besides the image (kim2024, Fig. S3)."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from isp.backends.paramisp.design import HISTOGRAM_BINS, Design, Input


def gradient_kernels() -> Float[Tensor, "6 3 3 3"]:
    """Return Sobel kernels along x and y for each channel, with weights that sum to 1 in absolute value.

    Source: kim2024, §S3
    """
    along_x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device="cpu") / 8
    kernels = torch.zeros(3, 2, 3, 3, 3, device="cpu")
    for channel in range(3):
        kernels[channel, :, channel] = torch.stack([along_x, along_x.T])
    return kernels.flatten(0, 1)


def histogram_centres() -> tuple[Float[Tensor, "84 3 3 3"], Float[Tensor, " 84"]]:
    """Return kernels and offsets that give the signed distance of each channel from the centres of its bins, in bins.

    There are 4, 8 and 16 bins, with the first centre at 0 and the last at 1.
    Source: kim2024, §S3
    """
    kernels, offsets = [], []
    for bins in HISTOGRAM_BINS:
        of_channel = torch.zeros(3, bins, 3, 3, 3, device="cpu")
        for channel in range(3):
            of_channel[channel, :, channel, 1, 1] = bins - 1
        kernels.append(of_channel.flatten(0, 1))
        offsets.append(-torch.arange(bins, dtype=torch.float32, device="cpu").repeat(3))
    return torch.cat(kernels), torch.cat(offsets)


def overexposure(image: Float[Tensor, "b 3 h w"], threshold: float) -> Float[Tensor, "b 3 h w"]:
    """Return 0 up to `threshold`, 1 at white, and more above white.

    Source: kim2024, §S3
    """
    return (image - threshold).clamp(min=0) / (1 - threshold)


@cache
def _linear_part(inputs: tuple[Input, ...]) -> tuple[Float[Tensor, "c 3 3 3"], Float[Tensor, " c"]]:
    """Return the part of `features` that is linear in the image, as one convolution; over-exposure is left at 0."""
    kernels, offsets = [torch.zeros(3, 3, 3, 3, device="cpu")], [torch.zeros(3, device="cpu")]
    kernels[0][range(3), range(3), 1, 1] = 1
    if "gradient" in inputs:
        kernels.append(gradient_kernels())
        offsets.append(torch.zeros(6, device="cpu"))
    if "histogram" in inputs:
        centres, distances = histogram_centres()
        kernels.append(centres)
        offsets.append(distances)
    if "overexposure" in inputs:
        kernels.append(torch.zeros(3, 3, 3, 3, device="cpu"))
        offsets.append(torch.zeros(3, device="cpu"))
    return torch.cat(kernels).contiguous(memory_format=torch.channels_last), torch.cat(offsets)


class _SoftBins(torch.autograd.Function):
    """Compute 1 - |distance|, at least 0, on the channels from `start` to `stop`, in place.

    It has a gradient of its own because autograd copies all 96 channels for each in-place step on a part of them.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, start: int, stop: int) -> Tensor:
        bins = maps[:, start:stop]
        ctx.start, ctx.stop = start, stop
        ctx.save_for_backward((bins.sign() * (bins.abs() < 1)).to(torch.int8) if ctx.needs_input_grad[0] else None)
        bins.abs_().neg_().add_(1).clamp_(min=0)
        ctx.mark_dirty(maps)
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        gradient = gradient.clone()
        gradient[:, ctx.start : ctx.stop].mul_(slope).neg_()
        return gradient, None, None


def features(
    image: Float[Tensor, "b 3 h w"], first: Float[Tensor, "b 3 h w"], design: Design
) -> Float[Tensor, "b c h w"]:
    """Stack `image`, its gradient, its soft histogram and its over-exposure, which a network sees; the border is repeated.

    The soft histogram is 1 at the centre of a bin and falls to 0 at the next centre. `first` is the first network's input.
    Source: kim2024, Fig. S3
    """
    image = image.float()
    kernels, offsets = (part.to(image.device) for part in _linear_part(design.inputs))
    with torch.autocast(image.device.type, enabled=False):  # bfloat16 could not tell 16 bins apart
        maps = functional.conv2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), kernels, offsets)
    if "histogram" in design.inputs:
        start = 9 if "gradient" in design.inputs else 3
        maps = cast(Tensor, _SoftBins.apply(maps, start, start + 3 * sum(HISTOGRAM_BINS)))  # type: ignore[no-untyped-call]
    if "overexposure" in design.inputs:
        maps[:, -3:] = overexposure(first if design.mask_of == "first" else image, design.mask_threshold)
    return maps

"""LocalNet: what depends on a pixel's neighbourhood, as a U-Net (kim2024, Fig. 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp.backends.paramisp.design import WIDTH


class ReplicateConv2d(nn.Conv2d):
    """A convolution that keeps the size and repeats the border.

    A padded copy costs a third as much as the convolution. Without gradients, only the frame is computed from a padded copy;
    with gradients, the copy keeps the image's precision, which autocast would raise to float32 and lower again.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2, padding_mode="replicate")

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        frame = self.kernel_size[0] // 2
        if torch.is_grad_enabled() or min(image.shape[-2:]) < 16:
            with torch.autocast(image.device.type, enabled=False):
                padded = functional.pad(image, 4 * (frame,), mode="replicate")
            return functional.conv2d(padded, self.weight, self.bias)
        convolved = functional.conv2d(image, self.weight, self.bias, padding=frame)
        for dim in (2, 3):
            side = image.shape[dim]
            for outer, seen, before in ((0, 0, True), (side - frame, side - 2 * frame, False)):
                alone = [frame * before, frame * (not before)]
                padding = [frame, frame, *alone] if dim == 2 else [*alone, frame, frame]
                strip = functional.pad(image.narrow(dim, seen, 2 * frame), padding, mode="replicate")
                convolved.narrow(dim, outer, frame).copy_(functional.conv2d(strip, self.weight, self.bias))
        return convolved


def scaled(feature: Float[Tensor, "b c h w"], by: Tensor) -> Float[Tensor, "b c h w"]:
    """Compute `feature * by`, in the memory of `feature` if no gradient needs it: fresh memory costs more than the product."""
    return feature * by if torch.is_grad_enabled() else feature.mul_(by)


def across_channels(residual: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
    """Compute the mean and the largest value over the channels of every pixel, for spatial attention."""
    channels_last = residual.permute(0, 2, 3, 1)
    return torch.stack([channels_last.mean(3), channels_last.amax(3)], 1)


class AttentiveBlock(nn.Module):
    """A residual block with channel attention, then spatial attention (CBAM).

    Means are computed with the channels last, so that their gradients have the memory layout of the features: adding
    gradients of two layouts would take a sixth of the training time. The gradient of a channel's largest value goes to
    one pixel.

    Source: kim2024, Fig. 4
    """

    def __init__(self) -> None:
        super().__init__()
        self.narrow = ReplicateConv2d(WIDTH, WIDTH // 2, 3)
        self.widen = ReplicateConv2d(WIDTH // 2, WIDTH, 3)
        self.channel_narrow = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.channel_widen = nn.Conv2d(WIDTH // 2, WIDTH, 1)
        self.spatial = ReplicateConv2d(2, 1, 7)

    def channel_attention(
        self, mean: Float[Tensor, "b 64 1 1"], largest: Float[Tensor, "b 64 1 1"]
    ) -> Float[Tensor, "b 64 1 1"]:
        """Compute the weight of each channel from its mean and its largest value over the whole image."""

        def logits(pooled: Tensor) -> Tensor:
            widened: Tensor = self.channel_widen(functional.elu(self.channel_narrow(pooled)))
            return widened

        return torch.sigmoid(logits(mean) + logits(largest))

    def forward(self, feature: Float[Tensor, "b 64 h w"]) -> Float[Tensor, "b 64 h w"]:
        residual = self.widen(functional.elu(self.narrow(feature), inplace=True))
        mean = residual.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None]
        residual = scaled(residual, self.channel_attention(mean, functional.adaptive_max_pool2d(residual, 1)))
        return scaled(residual, torch.sigmoid(self.spatial(across_channels(residual)))).add_(feature)


class Level(NamedTuple):
    """A part of LocalNet that acts at one size.

    reduction  its map has one in so many of the image's rows and columns
    resample   brings the map of the level before to this size; None for the first level
    adds_skip  add the map that an earlier level of this size has left
    blocks     act on the map, one after the other
    """

    reduction: int
    resample: nn.Module | None
    adds_skip: bool
    blocks: tuple[AttentiveBlock, ...]


class LocalNet(nn.Module):
    """A U-Net of attentive blocks that predicts a residual. The optical feature is added to its first feature map.

    Source: kim2024, Fig. 4
    """

    REDUCTIONS = (1, 2, 4, 2, 1)
    BLOCKS_A_LEVEL = 2

    def __init__(self, input_channels: int, modulated: bool) -> None:
        super().__init__()
        self.head = ReplicateConv2d(input_channels, WIDTH, 3)
        self.optical = nn.Linear(WIDTH, WIDTH) if modulated else None
        blocks = self.BLOCKS_A_LEVEL * len(self.REDUCTIONS)
        self.blocks = nn.ModuleList(AttentiveBlock() for _ in range(blocks))  # in the order in which they act
        self.down = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 2, stride=2) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2) for _ in range(2))
        self.tail = ReplicateConv2d(WIDTH, 3, 3)

    def levels(self) -> Iterator[Level]:
        """Walk the network from head to tail. `forward`, the version in strips and the estimate of its work follow it."""
        down, up = iter(self.down), iter(self.up)
        blocks = iter(cast("list[AttentiveBlock]", self.blocks))
        before = None
        for reduction in self.REDUCTIONS:
            climbs = before is not None and reduction < before
            resample = None if before is None else next(up if climbs else down)
            yield Level(reduction, resample, climbs, tuple(next(blocks) for _ in range(self.BLOCKS_A_LEVEL)))
            before = reduction

    def modulation(self, optical: Float[Tensor, "b 64"] | None) -> Float[Tensor, "b 64 1 1"] | None:
        """Compute what the optical feature adds to the first feature map; None if it adds nothing."""
        return None if self.optical is None or optical is None else self.optical(optical)[:, :, None, None]

    def forward(
        self, image: Float[Tensor, "b 3 h w"], inputs: Float[Tensor, "b c h w"], optical: Float[Tensor, "b 64"] | None
    ) -> Float[Tensor, "b 3 h w"]:
        feature = self.head(inputs)
        shift = self.modulation(optical)
        if shift is not None:
            feature = feature + shift
        skips: dict[int, Tensor] = {}
        for level in self.levels():
            if level.resample is not None:
                feature = level.resample(feature)
            if level.adds_skip:
                feature = feature + skips.pop(level.reduction)
            for block in level.blocks:
                feature = block(feature)
            skips[level.reduction] = feature
        residual: Tensor = self.tail(feature)
        return image + residual

"""ParamNet, LocalNet and GlobalNet, and the features that the latter two see (kim2024, Figs. 3, 4 and S3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp.backends.paramisp.design import HISTOGRAM_BINS, Design, Input
from isp.camera import Camera
from isp.layers.mappings import polynomial

WIDTH = 64  # channels of every feature map and of every feature vector

# ---------------------------------------------------------------- ParamNet


# x/scale, its roots and their reciprocals lie in [0, 1] for x in [smallest, scale], and (log2 x - offset) / span with
# them; the sines and cosines lie in [-1, 1]. Source: kim2024, §3.1; kim2024, ParamISP@0e4913f (constants)
@dataclass(frozen=True)
class _Equalisation:
    scale: float
    smallest: float
    log_offset: float
    log_span: float
    periods: tuple[float, float, float]


EQUALISATION: dict[str, _Equalisation] = {
    "focal_mm": _Equalisation(200.0, 4.2, 1.9, 5.8, (50.0, 30.0, 20.0)),
    "f_number": _Equalisation(32.0, 1.7, 0.7, 4.3, (11.0, 5.0, 2.0)),
    "exposure_s": _Equalisation(30.0, 1 / 28800, -15.0, 20.0, (11.0, 5.0, 2.0)),
    "iso": _Equalisation(8000.0, 64.0, 6.0, 7.0, (3100.0, 1300.0, 500.0)),
}


def equalise(value: Float[Tensor, " b"], parameter: str) -> Float[Tensor, "b 15"]:
    """The 15 non-linear mappings of an optical parameter that is above 0.

    Source: kim2024, §3.1
    """
    by = EQUALISATION[parameter]
    scaled, inverse, log = value / by.scale, 1 / (value / by.smallest), torch.log2(value)
    powers = [scaled, scaled.sqrt(), scaled.sqrt().sqrt(), inverse, inverse.sqrt(), inverse.sqrt().sqrt()]
    logs = [(log - by.log_offset) / by.log_span, log.sin(), log.cos()]
    waves = [wave for period in by.periods for wave in ((value / period).sin(), (value / period).cos())]
    return torch.stack([*powers, *logs, *waves], 1)


class ParamNet(nn.Module):
    """Optical parameters -> feature vector. The term of an unknown or dropped parameter is left out of the sum.

    Source: kim2024, Fig. 3
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        mappings = 15 if design.equalisation else 1
        self.optical = nn.ModuleDict({name: nn.Linear(mappings, WIDTH) for name in design.optical})
        self.colour = nn.Linear(24, WIDTH) if design.colour_embedding else None
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, camera: Camera, generator: torch.Generator | None = None) -> Float[Tensor, "b 64"]:
        """With a CPU `generator`, which is given in training only, one dropout mask for the batch is drawn from it."""
        count, device = len(camera), camera.white_balance.device
        kept = torch.ones(len(self.optical), dtype=torch.bool)
        if generator is not None:
            kept = torch.empty(len(self.optical)).uniform_(generator=generator) >= self.design.dropout
        activation_first = self.design.fully_connected == "activation_first"
        total = torch.zeros(count, WIDTH, device=device)
        for term_kept, (name, layer) in zip(kept.to(device), self.optical.items(), strict=True):
            value = getattr(camera, name)
            if value is None:
                value = torch.full((count,), torch.nan, device=device)
            known = value > 0  # NaN is not
            value = torch.where(known, value, 1.0)
            term = layer(equalise(value, name) if self.design.equalisation else value[:, None])
            term = term if activation_first else functional.elu(term)
            total = total + torch.where((known & term_kept)[:, None], term, 0.0)
        if self.colour is not None:
            gains, matrix = camera.white_balance, camera.sensor_to_linear
            inverse = torch.linalg.inv(matrix.double()).to(matrix.dtype)
            total = total + self.colour(torch.cat([gains, 1 / gains, matrix.flatten(1), inverse.flatten(1)], 1))
        for layer in self.layers:
            total = layer(functional.elu(total)) if activation_first else functional.elu(layer(total))
        return total


# ---------------------------------------------------------------- input features


def gradient_kernels() -> Float[Tensor, "6 3 3 3"]:
    """Sobel derivatives along x and y of each channel, with weights that sum to 1 in absolute value.

    Source: kim2024, §S3
    """
    along_x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.zeros(3, 2, 3, 3, 3)
    for channel in range(3):
        kernels[channel, :, channel] = torch.stack([along_x, along_x.T])
    return kernels.flatten(0, 1)


def histogram_centres() -> tuple[Float[Tensor, "84 3 3 3"], Float[Tensor, " 84"]]:
    """Kernels and offsets that give the signed distance of each channel from the centres of its bins, in bins.

    4, 8 and 16 bins have their first centre at 0 and their last at 1.
    Source: kim2024, §S3
    """
    kernels, offsets = [], []
    for bins in HISTOGRAM_BINS:
        of_channel = torch.zeros(3, bins, 3, 3, 3)
        for channel in range(3):
            of_channel[channel, :, channel, 1, 1] = bins - 1
        kernels.append(of_channel.flatten(0, 1))
        offsets.append(-torch.arange(bins, dtype=torch.float32).repeat(3))
    return torch.cat(kernels), torch.cat(offsets)


def overexposure(image: Float[Tensor, "b 3 h w"], threshold: float) -> Float[Tensor, "b 3 h w"]:
    """0 up to `threshold`, 1 at white, more above it.

    Source: kim2024, §S3
    """
    return (image - threshold).clamp(min=0) / (1 - threshold)


@cache
def _linear_part(inputs: tuple[Input, ...]) -> tuple[Float[Tensor, "c 3 3 3"], Float[Tensor, " c"]]:
    """The part of `features` that is linear in the image, as one convolution; over-exposure is left at 0."""
    kernels, offsets = [torch.zeros(3, 3, 3, 3)], [torch.zeros(3)]
    kernels[0][range(3), range(3), 1, 1] = 1
    if "gradient" in inputs:
        kernels.append(gradient_kernels())
        offsets.append(torch.zeros(6))
    if "histogram" in inputs:
        centres, distances = histogram_centres()
        kernels.append(centres)
        offsets.append(distances)
    if "overexposure" in inputs:
        kernels.append(torch.zeros(3, 3, 3, 3))
        offsets.append(torch.zeros(3))
    return torch.cat(kernels).contiguous(memory_format=torch.channels_last), torch.cat(offsets)


class _SoftBins(torch.autograd.Function):
    """1 - |distance|, at least 0, on the channels from `start` to `stop`, in place.

    A function of its own because autograd copies all 96 channels for each in-place step on a part of them.
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
    """`image`, its gradient, its soft histogram and its over-exposure, as a network sees them; a border is repeated.

    The soft histogram is 1 on the centre of a bin and falls to 0 at the next one. `first` is the first network's input.
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


# ---------------------------------------------------------------- LocalNet


class ReplicateConv2d(nn.Conv2d):
    """A convolution that keeps the size and repeats the border.

    A padded copy costs as much as a third of the convolution. Without gradients, the frame alone is computed from one;
    with them, the copy keeps the image's precision, which autocast would raise to float32 and lower again.
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
    """`feature * by`, in the memory of `feature` where no gradient needs it: fresh memory costs more than the product."""
    return feature * by if torch.is_grad_enabled() else feature.mul_(by)


def across_channels(residual: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
    """Mean and largest value of every pixel, which spatial attention sees."""
    channels_last = residual.permute(0, 2, 3, 1)
    return torch.stack([channels_last.mean(3), channels_last.amax(3)], 1)


class AttentiveBlock(nn.Module):
    """Residual block with channel attention, then spatial attention (CBAM).

    Means are taken with the channels last, so that their gradients lie in memory as the features do: adding up gradients
    of two layouts would take a sixth of the training. The largest value of a channel has one place, which gets its
    gradient.

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
        """Of each channel's mean and largest value over the whole image."""
        of_mean, of_largest = (
            self.channel_widen(functional.elu(self.channel_narrow(pooled))) for pooled in (mean, largest)
        )
        return torch.sigmoid(of_mean + of_largest)

    def forward(self, feature: Float[Tensor, "b 64 h w"]) -> Float[Tensor, "b 64 h w"]:
        residual = self.widen(functional.elu(self.narrow(feature), inplace=True))
        mean = residual.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None]
        residual = scaled(residual, self.channel_attention(mean, functional.adaptive_max_pool2d(residual, 1)))
        return scaled(residual, torch.sigmoid(self.spatial(across_channels(residual)))).add_(feature)


class LocalNet(nn.Module):
    """A U-Net of attentive blocks that predicts a residual. The optical feature is added to its first feature map.

    Source: kim2024, Fig. 4
    """

    def __init__(self, input_channels: int, modulated: bool) -> None:
        super().__init__()
        self.head = ReplicateConv2d(input_channels, WIDTH, 3)
        self.optical = nn.Linear(WIDTH, WIDTH) if modulated else None
        self.blocks = nn.ModuleList(AttentiveBlock() for _ in range(10))  # in the order in which they act
        self.down = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 2, stride=2) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2) for _ in range(2))
        self.tail = ReplicateConv2d(WIDTH, 3, 3)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], inputs: Float[Tensor, "b c h w"], optical: Float[Tensor, "b 64"] | None
    ) -> Float[Tensor, "b 3 h w"]:
        full = self.head(inputs)
        if self.optical is not None:
            full = full + self.optical(optical)[:, :, None, None]
        full = self.blocks[1](self.blocks[0](full))
        half = self.blocks[3](self.blocks[2](self.down[0](full)))
        quarter = self.blocks[5](self.blocks[4](self.down[1](half)))
        half = self.blocks[7](self.blocks[6](self.up[0](quarter) + half))
        full = self.blocks[9](self.blocks[8](self.up[1](half) + full))
        residual: Tensor = self.tail(full)
        return image + residual


# ---------------------------------------------------------------- GlobalNet


def quadratic(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 30"]) -> Float[Tensor, "b 3 h w"]:
    """`image` plus a quadratic polynomial of its channels: weights of 0 are the identity.

        p + W p',  p' = [rr, rg, rb, r, gg, gb, g, bb, b, 1],  W^T = weights as 10 x 3

    The paper writes W p' with another order of monomials: the same family.
    Source: kim2024, eq. 1
    """
    table = weights.reshape(-1, 10, 3)
    terms = [image * image[:, :1], image[:, 1:] * image[:, 1:2], image[:, 2:] ** 2, image]
    monomials = torch.cat(terms, 1).flatten(2)
    residual = torch.baddbmm(table[:, 9, :, None], table[:, [0, 1, 2, 4, 5, 7, 3, 6, 8]].mT, monomials)
    return image + residual.view_as(image)


def gamma_correction(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 9"]) -> Float[Tensor, "b 3 h w"]:
    """A gamma curve for each channel, with f(0) = 0 and f(1) = 1, increasing; weights of 0 are the identity.

    gamma = exp(weights[0:3]), beta = |weights[3:6]|, alpha = exp(weights[6:9]); the power is continued to negative
    values as an odd function.
    Source: kim2024, eq. 2
    """
    shape, offset, scale = weights.reshape(-1, 3, 3, 1, 1).unbind(1)
    gamma, beta, alpha = shape.exp(), offset.abs(), scale.exp()

    def power(values: Tensor) -> Tensor:
        return values.sign() * (values.abs() + 1e-12) ** gamma

    at_black, at_white = power(beta), power(alpha + beta)
    return (power(alpha * image + beta) - at_black) / (at_white - at_black)


def global_operation(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b n"]) -> Float[Tensor, "b 3 h w"]:
    """A, B or C of Table S3, told by its number of weights; always in float32, since powers need it.

    Source: kim2024, §S4
    """
    with torch.autocast(image.device.type, enabled=False):
        image, weights = image.float(), weights.float()
        if weights.shape[1] == TONE_WEIGHTS["A"]:
            return image + polynomial(image, weights)
        image = quadratic(image, weights[:, :30])
        return image if weights.shape[1] == TONE_WEIGHTS["B"] else gamma_correction(image, weights[:, 30:])


TONE_WEIGHTS = {"A": 18, "B": 30, "C": 39}


class GlobalNet(nn.Module):
    """Tone and colour of the whole image: one feature vector, from which the weights of every stage are predicted.

    Source: kim2024, Fig. 4
    """

    def __init__(self, input_channels: int, modulated: bool, stages: int, weights: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        channels = (input_channels, WIDTH, WIDTH)
        self.convs = nn.ModuleList(nn.Conv2d(inputs, WIDTH, 3, stride=2) for inputs in channels)
        self.optical = nn.Linear(WIDTH, WIDTH) if modulated else None
        self.stage = nn.Linear(stages, WIDTH)
        self.hidden = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, weights) for _ in range(stages))

    def feature(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 64"]:
        for conv in self.convs:
            inputs = functional.max_pool2d(functional.elu(conv(inputs), inplace=True), 2)
        return inputs.mean((2, 3))

    def weights(
        self, feature: Float[Tensor, "b 64"], optical: Float[Tensor, "b 64"] | None
    ) -> Float[Tensor, "b stages n"]:
        """Of every stage."""
        if self.optical is not None:
            feature = feature + functional.elu(self.optical(optical))
        which = torch.eye(len(self.heads), device=feature.device, dtype=feature.dtype)
        hidden = feature[:, None] + functional.elu(self.stage(which))
        for layer in self.hidden:
            hidden = functional.elu(layer(hidden))
        predicted = torch.stack([head(hidden[:, stage]) for stage, head in enumerate(self.heads)], 1)
        return functional.elu(predicted) if self.activation == "elu" else predicted

    def forward(
        self, image: Float[Tensor, "b 3 h w"], inputs: Float[Tensor, "b c h w"], optical: Float[Tensor, "b 64"] | None
    ) -> Float[Tensor, "b 3 h w"]:
        """Source: kim2024, eq. 3"""
        return rendered(image, self.weights(self.feature(inputs), optical))


def rendered(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b stages n"]) -> Float[Tensor, "b 3 h w"]:
    """The global operation of every stage, one after the other.

    Source: kim2024, eq. 3
    """
    for of_stage in weights.unbind(1):
        image = global_operation(image, of_stage)
    return image

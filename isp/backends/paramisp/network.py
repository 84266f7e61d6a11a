"""The ParamISP network: learned forward and inverse ISPs that follow the optical parameters of the shot.

    forward   bayer -> CanoNet -> LocalNet -> GlobalNet -> srgb
    inverse   srgb -> GlobalNet -> LocalNet -> CanoNet -> sensor

ParamNet turns the optical parameters into one feature vector that modulates LocalNet and GlobalNet.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isp import cfa, color
from isp.backends.paramisp.design import Design
from isp.backends.paramisp.features import features
from isp.backends.paramisp.global_net import OPERATIONS, GlobalNet
from isp.backends.paramisp.local_net import LocalNet
from isp.backends.paramisp.param_net import ParamNet
from isp.camera import Camera
from isp.contract import Direction
from isp.layers.mappings import GlobalMapping, LocalMapping

MULTIPLE_OF, SMALLEST = 4, 88  # LocalNet halves twice; GlobalNet needs 85 pixels for one value after its last pooling


def extended(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c height width"]:
    """Mirror `image` at its bottom and right to a size that the networks take. Raises `ValueError` below 2x2."""
    height, width = (max(SMALLEST, -(-side // MULTIPLE_OF) * MULTIPLE_OF) for side in image.shape[-2:])
    return cfa.mirrored(image, height, width)


class ParamISPNet(nn.Module):
    """One direction: "forward" takes `bayer` to `srgb`, "inverse" takes `srgb` to `sensor`. The result is not clipped.

    Source: kim2024, Fig. 2
    """

    def __init__(self, direction: Direction, design: Design, seed: int = 0) -> None:
        """Draw random weights, which depend on `seed` alone, on every machine."""
        super().__init__()
        self.direction = direction
        self.design = design
        channels, modulated = design.input_channels, design.has_param_net
        with torch.device("meta"):  # PyTorch would draw weights from the global generator
            self.param_net = ParamNet(design) if modulated else None
            self.local_net: nn.Module = LocalMapping() if design.local == "cie_xyz" else LocalNet(channels, modulated)
            self.global_net: nn.Module = GlobalMapping()
            if design.tone != "cie_xyz":
                stages = design.stages if design.tone == "C" else 1
                operation = OPERATIONS[design.tone]
                self.global_net = GlobalNet(channels, modulated, stages, operation, design.coefficient_activation)
        self.to_empty(device="cpu")
        _draw_weights(self, torch.Generator(device="cpu").manual_seed(seed))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def linear(self, bayer: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """CanoNet: demosaic, white-balance and convert to linear sRGB primaries.

        Source: kim2024, §3.2
        """
        demosaiced = cfa.demosaic(bayer, camera.cfa, self.design.demosaic_border)
        balanced = demosaiced * camera.white_balance[:, :, None, None]
        if self.design.clip_white:
            balanced = balanced.clamp(0, 1)
        return color.apply_matrix(balanced, camera.sensor_to_linear)

    def forward(
        self, image: Float[Tensor, "b c h w"], camera: Camera, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Take images of any size and of any CFA phases. `generator` is for training only: see `ParamNet`.

        Source: kim2024, Fig. 2
        """
        height, width = image.shape[-2:]
        image = extended(image)
        optical = None if self.param_net is None else self.param_net(camera, generator)
        if self.direction == "forward":
            with torch.autocast(image.device.type, enabled=False):  # colours need float32
                image = self.linear(image, camera)
        order = [self.local_net, self.global_net]
        if self.direction == "inverse":
            order.reverse()
        first = image
        for network in order:
            image = network(image, features(image, first, self.design), optical)
        image = image[..., :height, :width]
        if self.direction == "forward":
            return image
        with torch.autocast(image.device.type, enabled=False):
            return color.linear_to_sensor(image.float(), camera)


# Standard deviations are Xavier's times these. The layers of _UNIFORM, and all biases, start as PyTorch's own do.
# Source: kim2024, ParamISP@0e4913f; afifi2021, CIE_XYZ_NET@44398b1
_GAINS = {"local_net.tail": 0.01, "global_net.heads": 0.01, "global_net.optical": 0.1, "param_net.layers.2": 0.1}
_UNIFORM = ("local_net.down", "local_net.up", "global_net.stage", "global_net.fc", "global_net.last")


def _draw_weights(net: ParamISPNet, generator: torch.Generator) -> None:
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
        bound = fan_in**-0.5
        assert layer.bias is not None, "every layer here has one"
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        if name.startswith(_UNIFORM):
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        else:
            gain = next((gain for prefix, gain in _GAINS.items() if name.startswith(prefix)), 1.0)
            nn.init.normal_(layer.weight, 0, gain * (2 / (fan_in + fan_out)) ** 0.5, generator=generator)

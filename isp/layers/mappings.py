"""The local and the global mapping of CIE XYZ Net (Afifi et al. 2021), which Table 3 of ParamISP compares with its own."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

LOCAL_WIDTH, GLOBAL_WIDTH = 32, 64  # channels of the two mappings


def polynomial(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 18"]) -> Float[Tensor, "b 3 h w"]:
    """Map [r, g, b, rr, gg, bb] to rgb by a 3x6 matrix.

    Source: afifi2021, CIE_XYZ_NET@44398b1
    """
    monomials = torch.cat([image, image**2], 1).flatten(2)
    return torch.bmm(weights.reshape(-1, 3, 6), monomials).view_as(image)


class LocalMapping(nn.Module):
    """Sixteen convolutions that predict a residual of at most 0.25; they see the image alone.

    Source: afifi2021, CIE_XYZ_NET@44398b1
    """

    def __init__(self) -> None:
        super().__init__()
        channels = (3, *[LOCAL_WIDTH] * 15, 3)
        pairs = itertools.pairwise(channels)
        self.mapping = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairs)

    def forward(self, image: Float[Tensor, "b 3 h w"], inputs: Tensor, optical: Tensor | None) -> Tensor:
        residual = image
        for conv in self.mapping[:-1]:
            residual = functional.leaky_relu(conv(residual))
        return image + self.bounded(self.mapping[-1](residual))

    @staticmethod
    def bounded(residual: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return 0.25 * torch.tanh(residual)


class GlobalMapping(nn.Module):
    """A 3x6 polynomial whose weights are predicted from the image at 128x128, without the dropout of its training.

    Source: afifi2021, CIE_XYZ_NET@44398b1
    """

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(
            nn.Conv2d(inputs, GLOBAL_WIDTH, 3, padding=1) for inputs in (3, *[GLOBAL_WIDTH] * 4)
        )
        self.fc = nn.Linear(16 * GLOBAL_WIDTH, 1024)
        self.last = nn.Linear(1024, 18)

    def weights(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 18"]:
        rows, columns = (torch.arange(128, device=image.device) * side // 128 for side in image.shape[-2:])
        feature = image[:, :, rows[:, None], columns]
        for conv in self.mapping:
            feature = functional.max_pool2d(functional.leaky_relu(conv(feature)), 2)
        with torch.autocast(image.device.type, enabled=False):
            weights: Tensor = self.last(self.fc(feature.float().flatten(1)))
        return weights

    def forward(self, image: Float[Tensor, "b 3 h w"], inputs: Tensor, optical: Tensor | None) -> Tensor:
        weights = self.weights(image)
        with torch.autocast(image.device.type, enabled=False):
            return polynomial(image.float(), weights)

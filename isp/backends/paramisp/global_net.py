"""GlobalNet: the tone and colour of the whole image (kim2024, Fig. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp.backends.paramisp.design import WIDTH
from isp.layers.mappings import polynomial


def quadratic(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 30"]) -> Float[Tensor, "b 3 h w"]:
    """Add a quadratic polynomial of its channels to `image`; weights of 0 are the identity.

        p + W p',  p' = [rr, rg, rb, r, gg, gb, g, bb, b, 1],  W^T = weights as 10 x 3

    The paper writes W p' with another order of monomials, which is the same family of functions.
    Source: kim2024, eq. 1
    """
    table = weights.reshape(-1, 10, 3)
    terms = [image * image[:, :1], image[:, 1:] * image[:, 1:2], image[:, 2:] ** 2, image]
    monomials = torch.cat(terms, 1).flatten(2)
    residual = torch.baddbmm(table[:, 9, :, None], table[:, [0, 1, 2, 4, 5, 7, 3, 6, 8]].mT, monomials)
    return image + residual.view_as(image)


def gamma_correction(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 9"]) -> Float[Tensor, "b 3 h w"]:
    """Apply an increasing gamma curve to each channel, with f(0) = 0 and f(1) = 1; weights of 0 are the identity.

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


def quadratic_with_gamma(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 39"]) -> Float[Tensor, "b 3 h w"]:
    """Apply `quadratic` with the first 30 weights, then `gamma_correction` with the others.

    Source: kim2024, §S4
    """
    return gamma_correction(quadratic(image, weights[:, :30]), weights[:, 30:])


def polynomial_residual(image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b 18"]) -> Float[Tensor, "b 3 h w"]:
    """Add the polynomial of CIE XYZ Net to `image`.

    Source: kim2024, §S4
    """
    return image + polynomial(image, weights)


class GlobalOperation(NamedTuple):
    """What GlobalNet does to the colour of every pixel, and the number of weights that it predicts for it."""

    weights: int
    apply: Callable[[Tensor, Tensor], Tensor]


# A, B and C of Table S3.
OPERATIONS = {
    "A": GlobalOperation(18, polynomial_residual),
    "B": GlobalOperation(30, quadratic),
    "C": GlobalOperation(39, quadratic_with_gamma),
}


class GlobalNet(nn.Module):
    """Tone and colour of the whole image: one feature vector, from which the weights of every stage are predicted.

    Source: kim2024, Fig. 4
    """

    def __init__(
        self, input_channels: int, modulated: bool, stages: int, operation: GlobalOperation, activation: str
    ) -> None:
        super().__init__()
        self.operation = operation
        self.activation = activation
        channels = (input_channels, WIDTH, WIDTH)
        self.convs = nn.ModuleList(nn.Conv2d(inputs, WIDTH, 3, stride=2) for inputs in channels)
        self.optical = nn.Linear(WIDTH, WIDTH) if modulated else None
        self.stage = nn.Linear(stages, WIDTH)
        self.hidden = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, operation.weights) for _ in range(stages))

    def feature(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 64"]:
        for conv in self.convs:
            inputs = functional.max_pool2d(functional.elu(conv(inputs), inplace=True), 2)
        return inputs.mean((2, 3))

    def weights(
        self, feature: Float[Tensor, "b 64"], optical: Float[Tensor, "b 64"] | None
    ) -> Float[Tensor, "b stages n"]:
        """Predict the weights of every stage."""
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
        """Render the image with the weights that are predicted from its features.

        Source: kim2024, eq. 3
        """
        return self.rendered(image, self.weights(self.feature(inputs), optical))

    def rendered(
        self, image: Float[Tensor, "b 3 h w"], weights: Float[Tensor, "b stages n"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Apply the global operation of every stage, one after the other; always in float32, since powers need it.

        Source: kim2024, eq. 3
        """
        with torch.autocast(image.device.type, enabled=False):
            for stage in weights.float().unbind(1):
                image = self.operation.apply(image.float(), stage)
        return image

"""The parametric ISP of RSBlur: white balance, Malvar demosaicing, the camera's matrix, a tone curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa, color, tone
from isp.camera import Camera
from isp.contract import Limits


@dataclass(frozen=True)
class _Variant:
    curve: Callable[[Tensor], Tensor]
    inverse_curve: Callable[[Tensor], Tensor]
    border: cfa.Border
    demosaiced_range: tuple[float | None, float | None]
    renders: Literal["srgb", "camera"]


# One row for each variant. The published codes linearise and render with the sRGB curve, and leave the camera's response to
# a later stage; their demosaicing pads with zeros; only the TensorFlow code clips after demosaicing.
_VARIANTS = {
    "a7r3": _Variant(tone.a7r3_response, tone.inverse_a7r3_response, "phase", (None, 1.0), "camera"),
    "srgb": _Variant(tone.srgb_curve, tone.inverse_srgb_curve, "phase", (None, 1.0), "srgb"),
    "published": _Variant(tone.srgb_curve, tone.inverse_srgb_curve, "zero", (None, None), "srgb"),
    "tensorflow": _Variant(tone.srgb_curve, tone.inverse_srgb_curve, "zero", (0.0, 1.0), "srgb"),
}
VARIANTS = tuple(_VARIANTS)


class RSBlur:
    """`rsblur/a7r3` and `rsblur/srgb` are true pairs; `rsblur/published` and `rsblur/tensorflow` are the released codes.

    Source: rim2022, RSBlur@ae33a6c
    """

    weights: tuple[str, ...] = ()

    def __init__(self, variant: str = "a7r3") -> None:
        self.name = f"rsblur/{variant}"
        self._variant = _VARIANTS[variant]
        self.limits = Limits(forward_halo=cfa.DEMOSAIC_HALO, renders=self._variant.renders)

    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """Undo the tone curve, then the camera matrix, then white balance.

        Source: rim2022, RSBlur@ae33a6c
        """
        linear = self._variant.inverse_curve(srgb)
        return color.linear_to_sensor(linear, camera)

    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """White-balance, demosaic, clip to white, apply the camera matrix and the tone curve; the result is in [0, 1].

        Source: rim2022, RSBlur@ae33a6c
        """
        balanced = color.white_balance(bayer, camera)
        demosaiced = cfa.demosaic(balanced, camera.cfa, border=self._variant.border)
        lowest, highest = self._variant.demosaiced_range
        clipped = demosaiced if highest is None else demosaiced.clamp(lowest, highest)
        linear = color.apply_matrix(clipped, camera.sensor_to_linear)
        return self._variant.curve(linear).clamp(0, 1)


def create(variant: str, device: torch.device | str) -> RSBlur:
    """Open a variant; an empty name means the first."""
    return RSBlur(variant or VARIANTS[0])

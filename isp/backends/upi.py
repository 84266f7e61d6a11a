"""Unprocessing Images (Brooks et al. 2019): a parametric ISP with a smoothstep tone map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa, color, tone
from isp.camera import Camera
from isp.contract import Limits

VARIANTS = ("pair", "published", "paramisp")
RGB_GAIN = 1.25  # the brightness gain that `published` divides by; the published code draws it as 1 / N(0.8, 0.1)


def _restored_highlights(balanced: Float[Tensor, "b 3 h w"], gains: Float[Tensor, "n 3"]) -> Float[Tensor, "b 3 h w"]:
    """Divide `balanced` by the gains; near white the divisor approaches 1, so that clipped highlights stay clipped.

    Source: brooks2019, unprocessing@9928956 (unprocess.py)
    """
    inverse_gain = (1 / gains)[:, :, None, None]
    gray = balanced.mean(1, keepdim=True)
    whiteness = ((gray - 0.9).clamp(min=0) / 0.1) ** 2
    return balanced * torch.maximum(whiteness + (1 - whiteness) * inverse_gain, inverse_gain)


def _bilinear_demosaic(bayer: Float[Tensor, "b 1 h w"], patterns: tuple[str, ...]) -> Float[Tensor, "b 3 h w"]:
    """Interpolate the four half-resolution planes bilinearly, as the published code does for RGGB.

    Each plane keeps its own samples; a missing neighbour repeats the nearest sample of the same plane. Green is the
    mean of its two planes, except at sites that have green themselves.
    Raises `ValueError` for another pattern or an odd side.
    Source: brooks2019, unprocessing@9928956 (process.py)
    """
    others = sorted(set(patterns) - {"RGGB"})
    if others:
        raise ValueError(
            f"upi/published: needs the CFA pattern RGGB, got {', '.join(others)}; set camera.cfa to [RGGB] "
            "or choose another ISP"
        )
    height, width = bayer.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"upi/published: height and width must be multiples of 2, got {height}x{width}")

    def spread(plane: Tensor, odd_row: int, odd_column: int) -> Tensor:
        for dim, odd in ((2, odd_row), (3, odd_column)):
            outside = plane.narrow(dim, 0 if odd else plane.shape[dim] - 1, 1)
            before = torch.cat([outside, plane.narrow(dim, 0, plane.shape[dim] - 1)], dim) if odd else plane
            after = plane if odd else torch.cat([plane.narrow(dim, 1, plane.shape[dim] - 1), outside], dim)
            between = (before + after) / 2
            pair = (between, plane) if odd else (plane, between)
            plane = torch.stack(pair, dim + 1).flatten(dim, dim + 1)
        return plane

    red = spread(bayer[..., 0::2, 0::2], 0, 0)
    green_of_red_rows = spread(bayer[..., 0::2, 1::2], 0, 1)
    green_of_blue_rows = spread(bayer[..., 1::2, 0::2], 1, 0)
    blue = spread(bayer[..., 1::2, 1::2], 1, 1)
    green = (green_of_red_rows + green_of_blue_rows) / 2
    green[..., 0::2, 1::2] = green_of_red_rows[..., 0::2, 1::2]
    green[..., 1::2, 0::2] = green_of_blue_rows[..., 1::2, 0::2]
    return torch.cat([red, green, blue], 1)


class UPI:
    """`upi/pair` is a true pair; `upi/published` and `upi/paramisp` are the released codes, which are not.

    | step                  | pair                       | published                  | paramisp                   |
    |-----------------------|----------------------------|----------------------------|----------------------------|
    | tone curve undone     | smoothstep, then gamma     | smoothstep, then gamma     | gamma, then smoothstep     |
    | gains undone          | plain                      | near white kept; RGB_GAIN  | plain                      |
    | clip of `sensor`      | none                       | [0, 1]                     | none                       |
    | clip of the mosaic    | [0, 1], after the gains    | [0, 1], after the gains    | [0, 1], after the gains    |
    | demosaicing           | Malvar, phase border       | bilinear, RGGB only        | Malvar, replicate border   |
    | clip after the matrix | [0, 1]                     | [0, 1]                     | none: above 1 folds back   |
    | tone curve            | gamma, then smoothstep     | gamma alone                | smoothstep, then gamma     |

    The forward of `published` does not restore the gain `RGB_GAIN`, as in the released code. The released code of `paramisp`
    leaves sRGB above 1 if the matrix gives less than -0.5; here it is clipped.
    Source: brooks2019, unprocessing@9928956; kim2024, ParamISP@0e4913f (models/algorithm.py)
    """

    weights: tuple[str, ...] = ()

    def __init__(self, variant: str = "pair") -> None:
        self.name = f"upi/{variant}"
        self._variant = variant
        self.limits = {
            "pair": Limits(forward_halo=cfa.DEMOSAIC_HALO, renders="camera"),
            "published": Limits(forward_halo=1, cfas=("RGGB",), multiple_of=2),
            "paramisp": Limits(forward_halo=cfa.DEMOSAIC_HALO, renders="camera"),
        }[variant]

    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """Undo the tone curve, then the camera matrix, then the gains.

        Source: brooks2019, unprocessing@9928956 (unprocess.py); kim2024, ParamISP@0e4913f (models/algorithm.py)
        """
        if self._variant == "paramisp":
            linear = tone.inverse_smoothstep(tone.inverse_gamma_curve(srgb, 1e-12))
        else:
            linear = tone.inverse_gamma_curve(tone.inverse_smoothstep(srgb))
        if self._variant != "published":
            return color.linear_to_sensor(linear, camera)
        balanced = color.apply_matrix(linear, torch.linalg.inv(camera.sensor_to_linear.double()))
        return _restored_highlights(balanced, camera.white_balance * RGB_GAIN).clamp(0, 1)

    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Apply the gains, clip to white, demosaic, apply the camera matrix and the tone curve; the result is in [0, 1].

        Source: brooks2019, unprocessing@9928956 (process.py); kim2024, ParamISP@0e4913f (models/algorithm.py)
        """
        balanced = color.white_balance(bayer, camera).clamp(0, 1)
        if self._variant == "published":
            linear = color.apply_matrix(_bilinear_demosaic(balanced, camera.cfa), camera.sensor_to_linear)
            return tone.gamma_curve(linear.clamp(0, 1))
        border: cfa.Border = "phase" if self._variant == "pair" else "replicate"
        linear = color.apply_matrix(cfa.demosaic(balanced, camera.cfa, border), camera.sensor_to_linear)
        if self._variant == "pair":
            return tone.smoothstep(tone.gamma_curve(linear.clamp(0, 1)))
        return tone.gamma_curve(3 * linear**2 - 2 * linear**3, 1e-12).clamp(max=1)


def create(variant: str, device: torch.device | str) -> UPI:
    """Open a variant; an empty name means the first."""
    return UPI(variant or VARIANTS[0])

"""Tone curves between scene-linear and display-encoded values, each beside its inverse."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

Values = Float[Tensor, "..."]

# ---------------------------------------------------------------- the sRGB curve


def srgb_curve(linear: Values) -> Values:
    """Encode linear values as sRGB: an odd function below 0, the power branch above 1; nothing is clipped.

        12.92 u  if u < 0.0031308,  else 1.055 u^(1/2.4) - 0.055

    Source: iec61966; rim2022, RSBlur@ae33a6c
    """
    magnitude = linear.abs()
    encoded = torch.where(magnitude < 0.0031308, 12.92 * magnitude, 1.055 * magnitude ** (1 / 2.4) - 0.055)
    return torch.copysign(encoded, linear)


def inverse_srgb_curve(srgb: Values) -> Values:
    """Decode sRGB to linear values: an odd function below 0, the power branch above 1; nothing is clipped.

        u / 12.92  if u < 0.04045,  else ((u + 0.055) / 1.055)^2.4

    Source: iec61966; rim2022, RSBlur@ae33a6c
    """
    magnitude = srgb.abs()
    linear = torch.where(magnitude < 0.04045, magnitude / 12.92, ((magnitude + 0.055) / 1.055) ** 2.4)
    return torch.copysign(linear, srgb)


# ---------------------------------------------------------------- the Sony A7R3

# (linear, sRGB), both times 255: a subset of the 2,551 rows of the published table. Straight lines between them stay
# within 2.2e-4 of the table forward and within 1.5e-3 inverse, even in the nearly flat highlights.
# Source: rim2022, RSBlur@ae33a6c (lookup_table.mat)
A7R3_KNOTS = (
    (0.0, 0.0), (0.6, 1.4955), (1.7, 10.86), (2.8, 19.796), (3.9, 28.3229), (5.0, 36.4596), (6.2, 44.9122),
    (7.4, 52.9444), (8.6, 60.5778), (9.9, 68.4213), (11.2, 75.8462), (12.6, 83.4014), (14.0, 90.5271), (15.5, 97.7157),
    (17.0, 104.4731), (18.6, 111.2388), (20.2, 117.5809), (21.9, 123.8898), (23.7, 130.1256), (25.6, 136.2536),
    (27.5, 141.9559), (29.5, 147.5402), (31.7, 153.2349), (34.0, 158.7379), (36.4, 164.042), (39.0, 169.3403),
    (41.8, 174.5875), (44.8, 179.7483), (48.0, 184.7963), (51.4, 189.7124), (55.1, 194.6099), (59.1, 199.4461),
    (63.4, 204.1844), (68.0, 208.7911), (72.8, 213.147), (77.9, 217.3226), (83.2, 221.2141), (88.8, 224.8745),
    (94.7, 228.2757), (100.9, 231.3985), (107.6, 234.3168), (114.9, 237.0364), (123.1, 239.6215), (132.3, 242.0502),
    (142.4, 244.2526), (152.7, 246.053), (162.1, 247.3002), (170.0, 248.0464), (176.8, 248.4783), (183.2, 248.7388),
    (197.5, 249.1274), (203.3, 249.3818), (209.5, 249.8285), (217.2, 250.6866), (228.4, 252.1509), (231.6, 252.3782),
    (232.7, 252.4352), (255.0, 255.0),
)  # fmt: skip

_BINS = 8192  # finer than the closest two knots, so a bin holds at most one


@cache
def _a7r3_segments(from_column: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the upper knot, slope and offset of each segment, and the segment in which each of `_BINS` bins starts."""
    knots = torch.tensor(A7R3_KNOTS, dtype=torch.float64, device="cpu") / 255
    given, wanted = knots[:, from_column].contiguous(), knots[:, 1 - from_column]
    slope = wanted.diff() / given.diff()
    offset = wanted[:-1] - slope * given[:-1]
    starts = torch.bucketize(torch.arange(_BINS + 1, device="cpu") / _BINS, given, right=True) - 1
    upper = given[1:].float()
    upper[-1] = torch.inf  # the last segment includes its end
    return (
        upper.to(device),
        slope.float().to(device),
        offset.float().to(device),
        starts.clamp(max=len(slope) - 1).int().to(device),
    )


def _through_a7r3_table(values: Values, from_column: int) -> Values:
    upper, slope, offset, starts = _a7r3_segments(from_column, values.device)
    clipped = values.clamp(0, 1).flatten()
    # index_select reads a small table several times faster than take or indexing.
    segment = starts.index_select(0, (clipped * _BINS).int())
    segment = segment + (clipped >= upper.index_select(0, segment))
    return (offset.index_select(0, segment) + slope.index_select(0, segment) * clipped).view(values.shape)


def a7r3_response(linear: Values) -> Values:
    """Map linear values to the sRGB of a Sony A7R3's JPEG: strictly increasing, 0 to 0, 1 to 1, clipped to [0, 1].

    Source: rim2022, RSBlur@ae33a6c (lookup_table.mat)
    """
    return _through_a7r3_table(linear, from_column=0)


def inverse_a7r3_response(srgb: Values) -> Values:
    """Map the sRGB of a Sony A7R3's JPEG to linear values, clipped to [0, 1]. Inverse of `a7r3_response`.

    Source: rim2022, RSBlur@ae33a6c (lookup_table.mat)
    """
    return _through_a7r3_table(srgb, from_column=1)


# Ascending powers. Source: rim2022, RSBlur@ae33a6c (a7r3_polynomial_alpha.mat)
_A7R3_POLYNOMIAL = (
    -0.009522800674779798, 8.698515984522277, -45.15782051645196, 150.71180861706543,
    -308.1978292223731, 368.308116880222, -235.16339845543246, 61.83222409587268,
)  # fmt: skip


def a7r3_polynomial(linear: Values) -> Values:
    """Evaluate the published degree-7 fit of `a7r3_response`, clipped to [0, 1]; for parity only.

    It is not monotone (it falls between 0.830 and 0.887), is 0 up to 0.0011, and cannot be inverted. Its coefficients
    reach 370, so the published float32 sum is uncertain by 6e-5; Horner's rule, used here, is slightly more accurate.
    Source: rim2022, RSBlur@ae33a6c (a7r3_polynomial_alpha.mat)
    """
    value = torch.full_like(linear, _A7R3_POLYNOMIAL[-1])
    for coefficient in reversed(_A7R3_POLYNOMIAL[:-1]):
        value = value * linear + coefficient
    return value.clamp(0, 1)


# ---------------------------------------------------------------- Unprocessing


def smoothstep(linear: Values) -> Values:
    """Apply the S-shaped global tone map 3 t^2 - 2 t^3 to t clipped to [0, 1].

    Source: brooks2019, unprocessing@9928956 (unprocess.py)
    """
    t = linear.clamp(0, 1)
    return t * t * (3 - 2 * t)


def inverse_smoothstep(srgb: Values) -> Values:
    """Return 1/2 - sin(asin(1 - 2 y) / 3) of y clipped to [0, 1]. Inverse of `smoothstep`.

    Source: brooks2019, unprocessing@9928956 (unprocess.py)
    """
    return 0.5 - torch.sin(torch.asin(1 - 2 * srgb.clamp(0, 1)) / 3)


def gamma_curve(linear: Values, floor: float = 1e-8) -> Values:
    """Return max(x, floor)^(1/2.2); the floor keeps the gradient finite and maps black to floor^(1/2.2).

    Source: brooks2019, unprocessing@9928956 (process.py)
    """
    return linear.clamp(min=floor) ** (1 / 2.2)


def inverse_gamma_curve(srgb: Values, floor: float = 1e-8) -> Values:
    """Return max(x, floor)^2.2, the inverse of `gamma_curve` down to its floor.

    Source: brooks2019, unprocessing@9928956 (unprocess.py)
    """
    return srgb.clamp(min=floor) ** 2.2

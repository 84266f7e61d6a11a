"""The ISP inside a virtual camera: RAW to sRGB by operations that depend on the EXIF values, as in real cameras.

    balance -> demosaic -> denoise -> camera matrix -> local tone -> response -> contrast -> sharpen, saturate -> JPEG

| operation     | depends on            | how                                                                        |
|---------------|-----------------------|----------------------------------------------------------------------------|
| denoising     | ISO                   | the sensor's noise variance at that ISO, times a strength that grows too   |
| local tone    | exposure time, ISO    | shadows are lifted more in long exposures, less at high ISO                |
| contrast      | exposure time, ISO    | the S-curve is weaker at high ISO and in long exposures                    |
| sharpening    | f-number              | weakest at the sharpest f-number, stronger wide open and stopped down      |
|               | focal length          | the radius is larger at short focal lengths                                |

This ISP is not differentiable (it ends in 8 bits and a JPEG) and shares no code with the backends that learn to imitate it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor
from torch.nn import functional

from isp import cfa, color
from isp.camera import Camera
from isp.files.pictures import decode_jpeg, encode_jpeg
from isp.levels import bayer_of_raw
from isp.profile import Noise
from isp.virtual.scenes import luminance

SMALLEST_SIDE = 32  # needed by the mirrored borders of the local tone mapping
REFERENCE_ISO = 100.0
REFERENCE_EXPOSURE_S = 1 / 60


@dataclass(frozen=True, kw_only=True)
class Character:
    """What distinguishes one camera's ISP from another's. A stop is a factor of 2, counted from ISO 100 and 1/60 s.

    response            maps white-balanced linear values in [0, 1] to sRGB in [0, 1]
    noise               the sensor's noise, which denoising assumes
    luma_denoise        noise standard deviations that count as flat, at ISO 100; grows by `denoise_per_stop` per stop
    chroma_denoise      the same for colour differences
    lift                exponent of the local tone mapping at ISO 100 and 1/60 s; clipped to [0, 0.5] after all changes
    lift_per_time_stop  change of `lift` per stop of exposure time; lift_per_iso_stop per stop of ISO
    contrast            share of an S-curve in the tone curve, clipped to [-0.6, 0.8] after all changes; changes likewise
    sharpen             strength of unsharp masking at the sharpest f-number; sharpen_per_stop is added per stop from there
    sharpen_radius_px   standard deviation of the mask at 50 mm; proportional to focal_mm^-0.5
    saturation          factor on the colour differences of the finished picture
    jpeg_quality        quality of OpenCV's encoder
    """

    response: Callable[[Tensor], Tensor]
    noise: Noise
    luma_denoise: float
    chroma_denoise: float
    denoise_per_stop: float
    lift: float
    lift_per_time_stop: float
    lift_per_iso_stop: float
    contrast: float
    contrast_per_time_stop: float
    contrast_per_iso_stop: float
    sharpen: float
    sharpen_per_stop: float
    sharpen_radius_px: float
    sharpest_f_number: float
    saturation: float
    jpeg_quality: int


@dataclass(frozen=True)
class Strengths:
    """How strongly the ISP acts on one shot: computed from the EXIF values and the camera's character."""

    luma_denoise: float
    chroma_denoise: float
    lift: float
    contrast: float
    sharpen: float
    sharpen_radius_px: float


def strengths(character: Character, camera: Camera) -> Strengths:
    """Compute the strengths for one shot.

    Raises `ValueError` if its ISO, exposure time, f-number or focal length is unknown.
    """
    iso_stops = math.log2(_known(camera, "iso") / REFERENCE_ISO)
    time_stops = math.log2(_known(camera, "exposure_s") / REFERENCE_EXPOSURE_S)
    aperture_stops = 2 * abs(math.log2(_known(camera, "f_number") / character.sharpest_f_number))
    growth = 1 + character.denoise_per_stop * max(0.0, iso_stops)
    lift = character.lift + character.lift_per_time_stop * time_stops + character.lift_per_iso_stop * iso_stops
    contrast = (
        character.contrast + character.contrast_per_time_stop * time_stops + character.contrast_per_iso_stop * iso_stops
    )
    return Strengths(
        luma_denoise=character.luma_denoise * growth,
        chroma_denoise=character.chroma_denoise * growth,
        lift=min(max(lift, 0.0), 0.5),
        contrast=min(max(contrast, -0.6), 0.8),
        sharpen=character.sharpen + character.sharpen_per_stop * aperture_stops,
        sharpen_radius_px=character.sharpen_radius_px * (50 / _known(camera, "focal_mm")) ** 0.5,
    )


def _known(camera: Camera, field: str) -> float:
    value = getattr(camera, field)
    if value is None or not bool(torch.isfinite(value).all()):
        raise ValueError(f"virtual camera: expected a known {field}, got none; its ISP depends on the EXIF values")
    return float(value[0])


def develop(raw: UInt16[np.ndarray, "h w"], character: Character, camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """Return the decoded JPEG of one shot, aligned with `raw` pixel by pixel.

    Raises `ValueError` if a side is shorter than 32 pixels, or the EXIF values or levels of the shot are unknown.
    """
    height, width = raw.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"develop: expected at least {SMALLEST_SIDE} pixels a side, got {height}x{width}")
    chosen = strengths(character, camera)
    balanced = color.white_balance(bayer_of_raw(torch.from_numpy(raw), camera), camera).clamp(max=1)
    demosaiced = cfa.edge_directed_demosaic(balanced, camera.cfa)
    shot_gain, read_std = character.noise.at(_known(camera, "iso"))
    clean = denoise(demosaiced, camera.white_balance[0], shot_gain, read_std, chosen)
    linear = color.apply_matrix(clean.clamp(0, 1), camera.sensor_to_linear).clamp(0, 1)
    toned = lift_shadows(linear, chosen.lift)
    encoded = add_contrast(character.response(toned.clamp(0, 1)), chosen.contrast)
    finished = sharpen(encoded, chosen, character.saturation)
    srgb = (finished[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return decode_jpeg(encode_jpeg(srgb, character.jpeg_quality))


# ---------------------------------------------------------------- windows


def _separable(image: Float[Tensor, "b c h w"], taps: list[float]) -> Float[Tensor, "b c h w"]:
    """Convolve with `taps` along both axes; the border is mirrored.

    Computed as a sum of shifted pictures, because a library convolution of one channel has a larger overhead.
    """
    radius = len(taps) // 2
    for axis, margin in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded, side = functional.pad(image, margin, mode="reflect"), image.shape[axis]
        image = padded.narrow(axis, 0, side) * taps[0]
        for shift, tap in enumerate(taps[1:], start=1):
            image.add_(padded.narrow(axis, shift, side), alpha=tap)
    return image


def box_mean(image: Float[Tensor, "b c h w"], radius_px: int) -> Float[Tensor, "b c h w"]:
    """Return the mean over a square of 2 radius_px + 1 pixels; the border is mirrored."""
    side = 2 * radius_px + 1
    return _separable(image, [1 / side] * side)


def gaussian_blur(image: Float[Tensor, "b c h w"], std_px: float) -> Float[Tensor, "b c h w"]:
    """Convolve with a Gaussian cut off at three standard deviations; the border is mirrored."""
    radius = math.ceil(3 * std_px)
    taps = [math.exp(-0.5 * (at / std_px) ** 2) for at in range(-radius, radius + 1)]
    return _separable(image, [tap / sum(taps) for tap in taps])


# ---------------------------------------------------------------- the operations

_LUMA_RADIUS_PX, _CHROMA_RADIUS_PX = 2, 8


def _lee(image: Float[Tensor, "b c h w"], noise_variance: Tensor, radius_px: int) -> Float[Tensor, "b c h w"]:
    """Move each pixel towards its local mean; the move is larger if the local variance is close to that of the noise.

        mean + max(variance - noise_variance, 0) / variance * (image - mean)

    Source: lee1980
    """
    mean = box_mean(image, radius_px)
    variance = (box_mean(image * image, radius_px) - mean * mean).clamp_(min=1e-12)
    return mean + (1 - noise_variance / variance).clamp_(min=0) * (image - mean)


def denoise(
    balanced: Float[Tensor, "1 3 h w"],
    white_balance: Float[Tensor, " 3"],
    shot_gain: float,
    read_std: float,
    chosen: Strengths,
) -> Float[Tensor, "1 3 h w"]:
    """Apply Lee's filter to luma (R + 2 G + B) / 4, and with a larger window to red minus luma and blue minus luma.

    The noise variance is the sensor's after white balance, at the local mean: gain^2 read_std^2 + gain shot_gain light.
    Source: lee1980
    """
    luma = (balanced[:, :1] + 2 * balanced[:, 1:2] + balanced[:, 2:]) / 4
    local = box_mean(balanced, _LUMA_RADIUS_PX).clamp_(min=0)
    gain = white_balance[None, :, None, None]
    variance = gain * shot_gain * local + (gain * read_std) ** 2
    luma_variance = (variance[:, :1] + 4 * variance[:, 1:2] + variance[:, 2:]) / 16
    calm = _lee(luma, chosen.luma_denoise**2 * luma_variance, _LUMA_RADIUS_PX)
    difference = torch.cat([balanced[:, :1] - luma, balanced[:, 2:] - luma], dim=1)
    difference_variance = torch.cat([variance[:, :1], variance[:, 2:]], dim=1) + luma_variance
    difference = _lee(difference, chosen.chroma_denoise**2 * difference_variance, _CHROMA_RADIUS_PX)
    red, blue = calm + difference[:, :1], calm + difference[:, 1:]
    return torch.cat([red, (4 * calm - red - blue) / 2, blue], dim=1)


_LIFT_RADIUS_PX, _LIFT_EDGE_STOPS, _LIFT_KEY, _LIFT_FLOOR = 12, 1.5, 0.1, 0.01


def lift_shadows(linear: Float[Tensor, "1 3 h w"], lift: float) -> Float[Tensor, "1 3 h w"]:
    """Apply local tone mapping: multiply all three channels by a gain that depends on the surrounding brightness.

        ((1 + key / (base + floor)) / (1 + key / (1 + floor)))^lift,   key 0.1, floor 0.01

    White stays white; in black surroundings the gain is 9.2^lift. `base` is the luminance in stops, smoothed over 25
    pixels by a guided filter. The filter keeps edges above 1.5 stops, which prevents halos along them.
    Source: he2013, self-guided
    """
    stops = torch.log2(luminance(linear)[:, None].clamp(min=1e-4))
    mean = box_mean(stops, _LIFT_RADIUS_PX)
    variance = (box_mean(stops * stops, _LIFT_RADIUS_PX) - mean * mean).clamp(min=0)
    kept = variance / (variance + _LIFT_EDGE_STOPS**2)
    slope, offset = box_mean(kept, _LIFT_RADIUS_PX), box_mean((1 - kept) * mean, _LIFT_RADIUS_PX)
    base = torch.exp2(slope * stops + offset)
    gain = (1 + _LIFT_KEY / (base + _LIFT_FLOOR)) / (1 + _LIFT_KEY / (1 + _LIFT_FLOOR))
    return linear * gain**lift


def add_contrast(srgb: Float[Tensor, "1 3 h w"], share: float) -> Float[Tensor, "1 3 h w"]:
    """Return y + share (3 y^2 - 2 y^3 - y): more contrast for a positive share, less for a negative one.

    0 and 1 stay.
    """
    return srgb + share * (srgb * srgb * (3 - 2 * srgb) - srgb)


def sharpen(srgb: Float[Tensor, "1 3 h w"], chosen: Strengths, saturation: float) -> Float[Tensor, "1 3 h w"]:
    """Apply unsharp masking to luma, and multiply the colour differences by `saturation`.

    Luma follows BT.601: 0.299 R + 0.587 G + 0.114 B.
    """
    luma = 0.299 * srgb[:, :1] + 0.587 * srgb[:, 1:2] + 0.114 * srgb[:, 2:]
    detail = luma - gaussian_blur(luma, chosen.sharpen_radius_px)
    return luma + chosen.sharpen * detail + saturation * (srgb - luma)

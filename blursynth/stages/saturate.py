"""Saturation: light that the source image lost to clipping comes back before the new exposure clips it again."""

from __future__ import annotations

from typing import ClassVar

import torch

from blursynth.sample import Sample
from blursynth.stages.stage import Stage
from isp import color
from isp.files.document import Range
from isp.space import Space

SATURATED = 1 - 1e-6


class Saturate(Stage):
    """Add strength times the saturation light in `linear` and clip to [0, 1]; in `sensor`, white would turn magenta.

        linear = clip(linear + strength * saturation, 0, 1),  strength ~ U(range), one for the image

    White-balanced camera RGB is clipped to [0, 1] as well, which changes nothing with the A7R3 and up to 0.8 % of the
    pixels with the matrices of RSBlur. Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "saturate"
    takes: ClassVar[tuple[Space, ...]] = ("sensor", "linear")
    needs: ClassVar[tuple[str, ...]] = ("one_frame", "saturation")
    brings: ClassVar[tuple[str, ...]] = ("saturated",)

    strength: Range = (0.25, 1.75)

    def __call__(self, sample: Sample) -> Sample:
        if sample.saturation is None:
            raise ValueError('saturate: needs saturation light; put "inverse_isp" or "decode_srgb" before it')
        strength = float(sample.rng("strength").uniform(*self.strength))
        is_sensor = sample.space == "sensor"
        linear = color.sensor_to_linear(sample.image, sample.known_camera) if is_sensor else sample.image
        linear = torch.add(linear, sample.saturation, alpha=strength).clamp_(0, 1)
        image = linear
        if is_sensor:
            white = (1 / sample.known_camera.white_balance)[:, :, None, None]
            image = torch.minimum(color.linear_to_sensor(linear, sample.known_camera), white).clamp_(min=0)
        return sample.replace(image=image, saturated=linear >= SATURATED).drawn(strength=strength)


class KeepSaturated(Stage):
    """Set the pixels that `saturate` drove to full scale to full scale again, without noise.

    It replaces the clipping of the sensor, which `sensor_noise.clip` does in RAW, but for green alone.
    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "keep_saturated"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    needs: ClassVar[tuple[str, ...]] = ("saturated",)

    def __call__(self, sample: Sample) -> Sample:
        if sample.saturated is None:
            raise ValueError('keep_saturated: needs to know what is saturated; put "saturate" before it')
        return sample.replace(image=sample.image.masked_fill(sample.saturated, 1.0))

"""Into the camera and out of it again: inverse ISP, mosaic, forward ISP."""

from __future__ import annotations

from functools import cache
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from blursynth.sample import Sample
from blursynth.stages.stage import Stage
from isp import ISP, Limits, cfa, create
from isp.space import Space


@cache
def opened(name: str, device: torch.device | str) -> ISP:
    """The ISP `name`, opened once in each process."""
    return create(name, device=device)


class _WithISP(Stage):
    """Both directions name their ISP; left empty, it is the recipe's."""

    isp: str = ""

    @property
    def limits(self) -> Limits:
        return opened(self.isp, "cpu").limits

    def problems(self) -> list[str]:
        try:
            _ = self.limits
        except (ValueError, OSError) as problem:
            return [f"isp: {str(problem).removeprefix('isp: ')}"]
        return []


class InverseISP(_WithISP):
    """sRGB to what the sensor saw. Pixels of the source at or above `clipped_at` count as clipped: saturation light.

    Ready-made saturation masks are kept. Source: kim2024, §3.3; rim2022, RSBlur issue #6 (masks)
    """

    name: ClassVar[str] = "inverse_isp"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    gives: ClassVar[Space] = "sensor"
    needs: ClassVar[tuple[str, ...]] = ("camera",)
    brings: ClassVar[tuple[str, ...]] = ("saturation",)

    clipped_at: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def halo(self) -> int:
        return self.limits.inverse_halo

    def __call__(self, sample: Sample) -> Sample:
        inverse = opened(self.isp, sample.device).inverse
        saturation = sample.saturation
        if saturation is None:
            saturation = (sample.image >= self.clipped_at).to(sample.image.dtype)
        sensor = inverse(sample.image, sample.shot)
        sharp_sensor = None
        if sample.wants_sharp_raw:
            middle = slice(sample.sharp_frame, (sample.sharp_frame or 0) + 1)
            # What came before may have blurred the picture, or left one of many frames.
            is_sharp = sample.sharp_frame is not None and torch.equal(sample.image[middle], sample.sharp)
            sharp_sensor = sensor[middle] if is_sharp else inverse(sample.sharp, sample.shot)
        return sample.replace(image=sensor, space="sensor", saturation=saturation, sharp_sensor=sharp_sensor)


class Mosaic(Stage):
    """The sensor through its colour filter array, for the blurred and the sharp scene alike.

    Source: kim2024, §3.2
    """

    name: ClassVar[str] = "mosaic"
    takes: ClassVar[tuple[Space, ...]] = ("sensor",)
    gives: ClassVar[Space] = "bayer"
    needs: ClassVar[tuple[str, ...]] = ("camera", "one_frame")

    def __call__(self, sample: Sample) -> Sample:
        bayer = cfa.mosaic(sample.image, sample.shot.cfa)
        sharp_bayer = None
        if sample.sharp_sensor is not None and sample.wants_sharp_raw:
            sharp_bayer = cfa.mosaic(sample.sharp_sensor, sample.shot.cfa)
        return sample.replace(image=bayer, space="bayer", sharp_bayer=sharp_bayer)


class ForwardISP(_WithISP):
    """The mosaic to sRGB. With `target: rendered`, the clean sharp mosaic becomes the ground truth the same way.

    Source: kim2024, §3.2
    """

    name: ClassVar[str] = "forward_isp"
    takes: ClassVar[tuple[Space, ...]] = ("bayer",)
    gives: ClassVar[Space] = "srgb"
    needs: ClassVar[tuple[str, ...]] = ("camera",)

    @property
    def halo(self) -> int:
        return self.limits.forward_halo

    def __call__(self, sample: Sample) -> Sample:
        forward = opened(self.isp, sample.device).forward
        srgb = forward(sample.image, sample.shot)
        sharp = sample.sharp
        if sample.target == "rendered" and sample.sharp_bayer is not None:
            sharp = forward(sample.sharp_bayer, sample.shot)
        return sample.replace(image=srgb, space="srgb", bayer=sample.image, sharp=sharp)

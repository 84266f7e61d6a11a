"""The way into the camera and out again: inverse ISP, mosaic, forward ISP."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from blursynth.sample import Sample
from blursynth.stages.stage import CameraFacts, Problem, Stage, State
from isp import ISP, Limits, cfa, create
from isp.contract import Direction, Misfit, unfit
from isp.space import Space


@cache
def opened(name: str, device: torch.device | str) -> ISP:
    """Return the ISP `name`, opened once in each process."""
    return create(name, device=device)


def problems_of(name: str) -> list[str]:
    """Return why the ISP `name` cannot be opened; nothing if it can."""
    try:
        opened(name, "cpu")
    except (ValueError, OSError) as problem:
        return [str(problem).removeprefix("isp: ")]
    return []


class _WithISP(Stage):
    """Both directions name their ISP; an empty name stands for the recipe's."""

    direction: ClassVar[Direction]

    isp: str = ""

    @property
    def isps(self) -> tuple[str, ...]:
        return (self.isp,)

    @property
    def limits(self) -> Limits:
        return opened(self.isp, "cpu").limits

    def problems(self) -> list[str]:
        return [f"isp: {problem}" for problem in problems_of(self.isp)]

    def misfits(self, before: State) -> list[Problem]:
        limits, camera = self.limits, before.camera
        found = unfit(
            limits,
            self.direction,
            cfa=camera.cfa if camera else (),
            known=camera.known if camera else limits.needs,
            has_reference=True,  # the source, blurred along with the light
            size=before.size,
        )
        return super().misfits(before) + [
            Problem(f"{self.isp} {_explained(misfit, limits, camera)}") for misfit in found
        ]


def _explained(misfit: Misfit, limits: Limits, camera: CameraFacts | None) -> str:
    """Return what does not fit, and what to change in the recipe."""
    if misfit.limit == "multiple_of":
        return f"{misfit.sentence}; change the crop before it"
    if misfit.limit == "cfas":
        return f"{misfit.sentence}; set camera.cfa to [{', '.join(limits.cfas)}] or choose another ISP"
    if misfit.limit == "needs" and camera is not None:
        unknown = ", ".join(misfit.wrong)
        return (
            f'needs {unknown}, which the camera profile "{camera.profile}" does not give; choose another profile or ISP'
        )
    return f"{misfit.sentence}; choose another ISP"


class InverseISP(_WithISP):
    """Convert sRGB to what the sensor saw. Source pixels at or above `clipped_at` count as clipped: saturation light.

    Ready-made saturation masks are kept. Source: kim2024, §3.3; rim2022, RSBlur issue #6 (masks)
    """

    name: ClassVar[str] = "inverse_isp"
    direction: ClassVar[Direction] = "inverse"
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
        sensor = inverse(sample.image, sample.known_camera)
        sharp_sensor = None
        if sample.wants_sharp_raw:
            middle = slice(sample.sharp_frame, (sample.sharp_frame or 0) + 1)
            # An earlier stage may have blurred the picture, or averaged the frames.
            is_sharp = sample.sharp_frame is not None and torch.equal(sample.image[middle], sample.sharp)
            sharp_sensor = sensor[middle] if is_sharp else inverse(sample.sharp, sample.known_camera)
        return sample.replace(image=sensor, space="sensor", saturation=saturation, sharp_sensor=sharp_sensor)


class Mosaic(Stage):
    """See the blurred and the sharp scene through the colour filter array.

    Source: kim2024, §3.2
    """

    name: ClassVar[str] = "mosaic"
    takes: ClassVar[tuple[Space, ...]] = ("sensor",)
    gives: ClassVar[Space] = "bayer"
    needs: ClassVar[tuple[str, ...]] = ("camera", "one_frame")

    def __call__(self, sample: Sample) -> Sample:
        bayer = cfa.mosaic(sample.image, sample.known_camera.cfa)
        sharp_bayer = None
        if sample.sharp_sensor is not None and sample.wants_sharp_raw:
            sharp_bayer = cfa.mosaic(sample.sharp_sensor, sample.known_camera.cfa)
        return sample.replace(image=bayer, space="bayer", sharp_bayer=sharp_bayer)


class ForwardISP(_WithISP):
    """Render the mosaic to sRGB. With `target: rendered`, the clean sharp mosaic is rendered to the ground truth, too.

    Source: kim2024, §3.2
    """

    name: ClassVar[str] = "forward_isp"
    direction: ClassVar[Direction] = "forward"
    takes: ClassVar[tuple[Space, ...]] = ("bayer",)
    gives: ClassVar[Space] = "srgb"
    needs: ClassVar[tuple[str, ...]] = ("camera",)
    brings: ClassVar[tuple[str, ...]] = ("bayer",)

    @property
    def halo(self) -> int:
        return self.limits.forward_halo

    @property
    def needs_reference(self) -> bool:
        return self.limits.needs_reference

    def after(self, before: State, label: str) -> State:
        after = super().after(before, label)
        renders = self.limits.renders == "camera"
        return dataclasses.replace(after, rendered_by=self.isp) if renders else after

    def __call__(self, sample: Sample) -> Sample:
        forward = opened(self.isp, sample.device).forward
        srgb = forward(sample.image, sample.known_camera, reference=sample.reference)
        sharp = sample.sharp
        if sample.target == "rendered" and sample.sharp_bayer is not None:
            sharp_reference = None if sample.reference is None else sample.sharp
            sharp = forward(sample.sharp_bayer, sample.known_camera, reference=sharp_reference)
        return sample.replace(image=srgb, space="srgb", bayer=sample.image, sharp=sharp)

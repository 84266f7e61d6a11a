"""Noise: photon and read noise in RAW, or plain Gaussian noise on sRGB."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import model_validator

from blursynth.sample import Sample
from blursynth.stages.stage import Problem, Stage, State
from isp import profile as profiles
from isp.files.document import NonNegative, Positive, Range
from isp.light.noise import poisson_gaussian, standard_normals
from isp.space import Space


class SensorNoise(Stage):
    """Add Poisson-Gaussian noise in RAW: that of `profile` at the shot's ISO, or of fixed `shot_gain` and `read_std`.

    Both numbers are multiplied by a draw of U(scale) each. clip="white" clips at the sensor's saturation, which only
    green reaches: `saturate` has clipped red and blue before, at their share of white.
    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "sensor_noise"
    takes: ClassVar[tuple[Space, ...]] = ("bayer",)
    needs: ClassVar[tuple[str, ...]] = ("camera",)

    profile: str | None = None
    shot_gain: Positive | None = None
    read_std: NonNegative | None = None
    scale: Range = (0.5, 1.5)
    clip: Literal["none", "white"] = "none"

    @model_validator(mode="after")
    def _one_origin(self) -> SensorNoise:
        both = self.shot_gain is not None and self.read_std is not None
        neither = self.shot_gain is None and self.read_std is None
        if not ((self.profile is not None and neither) or (self.profile is None and both)):
            given = [key for key in ("profile", "shot_gain", "read_std") if getattr(self, key) is not None]
            raise ValueError(
                f"expected either profile, or both shot_gain and read_std, got {' and '.join(given) or 'none'}"
            )
        if self.scale[0] <= 0:
            raise ValueError(f"expected a positive scale, got {self.scale[0]:g}")
        return self

    def problems(self) -> list[str]:
        if self.profile is None:
            return []
        try:
            known = profiles.load(self.profile)
        except (ValueError, OSError) as problem:
            return [f"profile: {problem}"]
        if known.noise is None:
            return [f'profile: "{known.name}" has no noise; give shot_gain and read_std instead']
        return []

    def misfits(self, before: State) -> list[Problem]:
        found = super().misfits(before)
        noise = profiles.load(self.profile).noise if self.profile else None
        if noise is not None and noise.iso is not None and before.camera and "iso" not in before.camera.known:
            sentence = (
                f'the noise of profile "{self.profile}" follows ISO, which camera "{before.camera.profile}" does not '
                "give; set camera.iso to a range"
            )
            found.append(Problem(sentence))
        return found

    def files(self) -> list[Path]:
        return [Path(self.profile)] if self.profile is not None and self.profile.endswith(".yaml") else []

    def _at(self, iso: float | None) -> tuple[float, float]:
        if self.shot_gain is not None and self.read_std is not None:
            return self.shot_gain, self.read_std
        noise = profiles.load(str(self.profile)).noise
        if noise is None:
            raise ValueError(f'sensor_noise: the profile "{self.profile}" has no noise; give shot_gain and read_std')
        return noise.at(iso)

    def __call__(self, sample: Sample) -> Sample:
        iso = None if sample.known_camera.iso is None else float(sample.known_camera.iso[0])
        shot_gain, read_std = self._at(iso)
        rng = sample.rng("scale")
        shot_gain *= float(rng.uniform(*self.scale))
        read_std *= float(rng.uniform(*self.scale))
        photons = standard_normals(sample.rng("photons"), sample.image)
        readout = standard_normals(sample.rng("readout"), sample.image)
        noisy = poisson_gaussian(sample.image, shot_gain, read_std, photons, readout)
        if self.clip == "white":
            noisy = noisy.clamp(max=1)
        return sample.replace(image=noisy).drawn(shot_gain=shot_gain, read_std=read_std)


class SRGBNoise(Stage):
    """Add Gaussian noise of one strength to all pixels and channels of the sRGB image; clip to [0, 1].

    The strength is `std` times a draw of U(scale). Source: rim2022, RSBlur@ae33a6c (ablation, "G")
    """

    name: ClassVar[str] = "srgb_noise"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)

    std: NonNegative = 0.011211179037436594
    scale: Range = (0.5, 1.5)

    def __call__(self, sample: Sample) -> Sample:
        std = self.std * float(sample.rng("scale").uniform(*self.scale))
        noisy = torch.add(sample.image, standard_normals(sample.rng("noise"), sample.image), alpha=std).clamp_(0, 1)
        return sample.replace(image=noisy).drawn(std=std)

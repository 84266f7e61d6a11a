"""Noise: photons counted and read out in RAW, or plain Gaussian noise on sRGB."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from blursynth.sample import Sample
from blursynth.stages.stage import NonNegative, Positive, Range, Stage
from isp import profile as profiles
from isp.space import Space

Values = Float[Tensor, "..."]

# Below it the expansion in 1/sqrt(rate) is not good enough, above it the exact inverse takes too many steps.
_EXACT_BELOW = 16.0
_LARGEST_EXACT_COUNT = 80  # beyond six sigma of a rate of 16 by a wide margin: P(count > 80) < 1e-28


def poisson_of_normal(normal: Values, rate: Values) -> Values:
    """A Poisson count of mean `rate` as a monotone map of a standard normal draw.

    Negative rates count as 0; a rate of NaN gives NaN, never a number.

    The same draw gives nearly the same count when the rate changes a little, so that noise survives rounding
    differences between machines. Below a rate of 16 it is the exact inverse of the distribution function; above,

        floor(rate + sqrt(rate) z + 1/3 + z^2/6 - (z/36 + z^3/72) / sqrt(rate))

    which is Cornish-Fisher's expansion with the correction for whole numbers.
    Source: giles2016, normal asymptotic expansion
    """
    safe = rate.clamp(min=_EXACT_BELOW)
    root = safe.sqrt()
    square = normal * normal
    correction = normal * (1 / 36 + square / 72) / root
    counts = torch.floor(safe + root * normal + (1 / 3 + square / 6) - correction).clamp_(min=0)
    low = rate < _EXACT_BELOW
    if bool(low.any()):
        counts[low] = _exact_poisson_quantile(normal[low], rate[low])
    return counts


def _exact_poisson_quantile(normal: Float[Tensor, " n"], rate: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The smallest count whose distribution function reaches that of `normal`."""
    probability = torch.special.ndtr(normal.double())
    rate = rate.double().clamp(min=0)
    mass = torch.exp(-rate)
    reached = mass.clone()
    counts = torch.zeros_like(normal)
    for count in range(1, _LARGEST_EXACT_COUNT + 1):
        missing = reached < probability
        if not bool(missing.any()):
            break
        counts += missing
        mass *= rate / count
        reached += mass
    return counts


def poisson_gaussian(
    bayer: Float[Tensor, "b 1 h w"],
    shot_gain: float,
    read_std: float,
    photons: Float[Tensor, "b 1 h w"],
    readout: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b 1 h w"]:
    """Sensor noise: photons are counted, then read out.

        noisy = shot_gain * Poisson(max(bayer, 0) / shot_gain) + min(bayer, 0) + read_std * N(0, 1)

    Mean `bayer`, variance shot_gain * bayer + read_std^2; nothing is clipped. `photons` and `readout` are standard
    normal draws; `shot_gain` is the signal of one electron. Unprocessing (brooks2019) gives read noise as a variance:
    pass its square root. Source: rim2022, RSBlur@ae33a6c
    """
    counted = poisson_of_normal(photons, bayer / shot_gain)
    return torch.add(bayer.clamp(max=0) + shot_gain * counted, readout, alpha=read_std)


def _normal(rng: np.random.Generator, like: Tensor) -> Tensor:
    drawn = rng.standard_normal(like.numel(), dtype=np.float32)
    return torch.from_numpy(drawn).view(like.shape).to(like.device)


class SensorNoise(Stage):
    """Poisson-Gaussian noise in RAW, from `profile` at the shot's ISO, or from `shot_gain` and `read_std` as they stand.

    Both numbers are multiplied by draws of U(scale), one each for the image. clip="white" cuts at the sensor's
    saturation, which green reaches; `saturate` has clipped red and blue before, at their share of white.
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
            return [f'profile: "{known.name}" knows no noise; give shot_gain and read_std instead']
        return []

    def files(self) -> list[Path]:
        return [Path(self.profile)] if self.profile is not None and self.profile.endswith(".yaml") else []

    def _at(self, iso: float | None) -> tuple[float, float]:
        if self.shot_gain is not None and self.read_std is not None:
            return self.shot_gain, self.read_std
        noise = profiles.load(str(self.profile)).noise
        if noise is None:
            raise ValueError(f'sensor_noise: the profile "{self.profile}" knows no noise; give shot_gain and read_std')
        return noise.at(iso)

    def __call__(self, sample: Sample) -> Sample:
        iso = None if sample.shot.iso is None else float(sample.shot.iso[0])
        shot_gain, read_std = self._at(iso)
        rng = sample.rng("scale")
        shot_gain *= float(rng.uniform(*self.scale))
        read_std *= float(rng.uniform(*self.scale))
        photons = _normal(sample.rng("photons"), sample.image)
        readout = _normal(sample.rng("readout"), sample.image)
        noisy = poisson_gaussian(sample.image, shot_gain, read_std, photons, readout)
        if self.clip == "white":
            noisy = noisy.clamp(max=1)
        return sample.replace(image=noisy).rolled(shot_gain=shot_gain, read_std=read_std)


class SRGBNoise(Stage):
    """Gaussian noise on the finished sRGB image, the same for all pixels and channels; clipped to [0, 1].

    std times a draw of U(scale), one for the image. Source: rim2022, RSBlur@ae33a6c (ablation, "G")
    """

    name: ClassVar[str] = "srgb_noise"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)

    std: NonNegative = 0.011211179037436594
    scale: Range = (0.5, 1.5)

    def __call__(self, sample: Sample) -> Sample:
        std = self.std * float(sample.rng("scale").uniform(*self.scale))
        noisy = torch.add(sample.image, _normal(sample.rng("noise"), sample.image), alpha=std).clamp_(0, 1)
        return sample.replace(image=noisy).rolled(std=std)

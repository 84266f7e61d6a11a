"""Blur: by a random camera-shake kernel, by a measured kernel, or by averaging frames."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, Field

from blursynth.sample import Sample
from blursynth.stages.stage import Stage, State
from isp.command import did_you_mean
from isp.light import bank, raster
from isp.light.convolution import convolve
from isp.light.trajectories import FAMILIES
from isp.space import Space

# The families that a recipe draws from if it names none. They are written out, because a new entry in FAMILIES must not
# change the pixels of such recipes.
PUBLISHED_FAMILIES = ("boracchi_foi", "schmidt", "gaussian_process")


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"expected some of {', '.join(FAMILIES)}, got {name!r}{did_you_mean(name, FAMILIES)}")
    return name


Family = Annotated[str, AfterValidator(_known_family)]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"expected an odd kernel size, got {size}")
    return size


OddSize = Annotated[int, Field(ge=3, le=255), AfterValidator(_odd)]


def _blurred(sample: Sample, kernel: np.ndarray, stored_size: int) -> Sample:
    """Convolve image and saturation light, and the reference in sRGB; keep the kernel, padded to `stored_size`.

    Source: kim2024, §S2.1 (the reference)
    """
    psf = torch.from_numpy(kernel).to(sample.device)
    saturation = sample.saturation
    if saturation is not None and bool(saturation.any()):
        image, saturation = convolve(torch.cat([sample.image, saturation]), psf).chunk(2)
        saturation = saturation.clamp(min=0)  # convolution may ring below 0 by a float's rounding; light cannot
    else:
        image = convolve(sample.image, psf)
    reference = None if sample.reference is None else convolve(sample.reference, psf).clamp(0, 1)
    stored = torch.from_numpy(raster.pad(kernel, stored_size))
    return sample.replace(image=image, saturation=saturation, reference=reference, kernel=stored)


class _KernelBlur(Stage):
    """What the stages that blur by one kernel share."""

    takes: ClassVar[tuple[Space, ...]] = ("srgb", "linear", "sensor")
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)
    brings: ClassVar[tuple[str, ...]] = ("kernel",)

    def after(self, before: State, label: str) -> State:
        after = super().after(before, label)
        if not before.brought & {"kernel", "several kernels"}:
            return after
        # A pair has room for one kernel, so two of them count as none.
        return dataclasses.replace(after, brought=after.brought - {"kernel"} | {"several kernels"})


class CameraShake(_KernelBlur):
    """Blur the whole picture by one random camera-shake kernel: draw its family from `families`, its size from `sizes`.

    Source: boracchi2012; schmidt2013; schuler2016
    """

    name: ClassVar[str] = "camera_shake"

    families: Annotated[tuple[Family, ...], Field(min_length=1)] = PUBLISHED_FAMILIES
    sizes: Annotated[tuple[OddSize, ...], Field(min_length=1)] = tuple(range(5, 31, 2))

    @property
    def halo(self) -> int:
        return max(self.sizes) // 2

    def __call__(self, sample: Sample) -> Sample:
        rng = sample.rng("kernel")
        family = self.families[int(rng.integers(len(self.families)))]
        size = self.sizes[int(rng.integers(len(self.sizes)))]
        kernel = raster.camera_shake(sample.rng("trajectory"), family, size)
        return _blurred(sample, kernel, max(self.sizes)).drawn(family=family, size=size)


def _bank(path: Path) -> list[np.ndarray]:
    stats = [file.stat() for file in bank.files_of(path)]
    state = tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)
    return _bank_as_of(path.absolute(), path, state)


@cache
def _bank_as_of(absolute: Path, path: Path, state: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Read the bank once for each state of its files."""
    return bank.read_bank(path)


class KernelBank(_KernelBlur):
    """Blur the whole picture by one measured kernel, drawn uniformly from the files at `path` (.npy, .png, .mat).

    Source: levin2009
    """

    name: ClassVar[str] = "kernel_bank"

    path: Path

    @property
    def largest(self) -> int:
        return max(len(kernel) for kernel in _bank(self.path))

    @property
    def halo(self) -> int:
        return self.largest // 2

    def problems(self) -> list[str]:
        try:
            _bank(self.path)
        except (ValueError, OSError) as problem:
            return [f"path: {problem}"]
        return []

    def files(self) -> list[Path]:
        return bank.files_of(self.path)

    def __call__(self, sample: Sample) -> Sample:
        kernels = _bank(self.path)
        choice = int(sample.rng("kernel").integers(len(kernels)))
        return _blurred(sample, kernels[choice], self.largest).drawn(choice=choice)


class Accumulate(Stage):
    """Blur by exposure: average the frames and their saturation light, and the reference in sRGB.

    Source: rim2022, RSBlur issue #6
    """

    name: ClassVar[str] = "accumulate"
    takes: ClassVar[tuple[Space, ...]] = ("srgb", "linear", "sensor")
    brings: ClassVar[tuple[str, ...]] = ("one_frame",)

    def __call__(self, sample: Sample) -> Sample:
        saturation = None if sample.saturation is None else sample.saturation.mean(0, keepdim=True)
        reference = None if sample.reference is None else sample.reference.mean(0, keepdim=True)
        return sample.replace(image=sample.image.mean(0, keepdim=True), saturation=saturation, reference=reference)

"""Blur: a kernel for camera shake, a measured one from a bank, or the mean of frames."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field

from blursynth.sample import Sample
from blursynth.stages.stage import Stage
from isp.light import bank, raster
from isp.light.convolution import convolve
from isp.light.trajectories import FAMILIES
from isp.space import Space

if TYPE_CHECKING:
    Family = str
else:
    Family = Literal[tuple(FAMILIES)]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"expected an odd kernel size, got {size}")
    return size


OddSize = Annotated[int, Field(ge=3, le=255), AfterValidator(_odd)]


def _blurred(sample: Sample, kernel: np.ndarray, stored_size: int) -> Sample:
    """`sample` with image and saturation light convolved, and the kernel kept, padded to `stored_size`."""
    psf = torch.from_numpy(kernel).to(sample.device)
    saturation = sample.saturation
    if saturation is not None and bool(saturation.any()):
        image, saturation = convolve(torch.cat([sample.image, saturation]), psf).chunk(2)
        saturation = saturation.clamp(min=0)  # convolution may ring below 0 by a float's rounding; light cannot
    else:
        image = convolve(sample.image, psf)
    stored = torch.from_numpy(raster.pad(kernel, stored_size))
    return sample.replace(image=image, saturation=saturation, kernel=stored)


class CameraShake(Stage):
    """Uniform blur by a random camera-shake trajectory: the family is drawn out of `families`, the size out of `sizes`.

    Source: boracchi2012; schmidt2013; schuler2016
    """

    name: ClassVar[str] = "camera_shake"
    takes: ClassVar[tuple[Space, ...]] = ("srgb", "linear", "sensor")
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)
    brings: ClassVar[tuple[str, ...]] = ("kernel",)

    # Written out: a new entry in FAMILIES must not change the pixels of recipes that do not name it.
    families: Annotated[tuple[Family, ...], Field(min_length=1)] = ("boracchi_foi", "schmidt", "gaussian_process")
    sizes: Annotated[tuple[OddSize, ...], Field(min_length=1)] = tuple(range(5, 31, 2))

    @property
    def halo(self) -> int:
        return max(self.sizes) // 2

    def __call__(self, sample: Sample) -> Sample:
        rng = sample.rng("kernel")
        family = self.families[int(rng.integers(len(self.families)))]
        size = self.sizes[int(rng.integers(len(self.sizes)))]
        kernel = raster.camera_shake(sample.rng("trajectory"), family, size)
        return _blurred(sample, kernel, max(self.sizes)).rolled(family=family, size=size)


def _bank(path: Path) -> list[np.ndarray]:
    stamps = (file.stat() for file in bank.files_of(path))
    return _bank_as_of(path, tuple((stat.st_size, stat.st_mtime_ns) for stat in stamps))


@cache
def _bank_as_of(path: Path, stamps: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    """Read once for each state of the files."""
    return bank.read_bank(path)


class KernelBank(Stage):
    """Uniform blur by a measured kernel, drawn uniformly from the files at `path` (.npy, .png, .mat).

    Source: levin2009
    """

    name: ClassVar[str] = "kernel_bank"
    takes: ClassVar[tuple[Space, ...]] = ("srgb", "linear", "sensor")
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)
    brings: ClassVar[tuple[str, ...]] = ("kernel",)

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
        bank = _bank(self.path)
        choice = int(sample.rng("kernel").integers(len(bank)))
        return _blurred(sample, bank[choice], self.largest).rolled(choice=choice)


class Accumulate(Stage):
    """Blur by exposure: the mean of the frames, and of their saturation light.

    Source: rim2022, RSBlur issue #6
    """

    name: ClassVar[str] = "accumulate"
    takes: ClassVar[tuple[Space, ...]] = ("srgb", "linear", "sensor")
    brings: ClassVar[tuple[str, ...]] = ("one_frame",)

    def __call__(self, sample: Sample) -> Sample:
        saturation = None if sample.saturation is None else sample.saturation.mean(0, keepdim=True)
        return sample.replace(image=sample.image.mean(0, keepdim=True), saturation=saturation)

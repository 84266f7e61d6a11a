"""The arrays that a pair may have, in one table: to store another one, add an entry to `ARRAYS`.

The writer, `verify`, `make --check`, `inspect` and `ShardDataset` work from this table; so do the keys of a recipe's
`save`, through `SAVES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isp.levels import raw_of_bayer

if TYPE_CHECKING:
    from blursynth.sample import Sample

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One dataset of a shard, which holds this array for every pair.

    name      the dataset
    axes      the shape for one pair: h and w are the size of the pair; other letters are lengths that only samples tell
    type      the type of the numbers; {bits} stands for the recipe's `bits`
    content   what it shows, for readers of documentation
    save      the key of the recipe's `save` that asks for it; `None` if every pair has it
    needs     what stages must bring for it (`Stage.brings`), beyond what every recipe brings
    make      the array of a finished sample, given the recipe's `bits`; raises `ValueError` if it cannot be made
    fault     what is wrong with a stored array, given the record of its pair; "" if nothing is
    read      the tensor (c h w) that `ShardDataset` returns for it; `None` if `ShardDataset` does not return it
    """

    name: str
    axes: str
    type: str
    content: str
    make: Callable[[Sample, int], np.ndarray]
    save: str | None = None
    needs: tuple[str, ...] = ()
    fault: Callable[[np.ndarray, Record], str] = lambda stored, record: ""
    read: Callable[[np.ndarray], Tensor] | None = None

    @property
    def is_picture(self) -> bool:
        """Whether it has a value at every pixel, so that it is cropped along with the pair."""
        return self.axes.startswith("h w")

    def dtype(self, bits: int) -> np.dtype[Any]:
        return np.dtype(self.type.format(bits=bits))

    def bytes_per_pair(self, size: tuple[int, int], bits: int) -> int:
        """Bytes for a pair of `size` (height, width); 0 if a length is unknown before a sample is made."""
        sides = {"h": size[0], "w": size[1]}
        lengths = [int(axis) if axis.isdigit() else sides.get(axis, 0) for axis in self.axes.split()]
        return math.prod(lengths) * self.dtype(bits).itemsize

    def problems(self, shape: tuple[int, ...], sides: dict[str, int]) -> Iterator[str]:
        """What is wrong with an array of this shape for a pair. `sides` collects the lengths of axes, by letter."""
        axes = self.axes.split()
        for axis, length in zip(axes, shape, strict=True):
            sides.setdefault(axis, int(axis) if axis.isdigit() else length)
        expected = tuple(sides[axis] for axis in axes)
        if shape != expected:
            yield f"has pairs of shape {_product(shape)}, expected {_product(expected)}"


def _product(lengths: tuple[Any, ...]) -> str:
    return " x ".join(map(str, lengths))


# ---------------------------------------------------------------- made from a sample


def _levels(srgb: Tensor, bits: int, name: str) -> np.ndarray:
    """(1 3 h w) in [0, 1] as whole numbers (h w 3): 1 becomes the largest, everything else is rounded and clipped."""
    white = 2.0**bits - 1
    levels = (srgb[0].permute(1, 2, 0) * white).round().clamp(0, white).cpu().numpy()
    if np.isnan(levels).any():
        raise ValueError(f"{name}: expected finite values, got NaN; this is a bug in a stage, please report the recipe")
    return np.ascontiguousarray(levels.astype(f"uint{bits}"))


def _raw(sample: Sample, name: str) -> np.ndarray:
    return raw_of_bayer(_present(getattr(sample, name), name), sample.known_camera).numpy()


def _present(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(f"/{name}: expected a stage to make it, got nothing; leave it out of the recipe's save")
    return value


# ---------------------------------------------------------------- checked


def _level_fault(name: str) -> Callable[[np.ndarray, Record], str]:
    """The check that the mean of the stored picture is the one in its record."""

    def fault(stored: np.ndarray, record: Record) -> str:
        level = float(stored.mean())
        if abs(level - record[f"{name}_level"]) <= 1e-3:
            return ""
        return "is black" if level == 0 else "does not match its record"

    return fault


def _kernel_fault(stored: np.ndarray, record: Record) -> str:
    total = float(stored.sum())
    return "" if math.isclose(total, 1, abs_tol=1e-3) else f"sums to {total:g}, not 1"


# ---------------------------------------------------------------- read back


def _srgb(stored: np.ndarray) -> Tensor:
    """Whole numbers (h w 3) as float32 (3 h w) in [0, 1]."""
    levels = torch.from_numpy(stored).permute(2, 0, 1)
    return levels.to(torch.float32, memory_format=torch.contiguous_format).div_(np.iinfo(stored.dtype).max)


# ---------------------------------------------------------------- the table

ARRAYS: tuple[StoredArray, ...] = (
    StoredArray(
        name="blur",
        axes="h w 3",
        type="uint{bits}",
        content="blurred sRGB",
        make=lambda sample, bits: _levels(sample.image, bits, "blur"),
        fault=_level_fault("blur"),
        read=_srgb,
    ),
    StoredArray(
        name="sharp",
        axes="h w 3",
        type="uint{bits}",
        content="ground truth, sRGB",
        make=lambda sample, bits: _levels(sample.sharp, bits, "sharp"),
        fault=_level_fault("sharp"),
        read=_srgb,
    ),
    StoredArray(
        name="bayer",
        axes="h w",
        type="uint16",
        content="blurred mosaic with noise, at the camera's levels",
        save="raw",
        needs=("bayer", "levels"),
        make=lambda sample, bits: _raw(sample, "bayer"),
    ),
    StoredArray(
        name="sharp_bayer",
        axes="h w",
        type="uint16",
        content="sharp mosaic without noise, at the camera's levels",
        save="raw",
        needs=("bayer", "levels"),
        make=lambda sample, bits: _raw(sample, "sharp_bayer"),
    ),
    StoredArray(
        name="kernel",
        axes="k k",
        type="float32",
        content="blur kernel, padded with zeros to the largest of the recipe",
        save="kernel",
        needs=("kernel",),
        make=lambda sample, bits: _present(sample.kernel, "kernel").cpu().numpy(),
        fault=_kernel_fault,
    ),
    StoredArray(
        name="saturated",
        axes="h w 3",
        type="uint8",
        content="1 where the light was driven to full scale, else 0",
        save="saturated",
        needs=("saturated",),
        make=lambda sample, bits: (
            _present(sample.saturated, "saturated")[0].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        ),
    ),
)

# The keys of a recipe's `save`, each with what its stages must bring (`Stage.brings`; "levels": the camera's black and
# white levels).
SAVES: dict[str, tuple[str, ...]] = {
    key: tuple(dict.fromkeys(need for array in ARRAYS if array.save == key for need in array.needs))
    for key in dict.fromkeys(array.save for array in ARRAYS)
    if key is not None
}


def asked_for(saves: Collection[str]) -> list[StoredArray]:
    """The arrays that a recipe with these `save` keys stores, in the order of the table."""
    return [array for array in ARRAYS if array.save is None or array.save in saves]


def arrays_of(sample: Sample, bits: int) -> dict[str, np.ndarray]:
    """The finished pair as a shard stores it, by dataset. Raises `ValueError` on NaN, or if an array cannot be made."""
    return {array.name: array.make(sample, bits) for array in asked_for(sample.saves)}

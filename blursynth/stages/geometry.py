"""Where in the picture, which way up, and without its border."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from blursynth.sample import Sample
from blursynth.stages.stage import Stage
from isp.space import SPACES, Space

# Where each element of the dihedral group takes an image: rows flipped, columns flipped, then quarter turns.
DIHEDRAL = ("identity", "flip_rows", "flip_columns", "turn_90", "turn_180", "turn_270", "transpose", "anti_transpose")

Side = Annotated[int, Field(ge=8)]


def turn(image: torch.Tensor, element: str) -> torch.Tensor:
    """`image` moved by an element of `DIHEDRAL`; turns are counter-clockwise.

    Source: rim2022, RSBlur@ae33a6c
    """
    match element:
        case "identity":
            return image
        case "flip_rows":
            return image.flip(-2)
        case "flip_columns":
            return image.flip(-1)
        case "turn_90" | "turn_180" | "turn_270":
            return torch.rot90(image, int(element[5:]) // 90, (-2, -1))
        case "transpose":
            return torch.rot90(image.flip(-1), 1, (-2, -1))
        case "anti_transpose":
            return torch.rot90(image.flip(-2), 1, (-2, -1))
        case _:
            raise ValueError(f"dihedral: expected one of {', '.join(DIHEDRAL)}, got {element!r}")


class Crop(Stage):
    """A window of `size` (one number for a square, or [height, width]), uniformly anywhere, or always `at` (top, left).

    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "crop"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)

    size: Side | tuple[Side, Side]
    at: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None

    @property
    def sides(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int]:
        return self.sides

    def __call__(self, sample: Sample) -> Sample:
        shape = tuple(sample.image.shape[-2:])
        least = tuple(side + first for side, first in zip(self.sides, self.at or (0, 0), strict=True))
        if shape[0] < least[0] or shape[1] < least[1]:
            raise ValueError(
                f"crop: expected a picture of at least {least[0]}x{least[1]} (height x width), got "
                f"{shape[0]}x{shape[1]} ({sample.source}); lower crop.size, leave the picture out with source.pattern, "
                "or set on_error: skip"
            )
        if self.at is None:
            rng = sample.rng("origin")
            free = (whole - side for whole, side in zip(shape, self.sides, strict=True))
            top, left = (int(rng.integers(0, places, endpoint=True)) for places in free)
        else:
            top, left = self.at
        return sample.cropped(top, left, *self.sides).rolled(top=top, left=left)


class Dihedral(Stage):
    """Flips and quarter turns: one of the eight symmetries of the square, uniformly out of `choose`.

    The published code draws identity twice as often as any other; repeat it in `choose` to do the same.
    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "dihedral"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)

    choose: tuple[str, ...] = DIHEDRAL

    def problems(self) -> list[str]:
        unknown = [element for element in self.choose if element not in DIHEDRAL]
        return [f"choose: expected elements out of {', '.join(DIHEDRAL)}, got {', '.join(unknown)}"] if unknown else []

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        return size if size is not None and size[0] == size[1] else None

    def __call__(self, sample: Sample) -> Sample:
        element = self.choose[int(sample.rng("element").integers(len(self.choose)))]
        saturation = None if sample.saturation is None else turn(sample.saturation, element)
        moved = sample.replace(
            image=turn(sample.image, element), sharp=turn(sample.sharp, element), saturation=saturation
        )
        return moved.rolled(element=element)


class CropBorder(Stage):
    """Cuts `pixels` off every side; the recipe check demands at least the sum of all halos.

    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "crop_border"
    takes: ClassVar[tuple[Space, ...]] = SPACES

    pixels: Annotated[int, Field(ge=0)]

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if size is None else (size[0] - 2 * self.pixels, size[1] - 2 * self.pixels)

    def __call__(self, sample: Sample) -> Sample:
        height, width = (side - 2 * self.pixels for side in sample.image.shape[-2:])
        if min(height, width) < 1:
            raise ValueError(
                f"crop_border: {self.pixels} pixels off every side leave nothing of {tuple(sample.image.shape[-2:])} "
                f"({sample.source}); use larger pictures or a larger crop"
            )
        return sample.cropped(self.pixels, self.pixels, height, width)

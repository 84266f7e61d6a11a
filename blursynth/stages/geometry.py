"""Crops, flips and turns, and the border."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from blursynth.sample import Sample
from blursynth.stages.stage import Problem, Stage, State
from isp.camera import Camera
from isp.space import SPACES, Space

# How each element of the dihedral group moves an image: perhaps a flip along an axis, then counter-clockwise quarter turns.
_MOVES: dict[str, tuple[Literal["vertical", "horizontal"] | None, int]] = {
    "identity": (None, 0),
    "flip_rows": ("vertical", 0),
    "flip_columns": ("horizontal", 0),
    "turn_90": (None, 1),
    "turn_180": (None, 2),
    "turn_270": (None, 3),
    "transpose": ("horizontal", 1),
    "anti_transpose": ("vertical", 1),
}
DIHEDRAL = tuple(_MOVES)

Side = Annotated[int, Field(ge=8)]


def turn(image: torch.Tensor, element: str) -> torch.Tensor:
    """Move `image` by an element of `DIHEDRAL`; turns are counter-clockwise.

    Source: rim2022, RSBlur@ae33a6c
    """
    if element not in _MOVES:
        raise ValueError(f"dihedral: expected one of {', '.join(DIHEDRAL)}, got {element!r}")
    axis, quarter_turns = _MOVES[element]
    flipped = image if axis is None else image.flip(-2 if axis == "vertical" else -1)
    return torch.rot90(flipped, quarter_turns, (-2, -1)) if quarter_turns else flipped


def turn_camera(camera: Camera, element: str, height: int, width: int) -> Camera:
    """Return the camera of a `height` x `width` mosaic after `turn`: its CFA phase moves along."""
    axis, quarter_turns = _MOVES[element]
    flipped = camera if axis is None else camera.flip(axis, height, width)
    return flipped.rotate(quarter_turns, height, width)


class Crop(Stage):
    """Cut a window of `size` (one number for a square, or [height, width]), uniformly anywhere, or `at` (top, left).

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
                f"{shape[0]}x{shape[1]} ({sample.source}); lower crop.size, exclude the picture with source.pattern, "
                "or set on_error: skip"
            )
        if self.at is None:
            rng = sample.rng("origin")
            free = (whole - side for whole, side in zip(shape, self.sides, strict=True))
            top, left = (int(rng.integers(0, places, endpoint=True)) for places in free)
        else:
            top, left = self.at
        return sample.cropped(top, left, *self.sides).drawn(top=top, left=left)


class Dihedral(Stage):
    """Flip and turn the picture: draw one of the eight symmetries of the square uniformly from `choose`.

    The published code draws identity twice as often as any other; list it twice in `choose` to do the same.
    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "dihedral"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)

    choose: Annotated[tuple[str, ...], Field(min_length=1)] = DIHEDRAL

    def problems(self) -> list[str]:
        unknown = [element for element in self.choose if element not in DIHEDRAL]
        return [f"choose: expected elements out of {', '.join(DIHEDRAL)}, got {', '.join(unknown)}"] if unknown else []

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        keeps_sides = all(_MOVES[element][1] % 2 == 0 for element in self.choose)
        return size if size is not None and (keeps_sides or size[0] == size[1]) else None

    def __call__(self, sample: Sample) -> Sample:
        element = self.choose[int(sample.rng("element").integers(len(self.choose)))]
        height, width = sample.image.shape[-2:]
        camera = None if sample.camera is None else turn_camera(sample.camera, element, height, width)
        kernel = None if sample.kernel is None else turn(sample.kernel, element)
        moved = sample.moved(lambda image: turn(image, element)).replace(camera=camera, kernel=kernel)
        return moved.drawn(element=element)


class CropBorder(Stage):
    """Cut `pixels` off every side; the recipe check demands at least the sum of all halos.

    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "crop_border"
    takes: ClassVar[tuple[Space, ...]] = SPACES

    pixels: Annotated[int, Field(ge=0)]

    def misfits(self, before: State) -> list[Problem]:
        found = super().misfits(before)
        if self.pixels < before.halo:
            sentence = (
                f"expected at least {before.halo}, the border that the stages before it spoil, got {self.pixels}; "
                "raise it, and the crop by twice as much"
            )
            found.append(Problem(sentence, key="pixels"))
        return found

    def after(self, before: State, label: str) -> State:
        return dataclasses.replace(super().after(before, label), halo=0)

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

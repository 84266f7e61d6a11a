"""`Stage`: a small frozen object that is called. Its fields are its recipe keys, its docstring its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from blursynth.sample import Sample
from isp.space import Space


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [smallest, largest], got [{bounds[0]:g}, {bounds[1]:g}]")
    return bounds


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


class Stage(BaseModel):
    """One step of a recipe.

    name     its key in recipes
    takes    spaces it accepts
    gives    space of its result; `None` where it keeps the space
    needs    what an earlier stage must have put into the sample: "camera", "one_frame", "saturation", "saturated"
    brings   what it puts there itself
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    takes: ClassVar[tuple[Space, ...]]
    gives: ClassVar[Space | None] = None
    needs: ClassVar[tuple[str, ...]] = ()
    brings: ClassVar[tuple[str, ...]] = ()

    @property
    def halo(self) -> int:
        """How many pixels along the border this stage spoils."""
        return 0

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """(height, width) after this stage, given that before it; `None` where the source decides."""
        return size

    def problems(self) -> list[str]:
        """What is wrong with this stage's settings that only files or other packages can tell; the recipe check asks."""
        return []

    def files(self) -> list[Path]:
        """Files outside the recipe on which this stage depends; their contents are part of a folder's identity."""
        return []

    def __call__(self, sample: Sample) -> Sample:
        raise NotImplementedError

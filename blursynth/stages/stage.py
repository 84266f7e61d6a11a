"""`Stage`: a small frozen object that is called. Its fields are its recipe keys, its docstring documents them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from blursynth.sample import Sample
from isp.files.document import Part
from isp.space import Space

# What stages put into a sample for later ones, in words for messages. A stage may bring things that are not listed.
THINGS = {
    "camera": "a camera",
    "one_frame": "one image, but the source gives frames",
    "saturation": "saturation light",
    "saturated": "to know what is saturated",
    "kernel": "a blur kernel",
    "bayer": "a RAW image",
    "levels": "black and white levels",
}


@dataclass(frozen=True)
class CameraFacts:
    """What a recipe tells about the cameras it draws.

    profile  name of the camera profile
    cfa      the CFA patterns that may be drawn
    known    the fields of `isp.Camera` that are known in every draw
    """

    profile: str
    cfa: tuple[str, ...]
    known: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class State:
    """The pair between two stages, as far as a recipe tells.

    given_by     who gave the image its present space, for messages
    brought      what the source and the stages so far have put into the sample
    size         (height, width); `None` if the source decides
    halo         number of border pixels that are spoiled
    camera       facts about the camera; `None` before a stage draws one
    rendered_by  the ISP that has rendered the image like a camera JPEG, "" if none has
    """

    given_by: str = "the source"
    space: Space = "srgb"
    brought: frozenset[str] = frozenset()
    size: tuple[int, int] | None = None
    halo: int = 0
    camera: CameraFacts | None = None
    rendered_by: str = ""


class Problem(NamedTuple):
    """Why a stage cannot follow those before it.

    key      the recipe key to blame, "" for the stage as a whole
    missing  the thing that no stage before it brings, if that is the problem; the caller says which stages bring it
    """

    sentence: str
    key: str = ""
    missing: str = ""


class Stage(Part):
    """One step of a recipe.

    name     its key in recipes
    takes    spaces that it accepts
    gives    space of its result; `None` if it keeps the space
    needs    things that an earlier stage must have put into the sample (`THINGS` has those of the built-in stages)
    brings   things that it puts there itself
    """

    name: ClassVar[str]
    takes: ClassVar[tuple[Space, ...]]
    gives: ClassVar[Space | None] = None
    needs: ClassVar[tuple[str, ...]] = ()
    brings: ClassVar[tuple[str, ...]] = ()

    @property
    def halo(self) -> int:
        """The number of border pixels that this stage spoils."""
        return 0

    @property
    def isps(self) -> tuple[str, ...]:
        """The names of the ISPs that this stage uses."""
        return ()

    @property
    def needs_reference(self) -> bool:
        """Whether this stage needs `Sample.reference`, which samples carry only if a stage needs it."""
        return False

    def size_after(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return (height, width) after this stage, given the size before it; `None` if the source decides."""
        return size

    def problems(self) -> list[str]:
        """Return what is wrong with the settings that only files or other packages can tell, each "key: sentence"."""
        return []

    def files(self) -> list[Path]:
        """Return the files outside the recipe on which this stage depends.

        Their content is a part of a folder's identity. Their paths are not, if they stand in the keys `path` or `profile`.
        """
        return []

    def misfits(self, before: State) -> list[Problem]:
        """Return every reason why this stage cannot follow `before`. A stage with limits of its own adds to these."""
        found = []
        if before.space not in self.takes:
            found.append(Problem(f"takes {' or '.join(self.takes)}, but {before.given_by} gives {before.space}"))
        missing = [need for need in self.needs if need not in before.brought]
        return found + [Problem(f"needs {THINGS.get(need, need)}", missing=need) for need in missing]

    def after(self, before: State, label: str) -> State:
        """Return the state that this stage, called `label` in its recipe, leaves."""
        return dataclasses.replace(
            before,
            given_by=f'"{label}"',
            space=self.gives or before.space,
            brought=before.brought.union(self.brings),
            size=self.size_after(before.size),
            halo=before.halo + self.halo,
        )

    def __call__(self, sample: Sample) -> Sample:
        raise NotImplementedError

"""The files that `isp.apply` writes for one input, by name: the command line plans with them, `one_file` writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isp.files.places import writable_name


@dataclass(frozen=True)
class Results:
    """Paths of the results for one input. Iterating yields them in the order in which they are listed."""

    def __iter__(self) -> Iterator[Path]:
        return iter(getattr(self, field.name) for field in dataclasses.fields(self))


@dataclass(frozen=True)
class Raw(Results):
    """The results of `inverse`."""

    mosaic: Path
    sidecar: Path
    preview: Path


@dataclass(frozen=True)
class Rendering(Results):
    """The result of `forward`."""

    picture: Path


@dataclass(frozen=True)
class Edit(Results):
    """The results of `transfer` and `hdr`."""

    picture: Path
    before_after: Path


def plan(command: str, path: Path, out: Path, suffix: str) -> Results:
    """Return the results of `command` for the file `path`, in the folder `out`; `suffix` is that of pictures.

    Their names begin with the stem of `path`, as `isp.files.places.writable_name` writes it.
    """

    def named(ending: str) -> Path:
        return out / f"{writable_name(path.stem)}{ending}"

    if command == "inverse":
        return Raw(mosaic=named(".tif"), sidecar=named(".json"), preview=named("_preview.png"))
    if command == "forward":
        return Rendering(picture=named(suffix))
    return Edit(picture=named(f"_{command}{suffix}"), before_after=named(f"_{command}_before_after.jpg"))

"""What all sources share: the key `pattern`, which chooses among the files of the data folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

EVERYTHING = "**/*"
_LONGEST = 1000  # characters of a pattern


def _check_pattern(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not parts or parts[0] == "/" or ".." in parts or any("**" in part and part != "**" for part in parts):
        raise ValueError(f'expected a pattern inside the data folder, such as "**/*.png", got "{pattern}"')
    return pattern


class SourceModel(BaseModel):
    """The keys of every source.

    pattern   which files are used, as in "**/sharp/*.png". `**` stands for any number of folders. Only the default, which
              means everything, leaves the blurred side of known layouts out; another pattern takes what it matches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    brings: ClassVar[tuple[str, ...]] = ("one_frame",)  # what it puts into a sample, as `Stage.brings`

    pattern: Annotated[str, Field(max_length=_LONGEST), AfterValidator(_check_pattern)] = EVERYTHING


def given(data: Path | None, use: str, layout: str) -> Path:
    """Return `data`. Raises `ValueError` if there is none, since only photographs are built in."""
    if data is None:
        raise ValueError(f'source "{use}": expected a folder with {layout}, got none; give --data FOLDER')
    return data

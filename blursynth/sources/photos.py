"""Photographs as a source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from blursynth.sources.clips import Files, Footage, footage_of
from blursynth.sources.colours import remarks_on
from blursynth.sources.sides import take_sharp_side
from blursynth.sources.source import SourceModel
from blursynth.sources.walk import Found, find
from isp.files import photographs
from isp.files.pictures import IMAGE_SUFFIXES

BUILT_IN = photographs.NAMES


class Photos(SourceModel):
    """Photographs: a folder of them, a single one, or those that ship with scikit-image (CC0 or public domain).

    Of a data set with a blurred and a sharp side, such as GOPRO_Large, the sharp side is used.
    """

    use: Literal["photos"] = "photos"
    pairs_per_photo: int = Field(default=8, ge=1)

    def open(self, data: Path | None) -> Footage:
        """Find the photographs. Raises `ValueError` if there is none, `ImportError` if scikit-image is missing."""
        if data is None:
            folder = photographs.folder()
            built_in = [Files(f"scikit-image/{name}", folder, (name,), name) for name in BUILT_IN]
            return footage_of(built_in, Counter(), default_count=32)
        if data.is_file() and data.suffix.lower() in IMAGE_SUFFIXES:
            folder, found = data.absolute().parent, Found([data.name])
        else:
            folder, found = data.absolute(), find(data, self.pattern)
            take_sharp_side(found, self.pattern)
        photos = [Files(name, folder, (name,), name) for name in found.names]
        found.notes += remarks_on(folder / name for name in found.names)
        return footage_of(photos, found.skipped, self.pairs_per_photo * len(photos), found.notes)

"""Reads the directories of TIFF files, which many RAW formats are: the tags of each picture, and where its bytes are.

Damage of any kind ends in a `ValueError`, in bounded time and memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

Page = dict[str, tuple[int, ...]]

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers: their codes in `struct`
_NUMBERS = _WHOLE | {6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 17: "q"}
_RATIONALS = {5: "I", 10: "i"}  # a numerator and a denominator
_BYTES = {1: "B", 2: "B", 6: "b", 7: "B"}
_TAGS = {
    254: "subfile", 256: "width", 257: "height", 258: "bits", 259: "compression", 262: "colours", 273: "offsets",
    277: "channels", 278: "rows", 279: "counts", 284: "planes", 324: "tiles", 325: "tile_counts", 330: "directories",
    339: "format",
}  # fmt: skip
_DEFAULTS = {
    "subfile": (0,), "bits": (1,), "compression": (1,), "colours": (-1,), "channels": (1,), "planes": (1,), "format": (1,),
}  # fmt: skip
# More means damage. A file names the same bytes as often as it likes, so its values are counted over all directories.
_MOST_VALUES, _MOST_ENTRIES, _MOST_DIRECTORIES, _MOST_PAGES = 2**20, 4096, 100, 1000


@dataclass(frozen=True)
class Field:
    """The values of one tag: their TIFF type, their number, and the offset of the first."""

    kind: int
    count: int
    at: int


def pages(data: bytes | mmap) -> list[Page]:
    """Return the tags of every page, as far as this module knows them.

    Raises `ValueError` if the file ends early, or for a loop of pages or an absurd count.
    """
    reader = _Reader(data)
    chain: dict[int, Page] = {}
    at = reader.first
    while at:
        if at in chain:
            raise ValueError("the pages form a loop")
        if len(chain) == _MOST_PAGES:
            raise ValueError(f"more than {_MOST_PAGES} pages")
        fields, following = reader.fields(at)
        chain[at], at = reader.page(at, fields), following
    return list(chain.values())


def directories(data: bytes | mmap) -> list[Page]:
    """Return every page and sub-directory that can be reached and read; none if the bytes are not a TIFF file.

    The key "at" of each has its offset, which `fields` takes.
    """
    try:
        reader = _Reader(data)
    except ValueError:
        return []
    found: dict[int, Page] = {}
    seen: set[int] = set()
    ahead = [reader.first]
    # Unreadable directories count too, or one damaged list of sub-directories would take minutes.
    while ahead and len(seen) < _MOST_DIRECTORIES:
        at = ahead.pop()
        if at and at not in seen:
            seen.add(at)
            try:
                fields, following = reader.fields(at)
                found[at] = reader.page(at, fields)
            except ValueError:
                continue
            ahead += [*found[at].get("directories", ())[:_MOST_DIRECTORIES], following]
    return list(found.values())


def blocks(page: Page) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of every strip or tile of a page."""
    yield from zip(page.get("offsets", ()), page.get("counts", ()), strict=False)
    yield from zip(page.get("tiles", ()), page.get("tile_counts", ()), strict=False)


# ---------------------------------------------------------------- any tag


def fields(data: bytes | mmap, at: int) -> Mapping[int, Field]:
    """Return the tags of the directory at offset `at` by their numbers. Raises `ValueError` if it cannot be read."""
    return _Reader(data).fields(at)[0]


def numbers(data: bytes | mmap, field: Field) -> tuple[float, ...]:
    """Return the values of a tag. A rational with denominator 0 is NaN.

    Raises `ValueError` if they are no numbers, too many, or beyond the end of the file.
    """
    return _Reader(data).numbers(field)


def content(data: bytes | mmap, field: Field, most: int) -> bytes:
    """Return the bytes of a tag. Raises `ValueError` for another type, more than `most`, or bytes beyond the end."""
    if field.kind not in _BYTES or field.count > most:
        raise ValueError(f"a tag of {field.count} values of the type {field.kind}")
    if field.at + field.count > len(data):
        raise ValueError("the file ends early")
    return bytes(data[field.at : field.at + field.count])


class _Reader:
    """The layout of one file, and how many values may still be read from it."""

    def __init__(self, data: bytes | mmap) -> None:
        if data[:4] not in STARTS:
            raise ValueError("no TIFF file")
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        big = data[2:4] in (b"+\0", b"\0+")
        # types of the number of entries, of the head of an entry, of an offset; the bytes of a value stored inline
        self._count, self._entry, self._offset, self._inline = ("Q", "HHQ", "Q", 8) if big else ("H", "HHI", "I", 4)
        (self.first,) = self._unpack(self._offset, 8 if big else 4)
        self._left = 2 * _MOST_VALUES

    def _unpack(self, form: str, at: int) -> tuple[Any, ...]:
        # Offsets are as large as 64 bits hold; struct itself would raise types of its own.
        if at + struct.calcsize(self._order + form) > len(self._data):
            raise ValueError("the file ends early")
        return struct.unpack_from(self._order + form, self._data, at)

    def fields(self, at: int) -> tuple[dict[int, Field], int]:
        """Return (the tags of the directory at offset `at`, the offset of the next page)."""
        step = struct.calcsize(self._order + self._entry) + self._inline
        (entries,) = self._unpack(self._count, at)
        if entries > _MOST_ENTRIES:
            raise ValueError(f"a directory of {entries} entries")
        at += struct.calcsize(self._order + self._count)
        found: dict[int, Field] = {}
        for start in range(at, at + entries * step, step):
            tag, kind, count = self._unpack(self._entry, start)
            place, codes = start + step - self._inline, _NUMBERS.get(kind, "B")
            length = count * (8 if kind in _RATIONALS else struct.calcsize(codes))
            if length > self._inline:
                (place,) = self._unpack(self._offset, place)
            found[tag] = Field(kind, count, place)
        (following,) = self._unpack(self._offset, at + entries * step)
        return found, following

    def page(self, at: int, found: Mapping[int, Field]) -> Page:
        """Return the tags that describe a picture, by their names."""
        page: Page = {**_DEFAULTS, "at": (at,)}
        for tag, name in _TAGS.items():
            field = found.get(tag)
            if field is not None and field.kind in _WHOLE and field.count > 0:
                page[name] = self._values(field, _WHOLE[field.kind])
        return page

    def numbers(self, field: Field) -> tuple[float, ...]:
        """Return the values of a tag; see the function of that name."""
        if field.kind in _RATIONALS:
            parts = self._values(Field(field.kind, 2 * field.count, field.at), _RATIONALS[field.kind])
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return tuple(above / below if below else float("nan") for above, below in pairs)
        if field.kind not in _NUMBERS:
            raise ValueError(f"a tag of the type {field.kind}")
        return tuple(map(float, self._values(field, _NUMBERS[field.kind])))

    def _values(self, field: Field, code: str) -> tuple[Any, ...]:
        if field.count > _MOST_VALUES:
            raise ValueError(f"a tag of {field.count} values")
        self._left -= field.count
        if self._left < 0:
            raise ValueError("too many values in all its tags")
        return self._unpack(f"{field.count}{code}", field.at)

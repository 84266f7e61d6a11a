"""Reads the directories of TIFF files, which many RAW formats are: the tags of each picture, and where its bytes are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

Page = dict[str, tuple[int, ...]]

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF

_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TAGS = {
    254: "subfile", 256: "width", 257: "height", 258: "bits", 259: "compression", 262: "colours", 273: "offsets",
    277: "channels", 279: "counts", 284: "planes", 324: "tiles", 325: "tile_counts", 330: "directories", 339: "format",
}  # fmt: skip
_DEFAULTS = {
    "subfile": (0,), "bits": (1,), "compression": (1,), "colours": (-1,), "channels": (1,), "planes": (1,), "format": (1,),
}  # fmt: skip
_MOST_VALUES, _MOST_ENTRIES, _MOST_DIRECTORIES = 2**20, 4096, 100  # more means damage


def pages(data: bytes | mmap) -> list[Page]:
    """Return the tags of every page, as far as this module knows them.

    Raises `struct.error` if the file ends early, `ValueError` for a loop of pages or an absurd count.
    """
    layout = _layout(data)
    chain: dict[int, Page] = {}
    at = _first(data, layout)
    while at:
        if at in chain:
            raise ValueError("the pages form a loop")
        chain[at], at = _page(data, at, layout)
    return list(chain.values())


def directories(data: bytes | mmap) -> list[Page]:
    """Return every page and sub-directory that can be reached and read; none if the bytes are not a TIFF file."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return []
    layout = _layout(data)
    found: dict[int, Page] = {}
    seen: set[int] = set()
    ahead = [_first(data, layout)] if len(data) >= 8 else []
    # Unreadable directories count too, or one damaged list of sub-directories would take minutes.
    while ahead and len(seen) < _MOST_DIRECTORIES:
        at = ahead.pop()
        if at and at not in seen:
            seen.add(at)
            try:
                found[at], following = _page(data, at, layout)
            except (struct.error, ValueError):
                continue
            ahead += [*found[at].get("directories", ()), following]
    return list(found.values())


def blocks(page: Page) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of every strip or tile of a page."""
    yield from zip(page.get("offsets", ()), page.get("counts", ()), strict=False)
    yield from zip(page.get("tiles", ()), page.get("tile_counts", ()), strict=False)


# (byte order, type of the number of entries, of the head of an entry, of an offset, bytes of a value stored inline)
_Layout = tuple[str, str, str, str, int]


def _layout(data: bytes | mmap) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2) == (43,)
    return (order, "Q", "HHQ", "Q", 8) if big else (order, "H", "HHI", "I", 4)


def _first(data: bytes | mmap, layout: _Layout) -> int:
    at: int = struct.unpack_from(layout[0] + layout[3], data, 4 if layout[4] == 4 else 8)[0]
    return at


def _page(data: bytes | mmap, at: int, layout: _Layout) -> tuple[Page, int]:
    """Return (the tags of the page at offset `at`, the offset of the next page)."""
    order, count, entry, offset, inline = layout
    step = struct.calcsize(order + entry) + inline
    page: Page = dict(_DEFAULTS)
    (entries,) = struct.unpack_from(order + count, data, at)
    if entries > _MOST_ENTRIES:
        raise ValueError(f"a directory of {entries} entries")
    at += struct.calcsize(order + count)
    for field in range(at, at + entries * step, step):
        tag, number, values = struct.unpack_from(order + entry, data, field)
        if tag in _TAGS and number in _NUMBERS and values > 0:
            if values > _MOST_VALUES:
                raise ValueError(f"a tag of {values} values")
            form, start = f"{order}{values}{_NUMBERS[number]}", field + step - inline
            if struct.calcsize(form) > inline:
                (start,) = struct.unpack_from(order + offset, data, start)
            page[_TAGS[tag]] = struct.unpack_from(form, data, start)
    (following,) = struct.unpack_from(order + offset, data, at + entries * step)
    return page, following

"""Tells PNG, JPEG and TIFF apart, and opens each."""

from __future__ import annotations

from mmap import mmap

from isp.files import tiff
from isp.files.containers import jpeg, png, strips
from isp.files.containers.contents import Contents, refused

_STARTS = {png.START: "PNG", jpeg.START: "JPEG", **dict.fromkeys(tiff.STARTS, "TIFF")}
_READERS = {"PNG": png.contents, "JPEG": jpeg.contents, "TIFF": strips.contents}


def kind_of(head: bytes) -> str | None:
    """Return "PNG", "JPEG" or "TIFF" by the first eight bytes of a file; None for any other format."""
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)


def contents(data: bytes, where: str) -> Contents:
    """Return what the picture file `data` holds; sentences about it start with `where`.

    Raises `ValueError` for another format, a file that is not whole as far as this can be seen without decoding, a picture
    that is too large, or one of a sort that OpenCV does not decode correctly.
    """
    kind = kind_of(data[:8])
    if kind is None:
        raise refused(where, "a PNG, JPEG or TIFF image", sketch(data))
    return _READERS[kind](data, where)


def exif_block(data: bytes | mmap) -> bytes | None:
    """Return the TIFF structure with the EXIF of a PNG or JPEG file, empty if it has none; None for any other format.

    It looks as far as it can read, in a damaged file, too.
    """
    find = {"PNG": png.exif_block, "JPEG": jpeg.exif_block}.get(kind_of(data[:8]) or "")
    return None if find is None else find(data)


def sketch(data: bytes) -> str:
    """Return a few words on bytes that are no picture."""
    return f"{len(data)} bytes that start with {data[:8]!r}" if data else "an empty file"

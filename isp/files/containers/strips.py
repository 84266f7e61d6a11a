"""TIFF files of strips: those that OpenCV decodes correctly, and whether each strip holds all of its rows.

libtiff fills with black what is missing in a picture of 8 bits, and says nothing. Deflate has checksums, which are compared
here; the lengths of uncompressed strips are counted here; of LZW and PackBits, `isp.files.decoders` asks Pillow, which is
strict; a JPEG strip has to be whole like any JPEG.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from isp.files import tiff
from isp.files.containers import jpeg
from isp.files.containers.contents import Contents, Stated, check_filled, check_size, damaged, refused
from isp.files.containers.png import MOST_PROFILE

_GREY, _RGB, _PALETTE, _YCBCR = 1, 2, 3, 6
_CHANNELS = {  # {(bits, colours): the numbers of channels that OpenCV reads correctly}
    (8, _GREY): (1,), (8, _RGB): (3, 4), (8, _PALETTE): (1,), (8, _YCBCR): (3,), (16, _GREY): (1,), (16, _RGB): (3, 4),
}  # fmt: skip
_PLAIN, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
# The largest factor by which each compression packs.
_FACTORS = {_PLAIN: 1, _LZW: 1310, _JPEG: 1536, _DEFLATE: 1032, _OLD_DEFLATE: 1032, _PACKBITS: 64}
_ORIENTATION, _TABLES, _PROFILE = 274, 347, 34675
_AT_ONCE = 2**20  # bytes


def contents(data: bytes, where: str) -> Contents:
    """Return what a TIFF holds that OpenCV decodes correctly; it gets some tiles, planes, inverted grey and CMYK wrong.

    Raises `ValueError` for any other sort, and for damage as far as it shows in the structure and in the strips.
    """
    try:
        page, *others = tiff.pages(data)
        fields = tiff.fields(data, page["at"][0])
        width, height = page["width"][0], page["height"][0]
    except (KeyError, ValueError) as cause:
        raise damaged(where, "TIFF") from cause
    check_size(where, height, width)
    if page["subfile"][0] & 1 or not all(other["subfile"][0] & 1 for other in others):
        raise refused(where, "one full-size page first and only reduced copies after it", f"{1 + len(others)} pages")
    bits, formats, colours, channels = max(page["bits"]), max(page["format"]), page["colours"][0], page["channels"][0]
    if formats != 1 or {*page["bits"]} not in ({8}, {16}):
        raise refused(where, "whole numbers of 8 or 16 bits", f"{bits} bits of sample format {formats}")
    if channels not in _CHANNELS.get((bits, colours), ()):
        raise refused(where, "a grey or RGB TIFF", f"{channels} channels of photometric interpretation {colours}")
    if "tiles" in page or (page["planes"] != (1,) and channels > 1):
        raise refused(where, "a TIFF of strips with interleaved channels", "tiles or planes")
    compression = page["compression"][0]
    if compression not in _FACTORS:
        raise refused(
            where, "a TIFF that OpenCV can decode: plain, LZW, deflate, PackBits or JPEG", f"compression {compression}"
        )
    strips = _strips(data, page, where)
    # YCbCr may have fewer samples of colour, but has one of brightness for each pixel.
    row, packed = width * (1 if colours == _YCBCR else channels) * bits // 8, sum(len(strip) for _, strip in strips)
    check_filled(where, "TIFF", height, width, least=height * row / _FACTORS[compression], got=packed)
    for rows, strip in strips:
        if compression == _PLAIN and len(strip) < rows * row:
            raise damaged(where, "TIFF")
        # Some programs fill up the last strip with rows that are not there.
        if compression in (_DEFLATE, _OLD_DEFLATE) and not rows * row <= _inflated(
            strip, strips[0][0] * width * channels * bits // 8
        ):
            raise damaged(where, "TIFF")
    return Contents(
        "TIFF",
        height,
        width,
        _unturned(data, fields),
        alpha=channels == 4,
        exif=data,
        stated=Stated(profile=_tag(data, fields, _PROFILE, MOST_PROFILE)),
        streams=_streams(strips, _tag(data, fields, _TABLES, 2**16), where) if compression == _JPEG else (),
        strict_by_pillow=compression in (_LZW, _PACKBITS) and bits == 8,
    )


def _strips(data: bytes, page: tiff.Page, where: str) -> list[tuple[int, memoryview]]:
    """Return (number of rows, bytes) of every strip. Raises `ValueError` if one is missing or reaches beyond the end."""
    height = page["height"][0]
    rows = min(page.get("rows", (height,))[0], height)
    blocks = list(tiff.blocks(page))
    if rows < 1 or not len(blocks) == len(page.get("offsets", ())) == len(page.get("counts", ())) == -(-height // rows):
        raise damaged(where, "TIFF")
    # Strips that share bytes would take far longer than the file is large.
    if sum(length for _, length in blocks) > len(data) or any(sum(block) > len(data) for block in blocks):
        raise damaged(where, "TIFF")
    view = memoryview(data)
    return [
        (min(rows, height - at * rows), view[offset : offset + length]) for at, (offset, length) in enumerate(blocks)
    ]


def _inflated(strip: memoryview, most: int) -> int:
    """Return how many bytes a whole zlib stream holds, without holding them; -1 if it is damaged or holds more than `most`."""
    inflating, found, ahead = zlib.decompressobj(), 0, bytes(strip)
    try:
        while not inflating.eof and found <= most:
            part = inflating.decompress(ahead, min(_AT_ONCE, most + 1 - found))
            found, ahead = found + len(part), inflating.unconsumed_tail
            if not part and not ahead:
                break
    except zlib.error:
        return -1
    return found if inflating.eof and found <= most else -1


def _unturned(data: bytes, fields: Mapping[int, tiff.Field]) -> bytes:
    """Return the file with the orientation 1, because OpenCV would turn a TIFF whatever it is told."""
    stated = fields.get(_ORIENTATION)
    code = None if stated is None else {1: "B", 3: "H", 4: "I"}.get(stated.kind)
    if stated is None or code is None or stated.count != 1:  # libtiff ignores another type
        return data
    one = struct.pack(("<" if data[:2] == b"II" else ">") + code, 1)
    if data[stated.at : stated.at + len(one)] == one:
        return data
    return data[: stated.at] + one + data[stated.at + len(one) :]


def _streams(strips: list[tuple[int, memoryview]], tables: bytes, where: str) -> tuple[Contents, ...]:
    """Return the strips as JPEG files of their own: the tables that they share stand elsewhere in the TIFF."""
    shared = tables[2:].removesuffix(jpeg.END)
    return tuple(jpeg.contents(bytes(strip[:2]) + shared + bytes(strip[2:]), where) for _, strip in strips)


def _tag(data: bytes, fields: Mapping[int, tiff.Field], number: int, most: int) -> bytes:
    """Return the bytes of a tag, empty if there is none; bytes that mean nothing if they cannot be read."""
    try:
        return tiff.content(data, fields[number], most) if number in fields else b""
    except ValueError:
        return b"\0"

"""PNG files: their chunks, whose checksums are compared, and whether the compressed rows can fill the picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap

from isp.files.containers.contents import Contents, Stated, check_filled, check_size, damaged, refused

START = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 2**20
MOST_PROFILE = 2**24  # bytes of an unpacked colour profile; a few kB of zlib can hold gigabytes
_DEFLATE = 1032  # the largest factor by which deflate packs
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # {colour type: channels}
_PASSES = ((8, 8, 0, 0), (8, 8, 0, 4), (8, 4, 4, 0), (4, 4, 0, 2), (4, 2, 2, 0), (2, 2, 0, 1), (2, 1, 1, 0))
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_HARMLESS = (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"bKGD", b"hIST", b"sBIT", b"sPLT")  # whatever they hold
_COLOURS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP")


def contents(data: bytes, where: str) -> Contents:
    """Return what a PNG holds, after its checksums have been compared.

    Raises `ValueError` if chunks are missing or damaged, for an animation, and for a size that is too large or that the
    compressed rows cannot fill.
    """
    found: dict[bytes, bytes] = {}  # the first of each chunk that counts
    packed, parts = 0, [START]
    for name, start, end in _chunks(data):
        if name == b"acTL":
            raise refused(where, "one picture", "an animation")
        if name in _HARMLESS:
            continue
        # A flipped bit in its name makes a chunk unknown, so the checksums of unknown ones count, too.
        if end + 4 > len(data) or zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise damaged(where, "PNG")
        if name not in (*_PIXELS, *_COLOURS, b"eXIf"):
            if name[0:1].isupper():
                raise refused(where, "a PNG of known chunks", f"the chunk {name!r}")
            continue
        if not found and name != b"IHDR":
            raise damaged(where, "PNG")
        if name == b"IHDR":
            if found:
                raise damaged(where, "PNG")
            width, height, bits, colour, interlaced = _header(data[start:end], where)
        if name in _PIXELS:
            parts.append(data[start - 8 : end + 4])
        packed += end - start if name == b"IDAT" else 0
        found.setdefault(name, data[start:end] if name != b"IDAT" else b"")
    if b"IEND" not in found:
        raise damaged(where, "PNG")
    rows = _bytes_of_rows(height, width, bits * _CHANNELS[colour], interlaced)
    check_filled(where, "PNG", height, width, least=rows / _DEFLATE, got=packed)
    alpha = b"tRNS" in found or colour in (4, 6)
    return Contents("PNG", height, width, b"".join(parts), alpha, found.get(b"eXIf", b""), _stated(found))


def exif_block(data: bytes | mmap) -> bytes:
    """Return the EXIF of a PNG file, empty if it has none or one whose checksum is wrong."""
    for name, start, end in _chunks(data):
        if name == b"eXIf":
            whole = zlib.crc32(data[start - 4 : end]) == int.from_bytes(data[end : end + 4], "big")
            return data[start:end] if whole else b""
    return b""


def _chunks(data: bytes | mmap) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start and end of the content) of every chunk up to the end marker, as far as the file goes."""
    at = len(START)
    for _ in range(MOST_CHUNKS):
        if at + 12 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield name, at + 8, at + 8 + length
        if name == b"IEND":
            return
        at += 12 + length


def _header(content: bytes, where: str) -> tuple[int, int, int, int, int]:
    """Return (width, height, bits, colour type, whether it is interlaced). A picture that is too large is refused here."""
    if len(content) != 13:
        raise damaged(where, "PNG")
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
    if colour not in _CHANNELS or bits not in (1, 2, 4, 8, 16) or interlaced > 1:
        raise damaged(where, "PNG")
    check_size(where, height, width)
    return width, height, bits, colour, interlaced


def _bytes_of_rows(height: int, width: int, bits: int, interlaced: int) -> int:
    """Return the number of bytes in all rows before compression; each has one byte for its filter."""
    passes = _PASSES if interlaced else ((1, 1, 0, 0),)
    sizes = ((-(-(height - top) // down), -(-(width - left) // right)) for down, right, top, left in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for rows, columns in sizes if rows > 0 and columns > 0)


def _stated(found: dict[bytes, bytes]) -> Stated:
    """Return what the chunks say about colours; a chunk of a senseless length says nothing."""
    gamma, chromaticities, code_points = found.get(b"gAMA", b""), found.get(b"cHRM", b""), found.get(b"cICP", b"")
    return Stated(
        profile=_unpacked(found[b"iCCP"]) if b"iCCP" in found else b"",
        srgb=b"sRGB" in found,
        gamma=int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 else None,
        primaries=tuple(number / 100_000 for number in struct.unpack(">8I", chromaticities))
        if len(chromaticities) == 32
        else (),
        code_points=tuple(code_points) if len(code_points) == 4 else (),
    )


def _unpacked(content: bytes) -> bytes:
    """Return the profile in an iCCP chunk: a name, a zero, the method 0, zlib. Damage gives bytes that are no profile."""
    _, _, packed = content.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], MOST_PROFILE) or b"\0"
    except zlib.error:
        return b"\0"

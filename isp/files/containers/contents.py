"""What a picture file holds, and how large a picture may be."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

MOST_PIXELS = 2**28  # 268 million: more than any camera has, and 1.6 GB in 16 bits
MOST_PIXELS_VARIABLE = "ISP_MOST_PIXELS"  # the environment variable that replaces this number
_MOST_OF_OPENCV = 2**30
LONGEST_SIDE = 2**20  # OpenCV's own limit


@dataclass(frozen=True)
class Stated:
    """What a file states about its colours; nothing by default.

    profile     the ICC profile
    srgb        the sRGB chunk of a PNG is there
    gamma       the exponent that encodes linear light, as the gAMA chunk of a PNG states it
    primaries   x and y of white, red, green and blue, as the cHRM chunk of a PNG states them
    code_points primaries, transfer, matrix and full range by ITU-T H.273, as the cICP chunk of a PNG states them
    """

    profile: bytes = b""
    srgb: bool = False
    gamma: float | None = None
    primaries: tuple[float, ...] = ()
    code_points: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What a picture file holds.

    height, width  of the picture as it is stored, before it is turned upright
    pixels     the file without the parts that say nothing about its pixels, for the decoder
    alpha      whether it has an alpha channel or a transparent colour
    exif       the TIFF structure that holds its EXIF, empty if there is none
    shortened  a JPEG with fewer coded bytes, which a decoder must refuse, or empty
    padded     a JPEG with bytes that nobody needs, which must decode to the same picture, or empty
    streams    the JPEG files that a TIFF consists of, each of which must be whole, too
    strict_by_pillow  whether Pillow notices damage to its pixels and OpenCV does not
    """

    kind: str
    height: int
    width: int
    pixels: bytes = field(repr=False)
    alpha: bool = False
    exif: bytes = field(default=b"", repr=False)
    stated: Stated = field(default=Stated(), repr=False)
    progressive: bool = False
    shortened: bytes = field(default=b"", repr=False)
    padded: bytes = field(default=b"", repr=False)
    streams: tuple[Contents, ...] = field(default=(), repr=False)
    strict_by_pillow: bool = False


# ---------------------------------------------------------------- sentences


def damaged(where: str, kind: str) -> ValueError:
    """Return the refusal of a file that is not whole."""
    return ValueError(f"{where}: expected a whole {kind} file, got a truncated or damaged one; copy it again")


def refused(where: str, expected: str, got: str) -> ValueError:
    """Return the refusal of a picture of another sort."""
    return ValueError(f"{where}: expected {expected}, got {got}; convert it to an 8- or 16-bit RGB PNG")


# ---------------------------------------------------------------- size


def most_pixels() -> int:
    """Return how many pixels a picture may have: `MOST_PIXELS`, or what the environment variable ISP_MOST_PIXELS says.

    Raises `ValueError` if that is no whole number from 1 to 2**30, OpenCV's own limit.
    """
    text = os.environ.get(MOST_PIXELS_VARIABLE, str(MOST_PIXELS))
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or not 1 <= int(text) <= _MOST_OF_OPENCV:
        raise ValueError(
            f"{MOST_PIXELS_VARIABLE}: expected a whole number from 1 to {_MOST_OF_OPENCV}, got {text[:40]!r}; change it"
        )
    return int(text)


def check_size(where: str, height: int, width: int) -> None:
    """Raise `ValueError` if a picture of `height` x `width` pixels, as its header states, is too large to be read."""
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        raise ValueError(
            f"{where}: expected 1 to {LONGEST_SIDE} pixels a side, got {height}x{width}; copy it again, or cut it into pieces"
        )
    most = most_pixels()
    if height * width > most:
        raise ValueError(
            f"{where}: expected at most {most} pixels in all, got {height}x{width}; cut it into pieces, or raise the limit "
            f"with the environment variable {MOST_PIXELS_VARIABLE}"
        )


def check_filled(where: str, kind: str, height: int, width: int, *, least: float, got: int) -> None:
    """Raise `ValueError` if `got` bytes of coded pixels are fewer than the `least` that the stated size needs."""
    if got < least:
        raise ValueError(
            f"{where}: expected a whole {kind} file, got one that states {height}x{width} pixels, which its {got} bytes of "
            "pixels cannot fill, so truncated or damaged; copy it again"
        )

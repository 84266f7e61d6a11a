"""Reads and writes image files. The only module that knows BGR, containers and OpenCV; its arrays are RGB.

It ignores colour profiles and takes the values in a file as they are; `isp.files.icc` converts them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy.typing import NDArray

from isp.files import tiff
from isp.files.whole import replace_file

Picture = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
MOST_PIXELS = 2**30
LONGEST_SIDE = 2**20  # OpenCV's own limit


def read_image(path: str | Path) -> Picture:
    """Read a PNG, JPEG or TIFF file of 8 or 16 bits, and turn the picture upright by its EXIF orientation.

    Greyscale becomes three equal channels, a palette becomes its colours, and a fully opaque alpha channel is dropped. The
    content decides on the format, not the name. Damage in the middle of a file is detected in a PNG only: JPEG and TIFF
    have no checksums.

    Raises `FileNotFoundError` for a missing file, `ValueError` for anything that cannot be read completely and exactly:
    truncated files, transparency, floating point, CMYK, tiles, planes and several pages in a TIFF, animations.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as cause:
        raise FileNotFoundError(f"{path}: expected an image file, got nothing there; check the path") from cause
    except OSError as cause:
        problem = "a folder" if path.is_dir() else f"an error ({cause.strerror})"
        raise ValueError(f"{path}: expected a readable image file, got {problem}; check the path") from cause
    return _decode(data, str(path))


def write_image(path: str | Path, image: NDArray[Any], *, quality: int = 95, exif: bytes = b"") -> None:
    """Write RGB or grey, `uint8` or `uint16` (JPEG: `uint8` only), in the format of the suffix.

    The file appears whole or not at all. `quality`, 1..100, is that of a JPEG. `exif` is a TIFF structure, for PNG and JPEG.

    Raises `ValueError` for an image or suffix that cannot be written, `FileNotFoundError` if the folder is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f'{path}: expected a name ending in {_suffixes()}, got "{path.suffix}"; rename it')
    data = _encode(suffix, image, quality, str(path))
    if exif:
        data = _with_exif(data, exif, str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected an existing folder {path.parent}, got none; make it first")
    if path.is_dir():
        raise ValueError(f"{path}: expected the name of a file, got that of a folder; choose another name")
    replace_file(path, data)


def encode_jpeg(image: NDArray[Any], quality: int) -> bytes:
    """Encode an RGB (or grey) `uint8` image as a JPEG file, chroma at half resolution; `quality` in 1..100.

    Raises `ValueError` for another depth, shape or quality.
    """
    return _encode(".jpg", image, quality, "encode_jpeg")


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a JPEG file in memory to RGB, upright. Raises `ValueError` for anything but a whole JPEG."""
    if not data.startswith(_JPEG):
        raise ValueError(f"decode_jpeg: expected the bytes of a JPEG file, got {_sketch(data)}; encode it first")
    return _decode(data, "decode_jpeg")


# ---------------------------------------------------------------- orientation

# {EXIF orientation: turns an upright picture back to how the sensor lies}
UNTURN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def turned_back(picture: Picture, orientation: int) -> UInt8[np.ndarray, "u v 3"] | UInt16[np.ndarray, "u v 3"]:
    """Turn an upright picture back to how the sensor lies, for a shot of that EXIF orientation."""
    return UNTURN[orientation](picture)


def upright(picture: Picture, orientation: int) -> UInt8[np.ndarray, "u v 3"] | UInt16[np.ndarray, "u v 3"]:
    """Turn a picture that lies as the sensor upright; undoes `turned_back`."""
    return turned_back(picture, {6: 8, 8: 6}.get(orientation, orientation))  # the others are their own inverse


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as cause:
        raise ImportError(
            f"opencv: cannot be imported ({cause}); install the Debian package libgl1, "
            "or `pip install opencv-python-headless` in place of opencv-python"
        ) from cause
    return cv2


@contextmanager
def _silent(cv2: Any) -> Iterator[None]:
    """Turn off the log of OpenCV; our errors say the same."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


# ---------------------------------------------------------------- encoding


def _encode(suffix: str, image: NDArray[Any], quality: int, where: str) -> bytes:
    jpeg = suffix in (".jpg", ".jpeg")
    depths = (np.uint8,) if jpeg else (np.uint8, np.uint16)
    if image.dtype not in depths:
        names = " or ".join(np.dtype(depth).name for depth in depths)
        remedy = "convert it, or choose .png" if image.dtype == np.uint16 else "convert it"
        raise ValueError(f"{where}: expected {names}, got {image.dtype}; {remedy}")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{where}: expected the shape (h, w, 3) or (h, w), got {image.shape}; reshape it")
    if not 1 <= quality <= 100:
        raise ValueError(f"{where}: expected a quality of 1 to 100, got {quality}; change it")
    cv2 = _opencv()
    bgr = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)
    try:
        with _silent(cv2):
            done, data = cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, quality] if jpeg else [])
    except cv2.error:
        done = False
    if not done:
        size = f"{image.shape[0]}x{image.shape[1]}"
        raise ValueError(f"{where}: expected a size that {suffix} can hold, got {size}; make it smaller")
    return bytes(data)


def _with_exif(data: bytes, exif: bytes, where: str) -> bytes:
    """Return the PNG with an eXIf chunk after its header, or the JPEG with an APP1 segment at its start."""
    if data.startswith(_JPEG) and len(exif) < 2**16 - 8:
        segment = b"Exif\0\0" + exif
        return data[:2] + struct.pack(">2sH", b"\xff\xe1", len(segment) + 2) + segment + data[2:]
    if data.startswith(_PNG):
        end, chunk = len(_PNG) + 25, b"eXIf" + exif  # IHDR has 13 bytes, framed by 12
        framed = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:end] + framed + data[end:]
    raise ValueError(f"{where}: expected a PNG or a JPEG for {len(exif)} bytes of EXIF; leave them out, or choose one")


# ---------------------------------------------------------------- decoding


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    alpha: bool = False


def _sketch(data: bytes) -> str:
    return f"{len(data)} bytes that start with {data[:8]!r}" if data else "an empty file"


def _truncated(where: str, kind: str) -> ValueError:
    return ValueError(f"{where}: expected a whole {kind} file, got a truncated or damaged one; copy it again")


def _refused(where: str, expected: str, got: str) -> ValueError:
    return ValueError(f"{where}: expected {expected}, got {got}; convert it to an 8- or 16-bit RGB PNG")


def _decode(data: bytes, where: str) -> Picture:
    kind = kind_of(data)
    if kind is None:
        raise _refused(where, "a PNG, JPEG or TIFF image", _sketch(data))
    header = _HEADERS[kind](data, where)
    width, height = header.width, header.height
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= MOST_PIXELS):
        limits = f"1 to {LONGEST_SIDE} pixels a side and at most {MOST_PIXELS} in all"
        raise ValueError(f"{where}: expected {limits}, got {height}x{width}; cut it into pieces")
    cv2 = _opencv()
    # IMREAD_COLOR_RGB would save the swap, but returns unwritten memory for a 16-bit TIFF in OpenCV 5.0.0. imdecode
    # refuses a truncated JPEG that imread fills with grey.
    image = _opencv_decode(cv2, data, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype not in (np.uint8, np.uint16) or {*image.shape[:2]} != {height, width}:
        raise _refused(where, f"a {kind} that OpenCV can decode", "a damaged or an unusual one")
    if header.alpha:
        # the only mode that keeps alpha; it ignores the orientation
        unturned = _opencv_decode(cv2, data, cv2.IMREAD_UNCHANGED)
        if unturned is None or unturned.shape[2:] != (4,):
            raise _refused(where, "an alpha channel that OpenCV can read", "another one")
        opaque = float((unturned[..., 3] == np.iinfo(unturned.dtype).max).mean())
        if opaque < 1:
            raise ValueError(
                f"{where}: expected an opaque image, got transparency in {1 - opaque:.2%} of the pixels; "
                "flatten it onto a background"
            )
    rgb: Picture = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def _opencv_decode(cv2: Any, data: bytes, mode: int) -> NDArray[Any] | None:
    try:
        with _silent(cv2):
            image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        return None
    return image


# ---------------------------------------------------------------- containers

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_KINDS = {_PNG: "PNG", _JPEG: "JPEG", **dict.fromkeys(tiff.STARTS, "TIFF")}


def kind_of(head: bytes) -> str | None:
    """Return "PNG", "JPEG" or "TIFF" by the first eight bytes of a file; None for any other format."""
    return next((kind for start, kind in _KINDS.items() if head.startswith(start)), None)


def _png_header(data: bytes, where: str) -> _Header:
    """Return the header of a PNG whose chunks lead to the end marker."""
    header, transparent, at = None, False, len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        if name == b"IHDR" and length == 13:
            header = struct.unpack_from(">IIBB", data, at + 8)
        elif name == b"tRNS":
            transparent = True
        elif name == b"acTL":
            raise _refused(where, "one picture", "an animation")
        elif name == b"IEND" and header is not None:
            width, height, _, colour = header
            return _Header(width, height, alpha=transparent or colour in (4, 6))
        at += 12 + length
    raise _truncated(where, "PNG")


def _jpeg_header(data: bytes, where: str) -> _Header:
    """Return the header of a JPEG that has an end marker after its first scan; a thumbnail before it has its own."""
    header, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(data):
            header = struct.unpack_from(">BHHB", data, at + 4)
        elif marker == 0xDA:
            # Entropy-coded bytes never contain FF D9; zeros, previews and maker data may follow the end marker.
            if header is None or data.find(b"\xff\xd9", at + 2 + length) < 0:
                break
            bits, height, width, channels = header
            if bits != 8 or channels not in (1, 3):
                raise _refused(where, "a JPEG of 8 bits in 1 or 3 channels", f"{bits} bits in {channels} (4 is CMYK)")
            return _Header(width, height)
        at += 2 + length
    raise _truncated(where, "JPEG")


_GREY, _RGB, _PALETTE, _YCBCR = 1, 2, 3, 6
_TIFF_CHANNELS = {  # {(bits, colours): the numbers of channels that OpenCV reads correctly}
    (8, _GREY): (1,), (8, _RGB): (3, 4), (8, _PALETTE): (1,), (8, _YCBCR): (3,), (16, _GREY): (1,), (16, _RGB): (3, 4),
}  # fmt: skip


def _tiff_header(data: bytes, where: str) -> _Header:
    """Return the header of a TIFF that OpenCV decodes correctly; it gets some tiles, planes, inverted grey and CMYK wrong."""
    try:
        page, *others = tiff.pages(data)
        width, height = page["width"][0], page["height"][0]
    except (struct.error, KeyError, ValueError) as cause:
        raise _truncated(where, "TIFF") from cause
    if page["subfile"][0] & 1 or not all(other["subfile"][0] & 1 for other in others):
        raise _refused(where, "one full-size page first and only reduced copies after it", f"{1 + len(others)} pages")
    bits, formats, colours, channels = max(page["bits"]), max(page["format"]), page["colours"][0], page["channels"][0]
    if formats != 1 or {*page["bits"]} not in ({8}, {16}):
        raise _refused(where, "whole numbers of 8 or 16 bits", f"{bits} bits of sample format {formats}")
    if channels not in _TIFF_CHANNELS.get((bits, colours), ()):
        raise _refused(where, "a grey or RGB TIFF", f"{channels} channels of photometric interpretation {colours}")
    if "tiles" in page or (page["planes"] != (1,) and channels > 1):
        raise _refused(where, "a TIFF of strips with interleaved channels", "tiles or planes")
    offsets, counts = page.get("offsets", ()), page.get("counts", ())
    if not offsets or len(offsets) != len(counts) or max(map(sum, zip(offsets, counts, strict=True))) > len(data):
        raise _truncated(where, "TIFF")
    return _Header(width, height, alpha=channels == 4)


_HEADERS = {"PNG": _png_header, "JPEG": _jpeg_header, "TIFF": _tiff_header}

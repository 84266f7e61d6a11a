"""Reads and writes image files: RGB as numbers, upright.

It takes the values in a file as they are; `isp.files.icc` converts them to sRGB. The formats are in `isp.files.containers`,
OpenCV in `isp.files.decoders`.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from isp.files import decoders
from isp.files.containers import jpeg, png
from isp.files.containers.contents import Contents, damaged, most_pixels, refused
from isp.files.containers.kinds import contents, kind_of, sketch
from isp.files.exif import orientation_of, tags_in
from isp.files.orientation import UNTURN, Picture, turned_back, upright
from isp.files.places import read_bytes
from isp.files.whole import replace_file

__all__ = [
    "IMAGE_SUFFIXES", "UNTURN", "Picture", "decode_jpeg", "decoded", "encode_jpeg", "kind_of", "opened", "read_image",
    "turned_back", "upright", "write_image",
]  # fmt: skip

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_MOST_BYTES_OF_PIXEL, _MOST_OTHER_BYTES = 8, 2**28  # four channels of 16 bits, uncompressed; metadata and trailers


def read_image(path: str | Path) -> Picture:
    """Read a PNG, JPEG or TIFF file of 8 or 16 bits, and turn the picture upright by its EXIF orientation.

    Greyscale becomes three equal channels, a palette becomes its colours, and a fully opaque alpha channel is dropped. The
    content decides on the format, not the name. Any damage to a PNG is detected, by its checksums. JPEG and most TIFF files
    have none: what is detected there is that data are missing or left over.

    Raises `FileNotFoundError` for a missing file, `ValueError` for anything that cannot be read completely and exactly:
    folders, pipes and devices, truncated files, transparency, floating point, CMYK, tiles, planes and several pages in a
    TIFF, animations, arithmetic coding, and more pixels than `isp.files.containers.contents.most_pixels` or memory allow.
    """
    return decoded(opened(path), str(path))


def opened(path: str | Path) -> Contents:
    """Return what an image file holds, not yet decoded. Raises as `read_image` does, as far as this shows in the file."""
    most = _MOST_BYTES_OF_PIXEL * most_pixels() + _MOST_OTHER_BYTES
    return contents(read_bytes(Path(path), "an image file", most), str(path))


def decoded(held: Contents, where: str) -> Picture:
    """Return the picture in `held`, upright; sentences about it start with `where`. Raises as `read_image` does."""
    try:
        return _upright_pixels(held, where)
    except MemoryError as cause:
        raise ValueError(
            f"{where}: expected a picture that fits into memory, got {held.height}x{held.width} pixels; "
            "cut it into pieces, or use a larger machine"
        ) from cause


def _upright_pixels(held: Contents, where: str) -> Picture:
    decoders.check_coded(held, where)  # first, so that its pictures and the one to return are not in memory together
    cv2 = decoders.opencv()
    # IMREAD_COLOR_RGB would save the swap, but returns unwritten memory for a 16-bit TIFF in OpenCV 5.0.0. imdecode
    # refuses a truncated JPEG that imread fills with grey. It turns nothing, because these bytes state no orientation.
    colour = cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH
    image = decoders.decoded(held.pixels, cv2.IMREAD_UNCHANGED if held.alpha else colour)
    if image is None and held.kind == "JPEG":
        raise damaged(where, "JPEG")
    if image is None or image.dtype not in (np.uint8, np.uint16) or image.shape[:2] != (held.height, held.width):
        raise refused(where, f"a {held.kind} that OpenCV can decode", "a damaged or an unusual one")
    if held.alpha:
        _check_opaque(image, where)
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    else:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.ascontiguousarray(upright(image, orientation_of(tags_in(held.exif)[0]) or 1))


def _check_opaque(image: NDArray[Any], where: str) -> None:
    if image.shape[2:] != (4,):
        raise refused(where, "an alpha channel that OpenCV can read", "another one")
    opaque = float((image[..., 3] == np.iinfo(image.dtype).max).mean())
    if opaque < 1:
        raise ValueError(
            f"{where}: expected an opaque image, got transparency in {1 - opaque:.2%} of the pixels; "
            "flatten it onto a background"
        )


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a JPEG file in memory to RGB, upright. Raises `ValueError` for anything but a whole JPEG."""
    if kind_of(data[:8]) != "JPEG":
        raise ValueError(f"decode_jpeg: expected the bytes of a JPEG file, got {sketch(data)}; encode it first")
    return decoded(contents(bytes(data), "decode_jpeg"), "decode_jpeg")


# ---------------------------------------------------------------- writing


def write_image(path: str | Path, image: NDArray[Any], *, quality: int = 95, exif: bytes = b"") -> None:
    """Write RGB or grey, `uint8` or `uint16` (JPEG: `uint8` only), in the format of the suffix.

    The file appears whole or not at all. `quality`, 1..100, is that of a JPEG. `exif` is a TIFF structure, for PNG and JPEG.

    Raises `ValueError` for an image or suffix that cannot be written, `FileNotFoundError` if the folder is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(
            f'{path}: expected a name ending in {", ".join(sorted(IMAGE_SUFFIXES))}, got "{path.suffix}"; rename it'
        )
    data = _encoded(suffix, image, quality, str(path))
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
    return _encoded(".jpg", image, quality, "encode_jpeg")


def _encoded(suffix: str, image: NDArray[Any], quality: int, where: str) -> bytes:
    depths = (np.uint8,) if suffix in (".jpg", ".jpeg") else (np.uint8, np.uint16)
    if image.dtype not in depths:
        names = " or ".join(np.dtype(depth).name for depth in depths)
        remedy = "convert it, or choose .png" if image.dtype == np.uint16 else "convert it"
        raise ValueError(f"{where}: expected {names}, got {image.dtype}; {remedy}")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{where}: expected the shape (h, w, 3) or (h, w), got {image.shape}; reshape it")
    if not 1 <= quality <= 100:
        raise ValueError(f"{where}: expected a quality of 1 to 100, got {quality}; change it")
    data = decoders.encoded(suffix, np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image), quality)
    if data is None:
        size = f"{image.shape[0]}x{image.shape[1]}"
        raise ValueError(f"{where}: expected a size that {suffix} can hold, got {size}; make it smaller")
    return data


def _with_exif(data: bytes, exif: bytes, where: str) -> bytes:
    """Return the PNG with an eXIf chunk after its header, or the JPEG with an APP1 segment at its start."""
    if data.startswith(jpeg.START) and len(exif) < 2**16 - 8:
        segment = b"Exif\0\0" + exif
        return data[:2] + struct.pack(">2sH", b"\xff\xe1", len(segment) + 2) + segment + data[2:]
    if data.startswith(png.START):
        end, chunk = len(png.START) + 25, b"eXIf" + exif  # IHDR has 13 bytes, framed by 12
        framed = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:end] + framed + data[end:]
    raise ValueError(f"{where}: expected a PNG or a JPEG for {len(exif)} bytes of EXIF; leave them out, or choose one")

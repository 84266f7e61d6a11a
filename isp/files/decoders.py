"""Decodes and encodes bytes with OpenCV, and asks decoders whether a JPEG or TIFF is whole. Channels are blue, green, red."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isp.files.containers.contents import Contents, damaged

_ROWS_AT_ONCE = 256


def opencv() -> Any:
    """Return the module of OpenCV. Raises `ImportError` with a remedy if it cannot be imported."""
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


def encoded(suffix: str, bgr: NDArray[Any], quality: int) -> bytes | None:
    """Return `bgr` as a file of that suffix, None if the format cannot hold it. `quality` is that of a JPEG."""
    cv2 = opencv()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    try:
        with _silent(cv2):
            done, data = cv2.imencode(suffix, bgr, options)
    except cv2.error:
        return None
    return bytes(data) if done else None


def decoded(data: bytes, mode: int) -> NDArray[Any] | None:
    """Return the picture in `data` as it is stored, by a mode of `cv2.imdecode`; None if OpenCV cannot decode it.

    Raises `MemoryError` if the picture does not fit into memory.
    """
    cv2 = opencv()
    try:
        with _silent(cv2):
            image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as problem:
        if problem.code == cv2.Error.StsNoMem:
            raise MemoryError(str(problem)) from problem
        return None
    return image


def check_coded(contents: Contents, where: str) -> None:
    """Refuse a file whose coded data are not whole although OpenCV may decode `contents.pixels`.

    It costs half a decoding of a JPEG in one piece, and one to two decodings of another JPEG. What it cannot see are changes
    that leave the number of coded values as it is, and in a JPEG of several pieces bytes too many within one of them.
    """
    cv2 = opencv()
    if contents.shortened and decoded(contents.shortened, cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None:
        raise damaged(where, "JPEG")
    if contents.padded:
        factor = 1 if contents.progressive else 8
        try:
            same = _checksum_by_pillow(contents.pixels, factor) == _checksum_by_pillow(contents.padded, factor)
        except MemoryError:
            raise
        except Exception as cause:  # Pillow raises many types for damaged files
            raise damaged(where, "JPEG") from cause
        if not same:
            raise damaged(where, "JPEG")
    if contents.strict_by_pillow:
        _load_by_pillow(contents.pixels, where)
    for stream in contents.streams:
        if decoded(stream.pixels, cv2.IMREAD_REDUCED_GRAYSCALE_8) is None:
            raise damaged(where, contents.kind)
        check_coded(stream, where)


def _checksum_by_pillow(data: bytes, factor: int) -> int:
    """Return a checksum of the pixels of a JPEG, 1/factor in size. OpenCV would print that bytes are left over."""
    from PIL.JpegImagePlugin import JpegImageFile

    checksum = 0
    with JpegImageFile(io.BytesIO(data)) as file:
        file.draft(None, (file.width // factor, file.height // factor))
        for top in range(0, file.height, _ROWS_AT_ONCE):
            rows = file.crop((0, top, file.width, min(top + _ROWS_AT_ONCE, file.height)))
            checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum


def _load_by_pillow(data: bytes, where: str) -> None:
    """Refuse a TIFF that Pillow cannot decode."""
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        TiffImageFile(io.BytesIO(data)).load()
    except MemoryError:
        raise
    except Exception as cause:  # Pillow raises many types for damaged files
        raise damaged(where, "TIFF") from cause

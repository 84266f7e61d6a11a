"""RAW files to read without any of the shared data: small uncompressed Bayer DNGs, and scenes to fill them with."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

XYZ_TO_SENSOR = (0.664, -0.1847, -0.0503, -0.5238, 1.301, 0.2474, -0.0993, 0.1673, 0.6527)
# The optical values and the repeated ISO and 35-mm focal length that must not mislead.
EXIF = {
    33434: ("rational", [1 / 250]),
    33437: ("rational", [2.8]),
    34855: ("short", [400, 800]),
    37386: ("rational", [35]),
    41989: ("short", [52]),
}
TYPES = {
    "byte": (1, "B"),
    "ascii": (2, "s"),
    "short": (3, "H"),
    "long": (4, "I"),
    "rational": (5, "I"),
    "undefined": (7, "B"),
    "signed": (10, "i"),
}


def _field(kind: str, values) -> tuple[int, bytes]:
    """(count, bytes)"""
    if kind == "ascii":
        return len(values) + 1, values.encode() + b"\0"
    if kind in ("rational", "signed"):
        parts = [part for value in values for part in (round(value * 10000), 10000)]
        return len(values), struct.pack(f"<{len(parts)}{TYPES[kind][1]}", *parts)
    return len(values), struct.pack(f"<{len(values)}{TYPES[kind][1]}", *values)


def _directory(tags, at: int) -> bytes:
    """One TIFF directory that stands at byte `at`, its long values behind it."""
    end = at + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for tag in sorted(tags):
        kind, content = tags[tag]
        count, data = _field(kind, content)
        if len(data) > 4:
            place = struct.pack("<I", end + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, TYPES[kind][0], count) + place
    return entries + struct.pack("<I", 0) + values


def write_dng(
    raw,
    cfa: str = "RGGB",
    *,
    black: Sequence[float] = (100, 103, 103, 106),
    white: int = 4000,
    neutral: Sequence[float] | None = (0.5, 1, 0.625),
    matrix: Sequence[float] | None = XYZ_TO_SENSOR,
    active: Sequence[int] | None = None,
    orientation: int | None = 1,
    exif=EXIF,
    make: str = "Maker",
    model: str = "Camera 1",
    jpeg: tuple[bytes, int, int] | None = None,
    extra: Mapping[int, tuple[str, Sequence[float]]] | None = None,
) -> bytes:
    """A DNG of a mosaic; `black` in the order of the 2x2 cell, `active` is (top, left, bottom, right).

    `jpeg` is (the camera's JPEG inside it, its height, its width); `extra` has further tags: {number: (type, values)}.
    """
    data = raw.astype("<u2").tobytes()
    tags = {
        254: ("long", [0]), 256: ("long", [raw.shape[1]]), 257: ("long", [raw.shape[0]]), 258: ("short", [16]),
        259: ("short", [1]), 262: ("short", [32803]), 271: ("ascii", make), 272: ("ascii", model), 273: ("long", [0]),
        277: ("short", [1]), 278: ("long", [raw.shape[0]]), 279: ("long", [len(data)]), 284: ("short", [1]),
        33421: ("short", [2, 2]), 33422: ("byte", ["RGB".index(letter) for letter in cfa]), 34665: ("long", [0]),
        50706: ("byte", [1, 4, 0, 0]), 50708: ("ascii", f"{make} {model}"), 50713: ("short", [2, 2]),
        50714: ("rational", black), 50717: ("long", [white]), 50778: ("short", [21]),
    }  # fmt: skip
    if orientation is not None:
        tags[274] = ("short", [orientation])
    if neutral is not None:
        tags[50728] = ("rational", neutral)
    if matrix is not None:
        tags[50721] = ("signed", matrix)
    if active is not None:
        tags[50829] = ("long", active)
    tags |= extra or {}
    exif_at = 8 + len(_directory(tags, 8))
    optics = _directory(exif, exif_at)
    tags[34665], tags[273] = ("long", [exif_at]), ("long", [exif_at + len(optics)])
    first = bytearray(_directory(tags, 8))
    content = optics + data
    if jpeg is not None:
        preview, height, width = jpeg
        content += b"\0" * (len(content) % 2)
        at = 8 + len(first) + len(content)
        page = {
            254: ("long", [1]), 256: ("long", [width]), 257: ("long", [height]), 258: ("short", [8, 8, 8]),
            259: ("short", [7]), 262: ("short", [6]), 273: ("long", [0]), 277: ("short", [3]), 278: ("long", [height]),
            279: ("long", [len(preview)]),
        }  # fmt: skip
        page[273] = ("long", [at + len(_directory(page, at))])
        content += _directory(page, at) + preview
        end = 2 + 12 * len(tags)  # of the first directory, where the place of the next one stands
        first[end : end + 4] = struct.pack("<I", at)
    return b"II*\0" + struct.pack("<I", 8) + bytes(first) + content


@pytest.fixture(scope="session")
def dng() -> Callable[..., bytes]:
    return write_dng


def paint_scene(height: int, width: int, seed: int = 0):
    """Linear RGB in [0, 1]: overlapping rectangles of all sizes and colours, and a little of everything in between."""
    dice = np.random.Generator(np.random.PCG64(seed))
    picture = np.full((height, width, 3), 0.2, np.float32)
    for _ in range(600):
        size = 4 + (80 * dice.random(2) ** 3).astype(int)
        top, left = (dice.random(2) * (height, width)).astype(int)
        picture[top : top + size[0], left : left + size[1]] = dice.random(3) * 0.9
    blurred = sum(np.roll(picture, shift, (0, 1)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1)))
    return np.clip(blurred / 4 + dice.normal(0, 0.004, picture.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def scene() -> Callable[..., np.ndarray]:
    return paint_scene


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """A file or folder of the shared data; a test that wants one is skipped where it is not there."""
    data = Path(__file__).parents[2].parent / "shared" / "data"

    def find(name: str) -> Path:
        path = data / name
        if not path.exists():
            pytest.skip(f"{path} is not there")
        return path

    return find

"""Camera RAW files: the mosaic as the sensor gave it, and the `Camera` of the shot. The only place that knows LibRaw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8, UInt16

from isp.camera import Camera
from isp.files import soundness, tiff
from isp.files.exif import model_of, optics_of, orientation_of, positive_number, read_tags
from isp.files.findings import Finding
from isp.files.pictures import decode_jpeg

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".kdc", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
_ORIENTATION_OF_FLIP = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's number: EXIF's
_OPTICS = {  # field of Camera: attribute of rawpy's `other`
    "iso": "iso_speed", "exposure_s": "shutter_speed", "f_number": "aperture", "focal_mm": "focal_length",
}  # fmt: skip


@dataclass(frozen=True)
class RawImage:
    """One RAW file. `raw` is the visible area as the sensor lies, not turned: `orientation` (EXIF, 1..8) would turn it."""

    raw: UInt16[np.ndarray, "h w"]
    camera: Camera
    orientation: int
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """Everything that a RAW file says, judged; `image` is None where a finding is fatal.

    `model` is empty, `orientation` None where it is unknown; `optics` are the values of iso, exposure_s, f_number and
    focal_mm, None or absent likewise.
    """

    findings: tuple[Finding, ...]
    model: str
    orientation: int | None
    optics: Mapping[str, float | None]
    image: RawImage | None


def read_raw(path: str | Path) -> RawImage:
    """The Bayer mosaic of a RAW file and what the file says of its shot.

    White-balance gains that cannot be right (all equal, zero, negative, not a number, inverted) are replaced by LibRaw's
    daylight ones, with a warning. Black is per colour, the greens averaged. Optical values that are absent or 0 are None.

    Raises `FileNotFoundError` for a missing file, `ValueError` for whatever is not a whole Bayer RAW file of a camera
    with a known colour matrix: linear files, truncated ones, those that decode to zeros or stop early, those whose
    black or white level does not fit the pixels.
    """
    examined = examine(path)
    if examined.image is None:
        fatal = next(finding for finding in examined.findings if finding.severity == "fatal")
        raise ValueError(f"{path}: {fatal.text}")
    return examined.image


def examine(path: str | Path) -> Examination:
    """What a RAW file says and whether it can be true, as far as it can be read.

    Raises `FileNotFoundError` for a missing file, `ValueError` for one that cannot be opened.
    """
    path = Path(path)
    tags, warnings = read_tags(path)
    optics, model, orientation = optics_of(tags), model_of(tags), orientation_of(tags)
    page, size = _main_page(path)
    said = [Finding("EXIF", "warning", text.removeprefix(f"{path}: "), "EXIF unreadable") for text in warnings]
    said += [soundness.encoding(page)] if page is not None else []
    sensor = None
    try:
        with _opened(path) as opened:
            said.append(_area(opened.sizes))
            orientation = orientation or _ORIENTATION_OF_FLIP.get(opened.sizes.flip)
            opened.unpack()
            # A tag of 0 says "unknown"; LibRaw makes 1 s and f/1 of it. It is asked only where the tag is absent.
            other = {field: positive_number(getattr(opened.other, name)) for field, name in _OPTICS.items()}
            optics = other | optics
            sensor, judged = _sensor(opened, page, size)
    except ValueError as cause:
        judged = [soundness.undecodable(page, size, str(cause))]
    said += judged
    if sensor is None:
        return Examination(tuple(said), model, orientation, optics, None)
    raw, known = sensor
    known |= {field: torch.tensor([value], dtype=torch.float32) for field, value in optics.items() if value is not None}
    warnings = [f"{path}: {finding.text}" for finding in said if finding.severity == "warning"]
    image = RawImage(raw, Camera(name=(model or "unknown",), **known), orientation or 1, model, tuple(warnings))
    return Examination(tuple(said), model, orientation, optics, image)


def read_embedded_jpeg(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read the camera's JPEG inside a RAW file, turned upright if it carries an orientation of its own.

    Raises `ValueError` if there is none.
    """
    picture, reason = find_embedded_jpeg(path)
    if picture is None:
        raise ValueError(f"{path}: expected a JPEG inside it, got {reason}; put one beside it")
    return picture


def find_embedded_jpeg(path: str | Path) -> tuple[UInt8[np.ndarray, "h w 3"] | None, str]:
    """Return (the JPEG that `read_embedded_jpeg` reads, or None; why it is None)."""
    import rawpy

    try:
        with _opened(Path(path)) as opened:
            found = opened.extract_thumb()
    except ValueError as cause:
        return None, str(cause)
    if found.format is not rawpy.ThumbFormat.JPEG:
        return None, f"a {found.format.name}"
    try:
        return decode_jpeg(found.data), ""
    except ValueError:
        return None, "a damaged JPEG"


# ---------------------------------------------------------------- LibRaw


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file in LibRaw, not yet decoded. Its errors, until it is closed, become a `ValueError` with the reason alone."""
    import rawpy

    try:
        with rawpy.imread(str(path)) as opened:
            yield opened
    except (rawpy.LibRawError, rawpy.NotSupportedError) as cause:
        first = cause.args[0] if cause.args else cause
        raise ValueError(first.decode(errors="replace") if isinstance(first, bytes) else str(first)) from cause
    except MemoryError as cause:
        raise ValueError("more pixels than the memory holds") from cause


def _main_page(path: Path) -> tuple[tiff.Page | None, int]:
    """(the directory of the RAW data in a format that is TIFF, size of the file in bytes)"""
    size = path.stat().st_size
    if size == 0:
        return None, 0
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return soundness.main_page(tiff.directories(data)), size


def _area(sizes: Any) -> Finding:
    text = f"{sizes.height}x{sizes.width} at row {sizes.top_margin}, column {sizes.left_margin} "
    return Finding("visible area", "ok", f"{text}of {sizes.raw_height}x{sizes.raw_width}")


def _sensor(
    opened: Any, page: tiff.Page | None, size: int
) -> tuple[tuple[UInt16[np.ndarray, "h w"], dict[str, Any]] | None, list[Finding]]:
    """((the visible mosaic, what `Camera` wants to know of the sensor), or None where a finding is fatal; findings)"""
    raw = np.array(opened.raw_image_visible)
    if raw.ndim not in (2, 3) or raw.dtype != np.uint16:
        raise ValueError(f"pixels of the type {raw.dtype}")
    raw = raw if raw.ndim == 2 else raw[..., :3]  # the fourth colour of a linear file is always 0
    blacks = [float(level) for level in opened.black_level_per_channel]
    letters = opened.color_desc.decode(errors="replace")
    pattern, of_pattern = soundness.pattern(opened.raw_pattern, letters, 1 if raw.ndim == 2 else 3)
    of_data = soundness.data(raw, blacks, page, size)
    black, of_levels = soundness.levels(raw, blacks, float(opened.white_level))
    matrices, of_matrix = soundness.matrix(opened.rgb_xyz_matrix[:3], opened.color_matrix[:, :3])
    gains, of_gains = soundness.white_balance(opened.camera_whitebalance[:3], opened.daylight_whitebalance[:3])
    said = [of_pattern, of_data, *of_levels, of_matrix, of_gains]
    if of_data.severity == "fatal" or pattern is None or black is None or matrices is None or gains is None:
        return None, said
    sensor_to_linear, xyz_to_sensor = matrices
    known = {
        "cfa": (pattern,),
        "white_balance": torch.tensor([gains], dtype=torch.float32),
        "sensor_to_linear": sensor_to_linear.float()[None],
        "xyz_to_sensor": None if xyz_to_sensor is None else xyz_to_sensor.float()[None],
        "black": torch.tensor([black], dtype=torch.float32),
        "white": torch.tensor([float(opened.white_level)], dtype=torch.float32),
    }
    return (raw, known), said

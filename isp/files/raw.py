"""Reads camera RAW files: the mosaic as recorded, and the `Camera` of the shot. The only module that knows LibRaw."""

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
    """One RAW file.

    raw          the visible area as the sensor lies
    orientation  the EXIF number (1..8) that turns it upright
    model        "make/model", empty if unknown
    """

    raw: UInt16[np.ndarray, "h w"]
    camera: Camera
    orientation: int
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """The content of a RAW file, and the findings on it.

    model        empty if unknown
    orientation  the EXIF number, None if unknown
    optics       iso, exposure_s, f_number and focal_mm; None or absent if unknown
    image        None if a finding is fatal
    """

    findings: tuple[Finding, ...]
    model: str
    orientation: int | None
    optics: Mapping[str, float | None]
    image: RawImage | None


def read_raw(path: str | Path) -> RawImage:
    """Read the Bayer mosaic of a RAW file and the metadata of its shot.

    LibRaw's daylight gains replace white-balance gains that cannot be right (all equal, zero, negative, not a number,
    inverted), with a warning. Black is per colour; the two greens are averaged. Optical values that are absent or 0 are
    None.

    Raises `FileNotFoundError` for a missing file, `ValueError` for anything but a whole Bayer RAW file of a camera with a
    known colour matrix: linear files, truncated files, files that decode to zeros or stop early, and files whose black or
    white level does not fit the pixels.
    """
    examined = examine(path)
    if examined.image is None:
        fatal = next(finding for finding in examined.findings if finding.severity == "fatal")
        raise ValueError(f"{path}: {fatal.text}")
    return examined.image


def examine(path: str | Path) -> Examination:
    """Read a RAW file as far as possible, and judge whether its values can be true.

    Raises `FileNotFoundError` for a missing file, `ValueError` for an unreadable one.
    """
    path = Path(path)
    tags, warnings = read_tags(path)
    optics, model, orientation = optics_of(tags), model_of(tags), orientation_of(tags)
    page, size = _main_page(path)
    findings = [Finding("EXIF", "warning", text.removeprefix(f"{path}: "), "EXIF unreadable") for text in warnings]
    findings += [soundness.encoding(page)] if page is not None else []
    sensor = None
    try:
        with _opened(path) as opened:
            findings.append(_area(opened.sizes))
            orientation = orientation or _ORIENTATION_OF_FLIP.get(opened.sizes.flip)
            opened.unpack()
            # A tag of 0 means "unknown", but LibRaw turns it into 1 s and f/1. Its values count only if the tag is absent.
            other = {field: positive_number(getattr(opened.other, name)) for field, name in _OPTICS.items()}
            optics = other | optics
            sensor, judged = _sensor(opened, page, size)
    except ValueError as cause:
        judged = [soundness.undecodable(page, size, str(cause))]
    findings += judged
    if sensor is None:
        return Examination(tuple(findings), model, orientation, optics, None)
    raw, known = sensor
    known |= {
        field: torch.tensor([value], dtype=torch.float32, device="cpu")
        for field, value in optics.items()
        if value is not None
    }
    warnings = [f"{path}: {finding.text}" for finding in findings if finding.severity == "warning"]
    image = RawImage(raw, Camera(name=(model or "unknown",), **known), orientation or 1, model, tuple(warnings))
    return Examination(tuple(findings), model, orientation, optics, image)


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
    """Open a file in LibRaw without decoding it. Errors of LibRaw become a `ValueError` with the reason alone."""
    import rawpy

    try:
        with rawpy.imread(str(path)) as opened:
            yield opened
    except (rawpy.LibRawError, rawpy.NotSupportedError) as cause:
        first = cause.args[0] if cause.args else cause
        raise ValueError(first.decode(errors="replace") if isinstance(first, bytes) else str(first)) from cause
    except MemoryError as cause:
        raise ValueError("more pixels than fit into memory") from cause


def _main_page(path: Path) -> tuple[tiff.Page | None, int]:
    """Return (the directory of the RAW data, None if the format is not TIFF; the size of the file in bytes)."""
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
    """Return ((the visible mosaic, the fields of its `Camera`), or None if a finding is fatal; the findings)."""
    raw = np.array(opened.raw_image_visible)
    if raw.ndim not in (2, 3) or raw.dtype != np.uint16:
        raise ValueError(f"pixels of the type {raw.dtype}")
    raw = raw if raw.ndim == 2 else raw[..., :3]  # the fourth colour of a linear file is always 0
    blacks = [float(level) for level in opened.black_level_per_channel]
    letters = opened.color_desc.decode(errors="replace")
    pattern, on_pattern = soundness.pattern(opened.raw_pattern, letters, 1 if raw.ndim == 2 else 3)
    on_data = soundness.data(raw, blacks, page, size)
    black, on_levels = soundness.levels(raw, blacks, float(opened.white_level))
    matrices, on_matrix = soundness.matrix(opened.rgb_xyz_matrix[:3], opened.color_matrix[:, :3])
    gains, on_gains = soundness.white_balance(opened.camera_whitebalance[:3], opened.daylight_whitebalance[:3])
    findings = [on_pattern, on_data, *on_levels, on_matrix, on_gains]
    if on_data.severity == "fatal" or pattern is None or black is None or matrices is None or gains is None:
        return None, findings
    sensor_to_linear, xyz_to_sensor = matrices
    known = {
        "cfa": (pattern,),
        "white_balance": torch.tensor([gains], dtype=torch.float32, device="cpu"),
        "sensor_to_linear": sensor_to_linear.float()[None],
        "xyz_to_sensor": None if xyz_to_sensor is None else xyz_to_sensor.float()[None],
        "black": torch.tensor([black], dtype=torch.float32, device="cpu"),
        "white": torch.tensor([float(opened.white_level)], dtype=torch.float32, device="cpu"),
    }
    return (raw, known), findings

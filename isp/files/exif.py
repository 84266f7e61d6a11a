"""EXIF: reads the metadata of a shot from any file, and writes them into pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from isp.camera import Camera

_TAGS = {  # field of Camera: tags of exifread
    "iso": ("EXIF ISOSpeedRatings", "Image ISOSpeedRatings"),
    "exposure_s": ("EXIF ExposureTime", "Image ExposureTime"),
    "f_number": ("EXIF FNumber", "Image FNumber"),
    "focal_mm": ("EXIF FocalLength", "Image FocalLength"),
}
_ISO_OVERFLOW = 65535  # cameras write this if the sensitivity exceeds the 16 bits of the tag
# exifread would print its complaints; `optics_of` gives None instead.
logging.getLogger("exifread").addHandler(logging.NullHandler())


def read_tags(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return (the tags that exifread finds in a file, warnings). A format that it does not know has no tags.

    Raises `FileNotFoundError` for a missing file, `ValueError` for an unreadable one.
    """
    import exifread

    try:
        if path.exists() and not path.is_file():
            problem = "a folder" if path.is_dir() else "a pipe or device"
            raise ValueError(f"{path}: expected a readable file, got {problem}; check the path")
        with path.open("rb") as file:
            try:
                return exifread.process_file(file, details=False), []
            except Exception as cause:  # exifread raises many types on damaged tags
                return {}, [f"{path}: its EXIF cannot be read ({type(cause).__name__}); using LibRaw's values"]
    except FileNotFoundError as cause:
        raise FileNotFoundError(f"{path}: expected a file, got nothing there; check the path") from cause
    except OSError as cause:
        raise ValueError(
            f"{path}: expected a readable file, got an error ({cause.strerror}); check the path"
        ) from cause


def optics_of(tags: Mapping[str, Any]) -> dict[str, float | None]:
    """Return those of iso, exposure_s, f_number and focal_mm that the tags mention; None if the value is 0 or unusable."""
    found: dict[str, float | None] = {}
    for field, names in _TAGS.items():
        tag = next((tags[name] for name in names if name in tags), None)
        if tag is not None:
            value = positive_number(_first(tag))
            found[field] = None if field == "iso" and value == _ISO_OVERFLOW else value
    return found


def orientation_of(tags: Mapping[str, Any]) -> int | None:
    """Return the EXIF orientation, 1..8, None if it is absent or invalid."""
    value = _first(tags.get("Image Orientation"))
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def model_of(tags: Mapping[str, Any]) -> str:
    """Return "make/model", or the name that a DNG gives its camera; empty if there is none."""
    names = (_text(tags.get(f"Image {name}")) for name in ("Make", "Model"))
    return "/".join(filter(None, names)) or _text(tags.get("Image Tag 0xC614"))  # UniqueCameraModel


def _first(tag: Any) -> object:
    """Return the first value of a tag; text counts as one value."""
    values = getattr(tag, "values", None)
    return next(iter(values), None) if isinstance(values, list | tuple) else values


def positive_number(value: object) -> float | None:
    """Return a finite number above 0, which may be written as a fraction; None for anything else."""
    try:
        # Some programs write "1/60" as text.
        number = float(Fraction(value.strip("\0 ")) if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _text(tag: object) -> str:
    return "" if tag is None else "".join(filter(str.isprintable, str(tag))).strip()


def exif_block(model: str, camera: Camera) -> bytes:
    """Return a TIFF structure with the make and model of "make/model", the known optical values, and "upright"."""
    from PIL.Image import Exif
    from PIL.TiffImagePlugin import IFDRational

    make, _, name = (part[:200].encode("ascii", "replace").decode() for part in model.rpartition("/"))
    block = Exif()
    for tag, entry in ((0x010F, make), (0x0110, name), (0x0112, 1)):
        if entry:
            block[tag] = entry
    optics = block.get_ifd(0x8769)
    for tag, values in ((0x829A, camera.exposure_s), (0x829D, camera.f_number), (0x920A, camera.focal_mm)):
        if values is not None:
            # Float32 rounds a fraction of a second; this recovers it.
            optics[tag] = IFDRational(Fraction(float(values[0])).limit_denominator(100_000))
    if camera.iso is not None and float(camera.iso[0]) < 65535:  # the tag holds 16 bits; its largest value means "more"
        optics[0x8827] = round(float(camera.iso[0]))
    written: bytes = block.tobytes()
    return written.removeprefix(b"Exif\0\0")

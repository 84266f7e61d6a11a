"""EXIF: reads the metadata of a shot from any file, and writes them into pictures."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from isp.camera import Camera
from isp.files.containers.kinds import exif_block as block_in
from isp.files.places import check_regular

_ISO_OVERFLOW = 65535  # cameras write this if the sensitivity exceeds the 16 bits of the tag
# CIPA DC-008 (EXIF 2.32), 4.6.5, table 8: SensitivityType says which of these tags the sensitivity is
_STANDARD, _RECOMMENDED, _SPEED = "StandardOutputSensitivity", "RecommendedExposureIndex", "ISOSpeed"
_SENSITIVITIES = {
    1: (_STANDARD,), 2: (_RECOMMENDED,), 3: (_SPEED,), 4: (_RECOMMENDED, _STANDARD), 5: (_SPEED, _STANDARD),
    6: (_SPEED, _RECOMMENDED), 7: (_SPEED, _RECOMMENDED, _STANDARD),
}  # fmt: skip
# Old versions of exifread know these tags by their numbers only.
_NUMBERS = {"SensitivityType": 0x8830, _STANDARD: 0x8831, _RECOMMENDED: 0x8832, _SPEED: 0x8833}
_SHORT_NUMBER = re.compile(r"[0-9./+\- \0]{1,60}")
_MOST_APEX = 25  # 2**25 s are a year
_MOST_READS, _LONGEST_READ = 2**16, 2**16  # sound files take up to some thousand reads of a few bytes
# exifread would print its complaints; `optics_of` gives None instead.
logging.getLogger("exifread").addHandler(logging.NullHandler())


def read_tags(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return (the tags that exifread finds in a file, warnings). A format that it does not know has no tags.

    Raises `FileNotFoundError` for a missing file, `ValueError` for an unreadable one.
    """
    if check_regular(path) == 0:
        return {}, []
    try:
        with path.open("rb") as file:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                block = block_in(data)
            tags, warnings = _tags(_Bounded(file)) if block is None else tags_in(block)
    except OSError as cause:
        raise ValueError(
            f"{path}: expected a readable file, got an error ({cause.strerror}); check the path"
        ) from cause
    return tags, [f"{path}: {warning}" for warning in warnings]


def tags_in(block: bytes) -> tuple[Mapping[str, Any], list[str]]:
    """Return (the tags in a TIFF structure, as pictures hold their EXIF, warnings); no tags for no bytes."""
    return _tags(_Bounded(io.BytesIO(block))) if block else ({}, [])


def _tags(file: _Bounded) -> tuple[Mapping[str, Any], list[str]]:
    import exifread

    try:
        return exifread.process_file(file, details=False, extract_thumbnail=False), []  # type: ignore[arg-type]
    except Exception as cause:  # exifread raises many types on damaged tags
        return {}, [f"its EXIF cannot be read ({type(cause).__name__}); using LibRaw's values"]


class _Bounded:
    """A file for exifread that gives up after many reads.

    A few kB of directories that name each other would keep exifread busy for hours; texts whose stated length is absurd
    would make it read the whole file for each of them.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self._left = file, _MOST_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("expected a few thousand tags, got more; the EXIF is damaged")
        return self._file.read(size if 0 <= size <= _LONGEST_READ else _LONGEST_READ)


def optics_of(tags: Mapping[str, Any]) -> dict[str, float | None]:
    """Return those of iso, exposure_s, f_number and focal_mm that the tags mention; None if no tag has a usable value.

    If the ISO tag is absent or useless (0, or 65535 for "more"), the tag that SensitivityType names has the sensitivity. If
    the exposure time or the f-number is, the logarithmic tags of EXIF have it.
    """
    found: dict[str, float | None] = {}
    for field, values in (
        ("iso", _sensitivities(tags)),
        ("exposure_s", [*_positive(tags, "ExposureTime"), *map(_exposure_of, _values(tags, "ShutterSpeedValue"))]),
        ("f_number", [*_positive(tags, "FNumber"), *map(_f_number_of, _values(tags, "ApertureValue"))]),
        ("focal_mm", _positive(tags, "FocalLength")),
    ):
        if values:
            found[field] = next((value for value in values if value is not None), None)
    return found


def _sensitivities(tags: Mapping[str, Any]) -> list[float | None]:
    """Return the numbers of the tags of sensitivity, in the order in which they count; None for a useless one."""
    kind = next(iter(_values(tags, "SensitivityType")), None)
    names = _SENSITIVITIES.get(kind if isinstance(kind, int) else 0, (_RECOMMENDED, _STANDARD, _SPEED))
    plain = [None if iso == _ISO_OVERFLOW else iso for iso in _positive(tags, "ISOSpeedRatings")]
    return plain + [iso for name in names for iso in _positive(tags, name)]


def _exposure_of(speed: object) -> float | None:
    """Return the exposure time in s of an APEX time value. 0 would be 1 s, but programs write 0 for "unknown"."""
    number = _number(speed)
    return None if number is None or number == 0 or abs(number) > _MOST_APEX else 2.0**-number


def _f_number_of(aperture: object) -> float | None:
    """Return the f-number of an APEX aperture value. 0 would be f/1, but cameras write 0 for "unknown"."""
    number = _number(aperture)
    return None if number is None or not 0 < number <= _MOST_APEX else 2.0 ** (number / 2)


def orientation_of(tags: Mapping[str, Any]) -> int | None:
    """Return the EXIF orientation, 1..8; 1 (upright) for a value that makes no sense; None only if the tag is absent.

    Every reader asks this function, and only for None another source: LibRaw makes a turn of what the file states as 0.
    """
    if "Image Orientation" not in tags:
        return None
    value = next(iter(_content(tags["Image Orientation"])), None)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def model_of(tags: Mapping[str, Any]) -> str:
    """Return "make/model", or the name that a DNG gives its camera; empty if there is none."""
    names = (_text(tags.get(f"Image {name}")) for name in ("Make", "Model"))
    return "/".join(filter(None, names)) or _text(tags.get("Image Tag 0xC614"))  # UniqueCameraModel


def _values(tags: Mapping[str, Any], name: str) -> list[object]:
    """Return the values of a tag of the EXIF directory, which some programs write into the first directory."""
    names = [name, f"Tag 0x{_NUMBERS[name]:04X}"] if name in _NUMBERS else [name]
    keys = (f"{directory} {tag}" for directory in ("EXIF", "Image") for tag in names)
    return next((_content(tags[key]) for key in keys if key in tags), [])


def _content(tag: Any) -> list[object]:
    """Return the values of a tag, None if it is empty; text counts as one value."""
    values = getattr(tag, "values", None)
    return [*values] or [None] if isinstance(values, list | tuple) else [values]


def _positive(tags: Mapping[str, Any], name: str) -> list[float | None]:
    return [positive_number(value) for value in _values(tags, name)]


def positive_number(value: object) -> float | None:
    """Return a finite number above 0, which may be written as a fraction; None for anything else."""
    number = _number(value)
    return None if number is None or number <= 0 else number


def _number(value: object) -> float | None:
    """Return a finite number, which may be written as a fraction; None for anything else."""
    try:
        if isinstance(value, str):  # some programs write "1/60"
            # Of "1e999999999", Fraction would make a number of that many digits.
            number = float(Fraction(value.strip("\0 "))) if _SHORT_NUMBER.fullmatch(value) else math.nan
        else:
            number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


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

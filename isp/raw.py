"""Camera RAW files: the mosaic as the sensor gave it, and the `Camera` of the shot. The only place that knows LibRaw."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from isp import color
from isp.camera import Camera
from isp.io import decode_jpeg

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".kdc", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
_OPTICS = {  # field of Camera: (tags of exifread, attribute of rawpy's `other`)
    "iso": (("EXIF ISOSpeedRatings", "Image ISOSpeedRatings"), "iso_speed"),
    "exposure_s": (("EXIF ExposureTime", "Image ExposureTime"), "shutter_speed"),
    "f_number": (("EXIF FNumber", "Image FNumber"), "aperture"),
    "focal_mm": (("EXIF FocalLength", "Image FocalLength"), "focal_length"),
}
_ISO_OVERFLOW = 65535  # what cameras write into the 16 bits of the tag where the sensitivity is larger
_ORIENTATION_OF_FLIP = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's number: EXIF's


@dataclass(frozen=True)
class RawImage:
    """One RAW file. `raw` is the visible area as the sensor lies, not turned: `orientation` (EXIF, 1..8) would turn it."""

    raw: UInt16[np.ndarray, "h w"]
    camera: Camera
    orientation: int
    model: str
    warnings: tuple[str, ...] = ()


def read_raw(path: str | Path) -> RawImage:
    """The Bayer mosaic of a RAW file and what the file says of its shot.

    White-balance gains that cannot be right (all equal, zero, negative, not a number, inverted) are replaced by LibRaw's
    daylight ones, with a warning. Black is per colour, the greens averaged. Optical values that are absent or 0 are None.

    Raises `FileNotFoundError` for a missing file, `ValueError` for whatever is not a whole Bayer RAW file of a camera
    with a known colour matrix: linear files, truncated ones, those that decode to zeros.
    """
    path = Path(path)
    tags, warnings = read_tags(path)
    with _opened(path) as opened:
        pattern = _pattern(opened, path)
        raw = np.array(opened.raw_image_visible)
        _check_pixels(raw, path)
        black, white = _levels(opened, path, warnings)
        sensor_to_linear, xyz_to_sensor = _matrices(opened, path)
        gains = _white_balance(opened, path, warnings)
        other = {field: getattr(opened.other, name) for field, (_, name) in _OPTICS.items()}
        flip = opened.sizes.flip
    make, model = (_text(tags.get(f"Image {name}")) for name in ("Make", "Model"))
    known = "/".join(filter(None, (make, model))) or _text(tags.get("Image Tag 0xC614"))  # UniqueCameraModel of DNG
    optics = optics_of(tags)
    # A tag of 0 says "unknown"; LibRaw makes 1 s and f/1 of it. It is asked only where the tag is absent.
    optics |= {field: _positive(other[field]) for field in _OPTICS if field not in optics}
    camera = Camera(
        name=(known or "unknown",),
        cfa=(pattern,),
        white_balance=torch.tensor([gains], dtype=torch.float32),
        sensor_to_linear=sensor_to_linear.float()[None],
        xyz_to_sensor=None if xyz_to_sensor is None else xyz_to_sensor.float()[None],
        black=torch.tensor([black], dtype=torch.float32),
        white=torch.tensor([white], dtype=torch.float32),
        **{field: torch.tensor([value], dtype=torch.float32) for field, value in optics.items() if value is not None},
    )
    orientation = orientation_of(tags) or _ORIENTATION_OF_FLIP.get(flip, 1)
    return RawImage(raw, camera, orientation, known, tuple(warnings))


def read_embedded_jpeg(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The camera's JPEG inside a RAW file, turned upright where it carries an orientation of its own.

    Raises `ValueError` where there is none.
    """
    import rawpy

    path = Path(path)
    with _opened(path) as opened:
        try:
            found = opened.extract_thumb()
        except rawpy.LibRawError as cause:
            raise ValueError(f"{path}: expected a JPEG inside it, got {_reason(cause)}; put one beside it") from cause
    if found.format is not rawpy.ThumbFormat.JPEG:
        raise ValueError(f"{path}: expected a JPEG inside it, got a {found.format.name}; put one beside it")
    try:
        return decode_jpeg(found.data)
    except ValueError as cause:
        raise ValueError(f"{path}: expected a whole JPEG inside it, got a damaged one; put one beside it") from cause


# ---------------------------------------------------------------- EXIF


def read_tags(path: Path) -> tuple[Mapping[str, Any], list[str]]:
    """(what exifread finds in a file, warnings). A format that it does not know has no tags.

    Raises `FileNotFoundError` for a missing file, `ValueError` for one that cannot be read.
    """
    import exifread

    logging.getLogger("exifread").addHandler(logging.NullHandler())  # what it would print, `optics_of` shows as None
    try:
        with path.open("rb") as file:
            try:
                return exifread.process_file(file, details=False), []
            except Exception as cause:  # exifread raises many kinds on damaged tags
                return {}, [f"{path}: its EXIF cannot be read ({type(cause).__name__}); LibRaw's values are used"]
    except FileNotFoundError as cause:
        raise FileNotFoundError(f"{path}: expected a file, got nothing there; check the path") from cause
    except OSError as cause:
        problem = "a folder" if path.is_dir() else f"an error ({cause.strerror})"
        raise ValueError(f"{path}: expected a readable file, got {problem}; check the path") from cause


def optics_of(tags: Mapping[str, Any]) -> dict[str, float | None]:
    """iso, exposure_s, f_number, focal_mm as far as the tags mention them; None where they say 0 or nothing usable."""
    found: dict[str, float | None] = {}
    for field, (names, _) in _OPTICS.items():
        tag = next((tags[name] for name in names if name in tags), None)
        if tag is not None:
            value = _positive(next(iter(tag.values), None) if isinstance(tag.values, Sequence) else tag.values)
            found[field] = None if field == "iso" and value == _ISO_OVERFLOW else value
    return found


def _positive(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # a number, a fraction, or whatever a damaged file holds
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def orientation_of(tags: Mapping[str, Any]) -> int | None:
    """EXIF orientation, 1..8, or None."""
    tag = tags.get("Image Orientation")
    value = tag.values[0] if tag is not None and len(tag.values) else None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _text(tag: object) -> str:
    return "" if tag is None else str(tag).strip("\0 ")


# ---------------------------------------------------------------- LibRaw


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The decoded file. LibRaw's errors become one sentence."""
    import rawpy

    try:
        opened = rawpy.imread(str(path))
        opened.unpack()
    except (rawpy.LibRawError, rawpy.NotSupportedError) as cause:
        raise ValueError(
            f'{path}: expected a whole RAW file of a supported camera, got "{_reason(cause)}"; '
            "copy it again, or convert it to DNG"
        ) from cause
    with opened:
        yield opened


def _reason(cause: Exception) -> str:
    first = cause.args[0] if cause.args else cause
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _pattern(opened: Any, path: Path) -> str:
    colours, letters = opened.raw_pattern, opened.color_desc.decode(errors="replace")
    if colours is None:
        raise ValueError(
            f"{path}: expected a Bayer mosaic, got a file without a colour pattern; give the camera's own RAW"
        )
    # LibRaw numbers the second green 3.
    found = "".join(letters[index] for index in colours.flat) if letters == "RGBG" else f"{letters} {colours.tolist()}"
    if found not in ("RGGB", "BGGR", "GRBG", "GBRG"):
        raise ValueError(f"{path}: expected a Bayer mosaic of 2x2 pixels, got the pattern {found}; use another camera")
    return found


def _check_pixels(raw: UInt16[np.ndarray, "h w"], path: Path) -> None:
    """LibRaw gives zeros, or repeats itself, where the bytes of some compressed formats end early, and says nothing."""
    if not raw.any():
        raise ValueError(f"{path}: expected a picture, got zeros in every pixel; it is truncated, copy it again")
    last, most = raw[-1], raw.max()
    if all(len(np.unique(last[column::2])) == 1 for column in (0, 1)) and last.max() < most:
        raise ValueError(f"{path}: expected pixels in every row, got one value in all the last; copy it again")


def _levels(opened: Any, path: Path, warnings: list[str]) -> tuple[list[float], float]:
    red, green, blue, other_green = (float(level) for level in opened.black_level_per_channel)
    white = float(opened.white_level)
    if abs(green - other_green) > 0.01 * white:
        warnings.append(f"{path}: its greens have the black levels {green:g} and {other_green:g}; their mean is used")
    black = [red, (green + other_green) / 2, blue]
    if white <= max(black):
        raise ValueError(f"{path}: expected white above black, got {white:g} and {black}; convert it to DNG")
    return black, white


def _white_balance(opened: Any, path: Path, warnings: list[str]) -> list[float]:
    camera, daylight = opened.camera_whitebalance[:3], opened.daylight_whitebalance[:3]
    trouble = _trouble(camera, daylight)
    if trouble:
        if _trouble(daylight, daylight):
            raise ValueError(
                f"{path}: expected white-balance gains, got {trouble}, and no daylight gains; use another file"
            )
        said = ", ".join(f"{gain:.3g}" for gain in camera)
        warnings.append(f"{path}: its white balance ({said}) is {trouble}; LibRaw's daylight gains are used")
    red, green, blue = daylight if trouble else camera
    return [red / green, 1.0, blue / green]


def _trouble(gains: Sequence[float], daylight: Sequence[float]) -> str | None:
    """What is wrong with white-balance gains, if anything."""
    if not all(math.isfinite(gain) for gain in gains):
        return "not finite"
    if min(gains) <= 0:
        return "zero or negative"
    if len(set(gains)) == 1:
        return "the same for all colours"
    if min(daylight) > 0:
        # Light is seldom so far from daylight that the reciprocal gains would suit daylight better.
        stops = [[math.log(each / of[1]) for each in of] for of in (gains, daylight)]
        as_written = sum((gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        inverted = sum((-gain - day) ** 2 for gain, day in zip(*stops, strict=True))
        if inverted < as_written:
            return "inverted"
    return None


def _matrices(opened: Any, path: Path) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"] | None]:
    """(sensor_to_linear in float64 with rows that sum to 1, xyz_to_sensor or None)."""
    xyz_to_sensor, to_linear = opened.rgb_xyz_matrix[:3], opened.color_matrix[:, :3]
    try:
        if xyz_to_sensor.any():
            return color.matrix_from_libraw(xyz_to_sensor), torch.from_numpy(np.array(xyz_to_sensor))
        if to_linear.any():
            matrix = torch.from_numpy(to_linear.astype(np.float64))
            matrix = matrix / matrix.sum(1, keepdim=True)
            if not bool(torch.isfinite(matrix).all()) or abs(float(torch.linalg.det(matrix))) < 1e-6:
                raise ValueError(f"a singular colour matrix {to_linear.tolist()}")
            return matrix, None
    except ValueError as cause:
        raise ValueError(f"{path}: expected a usable colour matrix, got: {cause}; convert the file to DNG") from cause
    raise ValueError(f"{path}: expected a camera with a known colour matrix, got none; convert the file to DNG")

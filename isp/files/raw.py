"""Reads camera RAW files: the mosaic as recorded, and the `Camera` of the shot. The only module that knows LibRaw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8, UInt16

from isp.camera import Camera
from isp.files import icc, soundness, tiff
from isp.files.containers.kinds import contents
from isp.files.exif import model_of, optics_of, orientation_of, positive_number, read_tags
from isp.files.findings import Finding
from isp.files.places import check_regular
from isp.files.sensor import dng, filters
from isp.files.sensor.given import Given
from isp.files.sensor.shot import Container, Decoded, judged

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".kdc", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
_ORIENTATION_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}  # LibRaw's number: EXIF's
_MOST_READ = 2**31  # bytes of a file that is read whole
_OPTICS = {  # field of Camera: attribute of rawpy's `other`
    "iso": "iso_speed", "exposure_s": "shutter_speed", "f_number": "aperture", "focal_mm": "focal_length",
}  # fmt: skip


@dataclass(frozen=True)
class RawImage:
    """One RAW file.

    raw          the visible area as the sensor lies, as recorded unless a finding says that it was corrected
    camera       the camera of the shot, with the levels of `raw`
    native       the same with the levels at which the camera records, for other pictures
    orientation  the EXIF number (1..8) that turns it upright
    model        "make/model", empty if unknown
    """

    raw: UInt16[np.ndarray, "h w"]
    camera: Camera
    native: Camera
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


def read_raw(
    path: str | Path,
    *,
    white_balance: Sequence[float] | None = None,
    sensor_to_linear: Sequence[Sequence[float]] | None = None,
    black: Sequence[float] | None = None,
    white: float | None = None,
) -> RawImage:
    """Read the Bayer mosaic of a RAW file and the metadata of its shot.

    `white_balance` (gains of red, green and blue), `sensor_to_linear` (3x3), `black` (one level, or three) and `white` go
    before those of the file, which may then lack them.

    LibRaw's daylight gains replace white-balance gains that cannot be right (all equal, zero, negative, not a number,
    inverted), with a warning. If pixels pile up below the white level, white is where they do, with a warning. Black is
    per colour. If black differs from site to site, or if a DNG states gains for its pixels (GainMap, FixVignetteRadial),
    the mosaic is corrected and brought to common levels (`isp.files.sensor.levels`). Optical values that are absent or 0 are
    None.

    Raises `FileNotFoundError` for a missing file, `ValueError` for anything but a whole Bayer RAW file of a camera with a
    known colour matrix: linear files, truncated files, files that decode to zeros or stop early, and files whose black or
    white level does not fit the pixels. Raises `ValueError` for values of the caller that cannot be used.
    """
    examined = examine(path, white_balance=white_balance, sensor_to_linear=sensor_to_linear, black=black, white=white)
    if examined.image is None:
        fatal = next(finding for finding in examined.findings if finding.severity == "fatal")
        raise ValueError(f"{path}: {fatal.text}")
    return examined.image


def examine(
    path: str | Path,
    *,
    white_balance: Sequence[float] | None = None,
    sensor_to_linear: Sequence[Sequence[float]] | None = None,
    black: Sequence[float] | None = None,
    white: float | None = None,
) -> Examination:
    """Read a RAW file as far as possible, and judge whether its values can be true.

    The values of the caller go before those of the file, as in `read_raw`.

    Raises `FileNotFoundError` for a missing file, `ValueError` for an unreadable one, and for values of the caller that
    cannot be used.
    """
    path = Path(path)
    given = Given.of(white_balance, sensor_to_linear, black, white)
    container = _container(path)
    tags, warnings = read_tags(path)
    optics, model, orientation = optics_of(tags), model_of(tags), orientation_of(tags)
    findings = [Finding("EXIF", "warning", text.removeprefix(f"{path}: "), "EXIF unreadable") for text in warnings]
    findings += [soundness.encoding(container.page)] if container.page is not None else []
    shot = None
    try:
        with _opened(path) as opened:
            sizes = opened.sizes
            findings.append(_area(sizes))
            if orientation is None:
                orientation = _ORIENTATION_OF_FLIP.get(sizes.flip)
            on_size = soundness.pixels(container.page, sizes.raw_height, sizes.raw_width, container.size)
            if on_size is None:
                opened.unpack()
                # A tag of 0 means "unknown", but LibRaw turns it into 1 s and f/1. Its values count only if the tag is
                # absent. rawpy decodes the pixels to give them.
                other = {field: positive_number(getattr(opened.other, name)) for field, name in _OPTICS.items()}
                optics = other | optics
                shot, found = judged(_decoded(opened), container, given)
            else:
                found = [on_size]
    except ValueError as cause:
        found = [soundness.undecodable(container.page, container.size, str(cause))]
    findings += found
    if shot is None:
        return Examination(tuple(findings), model, orientation, optics, None)
    known: dict[str, Any] = {
        field: torch.tensor([value], dtype=torch.float32, device="cpu")
        for field, value in optics.items()
        if value is not None
    }
    camera, native = (
        Camera(name=(model or "unknown",), **known, **shot.fields, **levels.fields)
        for levels in (shot.levels, shot.native)
    )
    warnings = [f"{path}: {finding.text}" for finding in findings if finding.severity == "warning"]
    image = RawImage(shot.raw, camera, native, orientation or 1, model, tuple(warnings))
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

    check_regular(Path(path), "a RAW file")
    try:
        with _opened(Path(path)) as opened:
            found = opened.extract_thumb()
    except ValueError as cause:
        return None, str(cause)
    if found.format is not rawpy.ThumbFormat.JPEG:
        return None, f"a {found.format.name}"
    try:
        # Its EXIF tells Adobe RGB, as that of a JPEG of its own does.
        picture, _ = icc.srgb_of(contents(bytes(found.data), "JPEG"), "JPEG")
        return picture, ""
    except ValueError:
        return None, "a damaged JPEG"


# ---------------------------------------------------------------- the file


def _container(path: Path) -> Container:
    size = check_regular(path, "a RAW file")
    if size == 0:
        return Container(size)
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            pages = tiff.directories(data)
            page = soundness.main_page(pages)
            stated = None if page is None else dng.read(data, pages[0], page)
            return Container(size, page, stated, is_foveon=data[:4] == b"FOVb")
    except OSError as cause:
        raise ValueError(
            f"{path}: expected a readable file, got an error ({cause.strerror}); check the path"
        ) from cause


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file in LibRaw without decoding it. Errors of LibRaw become a `ValueError` with the reason alone."""
    import rawpy

    try:
        with _source_of(path) as source, rawpy.imread(source) as opened:
            yield opened
    except (rawpy.LibRawError, rawpy.NotSupportedError) as cause:
        first = cause.args[0] if cause.args else cause
        raise ValueError(first.decode(errors="replace") if isinstance(first, bytes) else str(first)) from cause
    except MemoryError as cause:
        raise ValueError("more pixels than fit into memory") from cause
    except OSError as cause:
        raise ValueError(cause.strerror or str(cause)) from cause


@contextmanager
def _source_of(path: Path) -> Iterator[Any]:
    """Give what rawpy opens: the path, or the open file if its name is not UTF-8, which rawpy cannot pass on."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        if path.stat().st_size > _MOST_READ:
            raise ValueError(f"a file of more than {_MOST_READ:,} bytes with a name that is not UTF-8") from None
        with path.open("rb") as file:
            yield file
    else:
        yield str(path)


def _area(sizes: Any) -> Finding:
    text = f"{sizes.height}x{sizes.width} at row {sizes.top_margin}, column {sizes.left_margin} "
    return Finding("visible area", "ok", f"{text}of {sizes.raw_height}x{sizes.raw_width}")


def _decoded(opened: Any) -> Decoded:
    """Return what LibRaw knows of the sensor of an unpacked file, as plain values."""
    sizes, cell = opened.sizes, opened.raw_pattern
    raw = np.array(opened.raw_image_visible)
    sites = None
    if raw.ndim == 2 and cell is not None and opened.num_colors > 1:
        # raw_pattern shows two rows of patterns that repeat after eight.
        place = range(filters.PERIOD)
        colours = [
            [opened.raw_color(sizes.top_margin + row, sizes.left_margin + col) for col in place] for row in place
        ]
        sites = np.array(colours)
    return Decoded(
        raw=raw,
        whole=(sizes.raw_height, sizes.raw_width),
        top=sizes.top_margin,
        left=sizes.left_margin,
        sites=sites,
        letters=opened.color_desc.decode(errors="replace"),
        blacks=tuple(float(level) for level in opened.black_level_per_channel),
        white=float(opened.white_level),
        xyz_to_sensor=opened.rgb_xyz_matrix[:3],
        to_linear=opened.color_matrix[:, :3],
        as_shot=tuple(opened.camera_whitebalance[:3]),
        daylight=tuple(opened.daylight_whitebalance[:3]),
    )

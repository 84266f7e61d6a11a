"""One shot: the picture that fits its mosaic to the pixel, and the pair that is made of both."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp.prepare.layouts import written
from isp.prepare.shots import ShotFiles

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.files.pictures import Picture
    from isp.files.raw import RawImage
    from isp.prepare.registration import Alignment

_HEAD_BYTES = 2**20  # of a RAW file, with its metadata and the first pixels


@dataclasses.dataclass(frozen=True)
class _Fit:
    """A picture that was found on the mosaic. `file` is None for the JPEG embedded in the RAW file."""

    file: Path | None
    picture: Picture
    found: Alignment
    warnings: tuple[str, ...]


def prepare(shot: ShotFiles, data: Path, path: Path) -> dict[str, Any]:
    """Write the pair of a shot in the folder `data`, and return its record: how picture and RAW file fit.

    Raises `ValueError` or `OSError` with the reason if they do not fit or cannot be read.
    """
    from isp import pairs
    from isp.files.pictures import turned_back
    from isp.files.raw import read_raw

    image = read_raw(shot.raw)
    fit = _first_fit(shot, image)
    found = fit.found
    srgb = turned_back(fit.picture, found.orientation)
    top, left, height, width = _common_window(found, image.raw.shape, srgb.shape[:2])
    own_top, own_left = top - found.top, left - found.left
    raw, source = written(shot.raw.relative_to(data)), source_of(shot.raw, fit.file, data)
    pairs.write(
        path,
        image.raw[top : top + height, left : left + width],
        srgb[own_top : own_top + height, own_left : own_left + width],
        _with_optics_of(image.camera, fit.file),
        source,
        raw_id(shot.raw),
    )
    return {
        "name": shot.name,
        "source": source,
        "raw": raw,
        "height": height,
        "width": width,
        "raw_top": top,
        "raw_left": left,
        "picture_top": own_top,
        "picture_left": own_left,
        "orientation_undone": found.orientation,
        "correlation": round(found.correlation, 4),
        "blocks": found.blocks,
        "blocks_apart_px": round(found.apart_px, 3),
        "warnings": [*image.warnings, *fit.warnings],
    }


def source_of(raw: Path, picture: Path | None, data: Path) -> str:
    """Return the files of a pair as they stand in its record."""
    inside = written(picture.relative_to(data)) if picture else "the JPEG inside it"
    return f"{written(raw.relative_to(data))} + {inside}"


def raw_id(raw: Path) -> str:
    """Return what tells a RAW file from others of its name: a digest of its size and its first MiB.

    The numbers of a camera come again after 9999 shots.
    """
    with raw.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return hashlib.sha256(b"%d " % raw.stat().st_size + head).hexdigest()


def _first_fit(shot: ShotFiles, image: RawImage) -> _Fit:
    """Return the first picture of a shot that fits its mosaic. Raises `ValueError` with the reason of the first otherwise."""
    reasons = []
    for file in shot.pictures:
        try:
            return _fit(shot, image, file)
        except ValueError as problem:
            reasons.append(str(problem))
    first, *others = reasons
    raise ValueError(f"{first}{'; and ' * bool(others)}{'; and '.join(others)}; {shot.remedy}")


def _fit(shot: ShotFiles, image: RawImage, file: Path | None) -> _Fit:
    """Find a picture on the mosaic. Raises `ValueError` if it cannot be read or does not fit."""
    from isp.files.icc import read_srgb
    from isp.files.raw import find_embedded_jpeg
    from isp.prepare.registration import align

    warnings: list[str] = []
    if file is None:
        name = f"{shot.raw} (the embedded JPEG)"
        embedded, reason = find_embedded_jpeg(shot.raw)
        if embedded is None:
            raise ValueError(f"{shot.raw}: expected its picture beside it or inside it, got {reason}")
        picture: Picture = embedded
    else:
        name = str(file)
        picture, on_colours = read_srgb(file)
        if on_colours.severity == "warning":
            warnings.append(f"{file}: {on_colours.text}")
    if picture.dtype != "uint8":
        raise ValueError(f"{name}: expected a picture of 8 bits, got {picture.dtype}; save it with 8 bits")
    try:
        return _Fit(file, picture, align(image.raw, picture, image.camera, image.orientation), tuple(warnings))
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem


def _common_window(found: Alignment, raw: Sequence[int], picture: Sequence[int]) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) on the RAW of what both sizes cover.

    Even offsets keep the CFA phase, even sizes keep whole cells.
    """
    starts, sides = [], []
    for place, whole, own in zip((found.top, found.left), raw, picture, strict=True):
        start = max(0, place) + max(0, place) % 2
        starts.append(start)
        sides.append((min(whole, place + own) - start) // 2 * 2)
    return starts[0], starts[1], sides[0], sides[1]


def _with_optics_of(camera: Camera, picture: Path | None) -> Camera:
    """Return the camera with the optical values that its RAW file does not know taken from the picture's EXIF."""
    import torch

    from isp.files.exif import optics_of, read_tags

    if picture is None:
        return camera
    tags, _ = read_tags(picture)
    values = {field: value for field, value in optics_of(tags).items() if value and getattr(camera, field) is None}
    added: dict[str, Any] = {
        field: torch.tensor([value], dtype=torch.float32, device="cpu") for field, value in values.items()
    }
    return dataclasses.replace(camera, **added)

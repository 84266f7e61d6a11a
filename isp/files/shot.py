"""Reads one shot from disk: a photograph or a mosaic as the sensor lies, with its metadata.

Cameras turn pictures upright, sensors do not. This module turns a photograph back when it reads it; pictures that people
look at are written upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from isp.files import icc, sidecar
from isp.files.exif import model_of, optics_of, orientation_of, tags_in
from isp.files.pictures import Picture, decoded, opened, read_image, turned_back
from isp.files.raw import RAW_SUFFIXES, RawImage, find_embedded_jpeg, read_raw
from isp.files.sensor.given import Given

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MOSAIC_SUFFIXES = frozenset({".tif", ".tiff"})


@dataclass(frozen=True)
class Photograph:
    """A picture as the sensor lies.

    optics       those of iso, exposure_s, f_number and focal_mm that are known
    orientation  the EXIF number (1..8) that turns it upright
    model        "make/model", empty if unknown
    """

    picture: Picture
    optics: dict[str, float]
    orientation: int
    model: str
    warnings: tuple[str, ...] = ()


def read_photograph(path: Path) -> Photograph:
    """Read a PNG, JPEG or TIFF of 8 or 16 bits with its EXIF; another colour profile is converted to sRGB.

    Raises `FileNotFoundError` for a missing file, `ValueError` for a file that cannot be read whole or converted.
    """
    if path.suffix.lower() in RAW_SUFFIXES:
        raise ValueError(f"{path}: expected a picture, got a RAW file; render it with isp.apply forward first")
    held = opened(path)
    upright_picture = decoded(held, str(path))
    tags, unread = tags_in(held.exif)
    colours = icc.colours_of(held, upright_picture, tags)
    upright_picture = colours.converted(upright_picture, str(path))
    notes = []
    if colours.finding.severity == "warning" or colours.transform is not None:
        notes.append(f"{path}: {colours.finding.text}")
    if unread:
        notes.append(f"{path}: expected readable EXIF, got damaged EXIF, so ignored")
    known = {field: value for field, value in optics_of(tags).items() if value is not None}
    orientation = orientation_of(tags) or 1
    return Photograph(turned_back(upright_picture, orientation), known, orientation, model_of(tags), tuple(notes))


def read_mosaic(
    path: Path,
    *,
    white_balance: Sequence[float] | None = None,
    sensor_to_linear: Sequence[Sequence[float]] | None = None,
    black: Sequence[float] | None = None,
    white: float | None = None,
) -> RawImage:
    """Read a RAW file of any camera, or a TIFF of `isp.apply inverse` with its sidecar beside it.

    The values of the caller go before those of the file, as in `read_raw`.

    Raises `FileNotFoundError` if either file is missing, `ValueError` if it is not a whole mosaic.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise ValueError(f"{path}: expected a RAW file, got a picture; convert it with isp.apply inverse first")
    if path.suffix.lower() not in MOSAIC_SUFFIXES:
        return read_raw(path, white_balance=white_balance, sensor_to_linear=sensor_to_linear, black=black, white=white)
    given = Given.of(white_balance, sensor_to_linear, black, white)
    grey = read_image(path)
    known = sidecar.read(path.with_suffix(".json"))
    if grey.dtype != np.uint16 or grey.shape[:2] != known.size:
        raise ValueError(
            f"{path}: expected a mosaic of {known.size[0]}x{known.size[1]} in 16 bits, as its sidecar says, "
            f"got {grey.shape[0]}x{grey.shape[1]} in {grey.dtype}; run isp.apply inverse again"
        )
    if any(not np.array_equal(grey[..., 1], grey[..., other]) for other in (0, 2)):
        raise ValueError(f"{path}: expected a mosaic of one channel, got colours; run isp.apply inverse again")
    camera = given.applied(known.shot())
    return RawImage(np.ascontiguousarray(grey[..., 1]), camera, camera, known.orientation, known.model)


def find_reference(path: Path, mosaic: RawImage) -> tuple[UInt8[np.ndarray, "u v 3"] | None, str]:
    """Return (the sRGB picture of the same scene as `mosaic`, which was read from `path`, or None; why it is None).

    It is the JPEG that the camera put into its RAW file, as the sensor lies.
    """
    if path.suffix.lower() in MOSAIC_SUFFIXES:
        return None, "a mosaic of isp.apply inverse holds no picture"
    jpeg, reason = find_embedded_jpeg(path)
    return (None, reason) if jpeg is None else as_reference(jpeg, mosaic)


def as_reference(jpeg: UInt8[np.ndarray, "h w 3"], mosaic: RawImage) -> tuple[UInt8[np.ndarray, "u v 3"] | None, str]:
    """Return (the upright `jpeg` as the sensor lies, ""), or (None, why not) if it does not have the size of `mosaic`."""
    picture: UInt8[np.ndarray, "u v 3"] = turned_back(jpeg, mosaic.orientation)
    if picture.shape[:2] != mosaic.raw.shape:
        sizes = (f"{height}x{width}" for height, width in (picture.shape[:2], mosaic.raw.shape))
        return None, "its embedded JPEG has {} pixels, its mosaic {}".format(*sizes)
    return picture, ""


# ---------------------------------------------------------------- pixels


def planes_of(picture: Picture) -> Float[Tensor, "1 3 h w"]:
    """Return `picture` in [0, 1]. It is converted channel by channel, to allocate no more than the result."""
    planes = torch.empty(1, 3, *picture.shape[:2], device="cpu")
    for channel in range(3):
        planes[0, channel] = torch.from_numpy(np.ascontiguousarray(picture[..., channel]))
    return planes.div_(np.iinfo(picture.dtype).max)


def picture_of(planes: Float[Tensor, "1 3 h w"], depth: type[np.uint8] | type[np.uint16]) -> Picture:
    """Return `planes`, clipped to [0, 1], as whole numbers. Raises `ValueError` if they are not finite."""
    picture: Picture = np.empty((*planes.shape[-2:], 3), depth)
    for channel in range(3):
        scaled = planes[0, channel].clamp(0, 1).mul_(np.iinfo(depth).max).round_().cpu()
        if not bool(torch.isfinite(scaled).all()):
            raise ValueError("expected finite pixels, got NaN; check the EXIF values and the ISP's weights")
        picture[..., channel] = scaled.numpy()
    return picture

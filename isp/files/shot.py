"""One shot on disk: a photograph or a mosaic as the sensor lies, with what is known of it.

A sensor does not turn with the camera. What is read here is turned back, what is written for the eye is upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isp.files import icc, sidecar
from isp.files.exif import model_of, optics_of, orientation_of, read_tags
from isp.files.pictures import Picture, read_image, turned_back
from isp.files.raw import RAW_SUFFIXES, RawImage, read_raw

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MOSAIC_SUFFIXES = frozenset({".tif", ".tiff"})


@dataclass(frozen=True)
class Photograph:
    """A picture as the sensor lies: `orientation` (EXIF, 1..8) turns it upright. `model` is "make/model" or empty.

    `optics` holds iso, exposure_s, f_number and focal_mm as far as they are known.
    """

    picture: Picture
    optics: dict[str, float]
    orientation: int
    model: str
    warnings: tuple[str, ...] = ()


def read_photograph(path: Path) -> Photograph:
    """A PNG, JPEG or TIFF of 8 or 16 bits in sRGB, which another colour profile is converted to, and what its EXIF says.

    Raises `FileNotFoundError` for a missing file, `ValueError` for one that cannot be read completely or converted.
    """
    if path.suffix.lower() in RAW_SUFFIXES:
        raise ValueError(f"{path}: expected a picture, got a RAW file; isp.apply forward makes a picture of it")
    upright_picture = read_image(path)
    tags, unread = read_tags(path)
    colours = icc.colours_of(path, upright_picture, tags)
    if colours.finding.severity == "fatal":
        raise ValueError(f"{path}: {colours.finding.text}")
    notes = []
    if colours.finding.severity == "warning" or colours.transform is not None:
        notes.append(f"{path}: {colours.finding.text}")
    if colours.transform is not None:
        upright_picture = icc.to_srgb(upright_picture, colours.transform)
    if unread:
        notes.append(f"{path}: expected EXIF that can be read, got damage; it counts as absent")
    known = {field: value for field, value in optics_of(tags).items() if value is not None}
    orientation = orientation_of(tags) or 1
    return Photograph(
        turned_back(upright_picture, orientation),
        known,
        orientation,
        model_of(tags),
        tuple(notes),
    )


def read_mosaic(path: Path) -> RawImage:
    """A RAW file of any camera, or a TIFF of `isp.apply inverse` with its sidecar beside it.

    Raises `FileNotFoundError` where either is missing, `ValueError` for whatever is no whole mosaic.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise ValueError(f"{path}: expected a RAW file, got a picture; take it to RAW by isp.apply inverse first")
    if path.suffix.lower() not in MOSAIC_SUFFIXES:
        return read_raw(path)
    grey = read_image(path)
    known = sidecar.read(path.with_suffix(".json"))
    if grey.dtype != np.uint16 or grey.shape[:2] != known.size:
        raise ValueError(
            f"{path}: expected a mosaic of {known.size[0]}x{known.size[1]} in 16 bits, as its sidecar says, "
            f"got {grey.shape[0]}x{grey.shape[1]} in {grey.dtype}; make it again"
        )
    if any(not np.array_equal(grey[..., 1], grey[..., other]) for other in (0, 2)):
        raise ValueError(f"{path}: expected a mosaic of one channel, got colours; make it again")
    return RawImage(np.ascontiguousarray(grey[..., 1]), known.shot(), known.orientation, known.model)


# ---------------------------------------------------------------- pixels


def planes_of(picture: Picture) -> Float[Tensor, "1 3 h w"]:
    """In [0, 1], channel by channel, so that nothing larger than the result is made."""
    planes = torch.empty(1, 3, *picture.shape[:2])
    for channel in range(3):
        planes[0, channel] = torch.from_numpy(np.ascontiguousarray(picture[..., channel]))
    return planes.div_(np.iinfo(picture.dtype).max)


def picture_of(planes: Float[Tensor, "1 3 h w"], depth: type[np.uint8] | type[np.uint16]) -> Picture:
    """`planes`, clipped to [0, 1], as whole numbers. Raises `ValueError` where they hold what is no number."""
    picture: Picture = np.empty((*planes.shape[-2:], 3), depth)
    for channel in range(3):
        scaled = planes[0, channel].clamp(0, 1).mul_(np.iinfo(depth).max).round_().cpu()
        if not bool(torch.isfinite(scaled).all()):
            raise ValueError("expected numbers in the picture, got NaN; check the EXIF values and the ISP's weights")
        picture[..., channel] = scaled.numpy()
    return picture


# ---------------------------------------------------------------- EXIF

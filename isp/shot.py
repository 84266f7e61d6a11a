"""One shot on disk: a photograph or a mosaic as the sensor lies, with what is known of it.

A sensor does not turn with the camera. What is read here is turned back, what is written for the eye is upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from isp import cfa, color, icc, sidecar, tone
from isp.camera import Camera
from isp.io import Picture, read_image
from isp.raw import RAW_SUFFIXES, RawImage, model_of, optics_of, orientation_of, read_raw, read_tags
from isp.registration import turned_back

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MOSAIC_SUFFIXES = frozenset({".tif", ".tiff"})
_STRIP = 512  # rows of a preview at a time; even, so that the CFA phase stays


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


def upright(picture: Picture, orientation: int) -> UInt8[np.ndarray, "u v 3"] | UInt16[np.ndarray, "u v 3"]:
    """A picture that lies as the sensor, turned by its EXIF orientation; undoes `turned_back`."""
    return turned_back(picture, {6: 8, 8: 6}.get(orientation, orientation))  # the others undo themselves


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


def raw_of_bayer(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt16[np.ndarray, "h w"]:
    """The mosaic at the camera's levels, black + bayer * (white - black), rounded and clipped to [0, white].

    Reverse: `isp.develop.bayer_of_raw`. Raises `ValueError` where the levels are unknown or the mosaic holds NaN.
    """
    if camera.black is None or camera.white is None:
        raise ValueError("raw: expected a camera with known black and white levels, got none; set them")
    if not bool(torch.isfinite(bayer).all()):
        raise ValueError("raw: expected numbers in the mosaic, got NaN; check the EXIF values and the ISP's weights")
    raw = np.empty(bayer.shape[-2:], np.uint16)
    white = float(camera.white[0])
    for site, colour in enumerate(cfa.channels(camera.cfa[0])):
        black = float(camera.black[0, colour])
        place = (slice(site // 2, None, 2), slice(site % 2, None, 2))
        # Noise below black is cut off at 0, not at black.
        levels = (bayer[(0, 0, *place)] * (white - black) + black).round_().clamp_(0, white)
        raw[place] = levels.cpu().numpy()
    return raw


def preview(bayer: Float[Tensor, "1 1 h w"], camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """The mosaic demosaiced, white-balanced, through the camera's matrix and the sRGB curve; no look is added."""
    height, width = bayer.shape[-2:]
    extended = cfa.mirrored(bayer, max(height, 3), max(width, 3))
    picture = np.empty((*extended.shape[-2:], 3), np.uint8)
    gains = camera.white_balance[:, :, None, None]
    for place, window, inner in cfa.strips(extended.shape[2], _STRIP, cfa.DEMOSAIC_HALO):
        sensor = cfa.demosaic(extended[:, :, window], camera.cfa)[:, :, inner]
        linear = color.apply_matrix((sensor * gains).clamp_(0, 1), camera.sensor_to_linear)
        picture[place] = picture_of(tone.srgb_curve(linear.clamp_(0, 1)), np.uint8)
    return picture[:height, :width]


def before_after(before: Picture, after: Picture, width: int = 2000) -> UInt8[np.ndarray, "u v 3"]:
    """Two pictures of one size side by side in 8 bits, reduced by a whole factor to `width` pixels at most."""
    step = max(1, -(-2 * before.shape[1] // width))
    return np.concatenate([_reduced(picture, step) for picture in (before, after)], axis=1)


def _reduced(picture: Picture, step: int) -> UInt8[np.ndarray, "u v 3"]:
    height, width = (max(1, side // step) for side in picture.shape[:2])
    down, right = (min(step, side) for side in picture.shape[:2])
    cells = picture[: height * down, : width * right].reshape(height, down, width, right, 3)
    mean = cells.mean(axis=(1, 3), dtype=np.float32) / np.float32(np.iinfo(picture.dtype).max / 255)
    reduced: UInt8[np.ndarray, "u v 3"] = np.rint(mean).astype(np.uint8)
    return reduced


# ---------------------------------------------------------------- EXIF


def exif_block(model: str, camera: Camera) -> bytes:
    """TIFF structure that says make and model ("make/model"), the optical values that are known, and "upright"."""
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
            # Float32 keeps a fraction of a second only about; this finds it again.
            optics[tag] = IFDRational(Fraction(float(values[0])).limit_denominator(100_000))
    if camera.iso is not None and float(camera.iso[0]) < 65535:  # the tag holds 16 bits; its largest says "more"
        optics[0x8827] = round(float(camera.iso[0]))
    written: bytes = block.tobytes()
    return written.removeprefix(b"Exif\0\0")

"""One file through an ISP that is open: to RAW, to sRGB, to another camera, to a wider tonal range.

Every function takes the file, the paths of its results, and what all files share; it says on stderr what it assumes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa, color, full_size, levels
from isp.apply import fusion, preview, settings
from isp.apply.settings import Choice, Overrides
from isp.camera import Camera
from isp.contract import ISP
from isp.files import exif, pictures, shot, sidecar
from isp.files.pictures import write_image
from isp.files.shot import Photograph


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the work is done with, and how results are written; `depth` is that of a PNG, `quality` that of a JPEG."""

    device: str
    memory_bytes: int
    depth: type[np.uint8] | type[np.uint16] = np.uint8
    quality: int = 95


def inverse(path: Path, results: Sequence[Path], options: Options, camera_isp: ISP, choice: Choice) -> None:
    """sRGB to RAW. `results` are the mosaic (.tif), its sidecar (.json) and its preview."""
    tiff, record, seen_tiff = results
    photograph = shot.read_photograph(path)
    camera = _camera_of(path, photograph, choice)
    bayer = cfa.mosaic(_sensor(camera_isp, photograph, camera, options), camera.cfa).cpu()
    raw, seen = levels.raw_of_bayer(bayer, camera).numpy(), preview.preview(bayer, camera)
    write_image(tiff, raw)
    write_image(
        seen_tiff, pictures.upright(seen, photograph.orientation), exif=exif.exif_block(photograph.model, camera)
    )
    sidecar.write(
        record,
        camera,
        size=raw.shape,
        orientation=photograph.orientation,
        model=photograph.model,
        source=path.name,
        isp=camera_isp.name,
        weights=camera_isp.weights,
    )


def forward(path: Path, results: Sequence[Path], options: Options, camera_isp: ISP, said: Overrides) -> None:
    """RAW to sRGB. `results` is the picture."""
    mosaic = shot.read_mosaic(path)
    camera = settings.changed(mosaic.camera, said)
    say(mosaic.warnings)
    _say_unknown(path, camera)
    srgb = _srgb(camera_isp, levels.bayer_of_raw(torch.from_numpy(mosaic.raw), camera), camera, options)
    _write_rendering(results[0], srgb, mosaic.orientation, mosaic.model, camera, options)


def transfer(
    path: Path, results: Sequence[Path], options: Options, isps: tuple[ISP, ISP], choices: tuple[Choice, Choice]
) -> None:
    """As if the second camera had taken it, by way of `linear`, where both agree. `results`: picture, before and after.

    Source: kim2024, §S2.2
    """
    photograph = shot.read_photograph(path)
    source = _camera_of(path, photograph, choices[0], option="--from-camera")
    target = settings.with_optics(choices[1].camera, photograph.optics)
    linear = color.sensor_to_linear(_sensor(isps[0], photograph, source, options), source.to(options.device))
    bayer = cfa.mosaic(color.linear_to_sensor(linear, target.to(options.device)), target.cfa)
    del linear
    # No sensor gives less than black or more than saturation.
    srgb = _srgb(isps[1], bayer.clamp_(0, 1), target, options)
    _write_rendering(results[0], srgb, photograph.orientation, photograph.model, target, options)
    _write_comparison(results[1], photograph, srgb)


def hdr(
    path: Path, results: Sequence[Path], options: Options, camera_isp: ISP, choice: Choice, gains: Sequence[float]
) -> None:
    """A wider tonal range: its RAW times each gain, rendered, all fused. `results`: picture, before and after.

    Source: kim2024, §5
    """
    photograph = shot.read_photograph(path)
    height, width = photograph.picture.shape[:2]
    needed = fusion.needed_bytes(len(gains), height, width)
    if needed > options.memory_bytes:
        raise ValueError(
            f"{path}: expected {needed / 1e9:.2g} GB of memory to fuse {len(gains)} exposures of {height}x{width}, "
            f"got {options.memory_bytes / 1e9:.2g}; give more --memory, or fewer --gains"
        )
    camera = _camera_of(path, photograph, choice)
    bayer = cfa.mosaic(_sensor(camera_isp, photograph, camera, options), camera.cfa)
    srgb = fusion.fused(_srgb(camera_isp, bayer * gain, camera, options) for gain in gains)
    _write_rendering(results[0], srgb, photograph.orientation, photograph.model, camera, options)
    _write_comparison(results[1], photograph, srgb)


# ---------------------------------------------------------------- what is said


def say(notes: Iterable[str]) -> None:
    """One line each, on stderr."""
    sys.stderr.writelines(f"{note}\n" for note in notes)


def _say_unknown(path: Path, camera: Camera) -> None:
    unknown = settings.unknown_optics(camera)
    say([f"{path}: {', '.join(unknown)} unknown and left out; options of these names give them"] if unknown else [])


# ---------------------------------------------------------------- through the ISP


def _camera_of(path: Path, photograph: Photograph, choice: Choice, option: str = "--camera") -> Camera:
    camera = settings.with_optics(choice.camera, photograph.optics)
    say(photograph.warnings)
    say(f"{path}: {remark}" for remark in settings.remarks(choice, photograph.model, option))
    _say_unknown(path, camera)
    return camera


def _sensor(camera_isp: ISP, photograph: Photograph, camera: Camera, options: Options) -> Float[Tensor, "1 3 h w"]:
    settings.check_known(camera_isp, camera)
    height, width = photograph.picture.shape[:2]
    # In one expression, so that no second whole picture stays alive.
    srgb = _extended(shot.planes_of(photograph.picture).to(options.device), camera_isp)
    return full_size.inverse(camera_isp, srgb, camera.to(options.device), options.memory_bytes)[..., :height, :width]


def _srgb(
    camera_isp: ISP, bayer: Float[Tensor, "1 1 h w"], camera: Camera, options: Options
) -> Float[Tensor, "1 3 h w"]:
    settings.check_known(camera_isp, camera)
    settings.check_rendered(camera_isp, camera)
    height, width = bayer.shape[-2:]
    bayer = _extended(bayer.to(options.device), camera_isp)
    return full_size.forward(camera_isp, bayer, camera.to(options.device), options.memory_bytes)[..., :height, :width]


def _extended(image: Float[Tensor, "1 c h w"], camera_isp: ISP) -> Float[Tensor, "1 c height width"]:
    """To the multiple that the ISP takes, and to the 3 pixels that demosaicing takes."""
    multiple = camera_isp.limits.multiple_of
    height, width = (math.ceil(max(side, 3) / multiple) * multiple for side in image.shape[-2:])
    return cfa.mirrored(image, height, width)


# ---------------------------------------------------------------- pictures for the eye


def _write_rendering(
    path: Path, srgb: Float[Tensor, "1 3 h w"], orientation: int, model: str, camera: Camera, options: Options
) -> None:
    picture = pictures.upright(shot.picture_of(srgb, options.depth), orientation)
    write_image(path, picture, quality=options.quality, exif=exif.exif_block(model, camera))


def _write_comparison(path: Path, photograph: Photograph, srgb: Float[Tensor, "1 3 h w"]) -> None:
    before, after = (
        pictures.upright(picture, photograph.orientation)
        for picture in (photograph.picture, shot.picture_of(srgb, np.uint8))
    )
    write_image(path, preview.before_after(before, after))

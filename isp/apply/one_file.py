"""One file through an open ISP: to RAW, to sRGB, to another camera, to a wider tonal range.

Every function takes the file, the paths of its results, and what all files of a run share. Assumptions go to stderr.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa, color, command, full_size, levels
from isp.apply import fusion, preview, settings
from isp.apply.results import Edit, Raw, Rendering
from isp.apply.settings import ChosenCamera, Overrides
from isp.camera import Camera
from isp.contract import ISP
from isp.files import exif, pictures, shot, sidecar
from isp.files.pictures import Picture, write_image
from isp.files.raw import RawImage
from isp.files.shot import Photograph


@dataclass(frozen=True, kw_only=True)
class Options:
    """The device, the memory budget, and the format of pictures: `depth` of a PNG, `quality` of a JPEG."""

    device: str
    memory_bytes: int
    depth: type[np.uint8] | type[np.uint16] = np.uint8
    quality: int = 95


def inverse(path: Path, results: Raw, options: Options, camera_isp: ISP, chosen: ChosenCamera) -> None:
    """Convert an sRGB photograph to RAW: a mosaic, its sidecar and a preview."""
    photograph = shot.read_photograph(path)
    camera = _camera_of(path, photograph, chosen)
    settings.check_fit(camera_isp, "inverse", camera)
    bayer = cfa.mosaic(_sensor(camera_isp, photograph, camera, options), camera.cfa).cpu()
    raw, seen = levels.raw_of_bayer(bayer, camera).numpy(), preview.preview(bayer, camera)
    write_image(results.mosaic, raw)
    write_image(
        results.preview,
        pictures.upright(seen, photograph.orientation),
        exif=exif.exif_block(photograph.model, camera),
    )
    sidecar.write(
        results.sidecar,
        camera,
        size=raw.shape,
        orientation=photograph.orientation,
        model=photograph.model,
        source=command.shown(path.name),
        isp=camera_isp.name,
        weights=camera_isp.weights,
    )


def forward(path: Path, results: Rendering, options: Options, camera_isp: ISP, overrides: Overrides) -> None:
    """Render a RAW file, or a mosaic of `inverse`, to sRGB."""
    mosaic = shot.read_mosaic(path, **overrides.for_reading())
    # Reading applied the levels: it may have corrected the mosaic and brought it to others.
    camera = settings.changed(mosaic.camera, dataclasses.replace(overrides, black=None, white=None))
    say(mosaic.warnings)
    _say_unknown(path, camera)
    reference, why_none = _reference_in(path, mosaic, camera_isp)
    settings.check_fit(camera_isp, "forward", camera, has_reference=reference is not None, why_none=why_none)
    bayer = levels.bayer_of_raw(torch.from_numpy(mosaic.raw), camera)
    srgb = _srgb(camera_isp, bayer, camera, reference, options)
    _write_rendering(results.picture, srgb, mosaic.orientation, mosaic.model, camera, options)


def transfer(
    path: Path, results: Edit, options: Options, isps: tuple[ISP, ISP], chosen: tuple[ChosenCamera, ChosenCamera]
) -> None:
    """Render a photograph as if the second camera had taken it, by way of `linear`, where both cameras agree.

    Source: kim2024, §S2.2
    """
    photograph = shot.read_photograph(path)
    source = _camera_of(path, photograph, chosen[0], option="--from-camera")
    target = settings.with_optics(chosen[1].camera, photograph.optics)
    settings.check_fit(isps[0], "inverse", source)
    settings.check_fit(isps[1], "forward", target)
    linear = color.sensor_to_linear(_sensor(isps[0], photograph, source, options), source.to(options.device))
    bayer = cfa.mosaic(color.linear_to_sensor(linear, target.to(options.device)), target.cfa)
    del linear
    # A sensor records nothing below black and nothing above saturation.
    srgb = _srgb(isps[1], bayer.clamp_(0, 1), target, photograph.picture, options)
    _write_rendering(results.picture, srgb, photograph.orientation, photograph.model, target, options)
    _write_comparison(results.before_after, photograph, srgb)


def hdr(
    path: Path, results: Edit, options: Options, camera_isp: ISP, chosen: ChosenCamera, gains: Sequence[float]
) -> None:
    """Widen the tonal range of a photograph: multiply its RAW by each gain, render, and fuse the renderings.

    Source: kim2024, §5
    """
    photograph = shot.read_photograph(path)
    height, width = photograph.picture.shape[:2]
    needed = fusion.needed_bytes(len(gains), height, width)
    if needed > options.memory_bytes:
        raise ValueError(
            f"{path}: expected {needed / 1e9:.2g} GB of memory to fuse {len(gains)} exposures of {height}x{width}, "
            f"got {options.memory_bytes / 1e9:.2g}; raise --memory, or give fewer --gains"
        )
    camera = _camera_of(path, photograph, chosen)
    settings.check_fit(camera_isp, "inverse", camera)
    settings.check_fit(camera_isp, "forward", camera)
    bayer = cfa.mosaic(_sensor(camera_isp, photograph, camera, options), camera.cfa)
    srgb = fusion.fused(_srgb(camera_isp, bayer * gain, camera, photograph.picture, options) for gain in gains)
    _write_rendering(results.picture, srgb, photograph.orientation, photograph.model, camera, options)
    _write_comparison(results.before_after, photograph, srgb)


# ---------------------------------------------------------------- messages


def say(notes: Iterable[str]) -> None:
    """Write each note on a line of its own on stderr."""
    for note in notes:
        command.warn(note)


def _say_unknown(path: Path, camera: Camera) -> None:
    unknown = settings.unknown_optics(camera)
    if unknown:
        names, options = ", ".join(unknown), settings.options_for(unknown)
        say([f"{path}: {names} not in the file, so ignored; set with {options}"])


# ---------------------------------------------------------------- through the ISP


def _camera_of(path: Path, photograph: Photograph, chosen: ChosenCamera, option: str = "--camera") -> Camera:
    """Return the chosen camera with the optical values of the photograph."""
    camera = settings.with_optics(chosen.camera, photograph.optics)
    say(photograph.warnings)
    say(f"{path}: {remark}" for remark in settings.remarks(chosen, photograph.model, option))
    _say_unknown(path, camera)
    return camera


def _reference_in(path: Path, mosaic: RawImage, camera_isp: ISP) -> tuple[Picture | None, str]:
    """Return the picture in a RAW file if the ISP needs a reference; else None, and why there is none."""
    return shot.find_reference(path, mosaic) if camera_isp.limits.needs_reference else (None, "")


def _sensor(camera_isp: ISP, photograph: Photograph, camera: Camera, options: Options) -> Float[Tensor, "1 3 h w"]:
    height, width = photograph.picture.shape[:2]
    # In one expression, so that no second whole picture stays alive.
    srgb = _extended(shot.planes_of(photograph.picture).to(options.device), camera_isp)
    return full_size.inverse(camera_isp, srgb, camera.to(options.device), options.memory_bytes)[..., :height, :width]


def _srgb(
    camera_isp: ISP, bayer: Float[Tensor, "1 1 h w"], camera: Camera, reference: Picture | None, options: Options
) -> Float[Tensor, "1 3 h w"]:
    """Render a mosaic. The reference costs memory, so only an ISP that needs one gets it."""
    height, width = bayer.shape[-2:]
    bayer = _extended(bayer.to(options.device), camera_isp)
    planes = None
    if reference is not None and camera_isp.limits.needs_reference:
        planes = _extended(shot.planes_of(reference).to(options.device), camera_isp)
    srgb = full_size.forward(camera_isp, bayer, camera.to(options.device), options.memory_bytes, reference=planes)
    return srgb[..., :height, :width]


def _extended(image: Float[Tensor, "1 c h w"], camera_isp: ISP) -> Float[Tensor, "1 c height width"]:
    """Mirror `image` up to a multiple that the ISP takes, and to the 3 pixels that demosaicing takes."""
    multiple = camera_isp.limits.multiple_of
    height, width = (math.ceil(max(side, 3) / multiple) * multiple for side in image.shape[-2:])
    return cfa.mirrored(image, height, width)


# ---------------------------------------------------------------- pictures to look at


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

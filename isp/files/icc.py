"""Colour profiles (ICC) of pictures: converts them to sRGB, or reports why that is not possible."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from isp.files.exif import read_tags
from isp.files.findings import Finding
from isp.files.pictures import Picture, kind_of, read_image

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

SAME = 4  # of 255: how far the many profiles that are called sRGB differ
_LEVELS = 9  # of each channel, in the colours that decide whether a profile is sRGB
_DCF = "Interoperability InteroperabilityIndex"  # R98: sRGB; R03: Adobe RGB
_ASSUMED = "its values are assumed to be sRGB"


@dataclass(frozen=True)
class Colours:
    """The finding on a picture's colours; `transform` converts them to sRGB, None if they are or are assumed to be sRGB."""

    finding: Finding
    transform: ImageCmsTransform | None = None


def colours_of(path: Path, picture: Picture, tags: Mapping[str, Any]) -> Colours:
    """Return the colours of `picture`, the content of the PNG, JPEG or TIFF at `path`, by its profile or its EXIF `tags`.

    A profile other than sRGB in a picture of 16 bits is fatal: the library that converts supports 8 bits only.
    """
    from PIL import ImageCms

    try:
        content = _profile_in(path)
        if not content and str(tags.get(_DCF, "")).startswith("R03"):
            text = f"Adobe RGB by its EXIF, without a profile; {_ASSUMED}, so save it as sRGB first"
            return Colours(Finding("colours", "warning", text, "Adobe RGB assumed to be sRGB"))
        if not content:
            return Colours(Finding("colours", "ok", f"no colour profile; {_ASSUMED}"))
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name, space = _plain(profile.profile.profile_description or "unnamed"), _plain(profile.profile.xcolor_space)
        if space != "RGB":
            text = f"expected an RGB colour profile, got {name} ({space}); {_ASSUMED}"
            return Colours(Finding("colours", "warning", text, "colour profile ignored"))
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        levels = np.linspace(0, 255, _LEVELS).astype(np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        farthest = int(np.abs(to_srgb(cube, transform).astype(int) - cube).max())
    except Exception:  # Pillow raises many types for damaged profiles
        text = f"expected a readable colour profile, got a damaged one; {_ASSUMED}"
        return Colours(Finding("colours", "warning", text, "colour profile unreadable"))
    if farthest <= SAME:
        return Colours(Finding("colours", "ok", f"sRGB, by the profile {name}"))
    if picture.dtype != np.uint8:
        text = f"expected sRGB in a picture of 16 bits, got the colour profile {name}; convert it to sRGB, or to 8 bits"
        return Colours(Finding("colours", "fatal", text))
    return Colours(Finding("colours", "ok", f"{name}; isp.apply converts it to sRGB"), transform)


def read_srgb(path: Path) -> tuple[Picture, Finding]:
    """Read the picture at `path` with its colours converted to sRGB; return it with the finding on its colours.

    Raises `FileNotFoundError` for a missing file, `ValueError` for one that `read_image` refuses, or that has a colour
    profile that cannot be converted.
    """
    picture = read_image(path)
    colours = colours_of(path, picture, read_tags(path)[0])
    if colours.finding.severity == "fatal":
        raise ValueError(f"{path}: {colours.finding.text}")
    return (picture if colours.transform is None else to_srgb(picture, colours.transform)), colours.finding


def to_srgb(picture: UInt8[np.ndarray, "h w 3"], transform: ImageCmsTransform) -> UInt8[np.ndarray, "h w 3"]:
    """Convert a picture to sRGB; colours outside of sRGB end on its border."""
    from PIL import Image, ImageCms

    converted: Any = ImageCms.applyTransform(Image.fromarray(picture), transform)
    return np.array(converted)


def _profile_in(path: Path) -> bytes:
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    with path.open("rb") as file:
        kind = kind_of(file.read(8))
        file.seek(0)
        # Image.open would refuse large pictures; nothing is decoded here.
        opened = {"PNG": PngImageFile, "JPEG": JpegImageFile}.get(kind or "", TiffImageFile)(file)
        found: bytes | None = opened.info.get("icc_profile")
    return found or b""


def profile_name(path: Path) -> str:
    """Return the name of the colour profile in the PNG, JPEG or TIFF at `path`, "" if it has none or cannot be read."""
    from PIL import ImageCms

    try:
        content = _profile_in(path)
        return (
            _plain(ImageCms.ImageCmsProfile(io.BytesIO(content)).profile.profile_description or "unnamed")
            if content
            else ""
        )
    except Exception:  # Pillow raises many types for damaged files; reading the picture says what is wrong
        return ""


def _plain(text: str) -> str:
    """Return `text` on one printable line of at most 60 characters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:60]

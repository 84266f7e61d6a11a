"""The one reader of photographs: pictures in sRGB, whatever colours their files state, or why that is not possible."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from isp.files import colours, matrix_profile
from isp.files.colours import Space
from isp.files.containers.contents import Contents
from isp.files.exif import tags_in
from isp.files.findings import Finding
from isp.files.orientation import Picture
from isp.files.pictures import decoded, opened

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

Transform = Callable[[Picture], Picture]

SAME = 4  # of 255: how far the many profiles that are called sRGB differ
SAME_GAMMA = 0.05  # libpng's threshold: 1/2.2 in a gAMA chunk means sRGB
_DCF = "Interoperability InteroperabilityIndex"  # R98: sRGB; R03: Adobe RGB
_ASSUMED = "its values are assumed to be sRGB"
# Code points of ITU-T H.273. The curves of video are meant for displays, which show them like sRGB.
_PRIMARIES = {1: ("BT.709", colours.SRGB), 9: ("BT.2020", colours.BT_2020), 12: ("Display P3", colours.P3)}
_LINEAR, _PQ, _HLG = 8, 16, 18
_CURVES = {
    **dict.fromkeys((1, 6, 13, 14, 15), colours.srgb_curve), 4: colours.power(2.2), 5: colours.power(2.8),
    _LINEAR: colours.power(1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Colours:
    """The finding on a picture's colours; `transform` converts them to sRGB, None if they are or are assumed to be sRGB."""

    finding: Finding
    transform: Transform | None = None

    def converted(self, picture: Picture, where: str) -> Picture:
        """Return `picture` in sRGB. Raises `ValueError`, which starts with `where`, if that is not possible."""
        if self.finding.severity == "fatal":
            raise ValueError(f"{where}: {self.finding.text}")
        return picture if self.transform is None else self.transform(picture)


def read_srgb(path: Path) -> tuple[Picture, Finding]:
    """Read the picture at `path`, upright, with its colours converted to sRGB; return it with the finding on its colours.

    It converts the colours of an ICC profile, of a PNG's cICP, gAMA and cHRM chunks, and Adobe RGB that only the EXIF
    mentions. A finding of severity "warning" says that the values were taken as they are.

    Raises `FileNotFoundError` for a missing file, `ValueError` for one that `read_image` refuses, for HDR (PQ, HLG), and for
    colours that cannot be converted: a profile of tables in 16 bits, unknown code points.
    """
    return srgb_of(opened(path), str(path))


def srgb_of(held: Contents, where: str) -> tuple[Picture, Finding]:
    """Return the picture in `held` as `read_srgb` does; sentences about it start with `where`."""
    picture = decoded(held, where)
    found = colours_of(held, picture, tags_in(held.exif)[0])
    return found.converted(picture, where), found.finding


def colours_of(held: Contents, picture: Picture, tags: Mapping[str, Any]) -> Colours:
    """Return the colours of `picture`, the decoded `held`, by the statement that counts most.

    That is cICP, iCCP, sRGB, gAMA, cHRM (PNG, third edition, 4.3), and then the EXIF `tags`. The finding is fatal if they
    cannot be converted to sRGB.
    """
    stated = held.stated
    if stated.code_points:
        return _of_code_points(stated.code_points)
    if stated.profile:
        return _of_profile(stated.profile, picture)
    if stated.srgb:
        return Colours(Finding("colours", "ok", "sRGB, as the file states"))
    if stated.gamma is not None or stated.primaries:
        return _of_gamma(stated.gamma, stated.primaries)
    if str(tags.get(_DCF, "")).startswith("R03"):
        curve = colours.power(colours.ADOBE_RGB_EXPONENT)
        return _converted("Adobe RGB, by its EXIF", curve, colours.ADOBE_RGB)
    return Colours(Finding("colours", "ok", f"no colour profile; {_ASSUMED}"))


def _converted(name: str, curve: colours.Curve, primaries: tuple[float, ...]) -> Colours:
    """Return colours of one curve and primaries: as they are if they are sRGB. Raises `ValueError` for senseless primaries."""
    space = Space((curve, curve, curve), colours.matrix_of(primaries))
    if colours.is_srgb(space, SAME):
        return Colours(Finding("colours", "ok", f"sRGB, by {name}"))
    return _to_convert(name, lambda picture: colours.converted(picture, space))


def _to_convert(name: str, transform: Transform) -> Colours:
    return Colours(Finding("colours", "ok", f"{name}; converted to sRGB"), transform)


# ---------------------------------------------------------------- what a PNG states


def _of_code_points(code_points: tuple[int, ...]) -> Colours:
    primaries, transfer, matrix, full_range = code_points
    if transfer in (_PQ, _HLG):
        return _hdr("PQ" if transfer == _PQ else "HLG")
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix != 0 or full_range != 1:
        text = f"expected sRGB, Display P3 or BT.2020, got the cICP code points {code_points}; convert it to sRGB"
        return Colours(Finding("colours", "fatal", text))
    name, chromaticities = _PRIMARIES[primaries]
    light = " in linear light" if transfer == _LINEAR else ""
    return _converted(f"{name}{light}, by its cICP chunk", _CURVES[transfer], chromaticities)


def _hdr(name: str) -> Colours:
    text = f"expected a picture for a display, got HDR ({name}); render it to sRGB first"
    return Colours(Finding("colours", "fatal", text))


def _of_gamma(gamma: float | None, primaries: tuple[float, ...]) -> Colours:
    """Return the colours of the gAMA and cHRM chunks of a PNG."""
    if gamma is not None and not 0.1 <= gamma <= 10:
        return _senseless(f"its gAMA chunk states {gamma:g}")
    curve: colours.Curve = colours.srgb_curve
    names = []
    if gamma is not None and abs(2.2 * gamma - 1) >= SAME_GAMMA:
        curve = colours.power(1 / gamma)
        names.append("linear light, by its gAMA chunk" if gamma == 1 else f"gamma 1/{1 / gamma:.4g}, by its gAMA chunk")
    if primaries:
        names.append("the primaries of its cHRM chunk")
    try:
        return _converted(", ".join(names) or "its gAMA chunk", curve, primaries or colours.SRGB)
    except ValueError:
        return _senseless("its cHRM chunk states impossible primaries")


def _senseless(what: str) -> Colours:
    return Colours(Finding("colours", "warning", f"{what}; {_ASSUMED}", "colours assumed to be sRGB"))


# ---------------------------------------------------------------- profiles


def _of_profile(content: bytes, picture: Picture) -> Colours:
    """Return the colours of an ICC profile. Little CMS converts 8 bits; in 16 bits, matrices and curves are followed here."""
    from PIL import ImageCms

    if hdr := matrix_profile.hdr_of(content):
        return _hdr(hdr)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name, space = _plain(profile.profile.profile_description or "unnamed"), _plain(profile.profile.xcolor_space)
        if space != "RGB":
            text = f"expected an RGB colour profile, got {name} ({space}); {_ASSUMED}"
            return Colours(Finding("colours", "warning", text, "colour profile ignored"))
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        grid = colours.coarse_grid()
        farthest = int(np.abs(_by_lcms(grid, transform).astype(int) - grid).max())
    except Exception:  # Pillow raises many types for damaged profiles
        text = f"expected a readable colour profile, got a damaged one; {_ASSUMED}"
        return Colours(Finding("colours", "warning", text, "colour profile unreadable"))
    if farthest <= SAME:
        return Colours(Finding("colours", "ok", f"sRGB, by the profile {name}"))
    if picture.dtype == np.uint8:
        return _to_convert(name, lambda picture: _by_lcms(picture, transform))
    exact = matrix_profile.space_of(content)
    if exact is None:
        text = (
            f"expected sRGB, or a profile of a matrix and curves, in a picture of 16 bits, got the colour profile {name}; "
            "convert it to sRGB, or to 8 bits"
        )
        return Colours(Finding("colours", "fatal", text))
    return _to_convert(name, lambda picture: colours.converted(picture, exact))


def _by_lcms(picture: UInt8[np.ndarray, "h w 3"], transform: ImageCmsTransform) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image, ImageCms

    result = np.empty_like(picture)
    for part, into in zip(colours.parts(picture), colours.parts(result), strict=True):
        image: Any = ImageCms.applyTransform(Image.fromarray(part), transform)
        into[...] = image
    return result


def remark_on(path: Path) -> str:
    """Return what is worth saying on the colours of the picture at `path`, which is not decoded.

    It is "" for sRGB, for files that state nothing, and for files that `read_srgb` refuses for another reason.
    """
    try:
        held = opened(path)
    except (OSError, ValueError):
        return ""
    found = colours_of(held, np.empty((0, 0, 3), np.uint8), tags_in(held.exif)[0])
    return "" if found.finding.severity == "ok" and found.transform is None else found.finding.text


def _plain(text: str) -> str:
    """Return `text` on one printable line of at most 60 characters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:60]

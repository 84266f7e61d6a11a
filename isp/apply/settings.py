"""The camera of a picture: a profile, or a RAW file of the same camera, with the options of the command line applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isp import color, profile
from isp.camera import Camera
from isp.contract import ISP, Direction, known_fields, unfit
from isp.files.findings import OPTICS
from isp.files.raw import read_raw

PROFILE = "a7r3"  # if neither the user nor the ISP names a camera
BLACK, WHITE = 0.0, 16383.0  # levels of 14 bits, for a camera whose levels are unknown


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Values from the command line that replace those of the file or the profile; `None` replaces nothing.

    white_balance  gains of red and blue, green 1
    matrix         `sensor_to_linear`, row by row
    black          one level, or three: of red, green and blue
    """

    white_balance: tuple[float, ...] | None = None
    matrix: tuple[float, ...] | None = None
    black: tuple[float, ...] | None = None
    white: float | None = None
    cfa: str | None = None
    iso: float | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    focal_mm: float | None = None

    def for_reading(self) -> dict[str, Any]:
        """Return those that `isp.files.raw.read_raw` takes, for a file that may lack what they give."""
        gains = None if self.white_balance is None else (self.white_balance[0], 1.0, self.white_balance[1])
        matrix = None if self.matrix is None else _rows(self.matrix)
        return {"white_balance": gains, "sensor_to_linear": matrix, "black": self.black, "white": self.white}


@dataclass(frozen=True)
class ChosenCamera:
    """The camera for all photographs of a run.

    name      the name of its profile; for a camera read from a RAW file, that file's "make/model"
    raw_file  the RAW file, if the camera was read from one
    notes     sentences on assumptions that nobody asked for
    """

    camera: Camera
    name: str
    raw_file: Path | None = None
    notes: tuple[str, ...] = ()


def profile_of(camera_isp: ISP) -> str | None:
    """Return the shipped profile of the camera that an ISP was trained for, if there is one."""
    camera = camera_isp.limits.camera
    return None if camera is None else profile.of_camera(camera)


def from_profile(name: str | None, camera_isp: ISP, overrides: Overrides, option: str = "--camera") -> ChosenCamera:
    """Return the camera of a profile (without a name, that of the ISP), under daylight unless `overrides` differ.

    `option` is the one that names the profile. Raises `ValueError` for an unknown profile, and if neither the profile
    nor `overrides` give a matrix and a white balance.
    """
    notes = []
    # A transfer has two cameras, to which one matrix or white balance cannot belong.
    give = {
        each: f"give {each}, or choose" if option == "--camera" else "choose"
        for each in ("--white-balance", "--matrix")
    }
    if not name:
        own = profile_of(camera_isp)
        name, why = (own, f", which {camera_isp.name} was trained for") if own else (PROFILE, "")
        notes.append(f"no {option} given; using {name}{why}")
    try:
        known = profile.load(name)
    except OSError as cause:
        raise ValueError(f"camera {name}: expected a profile there, got {cause.strerror}; check the path") from cause
    coefficients = known.xyz_to_sensor
    if overrides.white_balance is not None:
        red, blue = overrides.white_balance
    elif coefficients is not None:
        red, _, blue = color.daylight_white_balance(coefficients).tolist()
        notes.append(f"no white balance given; using daylight of {name}: red {red:.3f}, blue {blue:.3f}")
    else:
        raise ValueError(
            f"camera {name}: expected LibRaw coefficients to compute daylight from, got none; "
            f"{give['--white-balance']} another camera"
        )
    if overrides.matrix is not None:
        known = known.model_copy(update={"xyz_to_sensor": None, "sensor_to_linear": _rows(overrides.matrix)})
    if known.xyz_to_sensor is None and known.sensor_to_linear is None:
        raise ValueError(
            f"camera {name}: expected one matrix, got one for each of its shots; {give['--matrix']} another camera"
        )
    return ChosenCamera(changed(known.camera((red, blue)), overrides), name, notes=tuple(notes))


def from_raw(path: Path, overrides: Overrides) -> ChosenCamera:
    """Return a camera with matrix, white balance, levels and CFA of a RAW file. Raises as `isp.files.raw.read_raw`."""
    image = read_raw(path, **overrides.for_reading())
    without_optics = dataclasses.replace(image.native, iso=None, exposure_s=None, f_number=None, focal_mm=None)
    return ChosenCamera(changed(without_optics, overrides), image.model, path, image.warnings)


def with_levels(chosen: ChosenCamera) -> ChosenCamera:
    """Fill in black and white levels of 14 bits if they are unknown."""
    camera = chosen.camera
    if camera.black is not None and camera.white is not None:
        return chosen
    black = torch.full((1, 3), BLACK, device="cpu") if camera.black is None else camera.black
    white = torch.tensor([WHITE], device="cpu") if camera.white is None else camera.white
    note = (
        f"{chosen.name} gives no levels; using black {float(black[0, 1]):g}, white {float(white[0]):g} "
        "(--black and --white set others)"
    )
    known = _checked(dataclasses.replace(camera, black=black, white=white))
    return dataclasses.replace(chosen, camera=known, notes=(*chosen.notes, note))


def with_optics(camera: Camera, optics: Mapping[str, float]) -> Camera:
    """Fill in those of iso, exposure_s, f_number and focal_mm that `camera` does not know."""
    values: dict[str, Any] = {
        field: torch.tensor([value], dtype=torch.float32, device="cpu")
        for field, value in optics.items()
        if getattr(camera, field) is None
    }
    return dataclasses.replace(camera, **values)


def changed(camera: Camera, overrides: Overrides) -> Camera:
    """Apply `overrides` to the camera of one shot. Raises `ValueError` if white would not be above black."""
    values: dict[str, Any] = {
        field: torch.tensor([getattr(overrides, field)], dtype=torch.float32, device="cpu")
        for field in (*OPTICS, "white")
        if getattr(overrides, field) is not None
    }
    if overrides.white_balance is not None:
        red, blue = overrides.white_balance
        values["white_balance"] = torch.tensor([[red, 1.0, blue]], device="cpu")
    if overrides.matrix is not None:
        values |= {"sensor_to_linear": torch.tensor([_rows(overrides.matrix)], device="cpu"), "xyz_to_sensor": None}
    if overrides.black is not None:
        values["black"] = torch.tensor([overrides.black], device="cpu").expand(1, 3).clone()
    if overrides.cfa is not None:
        values["cfa"] = (overrides.cfa,)
    return _checked(dataclasses.replace(camera, **values))


def _rows(matrix: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(matrix[row : row + 3] for row in (0, 3, 6))


def _checked(camera: Camera) -> Camera:
    if camera.black is not None and camera.white is not None and float(camera.white[0]) <= float(camera.black.max()):
        black, white = float(camera.black.max()), float(camera.white[0])
        raise ValueError(
            f"levels: expected white above black, got white {white:g} and black {black:g}; change --black or --white"
        )
    return camera


# ---------------------------------------------------------------- what does not go together


def remarks(chosen: ChosenCamera, model: str, option: str) -> list[str]:
    """Say if a photograph was taken with another camera than the chosen one; `option` would choose that camera."""
    if chosen.raw_file is not None:
        differs = bool(model) and model != chosen.name
        return [f"taken with {model}, but --like {chosen.raw_file} was taken with {chosen.name}"] * differs
    own = profile.of_camera(model)
    return [f"taken with {model}; {option} {own} would use its matrix"] * (own not in (None, chosen.name))


def unlike(camera_isp: ISP, chosen: ChosenCamera) -> list[str]:
    """Say if an ISP was trained for another camera than the chosen one."""
    own = profile_of(camera_isp)
    known_as = chosen.name if chosen.raw_file is None else profile.of_camera(chosen.name)
    text = f"{camera_isp.name} was trained for {own}, not for {chosen.name}: tones will be those of {own}"
    return [text] * (own not in (None, known_as))


def unknown_optics(camera: Camera) -> list[str]:
    """Return the optical fields that the camera does not know."""
    return [field for field in OPTICS if getattr(camera, field) is None]


def options_for(fields: Iterable[str]) -> str:
    """Return the command-line options that set these fields of a camera: "--iso, --f-number"."""
    settable = {field.name for field in dataclasses.fields(Overrides)}
    return ", ".join("--" + field.replace("_", "-") for field in fields if field in settable)


def check_fit(
    camera_isp: ISP, direction: Direction, camera: Camera, *, has_reference: bool = True, why_none: str = ""
) -> None:
    """Raise `ValueError` with a remedy if the ISP cannot take a picture of that camera. Its size can be padded to fit.

    `why_none` says why there is no reference picture.
    """
    known = known_fields(camera)
    misfits = unfit(camera_isp.limits, direction, cfa=camera.cfa, known=known, has_reference=has_reference)
    if not misfits:
        return
    sentences = []
    options = ""
    for misfit in misfits:
        reason = f" ({why_none})" if misfit.limit == "needs_reference" and why_none else ""
        sentences.append(misfit.sentence + reason)
        options += options_for(misfit.wrong) if misfit.limit == "needs" else ""
    remedy = f"give {options}, or choose" if options else "choose"
    raise ValueError(f"{camera_isp.name}: {'; '.join(sentences)}; {remedy} another ISP")

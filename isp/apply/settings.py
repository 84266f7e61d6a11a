"""The camera that a picture is taken through: a profile or a RAW file of the same camera, changed by what a user says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isp import color, profile
from isp.camera import Camera
from isp.contract import ISP
from isp.files.findings import OPTICS
from isp.files.raw import read_raw

PROFILE = "a7r3"  # where neither the user nor the ISP names a camera
BLACK, WHITE = 0.0, 16383.0  # of a camera whose levels are not known: 14 bits


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What is said of a shot beside its file; `None`: nothing.

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


@dataclass(frozen=True)
class Choice:
    """The camera for all photographs of a run, where it comes from, and notes on what nobody asked for.

    `of` is the name of its profile; or `like` the RAW file, and `of` that file's "make/model".
    """

    camera: Camera
    of: str
    like: Path | None = None
    notes: tuple[str, ...] = ()


def profile_of(camera_isp: ISP) -> str | None:
    """The profile of the camera that an ISP was trained for, where it comes with the package."""
    camera = camera_isp.limits.camera
    return None if camera is None else profile.of_camera(camera)


def from_profile(name: str | None, camera_isp: ISP, settings: Overrides) -> Choice:
    """A camera by its profile (without a name: that of the ISP), under daylight unless the settings differ.

    Raises `ValueError` for an unknown profile, and where neither profile nor settings give matrix and white balance.
    """
    notes = []
    if not name:
        own = profile_of(camera_isp)
        name, why = (own, f", which {camera_isp.name} was trained for") if own else (PROFILE, "")
        notes.append(f"camera: {name}{why}, as none is named")
    try:
        known = profile.load(name)
    except OSError as cause:
        raise ValueError(f"camera {name}: expected a profile there, got {cause.strerror}; check the path") from cause
    coefficients = known.xyz_to_sensor
    if settings.white_balance is not None:
        red, blue = settings.white_balance
    elif coefficients is not None:
        red, _, blue = color.daylight_white_balance(coefficients).tolist()
        notes.append(f"white balance: red {red:.3f}, blue {blue:.3f}, daylight of {name}, as none is given")
    else:
        raise ValueError(
            f"camera {name}: expected LibRaw coefficients, from which daylight follows, got none; "
            "give --white-balance, or choose another camera"
        )
    if settings.matrix is not None:
        known = known.model_copy(update={"xyz_to_sensor": None, "sensor_to_linear": _rows(settings.matrix)})
    if known.xyz_to_sensor is None and known.sensor_to_linear is None:
        raise ValueError(
            f"camera {name}: expected one matrix, got one for each of its shots; give --matrix, or choose another camera"
        )
    return Choice(changed(known.camera((red, blue)), settings), name, notes=tuple(notes))


def from_raw(path: Path, settings: Overrides) -> Choice:
    """Matrix, white balance, levels and CFA of a RAW file. Raises as `isp.files.raw.read_raw` does."""
    like = read_raw(path)
    without_optics = dataclasses.replace(like.camera, iso=None, exposure_s=None, f_number=None, focal_mm=None)
    return Choice(changed(without_optics, settings), like.model, path, like.warnings)


def with_levels(choice: Choice) -> Choice:
    """The same with black and white levels: those of 14 bits where none are known."""
    camera = choice.camera
    if camera.black is not None and camera.white is not None:
        return choice
    black = torch.full((1, 3), BLACK) if camera.black is None else camera.black
    white = torch.tensor([WHITE]) if camera.white is None else camera.white
    note = f"levels: {choice.of} has none, so black {float(black[0, 1]):g} and white {float(white[0]):g} are taken"
    known = _checked(dataclasses.replace(camera, black=black, white=white))
    return dataclasses.replace(choice, camera=known, notes=(*choice.notes, f"{note}; --black and --white give others"))


def with_optics(camera: Camera, optics: Mapping[str, float]) -> Camera:
    """`camera` with those of iso, exposure_s, f_number and focal_mm that it does not know itself."""
    values: dict[str, Any] = {
        field: torch.tensor([value], dtype=torch.float32)
        for field, value in optics.items()
        if getattr(camera, field) is None
    }
    return dataclasses.replace(camera, **values)


def changed(camera: Camera, settings: Overrides) -> Camera:
    """One shot's camera as the settings have it. Raises `ValueError` where white would not be above black."""
    said: dict[str, Any] = {
        field: torch.tensor([getattr(settings, field)], dtype=torch.float32)
        for field in (*OPTICS, "white")
        if getattr(settings, field) is not None
    }
    if settings.white_balance is not None:
        red, blue = settings.white_balance
        said["white_balance"] = torch.tensor([[red, 1.0, blue]])
    if settings.matrix is not None:
        said |= {"sensor_to_linear": torch.tensor([_rows(settings.matrix)]), "xyz_to_sensor": None}
    if settings.black is not None:
        said["black"] = torch.tensor([settings.black]).expand(1, 3).clone()
    if settings.cfa is not None:
        said["cfa"] = (settings.cfa,)
    return _checked(dataclasses.replace(camera, **said))


def _rows(matrix: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(matrix[row : row + 3] for row in (0, 3, 6))


def _checked(camera: Camera) -> Camera:
    if camera.black is not None and camera.white is not None and float(camera.white[0]) <= float(camera.black.max()):
        black, white = float(camera.black.max()), float(camera.white[0])
        raise ValueError(f"levels: expected white above black, got {white:g} and {black:g}; change --black or --white")
    return camera


# ---------------------------------------------------------------- what does not go together


def remarks(choice: Choice, model: str, option: str) -> list[str]:
    """What speaks for another choice, made by `option`, for a photograph that says it was taken with `model`."""
    if choice.like is not None:
        differs = bool(model) and model != choice.of
        return [f"taken with {model}, but --like {choice.like} with {choice.of}"] * differs
    own = profile.of_camera(model)
    return [f"taken with {model}; {option} {own} would use its matrix"] * (own not in (None, choice.of))


def unlike(camera_isp: ISP, choice: Choice) -> list[str]:
    """What is to be said of an ISP that was trained for another camera than the one chosen."""
    own = profile_of(camera_isp)
    chosen = choice.of if choice.like is None else profile.of_camera(choice.of)
    said = f"camera: {choice.of}; {camera_isp.name} was trained for {own}, so that tones will be those of that camera"
    return [said] * (own not in (None, chosen))


def unknown_optics(camera: Camera) -> list[str]:
    """The optical values that the camera does not know."""
    return [field for field in OPTICS if getattr(camera, field) is None]


def check_known(camera_isp: ISP, camera: Camera) -> None:
    """Raises `ValueError` where the ISP needs a value that the camera does not have."""
    missing = [field for field in camera_isp.limits.needs if getattr(camera, field) is None]
    if missing:
        options = ", ".join("--" + field.replace("_", "-") for field in missing)
        raise ValueError(
            f"{camera_isp.name}: needs a known {', '.join(missing)}, got none; give {options}, or choose another --isp"
        )


def check_rendered(camera_isp: ISP, camera: Camera) -> None:
    """Raises `ValueError` where the ISP cannot render mosaics of that camera."""
    limits = camera_isp.limits
    if camera.cfa[0] not in limits.cfas:
        patterns = " or ".join(limits.cfas)
        raise ValueError(
            f"{camera_isp.name}: needs the CFA pattern {patterns}, got {camera.cfa[0]}; choose another --isp"
        )
    if limits.needs_reference:
        raise ValueError(f"{camera_isp.name}: needs the sRGB image of the same scene, got none; choose another --isp")

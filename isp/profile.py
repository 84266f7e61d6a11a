"""Camera profiles: what is known of a camera model, read from `isp/cameras/*.yaml`."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isp import color
from isp.camera import Camera
from isp.cfa import Pattern

Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]
Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Levels(_Part):
    """Raw values that stand for 0 and 1 of `sensor`."""

    black: float
    white: float

    @model_validator(mode="after")
    def _ordered(self) -> Levels:
        if self.white <= self.black:
            raise ValueError(f"expected white above black, got black {self.black:g} and white {self.white:g}")
        return self


class Noise(_Part):
    """Poisson-Gaussian noise at `iso` (`None`: it does not follow ISO): variance = shot_gain * sensor + read_std^2."""

    shot_gain: Positive
    read_std: Annotated[float, Field(ge=0)]
    iso: Positive | None = None

    def at(self, iso: float | None) -> tuple[float, float]:
        """(shot_gain, read_std) at `iso`: the gain is proportional to it; the read noise does not fall below this one.

        Source: rim2022, RSBlur@ae33a6c
        """
        if self.iso is None:
            return self.shot_gain, self.read_std
        if iso is None:
            raise ValueError("noise: expected a known ISO, because this camera's noise follows it; draw one in camera")
        return self.shot_gain * iso / self.iso, self.read_std * max(1.0, iso / self.iso)


class ShotSettings(_Part):
    """One combination of settings that was seen `count` times."""

    white_balance: tuple[Positive, Positive]
    iso: Positive | None = None
    count: Positive = 1
    day: str | None = None
    color_correction: Matrix | None = None


class Exif(_Part):
    """Ranges of the optical parameters."""

    exposure_s: tuple[Positive, Positive] | None = None
    f_number: tuple[Positive, Positive] | None = None
    focal_mm: tuple[Positive, Positive] | None = None


class Profile(_Part):
    """What is known of a camera model. Everything but a matrix may be unknown."""

    name: str
    model: str
    cfa: Pattern = "RGGB"
    xyz_to_sensor: Matrix | None = None
    sensor_to_linear: Matrix | None = None
    levels: Levels | None = None
    noise: Noise | None = None
    shots: tuple[ShotSettings, ...] = ()
    exif: Exif = Exif()

    @model_validator(mode="after")
    def _has_a_matrix(self) -> Profile:
        in_every_shot = bool(self.shots) and all(shot.color_correction for shot in self.shots)
        given = (self.xyz_to_sensor is not None) + (self.sensor_to_linear is not None) + in_every_shot
        if given != 1:
            raise ValueError("expected one of xyz_to_sensor, sensor_to_linear, or color_correction in every shot")
        return self

    def matrix(self, shot: ShotSettings | None = None) -> torch.Tensor:
        """`sensor_to_linear` in float64, of `shot` where the matrix belongs to the shot.

        Raises `ValueError` where it does and no shot is given.
        """
        if shot is not None and shot.color_correction is not None:
            return color.matrix_from_rsblur(shot.color_correction)
        if self.xyz_to_sensor is not None:
            return color.matrix_from_libraw(self.xyz_to_sensor)
        if self.sensor_to_linear is not None:
            return torch.tensor(self.sensor_to_linear, dtype=torch.float64)
        raise ValueError(f'camera profile "{self.name}": its matrix belongs to the shot; give one of its shots')

    def camera(
        self,
        white_balance: tuple[float, float],
        cfa: str | None = None,
        shot: ShotSettings | None = None,
        **optics: float | None,
    ) -> Camera:
        """One shot of this camera. `white_balance` is (red, blue); `optics` are iso, exposure_s, f_number, focal_mm."""
        red, blue = white_balance
        known = {key: torch.tensor([value], dtype=torch.float32) for key, value in optics.items() if value is not None}
        xyz = None if self.xyz_to_sensor is None else torch.tensor([self.xyz_to_sensor], dtype=torch.float32)
        levels: dict[str, torch.Tensor] = {}
        if self.levels is not None:
            levels = {"black": torch.full((1, 3), self.levels.black), "white": torch.tensor([self.levels.white])}
        return Camera(
            name=(self.name,),
            cfa=(cfa or self.cfa,),
            white_balance=torch.tensor([[red, 1.0, blue]], dtype=torch.float32),
            sensor_to_linear=self.matrix(shot).float()[None],
            xyz_to_sensor=xyz,
            **levels,
            **known,
        )


def names() -> list[str]:
    """The cameras that come with the package."""
    folder = files("isp") / "cameras"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def of_camera(said: str) -> str | None:
    """The profile that comes with the package of a camera that EXIF ("make/model") or weights ("a7r3-virtual") name."""
    name = said.lower().removesuffix("-virtual")
    if name in names():
        return name
    return next((name for name in names() if _words(load(name).model) <= _words(said)), None)


def _words(model: str) -> set[str]:
    # Nikon repeats its name in the model, Sony and Samsung do not; some write a hyphen and some a space.
    return set(model.upper().replace("/", " ").replace("-", " ").split())


def read(path_or_text: Any, of: str) -> Profile:
    """A profile from an opened YAML document. Raises `ValueError` naming every problem in it."""
    try:
        return Profile.model_validate(yaml.safe_load(path_or_text))
    except (ValidationError, yaml.YAMLError) as problem:
        raise ValueError(f"{of}: expected a camera profile like isp/cameras/a7r3.yaml, got: {problem}") from problem


def load(name: str) -> Profile:
    """The profile `name`, one of `names()`, or a path that ends in .yaml.

    Raises `ValueError` for an unknown name or a bad file.
    """
    if name.endswith(".yaml"):
        stat = Path(name).stat()
        return _of_file(name, stat.st_size, stat.st_mtime_ns)
    return _shipped(name)


@cache
def _of_file(name: str, size: int, changed_ns: int) -> Profile:
    """Read once for each state of the file."""
    return read(Path(name).read_text(encoding="utf-8"), of=name)


@cache
def _shipped(name: str) -> Profile:
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f'camera profile: expected one of {", ".join(names())} or a .yaml file, got "{name}"{hint}')
    return read((files("isp") / "cameras" / f"{name}.yaml").read_text(encoding="utf-8"), of=f"isp/cameras/{name}.yaml")

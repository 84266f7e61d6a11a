"""Camera profiles: what is known of a camera model, read from `isp/cameras/*.yaml`."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError, model_validator

from isp import color
from isp.camera import Camera
from isp.cfa import Pattern
from isp.command import did_you_mean
from isp.files import document, places
from isp.files.document import Matrix3, NonNegative, Number, Part, Positive
from isp.recipe_files import MOST_SHOWN, explained


class Levels(Part):
    """Raw values that stand for 0 and 1 of `sensor`."""

    black: Number
    white: Number

    @model_validator(mode="after")
    def _ordered(self) -> Levels:
        if self.white <= self.black:
            raise ValueError(f"expected white above black, got black {self.black:g} and white {self.white:g}")
        return self


class Noise(Part):
    """Poisson-Gaussian noise at `iso`, or at any ISO if that is `None`: variance = shot_gain * sensor + read_std^2."""

    shot_gain: Positive
    read_std: NonNegative
    iso: Positive | None = None

    def at(self, iso: float | None) -> tuple[float, float]:
        """Return (shot_gain, read_std) at `iso`: the gain is proportional to it, the read noise never below `read_std`.

        Source: rim2022, RSBlur@ae33a6c
        """
        if self.iso is None:
            return self.shot_gain, self.read_std
        if iso is None:
            raise ValueError("noise: expected a known ISO, because this camera's noise follows it; draw one in camera")
        return self.shot_gain * iso / self.iso, self.read_std * max(1.0, iso / self.iso)


class ShotSettings(Part):
    """One combination of settings, which occurred `count` times."""

    white_balance: tuple[Positive, Positive]
    iso: Positive | None = None
    count: Positive = 1
    day: str | None = None
    color_correction: Matrix3 | None = None


class Exif(Part):
    """Ranges of the optical parameters."""

    exposure_s: tuple[Positive, Positive] | None = None
    f_number: tuple[Positive, Positive] | None = None
    focal_mm: tuple[Positive, Positive] | None = None


class Profile(Part):
    """What is known of a camera model. Everything but a matrix may be unknown."""

    name: str
    model: str
    cfa: Pattern = "RGGB"
    xyz_to_sensor: Matrix3 | None = None
    sensor_to_linear: Matrix3 | None = None
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
        """Return `sensor_to_linear` in float64; that of `shot` if each shot has its own.

        Raises `ValueError` if each shot has its own and none is given.
        """
        if shot is not None and shot.color_correction is not None:
            return color.matrix_from_rsblur(shot.color_correction)
        if self.xyz_to_sensor is not None:
            return color.matrix_from_libraw(self.xyz_to_sensor)
        if self.sensor_to_linear is not None:
            return torch.tensor(self.sensor_to_linear, dtype=torch.float64, device="cpu")
        raise ValueError(f'camera profile "{self.name}": its matrix belongs to the shot; give one of its shots')

    def camera(
        self,
        white_balance: tuple[float, float],
        cfa: str | None = None,
        shot: ShotSettings | None = None,
        **optics: float | None,
    ) -> Camera:
        """Return one shot of this camera. `white_balance` is (red, blue); `optics` are iso, exposure_s, f_number, focal_mm."""
        red, blue = white_balance
        float32 = partial(torch.tensor, dtype=torch.float32, device="cpu")
        known = {key: float32([value]) for key, value in optics.items() if value is not None}
        xyz = None if self.xyz_to_sensor is None else float32([self.xyz_to_sensor])
        levels: dict[str, torch.Tensor] = {}
        if self.levels is not None:
            levels = {
                "black": torch.full((1, 3), self.levels.black, device="cpu"),
                "white": torch.tensor([self.levels.white], device="cpu"),
            }
        return Camera(
            name=(self.name,),
            cfa=(cfa or self.cfa,),
            white_balance=float32([[red, 1.0, blue]]),
            sensor_to_linear=self.matrix(shot).float()[None],
            xyz_to_sensor=xyz,
            **levels,
            **known,
        )


def names() -> list[str]:
    """Return the names of the cameras that come with the package."""
    folder = files("isp") / "cameras"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def of_camera(name: str) -> str | None:
    """Return the shipped profile of a camera called `name` by EXIF ("make/model") or by weights ("a7r3-virtual")."""
    short = name.lower().removesuffix("-virtual")
    if short in names():
        return short
    return next((known for known in names() if _words(load(known).model) <= _words(name)), None)


def _words(model: str) -> set[str]:
    # Nikon repeats its name in the model, Sony and Samsung do not; some write a hyphen and some a space.
    return set(model.upper().replace("/", " ").replace("-", " ").split())


def read(text: str, path: str) -> Profile:
    """Return the profile in a YAML document; `path` names it in messages. Raises `ValueError` with all its problems."""
    expected = f"{path}: expected a camera profile like isp/cameras/a7r3.yaml, got:"
    try:
        content = document.parsed(text)
        if not isinstance(content, dict):
            raise ValueError(f"{expected} no mapping of keys")
        return Profile.model_validate(content)
    except yaml.YAMLError as problem:
        raise ValueError(f"{expected} {problem}") from problem
    except ValidationError as failure:
        problems = explained(failure, Profile, content)
        more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise ValueError(f"{expected} {'; '.join(problems[:MOST_SHOWN])}{more}") from failure


def load(name: str) -> Profile:
    """Return the profile `name`, one of `names()`, or that at a path that ends in .yaml.

    Raises `ValueError` for an unknown name or a bad file, `OSError` for a file that cannot be read.
    """
    if name.endswith(".yaml"):
        places.check_regular(Path(name), "a camera profile")
        stat = Path(name).stat()
        return _of_file(
            str(Path(name).absolute()), name, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        )
    return _shipped(name)


@cache
def _of_file(absolute: str, name: str, state: tuple[int, ...]) -> Profile:
    """Read the file once for each of its states."""
    return read(document.text_of(Path(name), "a camera profile"), name)


@cache
def _shipped(name: str) -> Profile:
    if name not in names():
        expected = ", ".join(names())
        hint = did_you_mean(name, names())
        raise ValueError(f'camera profile: expected one of {expected} or a .yaml file, got "{name}"{hint}')
    return read((files("isp") / "cameras" / f"{name}.yaml").read_text(encoding="utf-8"), f"isp/cameras/{name}.yaml")

"""The camera of a pair and its settings."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from blursynth.sample import Sample
from blursynth.stages.stage import CameraFacts, Problem, Stage, State
from isp import profile as profiles
from isp.cfa import PATTERNS, Pattern
from isp.files.document import PositiveRange
from isp.profile import Profile, ShotSettings
from isp.space import SPACES, Space


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return low if low == high else math.exp(rng.uniform(math.log(low), math.log(high)))


class DrawCamera(Stage):
    """Draw the settings of a shot as the camera of `profile` takes them.

    ISO and white balance come together from the profile's table of shots, by frequency, unless `iso` (a range, drawn
    log-uniformly) or `white_balance` (two ranges, red and blue, drawn uniformly and independently) is given. Exposure,
    f-number and focal length are drawn log-uniformly from the profile's ranges. A crop may begin at any pixel of the
    sensor, so its CFA phase is drawn from `cfa`. If a profile's shots belong to capture days, `days` limits the draw to
    some of them, or takes the day that occurs in the source's path ("source").

    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "camera"
    takes: ClassVar[tuple[Space, ...]] = SPACES
    brings: ClassVar[tuple[str, ...]] = ("camera",)

    profile: str
    iso: PositiveRange | Literal["profile"] = "profile"
    white_balance: tuple[PositiveRange, PositiveRange] | Literal["profile"] = "profile"
    days: tuple[str, ...] | Literal["all", "source"] = "all"
    cfa: Annotated[tuple[Pattern, ...], Field(min_length=1)] = PATTERNS

    def problems(self) -> list[str]:
        try:
            known = profiles.load(self.profile)
        except (ValueError, OSError) as problem:
            return [f"profile: {problem}"]
        found = []
        if self.white_balance == "profile" and not known.shots:
            found.append(
                f'white_balance: the profile "{known.name}" has no white balance; give ranges for red and blue, as in '
                "white_balance: [[1.9, 2.4], [1.5, 1.9]]"
            )
        days = [shot.day for shot in known.shots if shot.day]
        if self.days == "source" and not days:
            found.append(f'days: the profile "{known.name}" has no capture days; use "all"')
        unknown = [] if isinstance(self.days, str) else [day for day in self.days if day not in days]
        if unknown:
            found.append(f"days: expected days out of {', '.join(days) or 'none'}, got {', '.join(unknown)}")
        return found

    def misfits(self, before: State) -> list[Problem]:
        again = [Problem("a pair has one camera; remove this stage or the camera before it")]
        return super().misfits(before) + (again if before.camera is not None else [])

    def after(self, before: State, label: str) -> State:
        known = profiles.load(self.profile)
        has_iso = self.iso != "profile" or any(shot.iso for shot in known.shots)
        fields = {field for field in type(known.exif).model_fields if getattr(known.exif, field) is not None}
        fields |= {"iso"} if has_iso else set()
        after = super().after(before, label)
        return dataclasses.replace(
            after,
            camera=CameraFacts(self.profile, self.cfa, frozenset(fields)),
            brought=after.brought | ({"levels"} if known.levels is not None else set()),
        )

    def files(self) -> list[Path]:
        return [Path(self.profile)] if self.profile.endswith(".yaml") else []

    def _shots(self, known: Profile, source: str) -> list[ShotSettings]:
        if self.days == "all":
            return list(known.shots)
        days_of_source = [part for part in source.split("/") if any(part == shot.day for shot in known.shots)]
        # The first one counts: the scenes below a day are numbered like days.
        wanted = tuple(days_of_source[:1]) if self.days == "source" else self.days
        shots = [shot for shot in known.shots if shot.day in wanted]
        if not shots:
            days = ", ".join(str(shot.day) for shot in known.shots)
            raise ValueError(
                f'camera: expected a folder named after a capture day ({days}) in the path, got "{source}"'
            )
        return shots

    def __call__(self, sample: Sample) -> Sample:
        known = profiles.load(self.profile)
        shots = self._shots(known, sample.source)
        shot = None
        if shots:
            frequency = np.array([shot.count for shot in shots], dtype=np.float64)
            shot = shots[int(sample.rng("shot").choice(len(shots), p=frequency / frequency.sum()))]
        if self.white_balance == "profile":
            if shot is None:
                raise ValueError(f'camera: the profile "{known.name}" has no white balance; set camera.white_balance')
            red, blue = shot.white_balance
        else:
            rng = sample.rng("white_balance")
            red, blue = (float(rng.uniform(*bounds)) for bounds in self.white_balance)
        iso = None if shot is None else shot.iso
        if self.iso != "profile":
            iso = _log_uniform(sample.rng("iso"), self.iso)
        optics = {
            field: None if (bounds := getattr(known.exif, field)) is None else _log_uniform(sample.rng(field), bounds)
            for field in ("exposure_s", "f_number", "focal_mm")
        }
        cfa = self.cfa[int(sample.rng("cfa").integers(len(self.cfa)))]
        camera = known.camera((red, blue), cfa, shot, iso=iso, **optics).to(sample.device)
        draws = {"iso": iso, "white_balance": [red, 1.0, blue], "cfa": cfa, "day": shot.day if shot else None, **optics}
        return sample.replace(camera=camera).drawn(
            **{name: value for name, value in draws.items() if value is not None}
        )

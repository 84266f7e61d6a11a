"""The JSON file beside a mosaic of `isp.apply inverse`: the validated metadata that `forward` needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isp.camera import Camera
from isp.cfa import Pattern
from isp.files import document, places
from isp.files.whole import replace_file

# Files can hold anything, so these kinds are bounded, unlike those of profiles and recipes.
BoundedNumber = Annotated[float, Field(ge=-1e6, le=1e6)]
BoundedPositive = Annotated[float, Field(ge=1e-9, le=1e9)]
RawLevel = Annotated[float, Field(ge=0, le=65535)]
Side = Annotated[int, Field(ge=1, le=10**6)]
BoundedRow = tuple[BoundedNumber, BoundedNumber, BoundedNumber]
BoundedMatrix = tuple[BoundedRow, BoundedRow, BoundedRow]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CameraRecord(_Part):
    """`Camera.to_json` of one shot whose levels are known. Every key is required; null means unknown."""

    name: str
    cfa: Pattern
    white_balance: tuple[BoundedPositive, BoundedPositive, BoundedPositive]
    sensor_to_linear: BoundedMatrix
    xyz_to_sensor: BoundedMatrix | None
    black: tuple[RawLevel, RawLevel, RawLevel]
    white: RawLevel
    iso: BoundedPositive | None
    exposure_s: BoundedPositive | None
    f_number: BoundedPositive | None
    focal_mm: BoundedPositive | None

    @model_validator(mode="after")
    def _can_be_used(self) -> CameraRecord:
        if self.white <= max(self.black):
            raise ValueError(f"expected white above black, got {self.white:g} and {max(self.black):g}")
        if abs(float(torch.linalg.det(torch.tensor(self.sensor_to_linear, dtype=torch.float64, device="cpu")))) < 1e-6:
            raise ValueError("expected an invertible sensor_to_linear, got a singular one")
        return self


class Sidecar(_Part):
    """The metadata of a mosaic.

    size         (height, width) of the mosaic, as the sensor lies
    camera       the camera of the shot
    orientation  the EXIF number that turns it upright
    model        "make/model" of the camera that took the photograph, empty if unknown
    source       the file name of the photograph
    isp          the name of the ISP that made it
    weights      the SHA-256 digests of the weight files of that ISP
    """

    size: tuple[Side, Side]
    camera: CameraRecord
    orientation: Annotated[int, Field(ge=1, le=8)]
    model: str
    source: str
    isp: str
    weights: tuple[str, ...]

    def shot(self) -> Camera:
        """Return the camera of the shot."""
        return Camera.from_json(self.camera.model_dump_json())


def write(
    path: Path,
    camera: Camera,
    size: tuple[int, int],
    *,
    orientation: int,
    model: str,
    source: str,
    isp: str,
    weights: tuple[str, ...],
) -> None:
    """Write a sidecar, whole or not at all. Bytes of `source` that are not UTF-8 become visible escapes."""
    record = {
        "size": size,
        "camera": json.loads(camera.to_json()),
        "orientation": orientation,
        "model": model,
        "source": source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "isp": isp,
        "weights": weights,
    }
    replace_file(path, (json.dumps(record, indent=1) + "\n").encode())


def read(path: Path) -> Sidecar:
    """Read a sidecar.

    Raises `FileNotFoundError` for a missing file, `ValueError` with the first problem if it is not a valid sidecar. That is no
    regular file, more than `document.MOST_BYTES`, a key that appears twice, and a value that a camera cannot have.
    """
    try:
        content = places.read_bytes(path, "a sidecar of isp.apply inverse", document.MOST_BYTES)
    except FileNotFoundError as cause:
        raise FileNotFoundError(
            f"{path}: expected the sidecar of isp.apply inverse, got no file; copy it along with the mosaic"
        ) from cause
    try:
        json.loads(content, object_pairs_hook=_each_once)
        return Sidecar.model_validate_json(content)
    except ValidationError as problem:
        first, *others = problem.errors()
        where = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {len(others)} more problems)" if others else ""
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{path}: expected a sidecar of isp.apply inverse, got in {where:.80}: {message:.300}{more}; "
            "run isp.apply inverse again"
        ) from problem
    except (ValueError, RecursionError) as problem:
        reason = (
            "blocks in blocks, thousands of levels deep" if isinstance(problem, RecursionError) else f"{problem!s:.300}"
        )
        raise ValueError(
            f"{path}: expected a sidecar of isp.apply inverse, got in the file: {reason}; run isp.apply inverse again"
        ) from problem


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object that JSON has as `pairs`. Raises `ValueError` for a key that appears twice; JSON keeps the last one."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key "{key:.80}" twice')
        found[key] = value
    return found

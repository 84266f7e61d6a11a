"""The JSON file beside a mosaic of `isp.apply inverse`: the validated metadata that `forward` needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isp.camera import Camera
from isp.cfa import Pattern
from isp.files.whole import replace_file

# Files can hold anything, so these kinds are bounded, unlike those of profiles and recipes.
BoundedNumber = Annotated[float, Field(ge=-1e6, le=1e6)]
BoundedPositive = Annotated[float, Field(ge=1e-9, le=1e9)]
RawLevel = Annotated[float, Field(ge=0, le=65535)]
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

    size: tuple[int, int]
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
    """Write a sidecar, whole or not at all."""
    record = {
        "size": size,
        "camera": json.loads(camera.to_json()),
        "orientation": orientation,
        "model": model,
        "source": source,
        "isp": isp,
        "weights": weights,
    }
    replace_file(path, (json.dumps(record, indent=1) + "\n").encode())


def read(path: Path) -> Sidecar:
    """Read a sidecar.

    Raises `FileNotFoundError` for a missing file, `ValueError` with the first problem if it is not a valid sidecar.
    """
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError as cause:
        raise FileNotFoundError(
            f"{path}: expected the sidecar of isp.apply inverse, got no file; copy it along with the mosaic"
        ) from cause
    except OSError as cause:
        raise ValueError(f"{path}: expected a readable sidecar, got an error ({cause.strerror}); check it") from cause
    except ValidationError as problem:
        first, *others = problem.errors()
        where = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {len(others)} more problems)" if others else ""
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{path}: expected a sidecar of isp.apply inverse, got in {where}: {message}{more}; run isp.apply inverse again"
        ) from problem

"""The JSON file beside a mosaic of `isp.apply inverse`: what `forward` must know of it, validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isp.camera import Camera
from isp.cfa import Pattern
from isp.files.whole import replace_file

Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
Level = Annotated[float, Field(ge=0, le=65535)]
Matrix = tuple[
    tuple[Number, Number, Number],
    tuple[Number, Number, Number],
    tuple[Number, Number, Number],
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CameraRecord(_Part):
    """`Camera.to_json` of one shot whose levels are known. Every key stands there; null means unknown."""

    name: str
    cfa: Pattern
    white_balance: tuple[Positive, Positive, Positive]
    sensor_to_linear: Matrix
    xyz_to_sensor: Matrix | None
    black: tuple[Level, Level, Level]
    white: Level
    iso: Positive | None
    exposure_s: Positive | None
    f_number: Positive | None
    focal_mm: Positive | None

    @model_validator(mode="after")
    def _can_be_used(self) -> CameraRecord:
        if self.white <= max(self.black):
            raise ValueError(f"expected white above black, got {self.white:g} and {max(self.black):g}")
        if abs(float(torch.linalg.det(torch.tensor(self.sensor_to_linear, dtype=torch.float64)))) < 1e-6:
            raise ValueError("expected an invertible sensor_to_linear, got a singular one")
        return self


class Sidecar(_Part):
    """What a mosaic is.

    size         (height, width) of the mosaic, which lies as the sensor lies
    camera       of the shot
    orientation  the EXIF number that turns it upright
    model        of the camera that took the photograph, as "make/model"; empty where unknown
    source       the photograph's file name
    isp          the ISP behind it; weights: the SHA-256 digests of its weight files
    """

    size: tuple[int, int]
    camera: CameraRecord
    orientation: Annotated[int, Field(ge=1, le=8)]
    model: str
    source: str
    isp: str
    weights: tuple[str, ...]

    def shot(self) -> Camera:
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
    """Writes a sidecar, whole or not at all."""
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
    """Raises `FileNotFoundError` for a missing file, `ValueError` with the first problem for whatever is no sidecar."""
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError as cause:
        raise FileNotFoundError(
            f"{path}: expected the sidecar of isp.apply inverse there, got nothing; copy it along with the mosaic"
        ) from cause
    except OSError as cause:
        raise ValueError(f"{path}: expected a readable sidecar, got an error ({cause.strerror}); check it") from cause
    except ValidationError as problem:
        first, *others = problem.errors()
        where = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {len(others)} more problems)" if others else ""
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{path}: expected a sidecar of isp.apply inverse, got in {where}: {said}{more}; make it again"
        ) from problem

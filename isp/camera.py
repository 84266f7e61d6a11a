"""`Camera`: the metadata that an ISP needs of a shot, in either direction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa as _cfa


@dataclass(frozen=True, eq=False, kw_only=True)
class Camera:
    """Metadata of `b` shots. All tensors are float32; `None` means unknown, never 0.

    name              the camera's name, per shot
    cfa               one of RGGB, BGGR, GRBG, GBRG per shot, read from the top-left pixel; a batch may mix them
    white_balance     gains that make a grey patch grey; green is 1
    sensor_to_linear  3x3 applied after white balance: linear = sensor_to_linear @ (white_balance * sensor)
    xyz_to_sensor     the LibRaw coefficients from which `sensor_to_linear` can be derived (`isp.color`)
    black, white      the raw levels of 0 and 1 in `sensor`; black per colour
    iso, exposure_s, f_number, focal_mm
                      the optical parameters; exposure time in seconds, the real (not 35-mm equivalent) focal length

    If only some shots of a stack know a value, the others hold NaN; a field that no shot knows stays `None`.
    """

    name: tuple[str, ...]
    cfa: tuple[str, ...]
    white_balance: Float[Tensor, "b 3"]
    sensor_to_linear: Float[Tensor, "b 3 3"]
    xyz_to_sensor: Float[Tensor, "b 3 3"] | None = None
    black: Float[Tensor, "b 3"] | None = None
    white: Float[Tensor, " b"] | None = None
    iso: Float[Tensor, " b"] | None = None
    exposure_s: Float[Tensor, " b"] | None = None
    f_number: Float[Tensor, " b"] | None = None
    focal_mm: Float[Tensor, " b"] | None = None

    def __post_init__(self) -> None:
        for pattern, name in zip(self.cfa, self.name, strict=False):
            _cfa.check(pattern, owner=f'camera "{name}"')
        for field, tensor in self._tensors():
            if len(tensor) != len(self):
                raise ValueError(f"Camera.{field}: expected {len(self)} rows (one for each cfa), got {len(tensor)}")
        if len(self.name) != len(self):
            raise ValueError(f"Camera.name: expected {len(self)} names (one for each cfa), got {len(self.name)}")

    def __len__(self) -> int:
        return len(self.cfa)

    def __getitem__(self, row: int) -> Camera:
        """Return shot `row` as a batch of one."""
        row = range(len(self))[row]
        return self._map(
            lambda tensor: tensor[row : row + 1], name=self.name[row : row + 1], cfa=self.cfa[row : row + 1]
        )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield field.name, value

    def _map(self, change: Any, **others: Any) -> Camera:
        return dataclasses.replace(self, **{field: change(tensor) for field, tensor in self._tensors()}, **others)

    def to(self, device: torch.device | str) -> Camera:
        """Return the same shots with all tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """Join several batches into one. Raises `ValueError` if `cameras` is empty."""
        if not cameras:
            raise ValueError("Camera.stack: expected at least one camera, got none")

        def joined(field: str) -> Tensor | None:
            values = [getattr(camera, field) for camera in cameras]
            known = next((value for value in values if value is not None), None)
            if known is None:
                return None
            unknown = torch.full_like(known[:1], torch.nan)
            return torch.cat(
                [
                    value if value is not None else unknown.expand(len(camera), *unknown.shape[1:])
                    for value, camera in zip(values, cameras, strict=True)
                ]
            )

        fields = [f.name for f in dataclasses.fields(Camera) if f.name not in ("name", "cfa")]
        return Camera(
            name=tuple(name for camera in cameras for name in camera.name),
            cfa=tuple(pattern for camera in cameras for pattern in camera.cfa),
            **cast(dict[str, Any], {field: joined(field) for field in fields}),
        )

    def crop(self, top: int, left: int) -> Camera:
        """Return the camera of an image without its first `top` rows and `left` columns: the CFA phase shifts."""
        return dataclasses.replace(self, cfa=tuple(_cfa.shift(pattern, top, left) for pattern in self.cfa))

    def flip(self, axis: str, height: int, width: int) -> Camera:
        """Return the camera of a `height` x `width` mosaic flipped along its "vertical" (rows) or "horizontal" axis."""
        flipped = (_cfa.flip(pattern, axis, height, width) for pattern in self.cfa)
        return dataclasses.replace(self, cfa=tuple(flipped))

    def rotate(self, quarter_turns: int, height: int, width: int) -> Camera:
        """Return the camera of a `height` x `width` mosaic turned counter-clockwise, like `torch.rot90(quarter_turns)`."""
        turned = (_cfa.rotate(pattern, quarter_turns, height, width) for pattern in self.cfa)
        return dataclasses.replace(self, cfa=tuple(turned))

    def to_json(self) -> str:
        """Return one line of JSON for a single shot; unknown values are null. Raises `ValueError` for several shots."""
        if len(self) != 1:
            raise ValueError(f"Camera.to_json: expected one shot, got {len(self)}; write camera[i].to_json() for each")
        record: dict[str, Any] = {field.name: None for field in dataclasses.fields(self)}
        record |= {field: None if tensor.isnan().any() else tensor[0].tolist() for field, tensor in self._tensors()}
        return json.dumps(record | {"name": self.name[0], "cfa": self.cfa[0]})

    @staticmethod
    def from_json(text: str) -> Camera:
        """Read what `to_json` wrote. Raises `ValueError` for unknown or missing keys."""
        record = json.loads(text)
        known = {field.name for field in dataclasses.fields(Camera)}
        needed = {"name", "cfa", "white_balance", "sensor_to_linear"}
        if not isinstance(record, dict) or record.keys() - known or needed - record.keys():
            raise ValueError(f"Camera.from_json: expected an object with the keys {sorted(known)}, got {text[:80]!r}")
        tensors = {
            key: torch.tensor([value], dtype=torch.float32, device="cpu")
            for key, value in record.items()
            if key not in ("name", "cfa") and value is not None
        }
        return Camera(name=(record["name"],), cfa=(record["cfa"],), **cast(dict[str, Any], tensors))

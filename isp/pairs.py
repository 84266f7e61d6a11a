"""RAW + JPEG pairs on disk, for training ISPs: one HDF5 file per shot, read window by window.

| content            | shape  | type   |                                                                        |
|--------------------|--------|--------|------------------------------------------------------------------------|
| `/raw`             | h w    | uint16 | the mosaic at the camera's levels, visible area                        |
| `/srgb`            | h w 3  | uint8  | the camera's picture, aligned with `/raw` pixel by pixel               |
| attribute `camera` |        | JSON   | `isp.Camera` of the shot; its `cfa` is that of the top-left pixel      |
| attribute `source` |        | text   | the files the pair was made of                                         |

Both arrays are stored in tiles of 256 px with Fletcher-32 checksums. A folder of pairs has `train.txt`, `val.txt` and
`test.txt`, which list the files of each split, one name per line.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from isp.camera import Camera
from isp.files.whole import replace_file
from isp.levels import bayer_of_raw

if TYPE_CHECKING:
    import h5py

Split = Literal["train", "val", "test"]
TILE = 256


@dataclass(frozen=True)
class Pair:
    """One shot on disk. Its file is opened for each read, so a pair can be sent to another process."""

    path: Path

    @cached_property
    def camera(self) -> Camera:
        with self._file() as file:
            return Camera.from_json(str(file.attrs["camera"]))

    @cached_property
    def source(self) -> str:
        """The files the pair was made of."""
        with self._file() as file:
            return str(file.attrs["source"])

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        with self._file() as file:
            height, width = file["raw"].shape
            return int(height), int(width)

    def _file(self) -> h5py.File:
        import h5py

        try:
            return h5py.File(self.path, "r", locking=False, rdcc_nbytes=0)
        except OSError as problem:
            raise ValueError(f"{self.path}: expected a pair written by isp.prepare, got: {problem}") from problem

    def window(
        self, top: int, left: int, height: int, width: int
    ) -> tuple[Float[Tensor, "1 1 h w"], Float[Tensor, "1 3 h w"], Camera]:
        """Read (bayer, srgb, camera) of a window; the camera has the CFA phase of the window.

        Raises `ValueError` for a window outside the picture, or a damaged file.
        """
        if not (0 <= top <= self.size[0] - height and 0 <= left <= self.size[1] - width):
            raise ValueError(
                f"{self.path}: expected a window inside {self.size[0]}x{self.size[1]}, got {height}x{width} at ({top}, {left})"
            )
        rows, columns = slice(top, top + height), slice(left, left + width)
        try:
            with self._file() as file:
                raw, srgb = file["raw"][rows, columns], file["srgb"][rows, columns]
        except OSError as problem:
            raise ValueError(f"{self.path}: expected a sound pair, got: {problem}; make it again") from problem
        camera = self.camera.crop(top, left)
        planes = torch.from_numpy(srgb.astype(np.float32)).div_(255).permute(2, 0, 1)[None]
        return bayer_of_raw(torch.from_numpy(raw), camera), planes.contiguous(), camera


def write(
    path: Path, raw: UInt16[np.ndarray, "h w"], srgb: UInt8[np.ndarray, "h w 3"], camera: Camera, source: str
) -> None:
    """Write a pair atomically: `path` holds all of it or what it held before. Equal pairs give equal bytes.

    Raises `ValueError` if the pictures differ in size.
    """
    import h5py

    if raw.shape != srgb.shape[:2]:
        raise ValueError(f"{path}: expected raw and srgb of one size, got {raw.shape} and {srgb.shape[:2]}")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, pixels in (("raw", raw), ("srgb", srgb)):
            chunks = tuple(min(side, TILE) for side in pixels.shape[:2]) + pixels.shape[2:]
            file.create_dataset(name, data=pixels, chunks=chunks, fletcher32=True, track_times=False)
        file.attrs["camera"] = camera.to_json()
        file.attrs["source"] = source
    replace_file(path, content.getvalue())


def split(folder: Path, name: Split) -> list[Pair]:
    """Return the pairs of one split in the order of its list. Raises `ValueError` if the list or a file is missing."""
    listing = folder / f"{name}.txt"
    if name not in get_args(Split) or not listing.is_file():
        raise ValueError(f"{folder}: expected {name}.txt with the names of pairs, got none; run python -m isp.prepare")
    names = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    strange = [entry for entry in names if Path(entry).name != entry]
    missing = [entry for entry in names if entry not in strange and not (folder / entry).is_file()]
    if strange or missing:
        raise ValueError(f"{listing}: expected names of files beside it, got {', '.join((strange or missing)[:3])}")
    return [Pair(folder / entry) for entry in names]

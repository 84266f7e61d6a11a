"""RAW + JPEG pairs on disk, for training ISPs: one HDF5 file per shot, read window by window.

| content            | shape  | type   |                                                                        |
|--------------------|--------|--------|------------------------------------------------------------------------|
| `/raw`             | h w    | uint16 | the mosaic at the camera's levels, visible area                        |
| `/srgb`            | h w 3  | uint8  | the camera's picture, aligned with `/raw` pixel by pixel               |
| attribute `camera` |        | JSON   | `isp.Camera` of the shot; its `cfa` is that of the top-left pixel      |
| attribute `source` |        | text   | the files the pair was made of                                         |
| attribute `raw_id` |        | text   | tells its RAW file from others of that name; older pairs have none     |

Both arrays are stored in tiles of 256 px with Fletcher-32 checksums, in a version of HDF5 whose structure has checksums too
(pairs written before have them for the pixels only). A folder of pairs has `train.txt`, `val.txt` and `test.txt`, which list
the files of each split, one name per line.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from isp.camera import Camera
from isp.files import places
from isp.files.sidecar import CameraRecord
from isp.files.whole import replace_file
from isp.levels import bayer_of_raw

if TYPE_CHECKING:
    import h5py

Split = Literal["train", "val", "test"]
TILE = 256
_ARRAYS = {"raw": (np.dtype("<u2"), 2), "srgb": (np.dtype("u1"), 3)}  # {name: (type, number of axes)}
_MOST_LIST_BYTES = 2**26  # a million names


@dataclass(frozen=True)
class Pair:
    """One shot on disk. Its file is opened for each read, so a pair can be sent to another process.

    Reading raises `FileNotFoundError` for a missing file, and `ValueError` for anything that is not a sound pair.
    """

    path: Path

    @property
    def camera(self) -> Camera:
        return self._described[0]

    @property
    def source(self) -> str:
        """The files the pair was made of."""
        return self._described[1]

    @property
    def raw_id(self) -> str:
        """What tells its RAW file from others of that name; empty if the pair does not say."""
        return self._described[2]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._described[3]

    @cached_property
    def _described(self) -> tuple[Camera, str, str, tuple[int, int]]:
        """(camera, source, raw_id, size), after a check of the whole structure."""
        with self._opened() as file:
            _check_structure(file)
            camera, source, raw_id = (_text(file, name) for name in ("camera", "source", "raw_id"))
            CameraRecord.model_validate_json(camera)
            height, width = file["raw"].shape
        return Camera.from_json(camera), source, raw_id, (int(height), int(width))

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        """Open the file; whatever a damaged one makes HDF5 raise becomes a `ValueError`."""
        import h5py

        places.check_regular(self.path, "a pair written by isp.prepare")
        try:
            with h5py.File(self.path, "r", locking=False, rdcc_nbytes=0) as file:
                yield file
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as problem:
            # A KeyError quotes its text; a ValidationError of pydantic takes several lines.
            reason = " ".join(str(problem.args[0] if problem.args else problem).split())
            raise ValueError(
                f"{self.path}: expected a sound pair written by isp.prepare, got: {reason:.200}; make it again"
            ) from problem

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
        with self._opened() as file:
            raw, srgb = file["raw"][rows, columns], file["srgb"][rows, columns]
        camera = self.camera.crop(top, left)
        planes = torch.from_numpy(srgb.astype(np.float32)).div_(255).permute(2, 0, 1)[None]
        return bayer_of_raw(torch.from_numpy(raw), camera), planes.contiguous(), camera


def _check_structure(file: h5py.File) -> None:
    """Raise `ValueError` or `KeyError` unless the file holds both arrays itself, in the types and tiles of this format.

    HDF5 would follow links into other files, and read zeros where a tile is missing.
    """
    import h5py

    for name, (kind, axes) in _ARRAYS.items():
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise ValueError(f"no array /{name} of its own")
        array: Any = file[name]
        if array.dtype != kind or array.ndim != axes or array.is_virtual or array.external or not array.fletcher32:
            raise ValueError(f"/{name} of type {array.dtype} and shape {array.shape}, or without tiles and checksums")
        tiles = math.prod(-(-side // tile) for side, tile in zip(array.shape, array.chunks, strict=True))
        if array.id.get_num_chunks() != tiles:
            raise ValueError(f"/{name} in {array.id.get_num_chunks()} of {tiles} tiles")
    if file["srgb"].shape != (*file["raw"].shape, 3):
        raise ValueError(f"/raw of shape {file['raw'].shape} and /srgb of shape {file['srgb'].shape}")


def _text(file: h5py.File, name: str) -> str:
    found = file.attrs.get(name, "" if name == "raw_id" else None)
    if isinstance(found, bytes):
        return found.decode()
    if not isinstance(found, str):  # a text of any length, as pairs written before have
        raise ValueError(f"no text in the attribute {name}")
    return found


def write(
    path: Path,
    raw: UInt16[np.ndarray, "h w"],
    srgb: UInt8[np.ndarray, "h w 3"],
    camera: Camera,
    source: str,
    raw_id: str = "",
) -> None:
    """Write a pair atomically: `path` holds all of it or what it held before. Equal pairs give equal bytes.

    Raises `ValueError` if the pictures differ in size.
    """
    import h5py

    if raw.shape != srgb.shape[:2]:
        raise ValueError(f"{path}: expected raw and srgb of one size, got {raw.shape} and {srgb.shape[:2]}")
    content = io.BytesIO()
    # The structure of this version of the format carries checksums; a flipped bit in older ones can read back as zeros.
    with h5py.File(content, "w", libver=("v110", "v110")) as file:
        for name, pixels in (("raw", raw), ("srgb", srgb)):
            chunks = tuple(min(side, TILE) for side in pixels.shape[:2]) + pixels.shape[2:]
            file.create_dataset(name, data=pixels, chunks=chunks, fletcher32=True, track_times=False)
        for name, text in (("camera", camera.to_json()), ("source", source), ("raw_id", raw_id)):
            encoded = text.encode()
            # Of a fixed length, because HDF5 keeps texts of any length apart, without a checksum.
            file.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))
    replace_file(path, content.getvalue())


def split(folder: Path, name: Split) -> list[Pair]:
    """Return the pairs of one split in the order of its list.

    Raises `FileNotFoundError` or `ValueError` if the list or a file is missing, or if a name leads out of the folder.
    """
    if name not in get_args(Split):
        raise ValueError(f'{folder}: expected one of the splits {", ".join(get_args(Split))}, got "{name}"')
    listing = folder / f"{name}.txt"
    pairs = [Pair(places.inside(folder, entry, listing)) for entry in listed(listing)]
    missing = [pair.path.name for pair in pairs if not pair.path.is_file()]
    if missing:
        raise ValueError(
            f"{listing}: expected names of files beside it, got {', '.join(missing[:3])}; run python -m isp.prepare again"
        )
    return pairs


def listed(listing: Path) -> list[str]:
    """Return the names in the list of a split, one a line.

    Raises `FileNotFoundError` for a missing list, `ValueError` for one that is no text.
    """
    try:
        text = places.read_bytes(listing, "the list of a split, written by isp.prepare", _MOST_LIST_BYTES).decode()
    except UnicodeDecodeError as cause:
        raise ValueError(
            f"{listing}: expected names in UTF-8, got other bytes; run python -m isp.prepare again"
        ) from cause
    return [line.strip() for line in text.splitlines() if line.strip()]

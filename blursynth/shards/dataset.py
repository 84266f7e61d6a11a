"""`ShardDataset`: shards as a torch dataset for training."""

from __future__ import annotations

import bisect
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from blursynth.shards import folders, shard
from blursynth.stages.geometry import DIHEDRAL, turn
from isp.rng import generator

if TYPE_CHECKING:
    import h5py

_MOST_OPEN_FILES = 64


class ShardDataset(Dataset[dict[str, Any]]):
    """Pairs of a finished folder of shards: {"blur": 3 h w, "sharp": 3 h w, "index": int}, float32 in [0, 1].

    crop      side of a square window, drawn anew each epoch; `None` gives whole pairs
    augment   one of the eight flips and turns, drawn anew each epoch
    seed      of these draws, which are addressed by (seed, epoch * n + i, purpose): workers and order do not matter

    Files are opened lazily in each process, so that fork and spawn both work. Raises `ValueError` for a folder that is
    not finished or lacks a shard, and for a crop larger than the pairs.
    """

    def __init__(self, path: str | Path, crop: int | None = None, augment: bool = False, seed: int = 0) -> None:
        self._folder = Path(path)
        manifest = self._folder / folders.MANIFEST
        if not manifest.is_file():
            raise ValueError(
                f"{self._folder}: expected a finished folder of shards (with {folders.MANIFEST}); run make to the end"
            )
        entries = json.loads(manifest.read_text(encoding="utf-8"))["shards"]
        entries = [entry for entry in entries if entry["count"]]
        self._paths = [self._folder / _file_name(entry["shard"]) for entry in entries]
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing or not entries:
            raise ValueError(
                f"{self._folder}: expected the shards that its manifest lists, got none of {', '.join(missing) or 'them'}; "
                "run python -m blursynth.verify --repair"
            )
        self._ends: list[int] = [sum(entry["count"] for entry in entries[: at + 1]) for at in range(len(entries))]
        self._crop, self._augment, self._seed = crop, augment, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._open: OrderedDict[Path, tuple[h5py.File, dict[str, h5py.Dataset]]] = OrderedDict()
        self._opened_by = os.getpid()
        with shard.open_shard(self._paths[0]) as file:
            height, width = file["blur"].shape[1:3]
        if crop is not None and not 0 < crop <= min(height, width):
            raise ValueError(
                f"crop: expected a side of 1 to {min(height, width)} (pairs are {height}x{width}), got {crop}"
            )
        if augment and crop is None and height != width:
            raise ValueError(f"augment: turns change the shape of pairs of {height}x{width}; give a crop")

    def __len__(self) -> int:
        return self._ends[-1]

    def set_epoch(self, epoch: int) -> None:
        """New crops and flips; persistent workers see it too, since the number lives in shared memory.

        Raises `ValueError` for a negative number.
        """
        if epoch < 0:
            raise ValueError(f"set_epoch: expected 0 or more, got {epoch}")
        self._epoch.fill_(epoch)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"ShardDataset: expected an index below {len(self)}, got {i}")
        i %= len(self)
        at = bisect.bisect_right(self._ends, i)
        position = i - (self._ends[at - 1] if at else 0)
        stored = self._stored(self._paths[at])
        address = int(self._epoch) * len(self) + i
        window = self._window(stored["blur"].shape[1:3], address)
        try:
            pair = {name: self._pixels(dataset, position, window) for name, dataset in stored.items()}
        except OSError as problem:
            raise OSError(
                f"{self._paths[at]}: pair {position} cannot be read ({problem}); run python -m blursynth.verify --repair"
            ) from problem
        if self._augment:
            element = DIHEDRAL[int(generator(self._seed, address, "dataset.dihedral").integers(len(DIHEDRAL)))]
            pair = {name: turn(image, element).contiguous() for name, image in pair.items()}
        return {**pair, "index": i}

    def _window(self, size: tuple[int, int], address: int) -> tuple[slice, slice]:
        if self._crop is None:
            return slice(None), slice(None)
        rng = generator(self._seed, address, "dataset.crop")
        top, left = (int(rng.integers(0, side - self._crop, endpoint=True)) for side in size)
        return slice(top, top + self._crop), slice(left, left + self._crop)

    def _pixels(self, dataset: h5py.Dataset, position: int, window: tuple[slice, slice]) -> Tensor:
        pixels = torch.from_numpy(dataset[(position, *window)]).permute(2, 0, 1)
        largest = 255 if pixels.dtype == torch.uint8 else 65535
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(largest)

    def _stored(self, path: Path) -> dict[str, h5py.Dataset]:
        """The pictures of a shard. Looking a dataset up by name takes as long as reading a crop from it."""
        if self._opened_by != os.getpid():
            # Handles inherited through fork belong to the parent.
            self._open, self._opened_by = OrderedDict(), os.getpid()
        if path not in self._open:
            file = shard.open_shard(path)
            self._open[path] = file, {name: file[name] for name in ("blur", "sharp")}
            if len(self._open) > _MOST_OPEN_FILES:
                self._open.popitem(last=False)[1][0].close()
        self._open.move_to_end(path)
        return self._open[path][1]

    def close(self) -> None:
        """Closes every file that this process opened; reading opens them again."""
        if self._opened_by == os.getpid():
            while self._open:
                self._open.popitem()[1][0].close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_opened_by": -1}


def _file_name(name: str) -> str:
    """`name`, if it is one; a manifest from outside must not lead out of its folder."""
    if Path(name).name != name:
        raise ValueError(f"manifest: expected the name of a file in the same folder, got {name!r}")
    return name

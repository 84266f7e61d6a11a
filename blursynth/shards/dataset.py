"""`ShardDataset`: shards as a torch dataset for training."""

from __future__ import annotations

import bisect
import json
import os
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from blursynth.shards import arrays, folders
from blursynth.shards.reader import Shard, open_shard
from blursynth.stages.geometry import DIHEDRAL, turn
from isp.rng import generator

_MOST_OPEN_FILES = 64


class ShardDataset(Dataset[dict[str, Any]]):
    """Pairs of a finished folder of shards: {"blur": 3 h w, "sharp": 3 h w, "index": int}, float32 in [0, 1].

    crop      side of a square window, drawn anew each epoch; `None` gives whole pairs
    augment   whether to flip and turn, one of eight ways, drawn anew each epoch
    seed      of these draws, which are addressed by (seed, epoch * n + i, purpose): workers and order do not matter

    Each process opens files when it first needs them, so that fork and spawn both work. Raises `ValueError` if the folder
    is not finished or lacks a shard, or if the crop is larger than the pairs. Which arrays a pair has, and how each is
    read, is in `blursynth.shards.arrays.ARRAYS`.
    """

    def __init__(self, path: str | Path, crop: int | None = None, augment: bool = False, seed: int = 0) -> None:
        self._folder = Path(path)
        manifest = self._folder / folders.MANIFEST
        if not manifest.is_file():
            raise ValueError(
                f"{self._folder}: expected a finished folder of shards (with {folders.MANIFEST}); "
                "run blursynth.make again until it finishes"
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
        self._ends: list[int] = list(accumulate(entry["count"] for entry in entries))
        self._crop, self._augment, self._seed = crop, augment, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._open: OrderedDict[Path, Shard] = OrderedDict()
        self._opened_by = os.getpid()
        with open_shard(self._paths[0]) as shard:
            self._size: tuple[int, ...] = shard.shape("blur")[:2]
        height, width = self._size
        if crop is not None and not 0 < crop <= min(height, width):
            raise ValueError(
                f"crop: expected a side of 1 to {min(height, width)} (pairs are {height}x{width}), got {crop}"
            )
        if augment and crop is None and height != width:
            raise ValueError(f"augment: turning changes the shape of pairs of {height}x{width}; give a crop")

    def __len__(self) -> int:
        return self._ends[-1]

    def set_epoch(self, epoch: int) -> None:
        """Draw other crops and flips from now on. Persistent workers follow: the number lives in shared memory.

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
        address = int(self._epoch) * len(self) + i
        window = self._window(address)
        shard = self._opened(self._paths[at])
        pair = {
            array.name: array.read(shard.read(array.name, position, *(window if array.is_picture else ())))
            for array in arrays.ARRAYS
            if array.read is not None and array.name in shard.names
        }
        if self._augment:
            element = DIHEDRAL[int(generator(self._seed, address, "dataset.dihedral").integers(len(DIHEDRAL)))]
            pair = {name: turn(image, element).contiguous() for name, image in pair.items()}
        return {**pair, "index": i}

    def _window(self, address: int) -> tuple[slice, slice]:
        if self._crop is None:
            return slice(None), slice(None)
        rng = generator(self._seed, address, "dataset.crop")
        top, left = (int(rng.integers(0, side - self._crop, endpoint=True)) for side in self._size)
        return slice(top, top + self._crop), slice(left, left + self._crop)

    def _opened(self, path: Path) -> Shard:
        """A shard, which is kept open: opening one takes longer than reading a crop."""
        if self._opened_by != os.getpid():
            # Handles inherited through fork belong to the parent.
            self._open, self._opened_by = OrderedDict(), os.getpid()
        if path not in self._open:
            self._open[path] = open_shard(path)
            if len(self._open) > _MOST_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        """Closes every file that this process opened; reading opens them again."""
        if self._opened_by == os.getpid():
            while self._open:
                self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_opened_by": -1}


def _file_name(name: str) -> str:
    """`name`, if it is the name of a file: a manifest from outside must not lead out of its folder."""
    if Path(name).name != name:
        raise ValueError(f"manifest: expected the name of a file in the same folder, got {name!r}")
    return name

"""`ShardDataset`: shards as a torch dataset for training."""

from __future__ import annotations

import bisect
import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from blursynth.shards import arrays
from blursynth.shards.epochs import Epochs
from blursynth.shards.manifest import Manifest
from blursynth.shards.reader import Shard, open_shard
from blursynth.stages.geometry import DIHEDRAL, turn
from isp.rng import generator

_MOST_OPEN_FILES = 64


class ShardDataset(Dataset[dict[str, Any]]):
    """Pairs of a finished folder of shards: {"blur": 3 h w, "sharp": 3 h w, "index": int}, float32 in [0, 1].

    crop      side of a square window, drawn anew each epoch; `None` gives whole pairs
    augment   whether to flip and turn, one of eight ways, drawn anew each epoch
    seed      of these draws, which are addressed by (seed, epoch * n + i, purpose): workers and order do not matter

    `set_epoch` says which epoch it is. Until it is called, the epoch of a pair is how often the loader has asked for it, so
    that a plain `DataLoader` gets new crops in every epoch, and `dataset[i]` in the main process is of epoch 0. (A
    `ConcatDataset` without workers asks one by one, as a user would: call `set_epoch`.)

    Each process opens files when it first needs them, so that fork and spawn both work; threads may share a dataset.
    Raises `ValueError` if the folder is not finished or lacks a shard, or if the crop is larger than the pairs. Which arrays
    a pair has, and how each is read, is in `blursynth.shards.arrays.ARRAYS`.
    """

    def __init__(self, path: str | Path, crop: int | None = None, augment: bool = False, seed: int = 0) -> None:
        self._folder = Path(path)
        manifest = Manifest.read(self._folder)
        receipts = [receipt for receipt in manifest.receipts.values() if receipt.count]
        self._identity = manifest.identity
        self._paths = [self._folder / receipt.shard for receipt in receipts]
        self._counts = {path: receipt.count for path, receipt in zip(self._paths, receipts, strict=True)}
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing or not receipts:
            raise ValueError(
                f"{self._folder}: expected the shards that its manifest lists, got none of {', '.join(missing) or 'them'}; "
                "run python -m blursynth.verify --repair"
            )
        self._ends: list[int] = list(accumulate(receipt.count for receipt in receipts))
        self._crop, self._augment, self._seed = crop, augment, seed
        self._epochs = Epochs(self._ends[-1])
        self._open: OrderedDict[Path, Shard] = OrderedDict()
        self._opened_by = os.getpid()
        self._locks: dict[int, threading.Lock] = {}  # by process: a forked child must not wait for its parent's threads
        with self._checked(open_shard(self._paths[0])) as shard:
            height, width, _ = shard.shape("blur")
        self._size = height, width
        if crop is not None and not 0 < crop <= min(height, width):
            raise ValueError(
                f"crop: expected a side of 1 to {min(height, width)} (pairs are {height}x{width}), got {crop}"
            )
        if augment and crop is None and height != width:
            raise ValueError(f"augment: turning changes the shape of pairs of {height}x{width}; give a crop")

    def __len__(self) -> int:
        self._epochs.own()  # samplers ask before a loader starts its workers
        return self._ends[-1]

    def set_epoch(self, epoch: int) -> None:
        """Draw other crops and flips from now on. Persistent workers follow: the number lives in shared memory.

        Raises `ValueError` for a negative number.
        """
        if epoch < 0:
            raise ValueError(f"set_epoch: expected 0 or more, got {epoch}")
        self._epochs.set(epoch)

    def __getitem__(self, i: SupportsIndex) -> dict[str, Any]:
        """Return pair `i`. Raises `IndexError` for an index out of range, `OSError` for a damaged shard."""
        pair = self._index(i)
        return self._pair(pair, self._epochs.current if get_worker_info() is None else self._epochs.next_of(pair))

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[dict[str, Any]]:
        """Return the pairs of a batch; the `DataLoader` of torch asks for them here."""
        return [self._pair(i, self._epochs.next_of(i)) for i in map(self._index, indices)]

    def _index(self, i: SupportsIndex) -> int:
        """Return an index of any whole-number type as an `int` from 0 on."""
        count = self._ends[-1]
        index = operator.index(i)
        if not -count <= index < count:
            raise IndexError(f"ShardDataset: expected an index below {count}, got {index}")
        return index % count

    def _pair(self, i: int, epoch: int) -> dict[str, Any]:
        at = bisect.bisect_right(self._ends, i)
        position = i - (self._ends[at - 1] if at else 0)
        address = epoch * self._ends[-1] + i
        window = self._window(address)
        pair = self._read(self._paths[at], position, window)
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

    def _read(self, path: Path, position: int, window: tuple[slice, slice]) -> dict[str, Tensor]:
        """Return the arrays of one pair, pictures cut to `window`."""
        with self._locks.setdefault(os.getpid(), threading.Lock()):  # HDF5 reads one after the other anyway
            shard = self._opened(path)
            return {
                array.name: array.read(shard.read(array.name, position, *(window if array.is_picture else ())))
                for array in arrays.ARRAYS
                if array.read is not None and array.name in shard.names
            }

    def _opened(self, path: Path) -> Shard:
        """Return a shard, which is kept open: opening one takes longer than reading a crop."""
        if self._opened_by != os.getpid():
            # Handles that were inherited through fork belong to the parent.
            self._open, self._opened_by = OrderedDict(), os.getpid()
        if path not in self._open:
            self._open[path] = self._checked(open_shard(path))
            if len(self._open) > _MOST_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def _checked(self, shard: Shard) -> Shard:
        """Return an opened shard that is the one which the manifest lists. Raises `OSError` for another."""
        listed = self._counts[shard.path]
        if (shard.count, shard.identity) != (listed, self._identity):
            shard.close()
            raise OSError(
                f"{shard.path}: expected the shard of {listed} pairs that the manifest lists, got one of {shard.count} pairs "
                "or of another run; run python -m blursynth.verify"
            )
        return shard

    def close(self) -> None:
        """Closes every file that this process opened; reading opens them again."""
        if self._opened_by == os.getpid():
            while self._open:
                self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_opened_by": -1, "_locks": {}}

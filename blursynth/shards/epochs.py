"""Which epoch a pair is drawn for, agreed between a training process and the workers of its loader."""

from __future__ import annotations

import os
from contextlib import suppress

import torch
from torch import Tensor, distributed
from torch.utils.data import get_worker_info

_FOLLOW = -1  # in place of the epoch: nobody has set one


class Epochs:
    """The epoch of every draw from `pairs` pairs: the one that was set, or else how often the loader has asked for a pair.

    Both numbers live in shared memory, so that persistent workers see them, forked or spawned. A copy (pickled, deep-copied,
    sent to another machine) shares with its own workers, not with the original. Ranks that were started with the same
    object part as soon as one asks for its length or sets an epoch, or a fast rank would move a slow one into its own
    epoch.
    """

    _left: tuple[Tensor, ...] = ()

    def __init__(self, pairs: int) -> None:
        self._share(torch.full((1,), _FOLLOW, device="cpu"), torch.zeros(pairs, dtype=torch.int32, device="cpu"))

    def _share(self, epoch: Tensor, asked: Tensor) -> None:
        """Keep the numbers where workers see them."""
        self._epoch, self._asked, self._owner = epoch, asked, os.getpid()
        for numbers in (epoch, asked):
            # Without shared memory (a sandbox without /dev/shm), torch cannot start workers; one process does without.
            with suppress(RuntimeError, OSError):
                numbers.share_memory_()  # type: ignore[no-untyped-call]

    def own(self) -> None:
        """Part from the process that made this object, unless this process is a worker of its loader."""
        if self._owner != os.getpid() and get_worker_info() is None:
            # Workers of this process may have been started before it parted: they read the number that it leaves.
            self._left = (self._epoch,)
            self._share(self._epoch.clone(), self._asked.clone())

    def set(self, epoch: int) -> None:
        """Draw for `epoch` from now on, however often a pair is asked for."""
        self.own()
        for number in (self._epoch, *self._left):
            number.fill_(epoch)

    @property
    def current(self) -> int:
        """The epoch that was set, else 0."""
        return max(0, int(self._epoch))

    def next_of(self, pair: int) -> int:
        """Return the epoch to draw `pair` for, and count that the loader has asked for it.

        Every epoch of a loader asks for a pair once, so the count is the epoch. Ranks take turns, since a pair may be given to
        another rank in the next epoch.
        """
        if int(self._epoch) != _FOLLOW:
            return self.current
        asked = int(self._asked[pair])
        self._asked[pair] = asked + 1
        rank, ranks = _rank()
        return asked * ranks + rank

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_left"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if not self._epoch.is_shared():  # type: ignore[no-untyped-call]  # a copy; what a loader sends its workers is shared
            self._share(self._epoch, self._asked)


def _rank() -> tuple[int, int]:
    """Return (this rank, number of ranks) of a distributed training; (0, 1) without."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])  # set by torchrun, inherited by workers
    except (KeyError, ValueError):
        return 0, 1

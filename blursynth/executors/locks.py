"""Who may write into a folder of shards: one run, and the workers of that run."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from blursynth.executors.processes import OrphanedError, is_alive, leave_if_orphaned


def _lock_path(folder: Path) -> Path:
    return folder / ".slice-0-of-1.lock"


def _flock(file: IO[str], operation: int) -> bool:
    """Whether the lock was had. On a file system without locks says so once, and goes on."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            sys.stderr.write(f"{file.name}: this file system has no locks; see to it that only one run writes here\n")
            return True
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def slice_lock(folder: Path) -> Iterator[None]:
    """Held by every worker while it fills a shard, shared among the workers of one run.

    Raises `OrphanedError` in a worker whose parent has died, also where another run has begun since.
    """
    leave_if_orphaned()
    with _lock_path(folder).open("a", encoding="utf-8") as file:
        if not _flock(file, fcntl.LOCK_SH):
            raise OrphanedError(f"{folder} has been taken over by another run")
        yield


@contextmanager
def only_run_in(folder: Path, patience_s: float = 30.0) -> Iterator[None]:
    """Held by a run over its whole time. Raises `ValueError` where another run is writing into `folder`.

    Workers of a killed run finish their sample and leave; for those it waits `patience_s`.
    """
    path = _lock_path(folder)
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience_s
        while not _flock(file, fcntl.LOCK_EX):
            file.seek(0)
            host, _, pid = file.read().strip().rpartition(" ")
            left_behind = host == socket.gethostname() and pid.isdigit() and not is_alive(int(pid))
            if not left_behind or time.monotonic() > deadline:
                raise ValueError(
                    f"{folder}: another run (process {pid or 'unknown'} on {host or 'an unknown host'}) is writing here; "
                    "wait for it, or choose another --out"
                )
            time.sleep(0.1)
        file.seek(0)
        file.truncate()
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
        file.flush()
        # Shared from now on, so that the workers can hold it too; a second run still finds it taken.
        if not _flock(file, fcntl.LOCK_SH):
            raise ValueError(f"{folder}: another run started in the same instant; run the command again")
        yield

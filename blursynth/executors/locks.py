"""Locks on a folder of shards: only one run, and the workers of that run, may write into it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from blursynth.executors.processes import OrphanedError, is_alive, leave_if_orphaned
from isp import command


def _lock_path(folder: Path) -> Path:
    return folder / ".slice-0-of-1.lock"


def _flock(file: IO[str], operation: int) -> bool:
    """Whether the lock was taken. On a file system without locks, warns and carries on as if it was."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            command.warn(f"{file.name}: this file system has no locks; make sure that only one run writes here")
            return True
        if problem.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def slice_lock(folder: Path) -> Iterator[None]:
    """Hold the lock that the workers of one run share; each holds it while it fills a shard.

    Raises `OrphanedError` in a worker if its parent has died, or if another run has taken the folder since.
    """
    leave_if_orphaned()
    with _lock_path(folder).open("a", encoding="utf-8") as file:
        if not _flock(file, fcntl.LOCK_SH):
            raise OrphanedError(f"{folder} has been taken over by another run")
        yield


@contextmanager
def only_run_in(folder: Path, patience_s: float = 30.0) -> Iterator[None]:
    """Hold the lock of a run from its start to its end. Raises `ValueError` if another run is writing into `folder`.

    The workers of a killed run leave after their current sample; this waits up to `patience_s` for them.
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
        # From now on the lock is shared, so that the workers can hold it too; a second run still cannot take it.
        if not _flock(file, fcntl.LOCK_SH):
            raise ValueError(f"{folder}: another run started at the same moment; run the command again")
        yield

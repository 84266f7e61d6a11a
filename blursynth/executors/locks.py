"""Locks on a folder of shards: only one run, and the workers of that run, may write into it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
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


_HOLDER = re.compile(r"\S{0,255}( [0-9]{0,20}\n?)?")  # host and process; a full disk may have cut it short


def _open_lock(path: Path) -> IO[str]:
    """Open the lock of a folder, or make it. Raises `ValueError` if something lies there that is no lock of ours.

    A link is not followed: whoever gave the folder away may have let it lead to any file, and a lock is written to.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ValueError(_no_lock(path)) from problem
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(_no_lock(path))
    file = os.fdopen(number, "r+", encoding="utf-8", errors="replace")
    if not _HOLDER.fullmatch(file.read(1000)):
        file.close()
        raise ValueError(_no_lock(path))
    return file


def _no_lock(path: Path) -> str:
    return (
        f"{path}: expected the lock of a folder of shards, got something else; move it away and run the command again"
    )


@contextmanager
def slice_lock(folder: Path) -> Iterator[None]:
    """Hold the lock that the workers of one run share; each holds it while it fills a shard.

    Raises `OrphanedError` in a worker if its parent has died, or if another run has taken the folder since.
    """
    leave_if_orphaned()
    with _open_lock(_lock_path(folder)) as file:
        if not _flock(file, fcntl.LOCK_SH):
            raise OrphanedError(f"{folder} has been taken over by another run")
        yield


@contextmanager
def only_run_in(folder: Path, patience_s: float = 30.0) -> Iterator[None]:
    """Hold the lock of a run from its start to its end. Raises `ValueError` if another run is writing into `folder`.

    The workers of a killed run leave after their current sample; this waits up to `patience_s` for them.
    """
    with _open_lock(_lock_path(folder)) as file:
        deadline = time.monotonic() + patience_s
        while not _flock(file, fcntl.LOCK_EX):
            file.seek(0)
            host, _, pid = file.read(1000).strip().rpartition(" ")
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

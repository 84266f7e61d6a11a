"""Files of a folder of shards appear whole or not at all: written beside their place, synced, renamed into it.

`isp.files.whole.replace_file` renames too, but shards need more: a part names its writer, so that the next run can tell
parts of dead writers from those of live ones, and a published file survives a power cut, which costs a wait for the disk.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from blursynth.executors.processes import is_alive


def part_name(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.part")


def file(part: Path, path: Path) -> None:
    """Make the finished file `part` appear as `path`, and stay there after a power cut."""
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def text(path: Path, content: str) -> None:
    """Write `content` so that `path` holds either all of it or what it held before."""
    part = part_name(path)
    try:
        part.write_text(content, encoding="utf-8")
        file(part, path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise OSError(problem.errno, problem.strerror, str(path)) from problem


def remove_stale_parts(folder: Path) -> list[Path]:
    """Remove the parts of writers on this host that have died, and return them. Other hosts' parts stay."""
    removed = []
    for part in sorted(folder.glob("*.part")):
        host, _, pid = part.name.removesuffix(".part").rpartition(".")
        if host.endswith(f".{socket.gethostname()}") and pid.isdigit() and not is_alive(int(pid)):
            part.unlink(missing_ok=True)
            removed.append(part)
    return removed

"""Files of a folder of shards appear whole or not at all: written beside their place, synced, renamed into it.

`isp.files.whole.replace_file` renames too, but shards need more: a part names its writer, so that the next run can tell
parts of dead writers from those of live ones, and a published file survives a power cut, which costs a wait for the disk.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

from blursynth.executors.processes import is_alive
from blursynth.shards.format import IDENTITY, MANIFEST, SIGNATURE, number_of

# What network shares, FUSE and folders without permission to read answer to a sync of a folder.
_CANNOT_SYNC = {
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR,
    errno.ENOTTY, errno.EROFS,
}  # fmt: skip

_PART = re.compile(r"(?P<name>[^.]+(?:\.h5\.json|\.h5|\.json))\.(?P<host>.+)\.(?P<pid>[0-9]+)\.part")


def part_name(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.part")


def whole_name(name: str) -> str:
    """What a part of this name is to become; `name` itself if it is no part.

    >>> whole_name("shard-00000.h5.json.some.host.123.part"), whole_name("shard-00000.h5")
    ('shard-00000.h5.json', 'shard-00000.h5')
    """
    found = _PART.fullmatch(name)
    return name if found is None else found["name"]


def file(part: Path, path: Path) -> None:
    """Make the finished file `part` appear as `path`, and stay there after a power cut if the file system can promise it."""
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Wait until names in `folder` are on the disk; do nothing if its file system refuses to sync folders."""
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as problem:
        if problem.errno not in _CANNOT_SYNC:
            raise


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
    """Remove the parts of writers on this host that have died, and return them.

    Other hosts' parts stay, and so does whatever is no part of ours by its name and its first bytes.
    """
    removed = []
    for part in sorted(folder.glob("*.part")):
        found = _PART.fullmatch(part.name)
        if found is None or found["host"] != socket.gethostname() or is_alive(int(found["pid"])):
            continue
        if _is_ours(part, found["name"]):
            part.unlink(missing_ok=True)
            removed.append(part)
    return removed


def _is_ours(part: Path, name: str) -> bool:
    """Whether `part` holds what this program writes under this name, or the beginning of it."""
    if part.is_symlink() or not part.is_file():
        return False
    with part.open("rb") as written:
        begin = written.read(len(SIGNATURE))
    if name.endswith(".h5"):
        return number_of(name) is not None and begin in (SIGNATURE, b"", bytes(len(SIGNATURE)))  # HDF5 signs at the end
    return (name in (MANIFEST, IDENTITY) or number_of(name.removesuffix(".json")) is not None) and (
        begin[:1] in (b"{", b"")
    )

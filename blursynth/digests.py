"""SHA-256 of files and texts.

Digests of source files are remembered in the user's cache folder. A remembered digest counts only while everything that
the system says of the file is the same: device, inode, size, and the times of its content and of its last change. Tools
that copy a file over another can give it the same size and time, but not the same time of its last change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from isp.files import places
from isp.files.whole import replace_file

_SETTLED_NS = 2 * 10**9  # a file that changed more recently may change again within one tick of its clock
_MOST_ENTRIES = 100_000


def file_digest(path: Path) -> str:
    """SHA-256 of the content of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def joined(each: Sequence[str]) -> str:
    """The digest of several files from those of each: that of a single file, else SHA-256 over their joined hexadecimals."""
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


def digest_of(parts: Iterable[str]) -> str:
    """SHA-256 over several texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def of_recipe(document: Mapping[str, Any]) -> str:
    """SHA-256 of the effective recipe in `document`. Kernel banks and profiles may lie anywhere.

    Their paths do not count: a path is a `path`, or a `profile` that ends in .yaml, among the keys of a stage. What is in
    these files is a part of the identity's `data`.
    """
    stages = document.get("stages")
    stages = [_without_paths(stage) for stage in stages] if isinstance(stages, list) else stages
    return digest_of([json.dumps({**document, "stages": stages}, sort_keys=True)])


def _without_paths(stage: Any) -> Any:
    if not isinstance(stage, dict):
        return stage
    return {
        name: {key: "" if _is_path(key, value) else value for key, value in block.items()}
        if isinstance(block, dict)
        else block
        for name, block in stage.items()
    }


def _is_path(key: str, value: Any) -> bool:
    return isinstance(value, str) and (key == "path" or (key == "profile" and value.endswith(".yaml")))


def digests_of(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each file, taken from the cache if an earlier run computed it and the file has not changed since.

    Raises `ValueError` if a file cannot be read.
    """
    cache, fresh, digests = _cache(), {}, {}
    for path in paths:
        try:
            now, stamp = time.time_ns(), _Stamp.of(path)
            if str(path) in cache and cache[str(path)].stamp == stamp:
                digests[path] = cache[str(path)].digest
                continue
            digests[path] = file_digest(path)
        except OSError as cause:
            raise ValueError(
                f"{path}: expected a readable file, got an error ({cause.strerror}); repair it, or leave it out with "
                "source.pattern"
            ) from cause
        if now - max(stamp.written_ns, stamp.changed_ns) > _SETTLED_NS:
            fresh[str(path)] = _Entry(stamp, digests[path])
    if fresh:
        entries = _cache() | fresh  # read again: another run may have written since
        if len(entries) > _MOST_ENTRIES:
            entries = {path: entry for path, entry in entries.items() if Path(path).exists()}
        with suppress(OSError):  # without a cache a run is slower, not wrong
            _cache_file().parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps({path: [*entry.stamp, entry.digest] for path, entry in entries.items()})
            replace_file(_cache_file(), content.encode())
    return digests


# ---------------------------------------------------------------- what earlier runs computed


class _Stamp(NamedTuple):
    """What tells a file from one that takes its place. A program may set the time of the content, not that of a change."""

    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int

    @staticmethod
    def of(path: Path) -> _Stamp:
        found = path.stat()
        return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Entry(NamedTuple):
    stamp: _Stamp
    digest: str


def _cache_file() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            base = Path(os.devnull)  # the user has no home; nothing exists or can be made below this path
    return base / "blursynth" / "digests.json"


def _cache() -> dict[str, _Entry]:
    """What earlier runs computed; empty if there is no valid cache file. Entries of older versions had another form."""
    try:
        entries = json.loads(places.read_bytes(_cache_file()))
        return {
            path: _Entry(_Stamp(*map(int, stamp)), digest)
            for path, (*stamp, digest) in entries.items()
            if len(stamp) == len(_Stamp._fields) and re.fullmatch("[0-9a-f]{64}", digest)
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}

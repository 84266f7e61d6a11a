"""SHA-256 of files and texts. Digests of source files are remembered in the user's cache folder, by path, size and time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from isp.files.whole import replace_file

_SETTLED_NS = 2 * 10**9  # a file that changed more recently may change again within one tick of its clock
_MOST_ENTRIES = 100_000


def file_digest(path: Path) -> str:
    """SHA-256 of the content of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
    """SHA-256 of each file, taken from the cache if an earlier run computed it and path, size and time are the same.

    Raises `ValueError` if a file cannot be read.
    """
    cache, fresh, digests = _cache(), {}, {}
    for path in paths:
        try:
            now, stat = time.time_ns(), path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if str(path) in cache and cache[str(path)][:2] == stamp:
                digests[path] = cache[str(path)][2]
                continue
            digests[path] = file_digest(path)
        except OSError as cause:
            raise ValueError(
                f"{path}: expected a readable file, got an error ({cause.strerror}); repair it, or leave it out with "
                "source.pattern"
            ) from cause
        if now - stat.st_mtime_ns > _SETTLED_NS:
            fresh[str(path)] = (*stamp, digests[path])
    if fresh:
        entries = _cache() | fresh  # read again: another run may have written since
        if len(entries) > _MOST_ENTRIES:
            entries = {path: entry for path, entry in entries.items() if Path(path).exists()}
        with suppress(OSError):  # without a cache a run is slower, not wrong
            _cache_file().parent.mkdir(parents=True, exist_ok=True)
            replace_file(_cache_file(), json.dumps(entries).encode())
    return digests


def _cache_file() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            base = Path(os.devnull)  # the user has no home; nothing exists or can be made below this path
    return base / "blursynth" / "digests.json"


def _cache() -> dict[str, tuple[int, int, str]]:
    """What earlier runs computed; empty if there is no valid cache file."""
    try:
        return {
            path: (int(size), int(changed), digest)
            for path, (size, changed, digest) in json.loads(_cache_file().read_bytes()).items()
            if re.fullmatch("[0-9a-f]{64}", digest)
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}

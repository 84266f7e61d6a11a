"""Writes files that appear whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and rename it there, so that no reader ever sees half a file.

    Raises `OSError` with the name `path` if that is not possible.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException as problem:
        part.unlink(missing_ok=True)
        if isinstance(problem, OSError):  # a full disk names no file, and nobody knows the other one
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
        raise

"""Names and paths from outside: a name out of a file stays in its folder, and only regular files are read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

# Folders that systems, network storage and photo software make for themselves: bins, thumbnails, snapshots, remains.
SERVICE_FOLDER = re.compile(
    r"@eaDir|@tmp|@sharebin|@Recycle|@Recently-Snapshot|[.]@__thumb|[.]@upload_cache|[#~.](recycle|snapshots?)"
    r"|[$]RECYCLE[.]BIN|RECYCLE[RD]|[.]Trash(es|-.+)?|[.]deleted|System Volume Information|FOUND[.]\d{3}|lost[+]found"
    r"|__MACOSX|Network Trash Folder|Temporary Items|[.]TemporaryItems|[.]AppleDouble|[.]thumb(nail)?s?|[.]dtrash",
    re.IGNORECASE,
)


def inside(folder: Path, name: object, listed_in: object) -> Path:
    """Return the path of `name` below `folder`, for a name that a manifest, receipt, list, sidecar or recipe gives.

    Every reader asks this function before it touches the path. Folders inside the name are allowed ("scene1/a.png"). It
    looks at the text alone: links that the user has put into the folder may lead where they like.

    Raises `ValueError` if `name` is no text, is empty, is absolute, goes up ("..") or holds a character that no file name
    can hold.
    """
    remedy = "repair that entry, or do not use this file"
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{listed_in}: expected the name of a file in {folder}, got {name!r:.80}; {remedy}")
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)  # a list may come from a machine on which "\\" separates and "C:" begins
    if not parts or parts[0] == "/" or windows.drive or windows.root or ".." in (*parts, *windows.parts):
        raise ValueError(
            f"{listed_in}: expected a name inside {folder}, got {name!r:.80}, which leads out of it; {remedy}"
        )
    return folder.joinpath(*parts)


_MOST_NAME_BYTES = 200  # of the 255 that file systems allow; endings such as "_transfer_before_after.jpg" need some


def writable_name(name: str) -> str:
    """Return `name` as a part of the names of files that we write: valid UTF-8 on one line, at most 200 bytes.

    Bytes that are not UTF-8, control characters, ends of lines, and spaces at both ends become "%FF", since neither lists nor
    JSON can hold them. A longer name is cut, and the cut one ends in "~" and 8 digits of the SHA-256 of the whole name.

    >>> writable_name("DSC_0001"), writable_name("\\udcff\\n ")
    ('DSC_0001', '%FF%0A%20')
    """
    first, last = len(name) - len(name.lstrip(" ")), len(name.rstrip(" "))
    written = "".join(
        character
        if first <= place < last and unicodedata.category(character) not in _UNWRITABLE
        else _escaped(character)
        for place, character in enumerate(name)
    )
    encoded = written.encode()
    if len(encoded) <= _MOST_NAME_BYTES:
        return written
    ending = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    return encoded[: _MOST_NAME_BYTES - len(ending)].decode(errors="ignore") + ending


_UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")  # categories: control characters, lone surrogates, ends of lines and paragraphs


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFREG: "a file",
}  # fmt: skip


def _kind_of(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def _unreadable(path: Path, expected: str, cause: OSError | ValueError) -> ValueError:
    """Return the refusal of a path that may not be looked at, or that no system can have."""
    reason = cause.strerror if isinstance(cause, OSError) else str(cause)
    return ValueError(f"{path}: expected {expected}, got an error ({reason}); check the path")


def check_regular(path: Path, expected: str = "a file") -> int:
    """Return the size in bytes of the regular file at `path`; links are followed.

    `expected` names what should be there. Raises `FileNotFoundError` if nothing is there, `ValueError` for a folder, a named
    pipe, a socket, a device, or a place that may not be looked at. Opening a named pipe would wait for ever.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise FileNotFoundError(f"{path}: expected {expected}, got nothing there; check the path") from cause
    except (OSError, ValueError) as cause:
        raise _unreadable(path, expected, cause) from cause
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: expected {expected}, a regular file, got {_kind_of(found)}; check the path")
    return found.st_size


def check_folder(path: Path, expected: str = "a folder") -> None:
    """Check that a folder is at `path`, or can be made there: nothing else lies there, or above it.

    `expected` names what should be there. Raises `ValueError` if something else is in the way.
    """
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError) as cause:
            if place.is_symlink():
                raise ValueError(
                    f"{place}: expected {expected}, got a link that leads nowhere; check the path"
                ) from cause
            continue
        except (OSError, ValueError) as cause:
            raise _unreadable(place, expected, cause) from cause
        if not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{place}: expected {expected}, got {_kind_of(found)}; check the path")
        return


def read_bytes(path: Path, expected: str = "a file", most: int | None = None) -> bytes:
    """Return the content of the regular file at `path`, of at most `most` bytes.

    Raises what `check_regular` raises, and `ValueError` for a file that cannot be read or is larger.
    """
    size = check_regular(path, expected)
    if most is not None and size > most:
        raise ValueError(f"{path}: expected {expected} of at most {most:,} bytes, got {size:,}; check the path")
    try:
        with path.open("rb") as file:
            # A read of `most` bytes would take that much memory before it reads any.
            return file.read(size)
    except OSError as cause:
        raise _unreadable(path, expected, cause) from cause

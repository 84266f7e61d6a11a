"""What lies in a folder of photographs: its RAW files, its pictures, and all that is neither."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Sorted by how well they serve: cameras write JPEGs, some write TIFFs; a PNG is an export.
PICTURE_KINDS = {".jpg": 0, ".jpeg": 0, ".tif": 1, ".tiff": 1, ".png": 2}
UNREADABLE_PICTURES = frozenset({".heic", ".heif", ".hif", ".avif", ".webp", ".jxl", ".jp2", ".bmp", ".gif"})


@dataclass(frozen=True)
class Found:
    """The files of a folder and its subfolders, sorted; paths begin with that folder.

    raws, pictures  regular files by their suffix
    others          the other regular files
    odd             what has such a suffix but is no regular file: [(path, what it is)]
    closed          subfolders that cannot be listed: [(path, why)]
    hidden          how many files and folders were left out: names with a dot, bins, thumbnails of file servers
    """

    raws: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    odd: list[tuple[Path, str]] = field(default_factory=list)
    closed: list[tuple[Path, str]] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)


def collect(data: Path) -> Found:
    """List the folder `data`. Links to folders are followed, each folder once."""
    from isp.files import places
    from isp.files.raw import RAW_SUFFIXES

    found = Found()
    for path in sorted(_walk(data, found)):
        suffix = path.suffix.lower()
        if suffix not in RAW_SUFFIXES and suffix not in PICTURE_KINDS:
            found.others.append(path)
            continue
        try:
            places.check_regular(path)
        except (OSError, ValueError) as problem:
            found.odd.append((path, str(problem)))
            continue
        (found.raws if suffix in RAW_SUFFIXES else found.pictures).append(path)
    return found


def _walk(data: Path, found: Found) -> Iterator[Path]:
    from isp.files import places

    seen = {os.path.realpath(data)}

    def closed(problem: OSError) -> None:
        found.closed.append((Path(os.fsdecode(problem.filename)), problem.strerror or str(problem)))

    for folder, subfolders, files in os.walk(data, onerror=closed, followlinks=True):
        here = Path(folder)
        hidden = [
            name for name in (*subfolders, *files) if name.startswith(".") or places.SERVICE_FOLDER.fullmatch(name)
        ]
        found.hidden.extend(here / name for name in hidden)
        entered = {name: os.path.realpath(here / name) for name in sorted(subfolders) if name not in hidden}
        subfolders[:] = []
        for name, place in entered.items():
            if place not in seen:
                seen.add(place)
                subfolders.append(name)
        yield from (here / name for name in files if name not in hidden)


def in_words(kind: str, paths: Sequence[Path]) -> str:
    """Return how many files of a kind there are, and of which suffixes, the most first: "14 pictures (12 .jpg, 2 .png)"."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    first = sorted(counts, key=lambda suffix: (-counts[suffix], suffix))[:5]
    listed = ", ".join(f"{counts[suffix]} {suffix}" for suffix in first)
    return f"{len(paths)} {kind if len(paths) == 1 else kind + 's'}" + f" ({listed})" * bool(paths)

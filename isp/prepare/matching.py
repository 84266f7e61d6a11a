"""Which picture belongs to which RAW file, by their names and folders.

A picture belongs to a RAW file if they have the same name, and if each is the nearest of that name to the other:

- Names are the same if their stems are, in any case (`DSC_0001.NEF`, `dsc_0001.jpg`), without the words by which phones tell
  the files of one shot apart (`PXL_1.RAW-02.ORIGINAL.dng` and `PXL_1.RAW-01.COVER.jpg`, `IMG_1_raw.dng`, `RAW_1.dng`).
- Folders are near if they are one folder, or twins: equal but for the words for kinds of files, in any case and at any depth
  (`raw` and `jpg`, `NEF/trip` and `JPEG/trip`, `trip` and `trip/ARW`, `trip_raw` and `trip_jpg`). Otherwise the distance is
  the number of folders from one to the other. So files of one name in different folders are different shots.
- Among the pictures near a RAW file, a JPEG goes before a TIFF, a TIFF before a PNG, the same case before another, the same
  folder before a twin. A DNG near a RAW file of another format and the same name is its copy, and makes no pair.

If several are equally near, nothing is chosen. What is chosen is compared pixel by pixel later (`isp.prepare.registration`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from isp.prepare.folders import PICTURE_KINDS

_KIND = re.compile(  # a word for a kind of files in the name of a folder, alone or with one digit after it
    r"[\W_]*(?<![^\W_])(?:raws?|rawfiles?|jpe?gs?|tiffs?|tifs?|pngs?|dngs?|3frs?|arws?|cr[23w]s?|kdcs?|nefs?|nrws?|orfs?|pefs?"
    r"|rafs?|rw2s?|srws?)(?=\d?(?![^\W_]))[\W_]*",
    re.IGNORECASE,
)
_ROLE = (
    re.compile(  # how phones tell the files of one shot apart: Pixel at the end, others at the end, others at the start
        r"(?:\.RAW-\d+)?(?:\.MP)?(?:\.COVER|\.ORIGINAL)?$|[ ._-](?:raw|dng|jpe?g)$|^(?:raw|img)[_-](?=\d{8})",
        re.IGNORECASE,
    )
)


@dataclass(frozen=True)
class Matches:
    """The result of `match`.

    near       {RAW file: its picture} in the same folder or its twin
    far        {RAW file: the only picture of its name that it can have}, elsewhere
    copies     {DNG: the RAW file of another format near it, which is the same shot}
    undecided  {RAW file: (all RAW files, all pictures) that are equally near to each other}
    unclaimed  pictures without any RAW file of their name
    spare      pictures of whose name there is a RAW file, which has or needs another one
    """

    near: dict[Path, Path] = field(default_factory=dict)
    far: dict[Path, Path] = field(default_factory=dict)
    copies: dict[Path, Path] = field(default_factory=dict)
    undecided: dict[Path, tuple[list[Path], list[Path]]] = field(default_factory=dict)
    unclaimed: list[Path] = field(default_factory=list)
    spare: list[Path] = field(default_factory=list)


def match(raws: Iterable[Path], pictures: Iterable[Path]) -> Matches:
    """Match RAW files with pictures. All paths are relative to the folder of the data."""
    found = Matches()
    places: dict[tuple[str, tuple[str, ...]], tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for raw in raws:
        places[name_key(raw.stem), folder_key(raw.parent)][0].append(raw)
    for picture in pictures:
        places[name_key(picture.stem), folder_key(picture.parent)][1].append(picture)
    left: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    names = {name for (name, _), (own, _) in places.items() if own}
    for (name, _), (own, theirs) in places.items():
        free_raws, free_pictures = _match_near(own, theirs, found)
        left[name][0].extend(free_raws)
        left[name][1].extend(free_pictures)
    for name, (own, theirs) in left.items():
        found.far.update(_mutual(own, theirs, _rank_far))
        remaining = [picture for picture in theirs if picture not in found.far.values()]
        (found.spare if name in names else found.unclaimed).extend(remaining)
    return found


def _match_near(raws: Sequence[Path], pictures: Sequence[Path], found: Matches) -> tuple[list[Path], list[Path]]:
    """Match the files of one name and near folders; return the RAW files and pictures that are free for others."""
    own_formats = [raw for raw in raws if raw.suffix.lower() != ".dng"]
    originals = own_formats or raws
    found.copies.update({raw: originals[0] for raw in raws if raw not in originals})
    chosen = _mutual(originals, pictures, _rank_near)
    found.near.update(chosen)
    free_raws = [raw for raw in originals if raw not in chosen]
    free_pictures = [picture for picture in pictures if picture not in chosen.values()]
    if not raws:
        return [], free_pictures
    if not (free_raws and free_pictures):
        found.spare.extend(free_pictures)
        return free_raws, []
    found.undecided.update(dict.fromkeys(free_raws, (free_raws, free_pictures)))
    return [], []


def _mutual(
    raws: Sequence[Path], pictures: Sequence[Path], rank: Callable[[Path, Path], tuple[Any, ...]]
) -> dict[Path, Path]:
    """Choose pairs in which each prefers the other, by the lowest rank, to all that are left, until there are no more."""
    chosen: dict[Path, Path] = {}
    raws, pictures = [*raws], [*pictures]

    def seen_from(picture: Path) -> Callable[[Path], tuple[Any, ...]]:
        return lambda raw: rank(raw, picture)

    while True:
        wanted = {raw: _only_least(pictures, partial(rank, raw)) for raw in raws}
        wanting = {picture: _only_least(raws, seen_from(picture)) for picture in pictures}
        agreed = {raw: picture for raw, picture in wanted.items() if picture is not None and wanting[picture] == raw}
        if not agreed:
            return chosen
        chosen |= agreed
        raws = [raw for raw in raws if raw not in agreed]
        pictures = [picture for picture in pictures if picture not in agreed.values()]


def _rank_near(raw: Path, picture: Path) -> tuple[Any, ...]:
    another_name = _plain(raw.stem).casefold() != _plain(picture.stem).casefold()
    kind = PICTURE_KINDS[picture.suffix.lower()]
    return another_name, kind, raw.stem != picture.stem, raw.parent != picture.parent


def _rank_far(raw: Path, picture: Path) -> tuple[Any, ...]:
    return distance(raw, picture), *_rank_near(raw, picture)


def _only_least(paths: Sequence[Path], rank: Callable[[Path], Any]) -> Path | None:
    """Return the path of the lowest rank, None if there is none or if several share it."""
    ranks = sorted((rank(path), path) for path in paths)
    return ranks[0][1] if len(ranks) == 1 or (ranks and ranks[0][0] != ranks[1][0]) else None


# ---------------------------------------------------------------- names and folders


@cache
def name_key(stem: str) -> str:
    """Return what the stems of all files of one shot have in common.

    >>> name_key("PXL_1.NIGHT.RAW-01.MP.COVER"), name_key("DSC_0001")
    ('pxl_1.night', 'dsc_0001')
    """
    return _ROLE.sub("", _plain(stem)).casefold() or _plain(stem).casefold()


def _plain(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)  # macOS writes "ö" as two characters


@cache
def folder_key(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder and of those above it, without the words for kinds of files.

    >>> folder_key(Path("Trip_RAW/day 1")), folder_key(Path("jpg"))
    (('trip', 'day 1'), ())
    """
    return tuple(filter(None, (_KIND.sub(" ", _plain(part)).strip().casefold() for part in folder.parts)))


def distance(one: Path, other: Path) -> int:
    """Return how many folders lie between two files, without those that only name a kind of files."""
    first, second = folder_key(one.parent), folder_key(other.parent)
    shared = next((at for at, (left, right) in enumerate(zip(first, second, strict=False)) if left != right), None)
    return len(first) + len(second) - 2 * (min(len(first), len(second)) if shared is None else shared)

"""How data sets of RAW + JPEG name their files, and which picture belongs to which RAW file.

| layout     | name of a shot                                 | its picture                                            |
|------------|------------------------------------------------|--------------------------------------------------------|
| `raise`    | `r…t`, the stem of its RAW                     | the same stem, in any folder                           |
| `realblur` | `BLR-02091-00001`, the stem of its RAW         | the same stem, in any folder                           |
| `s7`       | `20161107_233158-short`, `-medium`: its folder | the same stem beside the RAW; the stem begins with the |
|            | and the exposure, or the stem of its RAW       | exposure if the folder has the name of the scene       |
| `flat`     | the stem of its RAW                            | the same stem beside the RAW                           |

`auto` takes the first layout that names every RAW file. A JPEG is preferred to a TIFF; if there is neither, the JPEG
embedded in the RAW file is used. The names are those in the lists of kim2024; the folders in which the data sets come
are assumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_JPEG, _TIFF = (".jpg", ".jpeg"), (".tif", ".tiff")


@dataclass(frozen=True)
class ShotFiles:
    """A RAW file and its picture; `None` stands for the JPEG embedded in the RAW file."""

    name: str
    raw: Path
    picture: Path | None


@dataclass(frozen=True)
class Skipped:
    """A shot or a file that gives no pair, and why."""

    name: str
    reason: str


_IDS = {  # what the stem of a RAW file looks like
    "raise": re.compile(r"r[0-9a-f]+t"),
    "realblur": re.compile(r"BLR-\d{5}-\d{5}"),
    "s7": re.compile(r"\d{8}_\d{6}-(short|medium)"),
}
LAYOUTS = (*_IDS, "flat")
_SCENE, _EXPOSURE = re.compile(r"\d{8}_\d{6}"), re.compile(r"short|medium")


def name_of(raw: Path, layout: str) -> str | None:
    """Return the name of a shot in that layout, or None if its file has no such name.

    >>> name_of(Path("20161107_233158/short_exposure.dng"), "s7")
    '20161107_233158-short'
    """
    if layout == "flat" or _IDS[layout].fullmatch(raw.stem):
        return raw.stem
    exposure = _EXPOSURE.match(raw.stem)
    if layout == "s7" and exposure and _SCENE.fullmatch(raw.parent.name):
        return f"{raw.parent.name}-{exposure.group()}"
    return None


def find_shots(data: Path, layout: str) -> tuple[str, list[ShotFiles], list[Skipped]]:
    """Return (the layout, the shots of a folder sorted by name, the files that belong to no shot).

    Raises `ValueError` if the folder holds no RAW file.
    """
    raws, pictures = _collect(data)
    if layout == "auto":
        layout = next(each for each in LAYOUTS if all(name_of(raw, each) for raw in raws))
    named, misnamed = _named(raws, layout)
    shots, ambiguous = _with_pictures(named, pictures, layout)
    return layout, shots, [*misnamed, *ambiguous, *_strangers(raws, pictures)]


def _collect(data: Path) -> tuple[list[Path], list[Path]]:
    """Return (RAW files, pictures) in the folder and its subfolders, sorted, without hidden files."""
    from isp.files.raw import RAW_SUFFIXES

    files = sorted(path for path in data.rglob("*") if path.is_file() and not path.name.startswith("."))
    raws = [path for path in files if path.suffix.lower() in RAW_SUFFIXES]
    if not raws:
        raise ValueError(f"{data}: expected RAW files ({', '.join(sorted(RAW_SUFFIXES))}), got none; check --data")
    return raws, [path for path in files if path.suffix.lower() in (*_JPEG, *_TIFF)]


def _named(raws: Sequence[Path], layout: str) -> tuple[dict[str, list[Path]], list[Skipped]]:
    """Return ({name of a shot: its RAW files}, the RAW files that the layout cannot name)."""
    named: dict[str, list[Path]] = {}
    misnamed = []
    for raw in raws:
        name = name_of(raw, layout)
        if name is None:
            misnamed.append(Skipped(str(raw), f"{raw}: expected a name of the layout {layout}, got another; rename it"))
        else:
            named.setdefault(name, []).append(raw)
    return named, misnamed


def _with_pictures(
    named: Mapping[str, list[Path]], pictures: Sequence[Path], layout: str
) -> tuple[list[ShotFiles], list[Skipped]]:
    """Return (the shots sorted by name, those with several RAW files or several pictures)."""
    by_stem: dict[str, list[Path]] = {}
    for picture in pictures:
        by_stem.setdefault(picture.stem, []).append(picture)
    shots, ambiguous = [], []
    for name, (raw, *others) in sorted(named.items()):
        candidates = _pictures_of(raw, by_stem.get(raw.stem, []), layout)
        if others or len(candidates) > 1:
            files = ", ".join(str(path) for path in ([raw, *others] if others else candidates))
            ambiguous.append(Skipped(name, f"{files}: expected one file of that name, got several; keep one"))
        else:
            shots.append(ShotFiles(name, raw, candidates[0] if candidates else None))
    return shots, ambiguous


def _pictures_of(raw: Path, of_its_stem: Sequence[Path], layout: str) -> list[Path]:
    """Choose the pictures of a RAW file: those beside it, else those in any folder if the layout allows it; JPEGs first."""
    beside = [picture for picture in of_its_stem if picture.parent == raw.parent]
    found = beside or (list(of_its_stem) if layout in ("raise", "realblur") else [])
    return [picture for picture in found if picture.suffix.lower() in _JPEG] or found


def _strangers(raws: Sequence[Path], pictures: Sequence[Path]) -> list[Skipped]:
    """Report the pictures that have no RAW file."""
    stems = {raw.stem for raw in raws}
    return [
        Skipped(str(picture), f"{picture}: expected its RAW file, got none of that name; add it")
        for picture in pictures
        if picture.stem not in stems
    ]

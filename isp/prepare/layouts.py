"""How data sets of RAW + JPEG name their files, and which picture belongs to which RAW file.

| layout     | name of a shot                                 | its picture                                            |
|------------|------------------------------------------------|--------------------------------------------------------|
| `raise`    | `r…t`, the stem of its RAW                     | the same stem, in any folder                           |
| `realblur` | `BLR-02091-00001`, the stem of its RAW         | the same stem, in any folder                           |
| `s7`       | `20161107_233158-short`, `-medium`: its folder | the same stem beside the RAW; it begins with the       |
|            | and the exposure, or the stem of its RAW       | exposure where the folder has the name of the scene    |
| `flat`     | the stem of its RAW                            | the same stem beside the RAW                           |

`auto` takes the first of them that names every RAW file. A JPEG goes before a TIFF; where there is neither, the JPEG inside
the RAW file is tried. The names are those in the lists of kim2024; in which
folders the data sets come is assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_JPEG, _TIFF = (".jpg", ".jpeg"), (".tif", ".tiff")


@dataclass(frozen=True)
class ShotFiles:
    """A RAW file and its picture; `None` stands for the JPEG inside the RAW file."""

    name: str
    raw: Path
    picture: Path | None


@dataclass(frozen=True)
class Skipped:
    name: str
    reason: str


_IDS = {  # of a RAW file's stem
    "raise": re.compile(r"r[0-9a-f]+t"),
    "realblur": re.compile(r"BLR-\d{5}-\d{5}"),
    "s7": re.compile(r"\d{8}_\d{6}-(short|medium)"),
}
LAYOUTS = (*_IDS, "flat")
_SCENE, _EXPOSURE = re.compile(r"\d{8}_\d{6}"), re.compile(r"short|medium")


def name_of(raw: Path, layout: str) -> str | None:
    """The name of a shot in that layout, or None where its file is not named so.

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
    """(the layout, the shots, what is none) of a folder, in the order of their names.

    Raises `ValueError` where the folder holds no RAW file.
    """
    from isp.files.raw import RAW_SUFFIXES

    files = sorted(path for path in data.rglob("*") if path.is_file() and not path.name.startswith("."))
    raws = [path for path in files if path.suffix.lower() in RAW_SUFFIXES]
    pictures = [path for path in files if path.suffix.lower() in (*_JPEG, *_TIFF)]
    if not raws:
        raise ValueError(f"{data}: expected RAW files ({', '.join(sorted(RAW_SUFFIXES))}), got none; check --data")
    if layout == "auto":
        layout = next(each for each in LAYOUTS if all(name_of(raw, each) for raw in raws))
    by_stem: dict[str, list[Path]] = {}
    for picture in pictures:
        by_stem.setdefault(picture.stem, []).append(picture)
    named: dict[str, list[Path]] = {}
    skipped = []
    for raw in raws:
        name = name_of(raw, layout)
        if name is None:
            skipped.append(Skipped(str(raw), f"{raw}: expected a name of the layout {layout}, got another; rename it"))
        else:
            named.setdefault(name, []).append(raw)
    shots = []
    for name, (raw, *others) in sorted(named.items()):
        beside = [picture for picture in by_stem.get(raw.stem, []) if picture.parent == raw.parent]
        found = beside or (by_stem.get(raw.stem, []) if layout in ("raise", "realblur") else [])
        found = [picture for picture in found if picture.suffix.lower() in _JPEG] or found
        if others or len(found) > 1:
            both = ", ".join(str(path) for path in ([raw, *others] if others else found))
            skipped.append(Skipped(name, f"{both}: expected one file of that name, got several; keep one"))
        else:
            shots.append(ShotFiles(name, raw, found[0] if found else None))
    stems = {raw.stem for raw in raws}
    for picture in pictures:
        if picture.stem not in stems:
            skipped.append(Skipped(str(picture), f"{picture}: expected its RAW file, got none of that name; add it"))
    return layout, shots, skipped

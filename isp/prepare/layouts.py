"""How data sets of RAW + JPEG name their shots.

| layout     | name of a shot                                                                        |
|------------|---------------------------------------------------------------------------------------|
| `raise`    | `r…t`, the stem of its RAW                                                            |
| `realblur` | `BLR-02091-00001`, the stem of its RAW                                                |
| `s7`       | `20161107_233158-short`, `-medium`: its folder and the exposure with which the stem   |
|            | of its RAW begins, or the stem of its RAW                                             |
| `flat`     | the stem of its RAW                                                                   |

`auto` takes the first layout that names every RAW file. If several RAW files have one name, their folders are put before it
(`100NIKON-DSC_0001`). The names are those in the lists of kim2024; the folders in which the data sets come are assumed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from isp import command

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


def written(path: Path) -> str:
    """Return a path inside the data as it stands in records and pairs: with "/", and escapes for bytes that are not UTF-8."""
    return command.shown(path.as_posix())


def unique_names(raws: Sequence[Path], layout: str, data: Path, earlier: Mapping[str, str]) -> dict[Path, str]:
    """Return {RAW file: name of its shot and of the file of its pair}; paths are relative to `data`.

    Names differ in more than case, since some file systems do not tell cases apart.
    """
    plain = {raw: _file_name(name_of(data / raw, layout) or raw.stem) for raw in raws}
    counts = Counter(name.casefold() for name in plain.values())
    names = {}
    for raw, name in plain.items():
        before = earlier.get(written(raw), "")
        if before == name or before.endswith(f"-{name}"):
            names[raw] = before
        elif counts[name.casefold()] > 1:
            names[raw] = _file_name("-".join((*raw.parts[:-1], name)))
        else:
            names[raw] = name
    counts = Counter(name.casefold() for name in names.values())
    return {raw: name if counts[name.casefold()] == 1 else _numbered(name, raw) for raw, name in names.items()}


def _file_name(name: str) -> str:
    """Return `name` as the name of a file that lists can hold; "\\" and ":" lead out of a folder on other systems."""
    from isp.files import places

    return places.writable_name(name).replace("\\", "%5C").replace(":", "%3A")


def _numbered(name: str, raw: Path) -> str:
    return f"{name}-{hashlib.sha256(os.fsencode(raw)).hexdigest()[:8]}"

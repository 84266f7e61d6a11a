"""The shots in a folder of RAW + JPEG: the pictures to try for each, and why other files give no pair.

`isp.prepare.matching` says which picture belongs to which RAW file. If none does, the JPEG embedded in the RAW file is used.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from isp.prepare.folders import PICTURE_KINDS, UNREADABLE_PICTURES, Found, collect, in_words
from isp.prepare.layouts import LAYOUTS, name_of, unique_names
from isp.prepare.matching import Matches, match, name_key


@dataclass(frozen=True)
class ShotFiles:
    """A RAW file, and the pictures that may be its own.

    pictures  to be tried in this order; `None` stands for the JPEG embedded in the RAW file
    remedy    what to do if none of them fits
    """

    name: str
    raw: Path
    pictures: tuple[Path | None, ...]
    remedy: str


@dataclass(frozen=True)
class Skipped:
    """A shot or a file that gives no pair, and why: "PLACE: expected A, got B; do C"."""

    name: str
    reason: str


@dataclass(frozen=True)
class Shots:
    """What a folder holds.

    shots    sorted by name
    skipped  the files that belong to no shot, or to one that is not clear
    unused   files that no pair needs
    saw      how many RAW files, pictures and other files there are
    """

    layout: str
    shots: list[ShotFiles]
    skipped: list[Skipped]
    unused: list[Skipped]
    saw: str


def find_shots(data: Path, layout: str, earlier: Mapping[str, str]) -> Shots:
    """Find the shots of a folder.

    `earlier` gives the names that RAW files have in pairs made before, {path in `data`, as `written`: name}; they keep them.
    Raises `FileNotFoundError` or `ValueError` if the folder holds no RAW file; the sentence says what it holds.
    """
    found = collect(data)
    if not found.raws:
        raise ValueError(_nothing(data, found))
    if layout == "auto":
        layout = next(each for each in LAYOUTS if all(name_of(raw, each) for raw in found.raws))
    matches = match(*([path.relative_to(data) for path in paths] for paths in (found.raws, found.pictures)))
    others = {name_key(path.stem): path for path in found.others if path.suffix.lower() in UNREADABLE_PICTURES}
    nearest = _Nearest(data, matches, others)
    skipped, shots = [*_odd(found)], []
    usable: list[Path] = []
    for raw in found.raws:
        inner = raw.relative_to(data)
        if name_of(raw, layout) is None:
            reason = f"{raw}: expected a name of the layout {layout}, got another; rename it, or choose --layout flat"
            skipped.append(Skipped(str(raw), reason))
        elif inner in matches.undecided:
            skipped.append(Skipped(str(raw), _undecided(data, inner, *matches.undecided[inner])))
        elif inner not in matches.copies:
            usable.append(inner)
    for inner, name in unique_names(usable, layout, data, earlier).items():
        picture = matches.near.get(inner) or matches.far.get(inner)
        tried = [data / picture] if picture else []
        pictures = (*tried, None) if inner not in matches.near else tuple(tried)
        shots.append(ShotFiles(name, data / inner, pictures, nearest.remedy(inner)))
    for picture in matches.unclaimed:
        reason = f"{data / picture}: expected its RAW file, got none of that name; put it beside the picture"
        skipped.append(Skipped(str(data / picture), reason))
    saw = f"{in_words('RAW file', found.raws)}, {in_words('picture', found.pictures)}"
    saw += f", {in_words('other file', found.others)}" * bool(found.others)
    return Shots(layout, sorted(shots, key=lambda shot: shot.name), skipped, [*_unused(data, found, matches)], saw)


# ---------------------------------------------------------------- what gives no pair, and why


def _nothing(data: Path, found: Found) -> str:
    """Return the sentence on a folder without RAW files."""
    from isp.files.raw import RAW_SUFFIXES

    expected = f"{data}: expected RAW files ({', '.join(sorted(RAW_SUFFIXES))})"
    seen = [
        f"{in_words(kind, paths)}, such as {paths[0].relative_to(data)}"
        for kind, paths in (("picture", found.pictures), ("other file", found.others))
        if paths
    ]
    seen += [problem for _, problem in (*found.odd, *found.closed)][:1]
    if not seen:
        return f"{expected}, got none; check --data"
    remedy = "check --data"
    if found.pictures:
        picture = found.pictures[0]
        remedy = f"put the RAW file of each picture beside it, as {picture.stem}.NEF beside {picture.name}"
    return f"{expected}, got none of them, but {' and '.join(seen)}; {remedy}"


def _odd(found: Found) -> Iterable[Skipped]:
    for path, problem in found.odd:
        yield Skipped(str(path), problem)
    for path, problem in found.closed:
        reason = f"{path}: expected a folder that can be listed, got an error ({problem}); change its permissions"
        yield Skipped(str(path), reason)


def _undecided(data: Path, raw: Path, raws: Sequence[Path], pictures: Sequence[Path]) -> str:
    listed = ", ".join(str(picture) for picture in pictures[:3])
    if len(raws) == 1:
        return (
            f"{data / raw}: expected one picture of that name, got several: {listed}; "
            "move all but one out of the folder, or rename them"
        )
    rivals = ", ".join(str(other) for other in raws if other != raw)
    return (
        f"{data / raw}: expected one RAW file for the picture {listed}, got {rivals} too; "
        "put each RAW file and its picture into a folder of their own"
    )


def _unused(data: Path, found: Found, matches: Matches) -> Iterable[Skipped]:
    for raw, original in matches.copies.items():
        reason = f"{data / raw}: not used, since the camera's own {original.suffix} file of that shot is there"
        yield Skipped(str(data / raw), reason)
    for picture in matches.spare:
        reason = f"{data / picture}: not used, since its RAW file has a nearer picture, or lies in another folder"
        yield Skipped(str(data / picture), reason)
    for path in found.hidden:
        if not path.name.startswith("."):  # everybody has .DS_Store, .thumbnails and the like
            yield Skipped(str(path), f"{path}: left out, since it holds thumbnails or deleted files")


@dataclass(frozen=True)
class _Nearest:
    """Finds the file that a RAW file without a fitting picture may have been meant for."""

    data: Path
    matches: Matches
    unreadable: Mapping[str, Path]  # {key of the name: a picture of a format that nobody here reads}
    free: list[tuple[str, Path]] = field(default_factory=list)

    def __post_init__(self) -> None:
        pictures = (*self.matches.unclaimed, *self.matches.spare)
        self.free.extend(sorted((name_key(picture.stem), picture) for picture in pictures))

    def remedy(self, raw: Path) -> str:
        """Return what to do if no picture fits `raw`."""
        if raw in self.matches.near:
            return f"use the camera's full-size picture of {raw.name}"
        usual = f"put the camera's full-size JPEG beside it as {raw.stem}.jpg"
        other = self.unreadable.get(name_key(raw.stem))
        if other is not None:
            kinds = ", ".join(PICTURE_KINDS)
            return f"{usual} (only {kinds} are read: convert {other.relative_to(self.data)})"
        if not self.free:
            return usual
        # Names that begin alike are neighbours in the sorted list.
        at = bisect.bisect(self.free, (name_key(raw.stem), raw))
        around = self.free[max(0, at - 1) : at + 1]
        key = name_key(raw.stem)
        _, picture = max(around, key=lambda entry: _common_letters(entry[0], key))
        return f"{usual} (if {picture} is its picture, put it there under that name)"


def _common_letters(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

"""Finds the files of a data folder that a pattern matches, and counts what is left out by kind.

Links to files are followed wherever they lead: people collect pictures that way. A link to a folder is entered only if the
pattern names it (`**` does not, so that a loop of links cannot hang) and it leads to a place inside the data folder;
otherwise it is counted. So a pattern never leads out of the data folder. Hidden files and folders are ignored.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from blursynth.shards.format import IDENTITY, number_of
from isp.files.pictures import IMAGE_SUFFIXES
from isp.files.places import SERVICE_FOLDER

_NAMED = 3  # how many places a sentence names before it only counts them

_SERVICE_FILE = re.compile(r"SYNO(PHOTO|FILE|VIDEO|INDEX)_.*")  # thumbnails of a Synology NAS, copied out of @eaDir


@dataclass
class Found:
    """The images that a pattern matches, as sorted names relative to the data folder, and what was left out.

    skipped   the number of other files and folders by kind
    notes     sentences about them
    """

    names: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find(folder: Path, pattern: str) -> Found:
    """Find the images below `folder` that match `pattern`.

    Raises `ValueError` if `folder` is no folder or holds no such image.
    """
    if not folder.is_dir():
        got = f'the file "{folder.name}"' if folder.exists() else "nothing there"
        raise ValueError(f"{folder}: expected a folder of images, got {got}; check --data")
    walk = _Walk(os.fspath(folder), _Pattern(pattern))
    walk.run()
    found = walk.found
    found.names.sort()
    found.notes += listed("folders that cannot be read", walk.unreadable)
    found.notes += listed("folders of finished shards, whose pictures are left out", walk.of_shards)
    if not found.names:
        raise ValueError(
            f'{folder}: expected images ({", ".join(sorted(IMAGE_SUFFIXES))}) that match source.pattern "{pattern}", '
            f"got none (skipped: {counted(found.skipped)}); check --data and source.pattern"
        )
    return found


def counted(skipped: Counter[str]) -> str:
    """Return how many of each kind in words, "nothing" if there is none."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items())) or "nothing"


def listed(what: str, places: Iterable[str]) -> list[str]:
    """Return one sentence that names the first few of `places` and counts the others; no sentence if there is none.

    >>> listed("bad files", ["d", "b", "c", "a"])
    ['bad files: a, b, c and 1 more']
    """
    names = sorted(places)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{what}: {', '.join(names[:_NAMED])}{more}"] if names else []


# ---------------------------------------------------------------- patterns


class _Pattern:
    """A pattern as the states of an automaton: how many of its parts the names so far have used up."""

    def __init__(self, pattern: str) -> None:
        parts = list(PurePosixPath(pattern).parts)
        self._parts = [*parts, "*"] if parts[-1] == "**" else parts
        self._fits: list[Callable[[str], object]] = [
            (lambda _: True) if part in ("*", "**") else re.compile(fnmatch.translate(part)).match
            for part in self._parts
        ]
        self.start = self._from(0)

    def _from(self, state: int) -> frozenset[int]:
        """Return the states that are reached without a name: `**` also stands for no folder at all."""
        states = {state}
        while self._parts[state] == "**":
            state += 1
            states.add(state)
        return frozenset(states)

    def ends(self, states: frozenset[int], name: str) -> bool:
        """Whether the pattern ends with this name."""
        last = len(self._parts) - 1
        return last in states and bool(self._fits[last](name))

    def named(self, states: frozenset[int], name: str) -> frozenset[int]:
        """Return the states inside a folder of this name that are reached because a part of the pattern names it."""
        parts = range(len(self._parts) - 1)
        fitting = (each for each in states if each in parts and self._parts[each] != "**" and self._fits[each](name))
        return frozenset().union(*(self._from(each + 1) for each in fitting))

    def anywhere(self, states: frozenset[int]) -> frozenset[int]:
        """Return the states inside any folder, because of `**`."""
        return frozenset().union(*(self._from(each) for each in states if self._parts[each] == "**"))


# ---------------------------------------------------------------- folders


class _Place(NamedTuple):
    """A folder that is still to be looked through; `prefix` is its relative path with a slash, "" for the data folder."""

    prefix: str
    states: frozenset[int]
    service: str = ""  # the name of the service folder that it is in


class _Walk:
    def __init__(self, root: str, pattern: _Pattern) -> None:
        self._root, self._real_root, self._pattern = root, os.path.realpath(root), pattern
        self._waiting = [_Place("", pattern.start)]
        self.found = Found()
        self.unreadable: list[str] = []
        self.of_shards: list[str] = []

    def run(self) -> None:
        while self._waiting:
            place = self._waiting.pop()
            path = Path(self._root, place.prefix)
            try:
                # A folder whose names can be read but whose files cannot be opened is as good as closed.
                if not os.access(path, os.X_OK):
                    raise PermissionError
                with os.scandir(path) as entries:
                    content = list(entries)
            except OSError:
                if not place.service:  # bins and lost+found are closed to most people
                    self._count("unreadable folder")
                    self.unreadable.append(place.prefix.rstrip("/") or self._root)
                continue
            if _holds_our_shards(path, {entry.name for entry in content}):
                self._count("folder of finished shards")
                self.of_shards.append(place.prefix.rstrip("/") or self._root)
                continue
            for entry in content:
                self._look_at(entry, place)

    def _look_at(self, entry: os.DirEntry[str], place: _Place) -> None:
        name = entry.name
        hidden = name.startswith(".")
        if hidden and not SERVICE_FOLDER.fullmatch(name):
            return
        if _is_folder(entry):
            self._enter(entry, place)
        elif not hidden and self._pattern.ends(place.states, name):
            kind = _kind(entry)
            if kind == "image" and place.service:
                self._count(f"image in {place.service}")
            elif kind == "image" and _SERVICE_FILE.fullmatch(name):
                self._count("thumbnail of a NAS")
            elif kind == "image":
                self.found.names.append(f"{place.prefix}{name}")
            elif not place.service:
                self._count(kind)

    def _enter(self, entry: os.DirEntry[str], place: _Place) -> None:
        """Put a folder on the list of those to look through, if the pattern goes on inside it."""
        name = entry.name
        named, anywhere = self._pattern.named(place.states, name), self._pattern.anywhere(place.states)
        if not entry.is_symlink():
            inside = named | anywhere
        elif named and self._leads_inside(entry.path):
            inside = named
        else:
            if not place.service and (named or anywhere or self._pattern.ends(place.states, name)):
                self._count("linked folder")
            return
        if inside:
            service = place.service or (name if SERVICE_FOLDER.fullmatch(name) else "")
            self._waiting.append(_Place(f"{place.prefix}{name}/", inside, service))

    def _leads_inside(self, link: str) -> bool:
        return os.path.commonpath([self._real_root, os.path.realpath(link)]) == self._real_root

    def _count(self, kind: str) -> None:
        self.found.skipped[kind] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "image", what is wrong with a file that has the name of one, or the suffix of another file."""
    suffix = PurePosixPath(entry.name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        return suffix or "no suffix"
    try:
        if entry.is_file():
            return "image"
        entry.stat()  # fails if it is a link to nothing
    except OSError:
        return "unreadable"
    return "not a regular file"


def _holds_our_shards(path: Path, names: set[str]) -> bool:
    """Whether a folder with these names in it holds finished shards, whose pictures are no source.

    An identity.json alone does not say so: others use that name too.
    """
    if IDENTITY not in names or all(number_of(name) is None for name in names):
        return False
    from blursynth.shards import folders  # loads h5py

    try:
        return folders.owner_of(path) is not None
    except ValueError:
        return False

"""Which frames of a folder follow each other, by the numbers in their names.

numbering_of(["f1.png", "f2.png", "f3.png", "f40.png", "f41.png"])    two runs, (f1 f2 f3) and (f40 f41), and one gap
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import sub
from pathlib import PurePosixPath
from statistics import median_low
from typing import NamedTuple

_LOSSLESS_FIRST = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
_CLOCK = 1000  # steps from here on are those of a clock in microseconds or nanoseconds, not of a counter
_ROUNDED = 8  # steps from here on may be times in milliseconds, rounded: 0, 33, 67, 100


@dataclass
class Numbering:
    """The frames of one folder.

    runs         frames without a gap between them, in the order of their numbers
    gaps         the frames before and after each gap
    steps        the distance of the numbers of each sequence of at least two frames
    doubles      how many files show a frame that another file shows too, as a.jpg beside a.png
    unnumbered   how many files have no number in their names
    """

    runs: list[tuple[str, ...]] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    doubles: int = 0
    unnumbered: int = 0


def numbering_of(names: Iterable[str]) -> Numbering:
    """Put the files of one folder in order.

    Names that differ in more than their numbers belong to different sequences. If names hold several numbers, those that
    differ in every name count the frames; if none does, it is the one that leaves the fewest sequences.

    Raises `ValueError` if two names have the same numbers, as 1.png and 01.png.
    """
    found = Numbering()
    forms: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for name in sorted(names):
        stem = PurePosixPath(name).stem
        numbers = tuple(map(int, re.findall("[0-9]+", stem)))
        if numbers:
            forms.setdefault(re.sub("[0-9]+", "#", stem), {}).setdefault(numbers, []).append(name)
        else:
            found.unnumbered += 1
    for files in forms.values():
        frames = _one_file_each(files)
        found.doubles += sum(map(len, files.values())) - len(frames)
        for sequence in _sequences(frames):
            _split(sequence, found)
    return found


def _one_file_each(files: dict[tuple[int, ...], list[str]]) -> dict[tuple[int, ...], str]:
    """Choose one file for each frame, of the format in which most frames are there."""
    formats = Counter(_suffix(name) for same in files.values() for name in same)
    for same in files.values():
        if len({PurePosixPath(name).stem for name in same}) > 1:
            raise ValueError(f"expected each frame number once, got {' and '.join(same)}; remove or rename one")
    return {
        numbers: min(same, key=lambda name: (-formats[_suffix(name)], _LOSSLESS_FIRST.index(_suffix(name)), name))
        for numbers, same in files.items()
    }


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


# ---------------------------------------------------------------- several numbers in a name


class _Frame(NamedTuple):
    numbers: tuple[int, ...]  # usually one; several if a name holds a counter and a clock
    name: str


def _sequences(frames: dict[tuple[int, ...], str]) -> list[list[_Frame]]:
    """Sort frames whose names differ only in their numbers into sequences, each in the order of its numbers."""
    columns = range(len(next(iter(frames))))
    # Numbers that differ in every name, as a counter beside a clock, count the frames together.
    counters = [at for at in columns if len({numbers[at] for numbers in frames}) == len(frames)]
    if counters:
        return _grouped(frames, counters)
    return min((_grouped(frames, [at]) for at in reversed(columns)), key=len)


def _grouped(frames: dict[tuple[int, ...], str], counters: list[int]) -> list[list[_Frame]]:
    groups: dict[tuple[int, ...], list[_Frame]] = {}
    for numbers, name in frames.items():
        others = tuple(number for at, number in enumerate(numbers) if at not in counters)
        groups.setdefault(others, []).append(_Frame(tuple(numbers[at] for at in counters), name))
    return [sorted(group) for group in groups.values()]


# ---------------------------------------------------------------- gaps


def _split(sequence: list[_Frame], found: Numbering) -> None:
    """Add the runs and gaps of a sequence to `found`."""
    distances = [tuple(map(sub, after.numbers, before.numbers)) for before, after in pairwise(sequence)]
    steps = [_step(counter) for counter in zip(*distances, strict=True)]
    found.steps += steps[:1]
    run = [sequence[0].name]
    for (before, after), distance in zip(pairwise(sequence), distances, strict=True):
        if not all(map(_is_one_step, distance, steps)):
            found.gaps.append((before.name, after.name))
            found.runs.append(tuple(run))
            run = []
        run.append(after.name)
    found.runs.append(tuple(run))


def _step(distances: Sequence[int]) -> int:
    """Return the most frequent distance of neighbours, of equally frequent ones the smallest.

    If no distance occurs twice it is the median.
    """
    counts = Counter(distances)
    most = max(counts.values())
    if most == 1:
        return median_low(counts)
    return min(distance for distance, count in counts.items() if count == most)


def _is_one_step(distance: int, step: int) -> bool:
    """Whether two frames follow each other. Clocks are not exact, and times in milliseconds are rounded."""
    tolerance = step / 4 if step >= _CLOCK else 1 if step >= _ROUNDED else 0
    return abs(distance - step) <= tolerance

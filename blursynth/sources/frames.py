"""Windows of frame sequences as a source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from blursynth.sources.clips import Files, Footage, footage_of
from blursynth.sources.colours import remarks_on
from blursynth.sources.numbering import Numbering, numbering_of
from blursynth.sources.sides import take_sharp_side
from blursynth.sources.source import SourceModel, given
from blursynth.sources.walk import find, listed


def _check_odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"expected an odd number, so that there is a middle frame, got {window}")
    return window


class Frames(SourceModel):
    """Windows of consecutive frames, `stride` apart (default: side by side); the target is the middle frame.

    Every folder that holds images is a clip, its frames in the order of their numbers; names that differ in more than a
    number are clips of their own. The step of the numbers is learned from them (0, 10, 20 is as good as 0, 1, 2). No window
    reaches across a gap, and clips or parts of clips shorter than `window` are skipped; both are counted. Of a frame that is
    there in two formats one file is used.
    """

    brings: ClassVar[tuple[str, ...]] = ()

    use: Literal["frames"] = "frames"
    window: Annotated[int, Field(ge=3), AfterValidator(_check_odd)] = 11
    stride: int | None = Field(default=None, ge=1)
    pairs_per_window: int = Field(default=1, ge=1)

    def open(self, data: Path | None) -> Footage:
        """Find the windows. Raises `ValueError` if there is none, a frame is a broken link, or a number occurs twice."""
        data = given(data, "frames", "one folder of frames per clip (CLIP/000001.png ...)")
        found = find(data, self.pattern)
        if broken := found.skipped["unreadable"]:
            raise ValueError(
                f"{data}: expected frames without gaps, got {broken} broken links or unreadable files; "
                "repair them, or exclude their clip with source.pattern"
            )
        if take_sharp_side(found, self.pattern):
            found.notes.append(
                "frames of blurred and sharp pairs may be far apart in time, so that their mean shows double contours; "
                "use the video that the pairs were made from, such as GOPRO_Large_all"
            )
        clips = {folder: _numbering(data, folder, names) for folder, names in _by_folder(found.names).items()}
        windows = [
            _files(data.absolute(), folder, window)
            for folder, clip in clips.items()
            for run in clip.runs
            for window in self._windows(run)
        ]
        gaps = [f"{folder / before} to {after}" for folder, clip in clips.items() for before, after in clip.gaps]
        lengths = [len(run) for clip in clips.values() for run in clip.runs]
        if not windows:
            raise ValueError("; ".join([self._too_short(data, lengths), *listed("gaps in the numbering", gaps)]))
        found.skipped += Counter(
            {
                "clip shorter than the window": sum(length < self.window for length in lengths),
                "gap in the numbering": len(gaps),
                "second file of a frame": sum(clip.doubles for clip in clips.values()),
                "image without a frame number": sum(clip.unnumbered for clip in clips.values()),
            }
        )
        found.notes += listed("gaps in the numbering, which no window bridges", gaps)
        found.notes += listed("frames that are not numbered 1, 2, 3", _steps(clips))
        found.notes += remarks_on(window.folder / window.sharp for window in windows)
        return footage_of(windows, found.skipped, self.pairs_per_window * len(windows), found.notes)

    def _windows(self, run: tuple[str, ...]) -> list[tuple[str, ...]]:
        starts = range(0, len(run) - self.window + 1, self.stride or self.window)
        return [run[start : start + self.window] for start in starts]

    def _too_short(self, data: Path, lengths: list[int]) -> str:
        return (
            f"{data}: expected a clip of at least {self.window} frames in one folder, got {len(lengths)} with "
            f"at most {max(lengths, default=0)}; choose a smaller source.window, or another folder"
        )


def _by_folder(names: list[str]) -> dict[PurePosixPath, list[str]]:
    folders: dict[PurePosixPath, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(PurePosixPath(folder), []).append(file)
    return folders


def _files(data: Path, folder: PurePosixPath, window: tuple[str, ...]) -> Files:
    middle = window[len(window) // 2]
    return Files(str(folder / middle), data / folder, window, middle)


def _numbering(data: Path, folder: PurePosixPath, names: list[str]) -> Numbering:
    try:
        return numbering_of(names)
    except ValueError as problem:
        raise ValueError(f"{data / folder}: {problem}") from problem


def _steps(clips: dict[PurePosixPath, Numbering]) -> list[str]:
    """Return in words how many sequences are numbered in other steps than 1."""
    steps = Counter(step for clip in clips.values() for step in clip.steps if step != 1)
    return [f"{count} sequences in steps of {step}" for step, count in steps.items()]

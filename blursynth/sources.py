"""Where pictures come from: photographs, frame sequences or ready-made pairs, found in name order.

    source.open(data) -> Footage     paths and digests only; `footage.clips[i].read()` reads the pictures of one clip

A source's fields are the keys of `source:` in a recipe. Files that are not images are skipped and counted by kind;
hidden files are ignored. `**` does not enter folders that are symbolic links, so that a loop of links cannot hang.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from blursynth.digests import digests_of
from isp.files import photographs
from isp.files.pictures import IMAGE_SUFFIXES, Picture, read_image

# ---------------------------------------------------------------- what a source gives


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pixels of one clip: `image` will be blurred (or is blurred already), `sharp` is the target.

    `saturation` is the ready-made mask: 255 where all light came from clipped places of the source.
    """

    image: UInt8[np.ndarray, "f h w 3"] | UInt16[np.ndarray, "f h w 3"]
    sharp: Picture
    saturation: UInt8[np.ndarray, "h w 3"] | None = None


class _Files(NamedTuple):
    """The files of a clip, relative to `folder`; `name` is relative to the data folder."""

    name: str
    folder: Path
    frames: tuple[str, ...]
    sharp: str
    saturation: str | None = None

    def paths(self) -> tuple[Path, ...]:
        """Return the paths of frames, mask and target, each once."""
        mask = (self.saturation,) if self.saturation else ()
        return tuple(self.folder / file for file in dict.fromkeys((*self.frames, *mask, self.sharp)))


@dataclass(frozen=True)
class Clip:
    """The files of one clip. It holds no pixels, so that it travels to a worker in a few hundred bytes.

    digest   sha256 of the file; of several (frames, mask, target), sha256 over their joined hexadecimal digests
    """

    files: _Files
    digest: str

    @property
    def name(self) -> str:
        """Relative POSIX path of the file that names it: the photograph, the middle frame, or the blurred image."""
        return self.files.name

    def read(self) -> Pictures:
        """Read the pictures. Raises `ValueError` for a file that is unreadable or differs from the first in size or depth."""
        folder, files = self.files.folder, self.files
        mask = folder / files.saturation if files.saturation else None
        pictures = {path: read_image(path) for path in files.paths()}
        (first, like), *others = pictures.items()
        for path, picture in others:
            depth = np.dtype(np.uint8) if path == mask else like.dtype
            if (picture.shape, picture.dtype) != (like.shape, depth):
                raise ValueError(
                    f"{path}: expected {like.shape[0]}x{like.shape[1]} {depth} to go with {first}, "
                    f"got {picture.shape[0]}x{picture.shape[1]} {picture.dtype}; make the files of a clip agree"
                )
        image = np.stack([pictures[folder / frame] for frame in files.frames])
        return Pictures(image, pictures[folder / files.sharp], pictures[mask] if mask else None)


@dataclass(frozen=True)
class Footage:
    """The clips of a source in name order, how many files of each kind were skipped, and how many pairs to make.

    digest   sha256 over the names and digests of the clips
    """

    clips: tuple[Clip, ...]
    skipped: dict[str, int]
    default_count: int
    digest: str


# ---------------------------------------------------------------- the sources


def _check_pattern(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not parts or parts[0] == "/" or ".." in parts or any("**" in part and part != "**" for part in parts):
        raise ValueError(f'expected a pattern inside the data folder, such as "**/*.png", got "{pattern}"')
    return pattern


def _check_odd(window: int) -> int:
    if window % 2 == 0:
        raise ValueError(f"expected an odd number, so that there is a middle frame, got {window}")
    return window


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    brings: ClassVar[tuple[str, ...]] = ("one_frame",)  # what it puts into a sample, as `Stage.brings`

    pattern: Annotated[str, AfterValidator(_check_pattern)] = "**/*"


class Photos(_Source):
    """Photographs: a folder of them, a single one, or those that ship with scikit-image (CC0 or public domain)."""

    use: Literal["photos"] = "photos"
    pairs_per_photo: int = Field(default=8, ge=1)

    def open(self, data: Path | None) -> Footage:
        """Find the photographs. Raises `ValueError` if there is none, `ImportError` if scikit-image is missing."""
        if data is None:
            folder = photographs.folder()
            built_in = [_Files(f"scikit-image/{name}", folder, (name,), name) for name in BUILT_IN]
            return _footage(built_in, {}, default_count=32)
        if data.is_file() and _kind(data) == "image":
            folder, names, skipped = data.absolute().parent, [data.name], dict[str, int]()
        else:
            folder = data.absolute()
            names, skipped = _find(data, self.pattern)
        photos = [_Files(name, folder, (name,), name) for name in names]
        return _footage(photos, skipped, default_count=self.pairs_per_photo * len(photos))


class Frames(_Source):
    """Windows of consecutive frames, `stride` apart (default: side by side); the target is the middle frame.

    Every folder that holds images is a clip, its frames in name order. Clips shorter than `window` are skipped.
    """

    brings: ClassVar[tuple[str, ...]] = ()

    use: Literal["frames"] = "frames"
    window: Annotated[int, Field(ge=3), AfterValidator(_check_odd)] = 11
    stride: int | None = Field(default=None, ge=1)
    pairs_per_window: int = Field(default=1, ge=1)

    def open(self, data: Path | None) -> Footage:
        """Find the windows. Raises `ValueError` if there is none, a frame is a broken link, or frames lack leading zeros."""
        data = _given(data, "frames", "one folder of frames per clip (CLIP/000001.png ...)")
        names, skipped = _find(data, self.pattern)
        if "unreadable" in skipped:
            raise ValueError(
                f"{data}: expected frames without gaps, got {skipped['unreadable']} broken links or unreadable files; "
                "repair them, or exclude their clip with source.pattern"
            )
        sequences: dict[PurePosixPath, list[str]] = {}
        for name in map(PurePosixPath, names):
            sequences.setdefault(name.parent, []).append(name.name)
        windows = []
        for parent, frames in sequences.items():
            _check_numbering(data / parent, frames)
            for start in range(0, len(frames) - self.window + 1, self.stride or self.window):
                window = tuple(frames[start : start + self.window])
                middle = window[self.window // 2]
                windows.append(_Files(str(parent / middle), data.absolute() / parent, window, middle))
        lengths = [len(frames) for frames in sequences.values()]
        if not windows:
            raise ValueError(
                f"{data}: expected a clip of at least {self.window} frames in one folder, got {len(lengths)} with "
                f"at most {max(lengths)}; choose a smaller source.window, or another folder"
            )
        short = sum(length < self.window for length in lengths)
        skipped |= {"clip shorter than the window": short} if short else {}
        return _footage(windows, skipped, default_count=self.pairs_per_window * len(windows))


class Pairs(_Source):
    """Ready-made blur, saturation mask and sharp target in a published layout; a pair counts if one of them matches."""

    brings: ClassVar[tuple[str, ...]] = ("one_frame", "saturation")

    use: Literal["pairs"] = "pairs"
    layout: Literal["gopro_u", "gopro_abme", "rsblur"]

    def open(self, data: Path | None) -> Footage:
        """Find the pairs. Raises `ValueError` if there is none, or one lacks a file."""
        layout = ", ".join("/".join(role) for role in LAYOUTS[self.layout])
        data = _given(data, "pairs", f"the layout {self.layout} ({layout})")
        names, skipped = _find(data, self.pattern)
        triples = [_triple(name, self.layout) for name in names]
        pairs = [_Files(each[0], data.absolute(), each[:1], each[2], each[1]) for each in {*triples} if each]
        if not pairs:
            raise ValueError(f'{data}: expected {layout} (source.layout "{self.layout}"), got none of them; check both')
        for pair in sorted(pairs):
            missing = [str(path) for path in pair.paths() if not path.is_file()]
            if missing:
                expected = ", ".join(map(str, pair.paths()))
                raise ValueError(f"{data}: expected {expected}, got no {', '.join(missing)}; copy the data again")
        strangers = triples.count(None)
        skipped |= {"image of no pair": strangers} if strangers else {}
        return _footage(pairs, skipped, default_count=len(pairs))


Source = Annotated[Photos | Frames | Pairs, Field(discriminator="use")]

# ---------------------------------------------------------------- finding files

BUILT_IN = photographs.NAMES

# Folder and name of blurred image, saturation mask and sharp target; * matches the same text in all three.
# Source: rim2022, RSBlur@ae33a6c (README)
LAYOUTS = {
    "gopro_u": (
        ("centroid_blurred_img", "*_blurred.png"),
        ("centroid_blurred_mask_100", "*_blurred.png"),
        ("target_img", "*_gt.png"),
    ),
    "gopro_abme": (("avg_inter_img", "avg_blur.png"), ("avg_inter_mask_100", "avg_blur.png"), ("gt", "gt_sharp.png")),
    "rsblur": (("avg65_img", "avg_blur.png"), ("avg65_mask_100", "avg_blur.png"), ("gt", "gt_sharp.png")),
}


def _given(data: Path | None, use: str, layout: str) -> Path:
    if data is None:
        raise ValueError(f'source "{use}": expected a folder with {layout}, got none; give --data FOLDER')
    return data


def _find(folder: Path, pattern: str) -> tuple[list[str], dict[str, int]]:
    """Return the matching images as sorted relative names, and the number of other matching files by kind."""
    if not folder.is_dir():
        got = f'the file "{folder.name}"' if folder.exists() else "nothing there"
        raise ValueError(f"{folder}: expected a folder of images, got {got}; check --data")
    ours = {path.parent for path in folder.rglob("identity.json")}  # finished shards hold pictures that are no source
    found = {path.relative_to(folder): path for path in folder.glob(pattern) if ours.isdisjoint(path.parents)}
    kinds = {
        name.as_posix(): _kind(path)
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }
    names = sorted(name for name, kind in kinds.items() if kind == "image")
    skipped = dict(sorted(Counter(kind for kind in kinds.values() if kind not in ("image", "folder")).items()))
    if not names:
        others = ", ".join(f"{count} {kind}" for kind, count in skipped.items()) or "nothing"
        raise ValueError(
            f'{folder}: expected images ({", ".join(sorted(IMAGE_SUFFIXES))}) that match source.pattern "{pattern}", '
            f"got none (skipped: {others}); check --data and source.pattern"
        )
    return names, skipped


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return "linked folder" if path.is_symlink() else "folder"
        if suffix in IMAGE_SUFFIXES:
            return "image" if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
    return suffix or "no suffix"


def _check_numbering(folder: Path, frames: Sequence[str]) -> None:
    """Raise `ValueError` if name order is not number order: 10.png comes before 2.png."""
    for earlier, later in pairwise(frames):
        same_form = re.sub(r"\d+", "#", earlier) == re.sub(r"\d+", "#", later)
        if same_form and [*map(int, re.findall(r"\d+", earlier))] > [*map(int, re.findall(r"\d+", later))]:
            raise ValueError(
                f"{folder}: expected frames whose name order is their number order, got {earlier} before {later}; "
                "rename them with leading zeros"
            )


def _triple(name: str, layout: str) -> tuple[str, str, str] | None:
    """Return blurred image, mask and sharp target of the pair that `name` belongs to; `None` if it belongs to none."""
    path = PurePosixPath(name)
    for folder, form in LAYOUTS[layout]:
        before, star, after = form.partition("*")
        fits = path.name.startswith(before) and path.name.endswith(after) if star else path.name == form
        if fits and path.parent.name == folder:
            text, root = path.name.removeprefix(before).removesuffix(after), path.parents[1]
            blur, mask, sharp = (str(root / role / file.replace("*", text)) for role, file in LAYOUTS[layout])
            return blur, mask, sharp
    return None


def _footage(groups: Iterable[_Files], skipped: dict[str, int], default_count: int) -> Footage:
    ordered = sorted(groups)
    digests = digests_of({path: None for files in ordered for path in files.paths()})
    clips, whole = [], hashlib.sha256()
    for files in ordered:
        each = [digests[path] for path in files.paths()]
        clip = Clip(files, each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest())
        whole.update(os.fsencode(f"{clip.name}\0{clip.digest}\n"))
        clips.append(clip)
    return Footage(tuple(clips), skipped, default_count, whole.hexdigest())

"""Which images of a data set for deblurring are sharp: its other side must not become ground truth.

Such data sets hold every scene twice or more, in sibling folders whose names say which is which:

    GOPRO_Large          CLIP/{blur, blur_gamma, sharp}
    RealBlur, its Tele   sceneNNN/{blur, gt} as blur_N.png and gt_N.png, and from its own scripts also Anaglyph, kernel
    REDS                 {train, val}_{sharp, blur, blur_comp, blur_jpeg, sharp_bicubic, blur_bicubic}
    BSD                  CLIP/{Blur, Sharp}/{RGB, RAW}
    RSBlur, GoPro_U ...  {real_blur, avg65_img, avg65_mask_100, gt}, {centroid_blurred_img, ..._mask_100, target_img}
    HIDE, DVD, copies    {input, target}, {input, GT}, {train, test, GT} with equal names, {blur_crops, sharp_crops}

or in one folder, as a_blur.png and a_sharp.png. So the words of a name decide, and a sharp sibling must be there. The
layouts are those of the published archives: SeungjunNah/seungjunnah.github.io@05c3637 describes GOPRO_Large and REDS,
rimchang/RealBlur@fcac048 writes the folders of RealBlur, rimchang/RSBlur@ae33a6c describes RSBlur and GoPro_U.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

from blursynth.sources.source import EVERYTHING
from blursynth.sources.walk import Found, counted

_BLURRED = frozenset({"blur", "blurs", "blurry", "blurred"})
_SHARP = frozenset({"sharp", "gt", "target", "targets", "groundtruth", "clean", "hq"})
_DEGRADED = frozenset({"input", "inputs", "lq", "degraded", "avg"})
_COPY = frozenset({"bicubic", "downsampled"})
_COMPANION = frozenset({"mask", "masks", "anaglyph", "kernel", "kernels", "ref", "flow"})
# Too common to mean a side, unless their files are named as sharp ones.
_SAME_NAMES = frozenset({"train", "test", "source"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
# What else the name of a side may say without meaning another scene.
_DETAILS = _SPLITS | _COPY | {
    *("img", "imgs", "image", "images", "frame", "frames", "crop", "crops", "patch", "patches", "rgb", "inter"),
    *("gamma", "linear", "comp", "compressed", "jpeg", "jpg", "real", "synthetic", "motion", "defocus", "defocused"),
    *("centroid", "mask"),
}  # fmt: skip


def take_sharp_side(found: Found, pattern: str) -> int:
    """Leave out the images that are not the sharp side of their data set, and count them; return how many.

    A pattern of the user's own takes what it matches; a note then says how many of these images are among it.
    """
    beside = _beside_sharp(found.names)
    kinds = Counter(beside.values())
    if pattern != EVERYTHING:
        if kinds:
            found.notes.append(f"source.pattern also takes as sharp pictures: {counted(kinds)}")
        return 0
    found.names = [name for name in found.names if name not in beside]
    found.skipped += kinds
    blurred = Counter(folder for name in found.names if (folder := _Folders.blurred_part(name)))
    if blurred:
        found.notes.append(f"folders whose names say that their pictures are blurred: {counted(blurred)}")
    return len(beside)


def _beside_sharp(names: list[str]) -> dict[str, str]:
    """Return {image that has a sharp counterpart, or belongs to a pair: what it is}."""
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    folders = _Folders(by_folder)
    found = {}
    for folder, inside in by_folder.items():
        kind = folders.kind_of(folder)
        left = dict.fromkeys(inside, kind) if kind else _beside_sharp_files(inside)
        found.update(left)
    return found


# ---------------------------------------------------------------- folders


class _Folders:
    """The tree of folders that hold images, and the side that each name in it stands for."""

    def __init__(self, by_folder: dict[str, list[str]]) -> None:
        self._by_folder = by_folder
        self._children: dict[str, set[str]] = {}
        for folder in by_folder:
            while folder and folder not in self._children.get(folder.rpartition("/")[0], ()):
                parent, _, _ = folder.rpartition("/")
                self._children.setdefault(parent, set()).add(folder)
                folder = parent

    def kind_of(self, folder: str) -> str:
        """Return what the images of a folder are, "" for sharp ones. The innermost folder that is a side decides."""
        while folder:
            if folder in self._left_out:
                return self._left_out[folder]
            if folder in self._sharp:
                return ""
            folder = folder.rpartition("/")[0]
        return ""

    @staticmethod
    def blurred_part(name: str) -> str:
        """Return the innermost folder in the path of an image that is named as a side, if that is the blurred one."""
        for part in reversed(PurePosixPath(name).parts[:-1]):
            if not _subject(part) and _words(part) & (_BLURRED | _SHARP):
                return part if _words(part) & _BLURRED else ""
        return ""

    @cached_property
    def _sharp(self) -> set[str]:
        """The folders that are sharp sides: named so and nothing else, or with a blurred sibling of the same subject."""
        found = set()
        for siblings in self._children.values():
            subjects = {_subject(_last(each)) for each in siblings if _words(_last(each)) & _BLURRED}
            found |= {
                each for each in siblings if _is_sharp(_last(each)) and _subject(_last(each)) in {*subjects, _NONE}
            }
        return found

    @cached_property
    def _left_out(self) -> dict[str, str]:
        """{folder: what its images are} of all folders beside a sharp one."""
        paired = {each: kind for siblings in self._children.values() for each, kind in self._of_siblings(siblings)}
        roles = {role for role in (_BLURRED, _DEGRADED) if any(_words(_last(each)) & role for each in paired)}
        if self._sharp:
            roles.add(_BLURRED)
        # A clip that lacks its sharp side is no sharper than the others.
        alone = {
            each: f"blurred image in {_last(each)}"
            for siblings in self._children.values()
            for each in siblings - self._sharp
            if not _subject(_last(each)) and any(_words(_last(each)) & role for role in roles)
        }
        return alone | paired

    def _of_siblings(self, siblings: set[str]) -> Iterable[tuple[str, str]]:
        sharp = siblings & self._sharp
        subjects = {_subject(_last(each)) for each in sharp}
        others = {each: _words(_last(each)) for each in siblings - sharp}
        in_pairs = any(words & (_BLURRED | _DEGRADED) for words in others.values())
        for each, words in others.items():
            name = _last(each)
            is_side = words & _BLURRED or (words & _DEGRADED and not words & _COMPANION)
            if name.lower() == "raw" and any(_last(sibling).lower() == "rgb" for sibling in siblings):
                yield each, f"image in {name} beside its RGB"
            elif not sharp:
                continue
            elif is_side and subjects & {_subject(name), _NONE}:
                yield each, f"blurred image in {name}"
            elif (words & _COMPANION and in_pairs) or (words & _COPY and words & _SHARP):
                yield each, f"image in {name} beside its sharp side"
            elif words and words <= _SAME_NAMES and self._files(each) <= set().union(*map(self._files, sharp)):
                yield each, f"blurred image in {name}"

    def _files(self, folder: str) -> set[str]:
        """Return the names of all images in a folder and below."""
        below = map(self._files, self._children.get(folder, ()))
        return {_last(name) for name in self._by_folder.get(folder, ())}.union(*below)


_NONE: frozenset[str] = frozenset()


def _last(path: str) -> str:
    return path.rpartition("/")[2]


@lru_cache(1024)
def _words(name: str) -> frozenset[str]:
    """Return the words of a name: "train_blur", "TrainBlur" and "train-blur2" have the same."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    return frozenset(words - {"ground", "truth"} | {"gt"} if words >= {"ground", "truth"} else words)


def _subject(name: str) -> frozenset[str]:
    """Return what the name of a side says beyond its side: "GoPro" of "GoPro_blur" and "GoPro_sharp"."""
    return _words(name) - _BLURRED - _SHARP - _DEGRADED - _DETAILS


def _is_sharp(name: str) -> bool:
    words = _words(name)
    return bool(words & _SHARP) and not words & (_BLURRED | _COPY)


# ---------------------------------------------------------------- files of one folder

_BLURRED_WORD = re.compile(r"(?<![A-Za-z])(blur|blurs|blurry|blurred)(?![A-Za-z])", re.IGNORECASE)
_INPUT_WORD = re.compile(r"(?<![A-Za-z])(input)(?![A-Za-z])", re.IGNORECASE)


def _beside_sharp_files(names: list[str]) -> dict[str, str]:
    """Return the images whose name is that of another in the folder but for a word that says blurred."""
    stems: set[str] = set()
    found = {}
    for name in names:
        stem = PurePosixPath(_last(name)).stem.lower()
        if "blur" not in stem and "input" not in stem:
            continue
        stems = stems or {PurePosixPath(_last(each)).stem.lower() for each in names}
        others = {word.sub(sharp, stem) for word in (_BLURRED_WORD, _INPUT_WORD) for sharp in _SHARP}
        if _BLURRED_WORD.search(stem):
            others.add(re.sub(rf"[_.-]?{_BLURRED_WORD.pattern}", "", stem))
        if (others - {stem}) & stems:
            found[name] = "blurred image beside its sharp one"
    return found

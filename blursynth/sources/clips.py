"""What a source gives: the clips of a data folder, each with its files and their digest, and what was left out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16

from blursynth.digests import digests_of, joined
from isp.files.icc import read_srgb
from isp.files.pictures import Picture, read_image


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pixels of one clip: `image` will be blurred (or is blurred already), `sharp` is the target; both are sRGB.

    `saturation` is the ready-made mask: 255 where all light came from clipped places of the source.
    """

    image: UInt8[np.ndarray, "f h w 3"] | UInt16[np.ndarray, "f h w 3"]
    sharp: Picture
    saturation: UInt8[np.ndarray, "h w 3"] | None = None


class Files(NamedTuple):
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

    digest   of its files (frames, mask, target), as `blursynth.digests.joined` joins them
    """

    files: Files
    digest: str

    @property
    def name(self) -> str:
        """Relative POSIX path of the file that names it: the photograph, the middle frame, or the blurred image."""
        return self.files.name

    def read(self) -> Pictures:
        """Read the pictures and convert their colours to sRGB; a mask is no picture of a scene and is read as it is.

        Raises `ValueError` for a file that is unreadable, has colours that cannot be converted, or differs from the first
        in size or depth.
        """
        folder, files = self.files.folder, self.files
        mask = folder / files.saturation if files.saturation else None
        pictures = {path: read_image(path) if path == mask else read_srgb(path)[0] for path in files.paths()}
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
    """The clips of a source in name order, what was left out, and how many pairs to make.

    skipped         the number of files (clips, folders, gaps) of each kind that were left out
    default_count   how many pairs are made if the user does not say
    digest          sha256 over the names and digests of the clips
    notes           sentences about the data for the user, such as which folders cannot be read
    """

    clips: tuple[Clip, ...]
    skipped: dict[str, int]
    default_count: int
    digest: str
    notes: tuple[str, ...] = ()


def footage_of(
    groups: Iterable[Files], skipped: Mapping[str, int], default_count: int, notes: Iterable[str] = ()
) -> Footage:
    """Return the footage of clips with these files. Raises `ValueError` if a file cannot be read."""
    ordered = sorted(groups)
    digests = digests_of({path: None for files in ordered for path in files.paths()})
    clips, whole = [], hashlib.sha256()
    for files in ordered:
        clip = Clip(files, joined([digests[path] for path in files.paths()]))
        whole.update(os.fsencode(f"{clip.name}\0{clip.digest}\n"))
        clips.append(clip)
    return Footage(tuple(clips), dict(sorted(skipped.items())), default_count, whole.hexdigest(), tuple(notes))

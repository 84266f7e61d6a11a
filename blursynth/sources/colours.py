"""The colour profiles of source pictures, for a note to the user: reading a clip converts its pictures to sRGB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from blursynth.sources.walk import counted
from isp.files.icc import profile_name

_MOST = 256  # headers that are looked at: more would take as long as the search for the files


def profiles_in(paths: Iterable[Path]) -> list[str]:
    """Return a sentence that counts the profiles other than sRGB in these pictures; no sentence if there is none.

    Of more than 256 pictures, 256 are looked at, evenly spaced.
    """
    pictures = sorted(paths)
    chosen = [pictures[at * len(pictures) // _MOST] for at in range(_MOST)] if len(pictures) > _MOST else pictures
    names = Counter(name for name in map(profile_name, chosen) if name and "srgb" not in name.lower())
    among = f" (of {_MOST} pictures looked at)" if len(pictures) > _MOST else ""
    return [f"colour profiles that are converted to sRGB: {counted(names)}{among}"] if names else []

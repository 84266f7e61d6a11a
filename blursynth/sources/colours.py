"""What the user is told on the colours of source pictures: reading a clip converts its pictures to sRGB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from isp.files.icc import remark_on

_MOST = 64  # files that are looked at, each of which is read: more would take longer than the search for the files
_KINDS = 5  # of remarks, the most frequent ones


def remarks_on(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each kind of picture that is not in sRGB, with their number; none if all of them are.

    Of more than 64 pictures, 64 are looked at, evenly spaced.
    """
    pictures = sorted(paths)
    chosen = [pictures[at * len(pictures) // _MOST] for at in range(_MOST)] if len(pictures) > _MOST else pictures
    remarks = Counter(remark for remark in map(remark_on, chosen) if remark)
    return [
        f"colours of {count} of {len(chosen)} pictures{' looked at' if len(pictures) > _MOST else ''}: {remark}"
        for remark, count in remarks.most_common(_KINDS)
    ]

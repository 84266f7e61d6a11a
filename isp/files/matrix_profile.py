"""Reads ICC profiles that consist of a matrix and three curves, as those of cameras, displays and working spaces do.

It follows ICC.1:2022, clauses 7.2, 7.3, 10.6, 10.18 and 10.31.
"""

from __future__ import annotations

import struct

import numpy as np
from jaxtyping import Float

from isp.files.colours import Curve, Space, power

_FIXED = 65536  # s15Fixed16Number
_PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}  # of each kind of parametric curve
_MOST_TAGS = 200
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273


def hdr_of(profile: bytes) -> str:
    """Return "PQ" or "HLG" if a profile says that its pictures are HDR, else an empty text."""
    content = _tags(profile).get(b"cicp", b"")
    return _HDR.get(content[9], "") if len(content) >= 12 and content.startswith(b"cicp") else ""


def space_of(profile: bytes) -> Space | None:
    """Return the colours of a profile; None if it is damaged, or has tables in place of a matrix."""
    tags = _tags(profile)
    if profile[16:24] != b"RGB XYZ " or tags.keys() & {b"A2B0", b"A2B1", b"D2B0", b"D2B1"}:
        return None
    try:
        red, green, blue = (_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
        to_xyz = np.stack([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], -1)
    except (KeyError, ValueError, struct.error):
        return None
    return Space((red, green, blue), to_xyz)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the content of every tag, as far as the profile can be read."""
    count = int.from_bytes(profile[128:132], "big")
    if profile[36:40] != b"acsp" or count > _MOST_TAGS or len(profile) < 132 + 12 * count:
        return {}
    entries = struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])
    return {name: profile[start : start + size] for name, start, size in entries}


def _xyz(content: bytes) -> Float[np.ndarray, " 3"]:
    if not content.startswith(b"XYZ "):
        raise ValueError("expected XYZ")
    return np.array(struct.unpack_from(">3i", content, 8)) / _FIXED


def _curve(content: bytes) -> Curve:
    """Return the curve from values to linear light. Raises `ValueError` or `struct.error` for damage."""
    (count,) = struct.unpack_from(">I", content, 8)
    if content.startswith(b"curv") and count == 0:
        return lambda values: values
    if content.startswith(b"curv") and count == 1:
        return power(struct.unpack_from(">H", content, 12)[0] / 256)
    if content.startswith(b"curv"):
        points = np.frombuffer(content, ">u2", count, 12) / 65535
        return lambda values: np.interp(values, np.linspace(0, 1, count), points)
    if content.startswith(b"para") and count >> 16 in _PARAMETERS:
        names = _PARAMETERS[count >> 16]
        return _parametric(dict(zip(names, struct.unpack_from(f">{len(names)}i", content, 12), strict=True)))
    raise ValueError("expected a curve")


def _parametric(fixed: dict[str, int]) -> Curve:
    """Return a parametric curve: (a x + b)^g + e from x = d on, c x + f below; in the older kinds c is a constant."""
    g, a, b, c, d, e, f = (fixed.get(name, 0) / _FIXED for name in "gabcdef")
    if "a" not in fixed:
        return power(g)
    if a == 0:
        raise ValueError("expected a slope")
    if "d" not in fixed:
        return lambda values: np.where(values >= -b / a, np.maximum(a * values + b, 0) ** g, 0) + c
    return lambda values: np.where(values >= d, np.maximum(a * values + b, 0) ** g + e, c * values + f)

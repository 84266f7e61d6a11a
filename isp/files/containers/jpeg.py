"""JPEG files: their segments and scans, and whether the coded data can be whole.

JPEG has no checksums, and its decoders fill with grey what is missing. Two things tell whether a file is whole. Every scan
and every restart interval must be there: this module counts them. A decoder must need all the coded bytes, and no more:
this module prepares `Contents.shortened` or `Contents.padded`, with which `isp.files.decoders` asks a decoder.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

from isp.files import tiff
from isp.files.containers.contents import Contents, Stated, check_filled, check_size, damaged, refused

START, END = b"\xff\xd8\xff", b"\xff\xd9"
MOST_SEGMENTS = 2**16
MOST_RUNS = 1000  # restart intervals that are decoded one by one
MOST_SCANS = 100  # each takes time; cameras and programs write 1 to 12
HARMLESS = 16  # bytes that may be left over behind the coded ones; some cameras fill up words

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # lossless, hierarchical, arithmetic
_HUFFMAN, _END, _SCAN, _QUANTIZATION, _INTERVAL = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
_JFIF, _EXIF, _PROFILE, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
_LONGEST_OF_LIBJPEG = 65500  # pixels a side
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD9)}
# JFIF and Adobe segments decide whether the channels are YCbCr.
_FOR_PIXELS = {_BASELINE, _EXTENDED, _PROGRESSIVE, _HUFFMAN, _QUANTIZATION, _INTERVAL, _JFIF, _ADOBE, _SCAN}
# Decoders skip foreign bytes and any number of FF before a marker. FF 00 is a coded byte; restarts are part of a scan.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# One FF is enough: a search for any number of them takes forty times as long, and for ever in a file of nothing else.
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# A decoder looks up to 8 bytes ahead. Ones are no code, so hardly any missing block can be made of them.
_AHEAD = b"\xff\0" * 8
# Of arbitrary bits a decoder makes blocks that differ from missing ones. With a fill byte before it, the zero is a coded byte.
_NOT_NEEDED = b"\0" + b"".join(hashlib.sha256(bytes([at])).digest() for at in range(8)).replace(b"\xff", b"\xfe")


def contents(data: bytes, where: str) -> Contents:
    """Return what a JPEG of 8 bits in 1 or 3 channels holds; of a file of several pictures, the first.

    Raises `ValueError` if its end marker, scans or restart intervals are missing, for a size that is too large or that the
    coded bytes cannot fill, for CMYK, and for other codes than those of Huffman: those do not show where their data end.
    """
    head, scans = [data[:2]], list[_Scan]()
    frame: _Frame | None = None
    interval, at, count = 0, 2, 0
    while frame is None or not frame.whole():
        marker, start, end = _segment(data, at, where)
        count += 1
        content, at = data[start:end], end
        if marker == _END or len(scans) == MOST_SCANS or count > MOST_SEGMENTS:
            raise damaged(where, "JPEG")
        if marker in _FOR_PIXELS:
            head.append(data[start - 4 : end])
        if marker in (_BASELINE, _EXTENDED, _PROGRESSIVE, *_OTHER_FRAMES):
            if frame is not None:
                raise damaged(where, "JPEG")
            frame = _frame(data[start - 4 : end], where)
        elif marker == _INTERVAL and len(content) == 2:
            interval = int.from_bytes(content, "big")
        elif marker == _SCAN:
            units = 0 if frame is None else frame.units_of_scan(content)
            if frame is None or not units:
                raise damaged(where, "JPEG")
            behind = _AFTER_SCAN.search(data, at)
            coded = data[at : behind.start() if behind else len(data)]
            scans.append(_Scan(b"".join(head), coded, units, interval))
            scans[-1].check_restarts(where)
            head, at = [], at + len(scans[-1].coded)
    if data.find(END, at) < 0:
        raise damaged(where, "JPEG")
    # Each block takes at least one bit for its mean and, in the only scan of a baseline JPEG, one for its end.
    least, got = frame.blocks() * (1 if frame.progressive else 2) / 8, sum(len(scan.coded) for scan in scans)
    check_filled(where, "JPEG", frame.height, frame.width, least=least, got=got)
    return Contents(
        "JPEG",
        frame.height,
        frame.width,
        **_to_decode(frame, scans),
        progressive=frame.progressive,
        exif=exif_block(data),
        stated=Stated(profile=_profile(data)),
    )


def exif_block(data: bytes | mmap) -> bytes:
    """Return the EXIF of a JPEG file, empty if it has none. It may stand behind other segments of any number and length.

    If there are several, it is the first that is a TIFF structure.
    """
    parts = (data[start:end] for marker, start, end in _segments(data) if marker == _EXIF)
    blocks = [part[6:] for part in parts if part.startswith(b"Exif\0")]
    return next((block for block in blocks if block[:4] in tiff.STARTS), blocks[0] if blocks else b"")


def _profile(data: bytes) -> bytes:
    """Return the ICC profile, joined from its parts; bytes that are no profile if a part is missing."""
    parts = [data[start:end] for marker, start, end in _segments(data) if marker == _PROFILE]
    numbered = {part[12]: part for part in parts if part.startswith(b"ICC_PROFILE\0") and len(part) > 14}
    if not numbered:
        return b""
    count = next(iter(numbered.values()))[13]
    whole = sorted(numbered) == [*range(1, count + 1)]
    return b"".join(numbered[number][14:] for number in sorted(numbered)) if whole else b"\0"


# ---------------------------------------------------------------- segments


def _segment(data: bytes | mmap, at: int, where: str) -> tuple[int, int, int]:
    """Return (marker, start and end of the content) of the next segment; the end marker has no content."""
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            return marker, at, at
        if marker in _WITHOUT_CONTENT:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            break
        return marker, at + 2, at + length
    raise damaged(where, "JPEG")


def _segments(data: bytes | mmap) -> Iterator[tuple[int, int, int]]:
    """Yield every segment before the first scan, as far as they can be read."""
    at = 2
    try:
        for _ in range(MOST_SEGMENTS):
            marker, start, at = _segment(data, at, "")
            if marker in (_SCAN, _END):
                return
            yield marker, start, at
    except ValueError:
        return


# ---------------------------------------------------------------- frame and scans


@dataclass
class _Frame:
    """What a JPEG codes, and what its scans have brought so far.

    sampling  {component: (samples across, samples down)}, in relation to those of the other components
    header    the segment that states this
    missing   {component: how many of the lowest bits of each of 64 coefficients are missing; -1 if all are}
    """

    height: int
    width: int
    progressive: bool
    sampling: dict[int, tuple[int, int]]
    header: bytes
    missing: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.missing = {component: [-1] * 64 for component in self.sampling}

    def whole(self) -> bool:
        return not any(bits for missing in self.missing.values() for bits in missing)

    def blocks(self) -> int:
        """Return how many blocks of 8x8 samples the picture has."""
        return sum(self._units([component]) for component in self.sampling)

    def units_of_scan(self, content: bytes) -> int:
        """Return how many units a scan codes; 0 if its header is senseless or does not continue the scans before it."""
        count = content[0] if content else 0
        if not 1 <= count <= 4 or len(content) != 4 + 2 * count:
            return 0
        components = [*content[1 : 1 + 2 * count : 2]]
        first, last, bits = content[-3:] if self.progressive else (0, 63, 0)
        before, after = bits >> 4, bits & 15
        if len({*components} & {*self.sampling}) != count or not first <= last <= 63:
            return 0
        for component in components:
            missing = self.missing[component]
            if any(bits != (before or -1) for bits in missing[first : last + 1]):
                return 0
            missing[first : last + 1] = [after] * (last + 1 - first)
        return self._units(components)

    def head_of_run(self, scan: _Scan, units: int) -> bytes:
        """Return the head of a picture that consists of `units` of the only scan; empty if no rectangle holds them."""
        across, down = self._most() if len(self.sampling) > 1 else (1, 1)
        most_across, most_down = 8 * across, 8 * down
        height, width = most_down, most_across * units
        if width > _LONGEST_OF_LIBJPEG:
            rows, rest = divmod(units, -(-self.width // most_across))
            if rest:
                return b""
            height, width = most_down * rows, self.width
        resized = self.header[:5] + struct.pack(">HH", height, width) + self.header[9:]
        return scan.head.replace(self.header, resized, 1)

    def _most(self) -> tuple[int, int]:
        return max(across for across, _ in self.sampling.values()), max(down for _, down in self.sampling.values())

    def _units(self, components: list[int]) -> int:
        most_across, most_down = self._most()
        # A scan of one component codes its blocks, one of several codes units that hold blocks of each.
        across, down = self.sampling[components[0]] if len(components) == 1 else (1, 1)
        return -(-self.width * across // (8 * most_across)) * -(-self.height * down // (8 * most_down))


def _frame(header: bytes, where: str) -> _Frame:
    """Read the segment that begins a frame. A picture that is too large is refused here."""
    marker, content = header[1], header[4:]
    if len(content) < 6 or len(content) != 6 + 3 * content[5]:
        raise damaged(where, "JPEG")
    bits, height, width, channels = struct.unpack_from(">BHHB", content)
    if bits != 8 or channels not in (1, 3):
        raise refused(where, "a JPEG of 8 bits in 1 or 3 channels", f"{bits} bits in {channels} (4 is CMYK)")
    if marker in _OTHER_FRAMES:
        raise refused(where, "a baseline or progressive JPEG of Huffman codes", "a lossless or an arithmetic one")
    check_size(where, height, width)
    sampling = {content[at]: (content[at + 1] >> 4, content[at + 1] & 15) for at in range(6, len(content), 3)}
    if len(sampling) != channels or not all(1 <= count <= 4 for counts in sampling.values() for count in counts):
        raise damaged(where, "JPEG")
    return _Frame(height, width, marker == _PROGRESSIVE, sampling, header)


@dataclass(frozen=True)
class _Scan:
    """One scan: the segments before its coded bytes, those bytes with their restart markers, and how many units they code.

    A restart marker follows every `interval` units; none do if it is 0.
    """

    head: bytes
    coded: bytes
    units: int = 0
    interval: int = 0

    @property
    def alone(self) -> bytes:
        """The file, which a decoder must take, if this is its only scan."""
        return self.head + self.coded + _AHEAD

    @property
    def shortened(self) -> bytes:
        """The file, which a decoder must refuse, because some of the bytes that it needs are missing."""
        return self.head + self.coded.rstrip(b"\0")[:-HARMLESS]

    def units_of_runs(self) -> list[int]:
        """Return how many units each run between restart markers codes."""
        if not 0 < self.interval < self.units:
            return [self.units]
        whole, rest = divmod(self.units, self.interval)
        return [self.interval] * whole + [rest] * (rest > 0)

    def check_restarts(self, where: str) -> None:
        """Refuse a scan in which restart markers are missing or in disorder; some programs write one more at the end."""
        found = bytes(match[1][0] for match in _RESTART.finditer(self.coded))
        cycle = bytes(range(0xD0, 0xD8)) * (len(found) // 8 + 1)
        expected = len(self.units_of_runs()) - 1
        if len(found) - expected not in ((0, 1) if expected else (0,)) or not cycle.startswith(found):
            raise damaged(where, "JPEG")


def _to_decode(frame: _Frame, scans: list[_Scan]) -> dict[str, Any]:
    """Return the fields of `Contents` that decoders get.

    A decoder that is given a single run of coded bytes without an end marker gives up if it needs more. Restart intervals
    become pictures of their own for that. If there are many, or many scans, more bytes before each marker must change nothing.
    """
    runs = _RESTART.split(scans[0].coded)[::2]
    if len(runs) == len(scans) == 1:
        return {"pixels": scans[0].alone, "shortened": scans[0].shortened}
    pixels = b"".join(scan.head + scan.coded for scan in scans) + END
    heads = [frame.head_of_run(scans[0], units) for units in scans[0].units_of_runs()]
    if len(scans) == 1 and len(runs) <= MOST_RUNS and all(heads):
        alone = (_Scan(head, run, 0, 0) for head, run in zip(heads, runs, strict=False))
        return {
            "pixels": pixels,
            "streams": tuple(Contents("JPEG", 0, 0, run.alone, shortened=run.shortened) for run in alone),
        }
    padded = (
        scan.head + _RESTART.sub(lambda marker: _NOT_NEEDED + marker[0], scan.coded) + _NOT_NEEDED for scan in scans
    )
    return {"pixels": pixels, "padded": b"".join(padded) + END}

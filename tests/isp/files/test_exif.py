"""EXIF: found wherever it stands, read by one reader, and never more than a sentence if it is damaged."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from isp.files import exif
from isp.files.exif import optics_of, orientation_of, read_tags, tags_in
from isp.files.pictures import decode_jpeg, read_image
from isp.files.shot import read_photograph

PICTURE = np.arange(24 * 40 * 3, dtype=np.uint8).reshape(24, 40, 3) // 2


def block(tags: dict[int, object], in_exif: dict[int, tuple[str, object]] | None = None, order: str = "<") -> bytes:
    """A TIFF structure of two directories; values are (type letter, number, numbers, or bytes)."""
    codes = {"B": 1, "A": 2, "H": 3, "I": 4, "R": 5, "U": 7, "h": 8, "i": 9, "S": 10}
    forms = {"B": "B", "H": "H", "I": "I", "R": "II", "h": "h", "i": "i", "S": "ii"}

    def directory(entries, at: int) -> bytes:
        body, tail = struct.pack(order + "H", len(entries)), b""
        end = at + 2 + 12 * len(entries) + 4
        for tag, (letter, value) in sorted(entries.items()):
            if isinstance(value, bytes):
                content, count = value, len(value)
            else:
                numbers = value if isinstance(value, list) else [value]
                flat = [part for number in numbers for part in (number if isinstance(number, tuple) else (number,))]
                content, count = struct.pack(order + forms[letter] * len(numbers), *flat), len(numbers)
            inline = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", end + len(tail))
            tail += b"" if len(content) <= 4 else content + bytes(len(content) % 2)
            body += struct.pack(order + "HHI", tag, codes[letter], count) + inline
        return body + bytes(4) + tail

    first = directory(dict(tags) | ({0x8769: ("I", 0)} if in_exif else {}), 8)
    if in_exif:
        first = directory(dict(tags) | {0x8769: ("I", 8 + len(first))}, 8)
        first += directory(in_exif, 8 + len(first))
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + first


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "JPEG", quality=95)
    return file.getvalue()[:2] + b"".join(segments) + file.getvalue()[2:]


def app1(content: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + content)


SHOT = {0x8827: ("H", 400), 0x829A: ("R", (1, 125)), 0x829D: ("R", (28, 10)), 0x920A: ("R", (35, 1))}
OPTICS = {"iso": 400.0, "exposure_s": 0.008, "f_number": 2.8, "focal_mm": 35.0}
EXIF = block({274: ("H", 6), 271: ("A", b"Maker\0")}, SHOT)
XMP = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0".ljust(50000, b"x"))


# ---------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    "before",
    [
        [],
        [segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")],
        [segment(0xED, b"Photoshop 3.0\0".ljust(65533, b"8"))],
        [segment(0xED, b"Photoshop 3.0\0".ljust(65533, b"8"))] * 9,
        [segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), XMP, XMP],
        [segment(0xE2, b"ICC_PROFILE\0\1\1".ljust(60000, b"p")), segment(0xFE, b"a comment")],
        [b"\xff\xff\xff", segment(0xFE, b"fill bytes")],
        [segment(0xFE, b"a comment"), b"foreign bytes"],
        [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<xmp/>")],
    ],
    ids=lambda before: f"{len(before)} of {sum(map(len, before))}",
)
@pytest.mark.parametrize("order", "<>")
def test_exif_is_found_behind_other_segments(tmp_path, before, order):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(*before, app1(block({274: ("H", 6)}, SHOT, order)), XMP))
    tags, warnings = read_tags(path)
    assert optics_of(tags) == OPTICS and orientation_of(tags) == 6 and warnings == []
    assert read_image(path).shape == (40, 24, 3)
    shot = read_photograph(path)
    assert shot.optics == OPTICS and shot.orientation == 6 and shot.picture.shape == (24, 40, 3)


def test_of_several_exif_segments_the_first_sound_one_counts(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(app1(b""), app1(b"no TIFF at all"), app1(EXIF), app1(block({274: ("H", 3)}))))
    assert orientation_of(read_tags(path)[0]) == 6 and read_image(path).shape == (40, 24, 3)


def test_exif_of_a_png_and_a_tiff_is_found(tmp_path):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    content = file.getvalue()
    text = b"tEXt" + bytes(100_000)
    extra = b"".join(
        struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) for data in (text, b"eXIf" + EXIF)
    )
    (tmp_path / "a.png").write_bytes(content[:33] + extra + content[33:])
    Image.fromarray(PICTURE).save(tmp_path / "a.tif", tiffinfo={274: 6, 271: "Maker"})
    for name in ("a.png", "a.tif"):
        assert orientation_of(read_tags(tmp_path / name)[0]) == 6
        assert read_image(tmp_path / name).shape == (40, 24, 3)
    assert optics_of(read_tags(tmp_path / "a.png")[0]) == OPTICS


def test_files_without_exif_have_no_tags(tmp_path):
    for name, content in (("a.jpg", jpeg()), ("empty", b""), ("text", b"no picture"), ("b.jpg", b"\xff\xd8\xff")):
        (tmp_path / name).write_bytes(content)
        assert read_tags(tmp_path / name) == ({}, [])
    with pytest.raises(FileNotFoundError, match=r"none: expected a file, got nothing there; check the path"):
        read_tags(tmp_path / "none")
    with pytest.raises(ValueError, match=r"expected a file, a regular file, got a folder; check the path"):
        read_tags(tmp_path)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("in_exif", "right"),
    [
        # sensitivity that does not fit into 16 bits
        ({0x8827: ("H", 65535), 0x8830: ("H", 2), 0x8832: ("I", 102400)}, {"iso": 102400}),
        ({0x8827: ("H", 65535), 0x8830: ("H", 1), 0x8831: ("I", 80000), 0x8832: ("I", 1)}, {"iso": 80000}),
        ({0x8827: ("H", 65535), 0x8830: ("H", 3), 0x8831: ("I", 1), 0x8833: ("I", 204800)}, {"iso": 204800}),
        ({0x8827: ("H", 65535), 0x8830: ("H", 4), 0x8831: ("I", 90000), 0x8832: ("I", 70000)}, {"iso": 70000}),
        ({0x8827: ("H", 65535), 0x8830: ("H", 7), 0x8832: ("I", 70000), 0x8833: ("I", 80000)}, {"iso": 80000}),
        ({0x8827: ("H", 65535), 0x8830: ("H", 3), 0x8832: ("I", 70000)}, {"iso": None}),
        ({0x8827: ("H", 65535), 0x8832: ("I", 102400)}, {"iso": 102400}),
        ({0x8827: ("H", 65535)}, {"iso": None}),
        ({0x8830: ("H", 2), 0x8832: ("I", 200)}, {"iso": 200}),
        ({0x8827: ("H", 100), 0x8830: ("H", 2), 0x8832: ("I", 200)}, {"iso": 100}),
        ({0x8827: ("H", 0), 0x8830: ("H", 9), 0x8833: ("I", 640)}, {"iso": 640}),
        # several numbers
        ({0x8827: ("H", [0, 400])}, {"iso": 400}),
        ({0x8827: ("H", [200, 0])}, {"iso": 200}),
        ({0x8827: ("H", [0, 0])}, {"iso": None}),
        ({0x8827: ("H", [65535, 800])}, {"iso": 800}),
        # logarithmic values
        ({0x9201: ("S", (6965784, 1000000))}, {"exposure_s": 1 / 125}),
        ({0x9201: ("S", (-3, 1))}, {"exposure_s": 8}),
        ({0x9201: ("S", (0, 1))}, {"exposure_s": None}),
        ({0x9201: ("S", (1, 0))}, {"exposure_s": None}),
        ({0x9201: ("S", (-(2**31), 1))}, {"exposure_s": None}),
        ({0x829A: ("R", (0, 1)), 0x9201: ("S", (5, 1))}, {"exposure_s": 1 / 32}),
        ({0x829A: ("R", (1, 100)), 0x9201: ("S", (5, 1))}, {"exposure_s": 1 / 100}),
        ({0x9202: ("R", (2970854, 1000000))}, {"f_number": 2.8}),
        ({0x9202: ("R", (0, 1))}, {"f_number": None}),
        ({0x829D: ("R", (0, 10)), 0x9202: ("R", (0, 1))}, {"f_number": None}),
        ({0x829D: ("R", (0, 0)), 0x9202: ("R", (4, 1))}, {"f_number": 4}),
        ({0x9202: ("R", (2**32 - 1, 1))}, {"f_number": None}),
        # alone, as text, senseless
        ({0x920A: ("R", (50, 1))}, {"focal_mm": 50}),
        ({0x829A: ("A", b"1/60\0")}, {"exposure_s": 1 / 60}),
        ({0x829A: ("A", b"1e999999999\0")}, {"exposure_s": None}),
        ({0x920A: ("A", b"fifty\0")}, {"focal_mm": None}),
        ({0x9000: ("U", b"0231")}, {}),
    ],
)
def test_optics(in_exif, right):
    found = optics_of(tags_in(block({271: ("A", b"Maker\0")}, in_exif))[0])
    assert found.keys() == right.keys()
    assert all(
        found[field] == (None if value is None else pytest.approx(value, rel=1e-4)) for field, value in right.items()
    )


@pytest.mark.parametrize(
    ("stated", "right"),
    [
        *((("H", number), number) for number in range(1, 9)),
        (("H", 0), 1), (("H", 9), 1), (("H", 65535), 1), (("A", b"6\0"), 1), (("R", (6, 1)), 1), (("H", [6, 0]), 6),
        (("B", 3), 3), (("I", 8), 8), (("i", -1), 1), (("A", b""), 1), (None, None),
    ],
)  # fmt: skip
def test_orientation_is_what_is_stated_upright_if_senseless_none_only_if_absent(tmp_path, stated, right):
    held = block({271: ("A", b"Maker\0")} | ({} if stated is None else {274: stated}))
    assert orientation_of(tags_in(held)[0]) == right
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(app1(held)))
    sideways = (right or 1) >= 5
    assert read_image(path).shape == decode_jpeg(path.read_bytes()).shape == ((40, 24, 3) if sideways else (24, 40, 3))


# ---------------------------------------------------------------- damage


def test_files_and_jpegs_in_memory_are_turned_as_the_tags_say_whatever_the_damage(tmp_path):
    """The picture as the sensor lies has the shape of the file, and whatever turns it upright turned it before."""
    plain = decode_jpeg(jpeg())
    good, dice = EXIF, np.random.Generator(np.random.PCG64(4))
    damaged = [
        good[:12] + struct.pack("<I", 0x7FFFFFFF) + good[16:],
        good[:30],
        good[:4] + b"\xff\xff\xff\xff" + good[8:],
    ]
    for _ in range(150):
        spoilt = bytearray(good)
        spoilt[int(dice.integers(len(good)))] ^= 1 << int(dice.integers(8))
        damaged.append(bytes(spoilt))
    path = tmp_path / "a.jpg"
    turned = 0
    for held in damaged:
        path.write_bytes(jpeg(app1(held)))
        shot = read_photograph(path)
        assert np.array_equal(shot.picture, plain)
        assert np.array_equal(decode_jpeg(path.read_bytes()), read_image(path))
        turned += shot.orientation == 6
    assert 0 < turned < len(damaged)


def nested(levels: int, entries: int) -> bytes:
    """Directories of which each names the next one `entries` times."""
    size = 2 + 12 * entries + 4
    body = b""
    for level in range(levels):
        following = 8 + (level + 1) * size if level + 1 < levels else 8
        body += struct.pack("<H", entries) + struct.pack("<HHII", 0x8769, 4, 1, following) * entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + body


BOMBS = {
    "names itself": nested(1, 300),
    "a tree": nested(8, 200),
    "a long chain": b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, 8 + 6 * (at + 1)) for at in range(10_000)),
    "long texts": b"II*\0\x08\0\0\0"
    + struct.pack("<H", 5000)
    + struct.pack("<HHII", 271, 2, 2**32 - 1, 8) * 5000
    + bytes(4),
    "many numbers": b"II*\0\x08\0\0\0"
    + struct.pack("<H", 5000)
    + struct.pack("<HHII", 9999, 5, 999, 8) * 5000
    + bytes(4),
}


@pytest.mark.parametrize("case", BOMBS)
def test_absurd_exif_takes_bounded_time(tmp_path, case):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(app1(BOMBS[case][:65000])))
    begun = time.process_time()
    tags, warnings = read_tags(path)
    assert time.process_time() - begun < 20  # it would be hours
    assert read_image(path).shape == (24, 40, 3)
    assert not tags or warnings == []


def test_exifread_gives_up_after_many_reads():
    with pytest.raises(ValueError, match="expected a few thousand tags, got more"):
        file = exif._Bounded(io.BytesIO(bytes(10)))
        for _ in range(2**16 + 1):
            file.read(1)
    assert len(exif._Bounded(io.BytesIO(bytes(2**20))).read(2**20)) == 2**16

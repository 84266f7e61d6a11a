"""Files that are not what they state: cut, damaged, hostile. Each is refused in a sentence, or read right."""

import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from isp.files import decoders, icc
from isp.files.containers import jpeg, kinds
from isp.files.containers.contents import MOST_PIXELS
from isp.files.exif import read_tags
from isp.files.pictures import decode_jpeg, encode_jpeg, read_image, write_image

DATA = Path(__file__).parents[3].parent / "shared" / "data"
DICE = np.random.Generator(np.random.PCG64(11))
PICTURE = cv2.resize(DICE.integers(0, 256, (20, 25, 3), np.uint8), (200, 160))
END = b"\xff\xd9"


def pillow(image, kind, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def tiff(image, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **{"photometric": "rgb" if image.ndim == 3 else "minisblack"} | options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, packed: bytes, bits=8, colour=2, interlaced=0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def read(tmp_path: Path, data: bytes):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return read_image(path)


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(ValueError, match=r"picture: expected .*, got .*; ") as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- JPEG: what is missing


def in_scans(image) -> bytes:
    """A baseline JPEG whose three components stand in scans of their own."""
    parts = [pillow(image[..., channel], "JPEG", quality=90, restart_marker_rows=3) for channel in range(3)]
    height, width, _ = image.shape
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"".join(bytes([at + 1, 0x11, 0]) for at in range(3))
    tables = parts[0][parts[0].index(b"\xff\xdb") : parts[0].index(b"\xff\xc0")]
    codes = parts[0][parts[0].index(b"\xff\xc4") : parts[0].index(b"\xff\xda")]
    whole = b"\xff\xd8" + tables + b"\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame + codes
    for at, part in enumerate(parts):
        whole += b"\xff\xda\0\x08\1" + bytes([at + 1, 0, 0, 63, 0]) + part[part.index(b"\xff\xda") + 10 : -2]
    return whole + END


JPEGS = {
    "baseline": pillow(PICTURE, "JPEG", quality=90),
    "full chroma": pillow(PICTURE, "JPEG", quality=90, subsampling=0),
    "half chroma": pillow(PICTURE, "JPEG", quality=90, subsampling=1),
    "grey": pillow(PICTURE[..., 0], "JPEG", quality=90),
    "own codes": pillow(PICTURE, "JPEG", quality=90, optimize=True),
    "restart rows": pillow(PICTURE, "JPEG", quality=90, restart_marker_rows=1),
    "restart blocks": pillow(PICTURE, "JPEG", quality=90, restart_marker_blocks=3),
    "grey restarts": pillow(PICTURE[..., 0], "JPEG", quality=90, restart_marker_rows=2),
    "progressive": pillow(PICTURE, "JPEG", quality=90, progressive=True),
    "progressive restarts": pillow(PICTURE, "JPEG", quality=90, progressive=True, restart_marker_rows=1),
    "scans": in_scans(PICTURE),
    "OpenCV": encode_jpeg(PICTURE, 90),
    "with EXIF and a profile": pillow(
        PICTURE, "JPEG", quality=90, exif=Image.Exif().tobytes(), icc_profile=bytes(70_000), comment="c"
    ),
}
ONE_RUN = [case for case in JPEGS if case not in ("progressive", "progressive restarts", "scans")]


def coded(data: bytes) -> tuple[int, int]:
    """Where the coded bytes of the first scan begin, and where those of the last one end."""
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"), len(data) - 2


def resized(data: bytes, height: int, width: int) -> bytes:
    at = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


@pytest.mark.parametrize("case", JPEGS)
def test_whole_jpegs_are_read_as_opencv_reads_them(tmp_path, case, capfd):
    data = JPEGS[case]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(read(tmp_path, data), expected)
    assert np.array_equal(decode_jpeg(data), expected)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("case", JPEGS)
def test_a_jpeg_that_is_cut_and_closed_is_refused(tmp_path, case):
    data = JPEGS[case]
    begin, end = coded(data)
    # The end of the last unit of 16x16 pixels may be missing: ones, of which hardly a block can be made, stand for it.
    for cut in (*range(begin, end - 32, (end - begin) // 40), end - 32):
        assert "expected a whole JPEG file" in refused(tmp_path, data[:cut] + END), cut


@pytest.mark.parametrize("case", JPEGS)
def test_a_jpeg_of_another_size_than_stated_is_refused(tmp_path, case):
    for height, width in ((640, 200), (176, 200), (160, 400), (160, 216)):
        assert "expected a whole JPEG file" in refused(tmp_path, resized(JPEGS[case], height, width))
    if case in ONE_RUN and "restart" not in case:
        for height, width in ((80, 200), (144, 200), (160, 100)):
            assert "expected a whole JPEG file" in refused(tmp_path, resized(JPEGS[case], height, width))


@pytest.mark.parametrize("case", JPEGS)
def test_a_jpeg_with_a_hole_is_refused(tmp_path, case):
    data = JPEGS[case]
    begin, end = coded(data)
    for at in range(begin + 10, end - 600, (end - begin) // 12):
        hole = data[:at] + data[at + 500 :]
        if case != "progressive" and case != "progressive restarts":
            assert "expected a whole JPEG file" in refused(tmp_path, hole), at
        else:  # what follows may begin in the middle of a scan of another kind
            with pytest.raises(ValueError, match="expected"):
                read(tmp_path, hole)


@pytest.mark.parametrize("case", ONE_RUN)
def test_a_jpeg_with_bytes_too_many_is_refused(tmp_path, case):
    data = JPEGS[case]
    begin, end = coded(data)
    for at in range(begin + 50, end - 600, (end - begin) // 12):
        piece = bytes(byte for byte in data[at : at + 400] if byte != 0xFF)
        assert "expected a whole JPEG file" in refused(tmp_path, data[:at] + piece + data[at:]), at


def runs_of(data: bytes) -> list[bytes]:
    """The pieces of a JPEG between its restart markers, which are kept at their ends."""
    begin, _ = coded(data)
    marks = [begin, *(at for at in range(begin, len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7)]
    return [data[:begin], *(data[at:until] for at, until in zip(marks, [*marks[1:], len(data)], strict=True))]


@pytest.mark.parametrize("case", ["restart rows", "restart blocks", "grey restarts"])
def test_restart_intervals_must_all_be_there_in_order(tmp_path, case):
    head, *runs = runs_of(JPEGS[case])
    assert len(runs) > 5 and np.array_equal(read(tmp_path, head + b"".join(runs)), decode_jpeg(JPEGS[case]))
    for wrong in (
        runs[:2] + runs[3:],
        [runs[0], runs[2], runs[1], *runs[3:]],
        [*runs[:2], runs[2][:2], *runs[3:]],
        [*runs[:2], runs[2][:20], *runs[3:]],
        [*runs[:2], runs[1], *runs[2:]],
        [*runs[:-1], END],
        [runs[0], b"".join(run[2:] for run in runs[1:])],
    ):
        assert "expected a whole JPEG file" in refused(tmp_path, head + b"".join(wrong))


def scans_of(data: bytes) -> list[bytes]:
    """The parts of a JPEG, each ending with a scan."""
    at = [match for match in range(len(data) - 1) if data[match : match + 2] == b"\xff\xda"]
    ends = [
        next(
            end
            for end in range(start + 10, len(data))
            if data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))
        )
        for start in at
    ]
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("case", ["progressive", "progressive restarts", "scans"])
def test_every_scan_must_be_there(tmp_path, case):
    scans = scans_of(JPEGS[case])
    assert len(scans) >= 3 and b"".join(scans) + END == JPEGS[case]
    for missing in range(1, len(scans)):
        rest = scans[:missing] + scans[missing + 1 :]
        assert "expected a whole JPEG file" in refused(tmp_path, b"".join(rest) + END), missing
        assert "expected a whole JPEG file" in refused(tmp_path, b"".join(scans[:missing]) + END), missing


ENDLESS = {
    "JPEG of nothing but FF": b"\xff\xd8" + b"\xff" * 3_000_000 + b"\0",
    "JPEG of coded FF": b"\xff\xd8" + b"\xff\0" * 2_000_000,
    "JPEG of empty segments": b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000 + JPEGS["baseline"],
    "JPEG of end markers": JPEGS["baseline"][:-2] + b"\xff\xff" * 2_000_000,
    "PNG of empty chunks": b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"") * 1_100_000,
}


@pytest.mark.parametrize("case", ENDLESS)
def test_files_of_many_empty_parts_take_bounded_time(tmp_path, case):
    begun = time.process_time()
    refused(tmp_path, ENDLESS[case])
    assert read_tags(tmp_path / "picture") == ({}, [])
    assert time.process_time() - begun < 30  # some would take hours


def test_many_scans_take_bounded_time(tmp_path):
    scans = scans_of(JPEGS["progressive"])
    assert "expected a whole JPEG file" in refused(tmp_path, scans[0] + scans[1] * jpeg.MOST_SCANS + END)


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_other_codes_are_refused(tmp_path, marker):
    data = JPEGS["baseline"].replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    assert "expected a baseline or progressive JPEG of Huffman codes" in refused(tmp_path, data)


# ---------------------------------------------------------------- JPEG: what does no harm


def behind_start(data: bytes, more: bytes) -> bytes:
    first = 4 + int.from_bytes(data[4:6], "big")
    return data[:first] + more + data[first:]


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "zeros behind": lambda data: data + bytes(5000),
    "another picture behind": lambda data: data + JPEGS["grey"],
    "a gain map behind": lambda data: data + JPEGS["grey"] + b"trailer" + JPEGS["baseline"][:500],
    "maker data behind": lambda data: data + b"SEFH" + bytes(range(256)) * 20 + b"SEFT",
    "fill bytes": lambda data: data.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb"),
    "fill bytes at the end": lambda data: data[:-2] + b"\xff\xff\xff" + END,
    "foreign bytes between segments": lambda data: behind_start(data, b"\0garbage\0"),
    "foreign bytes before the scan": lambda data: data.replace(b"\xff\xda", b"\x11\x22\x33\xff\xda", 1),
    "zeros before the end": lambda data: data[:-2] + bytes(300) + END,
    "some bytes before the end": lambda data: data[:-2] + b"\x12\x34\x56\x78\x9a" + END,
    "a long comment": lambda data: behind_start(data, b"\xff\xfe\xff\xff" + bytes(65533)),
    "many segments": lambda data: behind_start(data, (b"\xff\xed\xff\xff" + b"8" * 65533) * 20),
    "a thumbnail": lambda data: behind_start(
        data, b"\xff\xe1" + struct.pack(">H", 2 + len(JPEGS["grey"])) + JPEGS["grey"]
    ),
    "an unknown version of JFIF": lambda data: data.replace(b"JFIF\0\1\1", b"JFIF\0\2\7"),
}


@pytest.mark.parametrize("case", JPEGS)
@pytest.mark.parametrize("harmless", HARMLESS)
def test_harmless_oddities_change_nothing(tmp_path, case, harmless):
    assert np.array_equal(read(tmp_path, HARMLESS[harmless](JPEGS[case])), decode_jpeg(JPEGS[case]))


def test_restart_markers_may_be_filled_up_and_one_too_many(tmp_path):
    for case in ("restart rows", "restart blocks"):
        head, *runs = runs_of(JPEGS[case])
        filled = head + b"".join(b"\xff\xff" + run if run[0] == 0xFF else run for run in runs)
        assert np.array_equal(read(tmp_path, filled), decode_jpeg(JPEGS[case]))
        last = b"\xff" + bytes([0xD0 + (len(runs) - 1) % 8])
        assert np.array_equal(read(tmp_path, JPEGS[case][:-2] + last + END), decode_jpeg(JPEGS[case]))


def test_every_photograph_that_is_there_is_read():
    paths = [*DATA.glob("*/*.jpg"), *DATA.glob("*/*.png")]
    if not paths:
        pytest.skip(f"{DATA} is not there")
    for path in paths:
        expected = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert np.array_equal(read_image(path), expected[..., ::-1]), path


# ---------------------------------------------------------------- sizes


@pytest.fixture
def no_decoder(monkeypatch):
    def called(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(decoders, "decoded", called)


def flat_jpeg(height: int, width: int) -> bytes:
    return resized(pillow(np.zeros((16, 16, 3), np.uint8), "JPEG"), height, width)


def flat_tiff(height: int, width: int, compression: str) -> bytes:
    """A TIFF of one strip whose size is then stated much larger."""
    data = bytearray(pillow(np.zeros((64, 64, 3), np.uint8), "TIFF", compression=compression))
    (at,) = struct.unpack_from("<I", data, 4)
    for field in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        tag, kind = struct.unpack_from("<HH", data, field)
        if tag in (256, 257, 278):
            struct.pack_into("<H" if kind == 3 else "<I", data, field + 8, width if tag == 256 else height)
    return bytes(data)


BOMBS = {
    "JPEG": lambda height, width: flat_jpeg(height, width),
    "progressive JPEG": lambda height, width: resized(JPEGS["progressive"], height, width),
    "PNG": lambda height, width: png(width, height, zlib.compress(bytes(1000))),
    "interlaced PNG": lambda height, width: png(width, height, zlib.compress(bytes(1000)), interlaced=1),
    "PNG of 1 bit": lambda height, width: png(width, height, zlib.compress(bytes(1000)), bits=1, colour=0),
    **{
        f"TIFF {name}": lambda height, width, name=name: flat_tiff(height, width, name)
        for name in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    },
}


@pytest.mark.parametrize("case", BOMBS)
def test_sizes_that_the_data_cannot_fill_are_refused_before_decoding(tmp_path, case, monkeypatch, no_decoder):
    path = tmp_path / "picture"
    path.write_bytes(BOMBS[case](40_000, 25_000))
    too_many = f"expected at most {MOST_PIXELS} pixels in all, got 40000x25000; cut it into pieces, or raise the limit with the"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="ISP_MOST_PIXELS") as caught:
            read_image(path)
        assert too_many in str(caught.value)
        monkeypatch.setenv("ISP_MOST_PIXELS", str(2**30))
        with pytest.raises(ValueError, match=r"picture: expected a whole .* file, got .* damaged.*; copy it again"):
            read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", [case for case in BOMBS if "jpeg" not in case and case != "progressive JPEG"])
def test_a_sentence_says_that_the_bytes_cannot_fill_the_size(tmp_path, case):
    assert "which its" in refused(tmp_path, BOMBS[case](12_000, 12_000))


def test_the_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", PICTURE)
    monkeypatch.setenv("ISP_MOST_PIXELS", "32000")
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)
    monkeypatch.setenv("ISP_MOST_PIXELS", "31999")
    with pytest.raises(ValueError, match=r"expected at most 31999 pixels in all, got 160x200; .* ISP_MOST_PIXELS"):
        read_image(tmp_path / "a.png")
    for wrong in ("", "many", "0", "-5", "1e9", str(2**30 + 1), "9" * 5000):
        monkeypatch.setenv("ISP_MOST_PIXELS", wrong)
        with pytest.raises(
            ValueError, match=r"ISP_MOST_PIXELS: expected a whole number from 1 to 1073741824, got '.{0,40}';"
        ):
            read_image(tmp_path / "a.png")


def test_flat_pictures_are_no_bombs(tmp_path):
    """What packs best is still read: nothing but one colour, by every compression."""
    flat = np.zeros((2000, 3000, 3), np.uint8)
    for data in (
        pillow(flat, "PNG", compress_level=9),
        pillow(flat, "JPEG", quality=1, optimize=True, subsampling=2),
        pillow(flat, "JPEG", quality=1, progressive=True, optimize=True),
        *(pillow(flat, "TIFF", compression=name) for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")),
    ):
        assert read(tmp_path, data).max() <= 1  # a JPEG of this quality rounds
    one_bit = Image.new("1", (4000, 4000))
    file = io.BytesIO()
    one_bit.save(file, "PNG", compress_level=9)
    assert not read(tmp_path, file.getvalue()).any()


def run_limited(program: str, *arguments: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_memory_that_is_too_small_ends_in_a_sentence(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((8000, 8000, 3), np.uint8))
    said = run_limited(
        """
import resource, sys
from isp.files.pictures import read_image
read_image(sys.argv[2])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, -1))
try:
    read_image(sys.argv[1])
except ValueError as problem:
    print(problem)
""",
        tmp_path / "a.png",
        _small(tmp_path),
    )
    assert "a.png: expected a picture that fits into memory, got 8000x8000 pixels; cut it into pieces" in said


def _small(tmp_path: Path) -> Path:
    write_image(tmp_path / "small.png", PICTURE)
    return tmp_path / "small.png"


def test_reading_takes_at_most_three_times_the_picture(tmp_path):
    picture = cv2.resize(PICTURE, (4000, 3000))
    files = {
        "small": pillow(PICTURE, "PNG"),
        "PNG": pillow(picture, "PNG", compress_level=1),
        "alpha": pillow(np.dstack([picture, np.full((3000, 4000), 255, np.uint8)]), "PNG", compress_level=1),
        "JPEG": pillow(picture, "JPEG"),
        "restarts": pillow(picture, "JPEG", restart_marker_rows=1),
        "many restarts": pillow(picture, "JPEG", restart_marker_blocks=9),
        "progressive": pillow(picture, "JPEG", progressive=True),
        "turned": pillow(picture, "JPEG", exif=_turned()),
        "profile": pillow(picture, "JPEG", icc_profile=_other_green()),
        "plain TIFF": pillow(picture, "TIFF"),
        "LZW": pillow(picture, "TIFF", compression="tiff_lzw"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    said = run_limited(
        """
import sys
from pathlib import Path
from isp.files.icc import read_srgb
def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
for name in sys.argv[2:]:
    try:
        open("/proc/self/clear_refs", "w").write("5")
    except OSError:
        print("unknown")
        break
    before = memory("VmRSS")
    picture, _ = read_srgb(Path(sys.argv[1], name))
    print(name, (memory("VmHWM") - before) / picture.nbytes, sep="=")
    del picture
""",
        tmp_path,
        *files,
    )
    if "unknown" in said:
        pytest.skip("this machine does not tell how much memory was used")
    found = dict(line.split("=") for line in said.splitlines())
    assert len(found) == len(files)
    # The file of a plain TIFF is as large as the picture, and libtiff copies the strips, of which Pillow writes one.
    most = {name: 5 if name == "plain TIFF" else 3.2 for name in files if name != "small"}
    assert all(float(found[name]) < times for name, times in most.items()), f"{found}"


def _other_green() -> bytes:
    """The profile of sRGB that Pillow writes, with another green."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (start,) = struct.unpack_from(">I", content, content.index(b"gXYZ") + 4)
    struct.pack_into(">3i", content, start + 8, *(round(65536 * value) for value in (0.20528, 0.62567, 0.06087)))
    return bytes(content)


def _turned() -> bytes:
    tags = Image.Exif()
    tags[274] = 6
    return tags.tobytes()


# ---------------------------------------------------------------- damage


SMALL = cv2.resize(PICTURE, (6, 5))


def _png_with_colours() -> bytes:
    content = cv2.imencode(".png", SMALL)[1].tobytes()
    exif = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    extra = chunk(b"gAMA", struct.pack(">I", 60000)) + chunk(b"eXIf", exif) + chunk(b"tEXt", b"Comment\0" + bytes(9))
    return content[:33] + extra + content[33:]


def outcome(path: Path):
    """The picture in sRGB, or None if it is refused; anything else fails."""
    try:
        return icc.read_srgb(path)[0]
    except ValueError as problem:
        assert str(problem).startswith(f"{path}: expected ")
        assert "\n" not in str(problem)
        return None


def test_no_flipped_bit_in_a_png_goes_unnoticed(tmp_path):
    path, data = tmp_path / "a.png", _png_with_colours()
    path.write_bytes(data)
    right = outcome(path)
    assert right is not None and right.shape == (6, 5, 3)
    read_right = 0
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        got = outcome(path)
        assert got is None or np.array_equal(got, right), f"bit {bit}"
        read_right += got is not None
    assert read_right < 8 * 40  # those of the comment
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        assert outcome(path) is None


STRIPS = {
    "deflate": tiff(PICTURE, compression="zlib", rowsperstrip=16),
    "deflate with predictor": tiff(PICTURE, compression="zlib", predictor=True, rowsperstrip=64),
    "deflate 16 bits": tiff(PICTURE.astype(np.uint16) * 257, compression="zlib", rowsperstrip=16),
    "old deflate": pillow(PICTURE, "TIFF", compression="tiff_deflate"),
    "plain": tiff(PICTURE, rowsperstrip=16),
    "LZW": pillow(PICTURE, "TIFF", compression="tiff_lzw"),
    "LZW grey": pillow(PICTURE[..., 0], "TIFF", compression="tiff_lzw"),
    "PackBits": pillow(PICTURE // 64 * 64, "TIFF", compression="packbits"),
    "JPEG": pillow(PICTURE, "TIFF", compression="jpeg"),
}


def strips_of(data: bytes) -> list[tuple[int, int]]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


@pytest.mark.parametrize("case", [case for case in STRIPS if "deflate" in case])
def test_no_damage_to_a_deflated_strip_goes_unnoticed(tmp_path, case):
    """Deflate fills its last byte up with bits that mean nothing; with another value of these, the pixels are right."""
    data, path = STRIPS[case], tmp_path / "a.tif"
    right, dice, refused = read(tmp_path, data), np.random.Generator(np.random.PCG64(12)), 0
    for start, length in strips_of(data):
        for _ in range(40):
            spoilt = bytearray(data)
            spoilt[start + int(dice.integers(2, length))] ^= 1 << int(dice.integers(8))
            path.write_bytes(spoilt)
            found = outcome(path)
            assert found is None or np.array_equal(found, right)
            refused += found is None
    assert refused >= 40 * len(strips_of(data)) - 2


@pytest.mark.parametrize("case", STRIPS)
@pytest.mark.parametrize("which", [0, -1])
def test_strips_that_are_too_short_are_refused(tmp_path, case, which):
    data = STRIPS[case]
    assert read(tmp_path, data).shape == (160, 200, 3)
    start, length = strips_of(data)[which]
    # the strip's stated length is halved, and a JPEG is closed there
    short = bytearray(data)
    if case == "JPEG":
        short[start + length // 2 : start + length] = END + bytes(length - length // 2 - 2)
    else:
        at = _place_of_count(data, which)
        struct.pack_into(at[1], short, at[0], length // 2)
    assert "expected a whole TIFF file" in refused(tmp_path, bytes(short)) or case == "JPEG"


def test_a_strip_is_not_filled_by_the_next_one(tmp_path):
    """One strip states fewer bytes than its rows take, another more."""
    data = bytearray(STRIPS["plain"])
    assert len(strips_of(bytes(data))) > 3
    for which, change in ((1, -600), (0, 600)):
        at, form = _place_of_count(bytes(data), which)
        struct.pack_into(form, data, at, struct.unpack_from(form, data, at)[0] + change)
    assert "expected a whole TIFF file" in refused(tmp_path, bytes(data))


def _place_of_count(data: bytes, which: int) -> tuple[int, str]:
    """Where the length of a strip stands, and its form."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].tags["StripByteCounts"]
        form = {3: "<H", 4: "<I"}[int(tag.dtype)]
        return tag.valueoffset + struct.calcsize(form) * (which % tag.count), form


def test_a_missing_strip_is_refused(tmp_path):
    data = bytearray(STRIPS["deflate"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        at = file.pages[0].tags["RowsPerStrip"].valueoffset
    data[at : at + 2] = struct.pack("<H", 8)
    assert "expected a whole TIFF file" in refused(tmp_path, bytes(data))


@pytest.mark.parametrize("case", [*JPEGS, *STRIPS])
def test_no_damage_makes_more_than_a_sentence(tmp_path, case):
    whole, path = (JPEGS | STRIPS)[case], tmp_path / "a"
    for turn in range(150):
        # mostly in the structure, where damage does most
        at = int(DICE.integers(700 if turn % 3 else len(whole))) % len(whole)
        spoilt = whole[:at] + bytes([whole[at] ^ 1 << int(DICE.integers(8))]) + whole[at + 1 :]
        path.write_bytes(spoilt if turn % 5 else whole[: int(DICE.integers(len(whole)))])
        outcome(path)


def test_bytes_that_begin_like_a_picture_make_a_sentence(tmp_path):
    path = tmp_path / "a"
    for start in kinds._STARTS:
        for length in (0, 1, 7, 30, 3000):
            path.write_bytes(start + DICE.bytes(length))
            assert outcome(path) is None


# ---------------------------------------------------------------- what is no file


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, got in ((tmp_path / "pipe.png", "a named pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        for reader in (read_image, icc.read_srgb):
            with pytest.raises(ValueError, match=f"expected an image file, a regular file, got {got}; check the path"):
                reader(path)
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="got a named pipe"):
        read_image(tmp_path / "link.png")


def test_a_huge_empty_file_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        ValueError, match=r"a\.png: expected an image file of at most [\d,]+ bytes, got 1,099,511,627,776"
    ):
        read_image(tmp_path / "a.png")

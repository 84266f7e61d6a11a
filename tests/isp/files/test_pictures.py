"""Files in, RGB out: exactly, or refused in one sentence."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from isp.files import decoders
from isp.files.pictures import decode_jpeg, encode_jpeg, read_image, write_image
from isp.files.whole import replace_file

DATA = Path(__file__).parents[3].parent / "shared" / "data"
DICE = np.random.Generator(np.random.PCG64(0))
NOISE = {
    8: DICE.integers(0, 2**8, (37, 53, 3), dtype=np.uint8),
    16: DICE.integers(0, 2**16, (37, 53, 3), dtype=np.uint16),
}
SMOOTH = np.asarray(Image.fromarray(NOISE[8][:5, :7]).resize((53, 37), Image.Resampling.BICUBIC))
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def grey(image):
    return np.repeat(image[..., None], 3, axis=2)


def pillow(image, kind, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def tiff(image, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **{"photometric": "rgb" if image.ndim == 3 else "minisblack"} | options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows: bytes, width, height, bits=8, colour=2, interlaced=0, extra=b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_of(image, extra=b"") -> bytes:
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[image.shape[2] if image.ndim == 3 else 1]
    rows = b"".join(b"\0" + row.tobytes() for row in image.astype(image.dtype.newbyteorder(">")))
    return png(rows, image.shape[1], image.shape[0], image.dtype.itemsize * 8, colour, extra=extra)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def opaque(image, alpha=None):
    full = np.full(image.shape[:2], np.iinfo(image.dtype).max, image.dtype)
    return np.dstack([image, full if alpha is None else alpha])


def read(tmp_path: Path, data: bytes, name="picture"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path)


def refused(tmp_path: Path, data: bytes) -> str:
    """The sentence, which starts with the path and is only one."""
    with pytest.raises(ValueError, match=r"picture: expected .*, got .*; ") as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "picture"))
    assert "\n" not in message
    return message


def same(image, expected) -> bool:
    return image.dtype == expected.dtype and image.shape == expected.shape and bool((image == expected).all())


# ---------------------------------------------------------------- pixels


@given(
    image=arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 33), st.integers(1, 33)).flatmap(lambda size: st.sampled_from([size, (*size, 3)])),
    ),
    suffix=st.sampled_from([".png", ".PNG", ".tif", ".tiff"]),
)
def test_what_is_written_is_read(tmp_path_factory, image, suffix):
    path = tmp_path_factory.getbasetemp() / f"round-trip{suffix}"
    write_image(path, image)
    assert same(read_image(path), image if image.ndim == 3 else grey(image))


def test_strided_images_are_written(tmp_path):
    write_image(str(tmp_path / "a.png"), NOISE[8][::-2, ::3])
    assert same(read_image(str(tmp_path / "a.png")), NOISE[8][::-2, ::3])


def test_jpeg_in_memory_equals_jpeg_on_disk(tmp_path):
    write_image(tmp_path / "a.jpg", SMOOTH, quality=90)
    data = encode_jpeg(SMOOTH, 90)
    assert (tmp_path / "a.jpg").read_bytes() == data
    assert same(decode_jpeg(data), read_image(tmp_path / "a.jpg"))
    assert np.abs(decode_jpeg(data).astype(int) - SMOOTH).mean() < 3
    assert len(encode_jpeg(SMOOTH, 30)) < len(data)


def test_the_first_channel_is_red(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert decode_jpeg(encode_jpeg(red, 95))[8, 8].tolist() == [254, 0, 0]
    for suffix in (".png", ".tif", ".jpg"):
        write_image(tmp_path / f"a{suffix}", red)
        assert np.asarray(Image.open(tmp_path / f"a{suffix}"))[8, 8, 0] >= 254


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", [*TURNS, 0, 9])
def test_orientation_is_honoured(tmp_path, orientation, bits):
    image = NOISE[bits]
    upright = TURNS.get(orientation, TURNS[1])
    tag = {"extratags": [(274, "H", 1, orientation, True)]}
    tags = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    assert same(read(tmp_path, png_of(image, chunk(b"eXIf", tags))), upright(image))
    assert same(read(tmp_path, png_of(opaque(image), chunk(b"eXIf", tags))), upright(image))
    assert same(read(tmp_path, tiff(image, rowsperstrip=5, **tag)), upright(image))
    assert same(read(tmp_path, tiff(opaque(image), extrasamples=["unassalpha"], **tag)), upright(image))
    assert same(read(tmp_path, tiff(image[..., 0], **tag)), upright(grey(image[..., 0])))
    if bits == 8:
        plain = read(tmp_path, pillow(image, "JPEG"))
        assert same(read(tmp_path, pillow(image, "JPEG", exif=exif(orientation))), upright(plain))


def test_a_portrait_of_a_camera_is_upright():
    path = DATA / "camera_jpeg" / "Nikon_D40.jpg"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    image = read_image(path)
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).reduce(8)).astype(float)
    assert image.shape == (3008, 2000, 3)
    assert np.abs(image.reshape(376, 8, 250, 8, 3).mean((1, 3)) - expected).max() < 2


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_and_opaque_alpha(tmp_path, bits):
    image = NOISE[bits]
    assert same(read(tmp_path, png_of(image[..., 0])), grey(image[..., 0]))
    assert same(read(tmp_path, png_of(opaque(image[..., 0]))), grey(image[..., 0]))
    assert same(read(tmp_path, png_of(opaque(image))), image)
    assert same(read(tmp_path, tiff(image[..., 0])), grey(image[..., 0]))
    for extra in ("unassalpha", "assocalpha", "unspecified"):
        assert same(read(tmp_path, tiff(opaque(image), extrasamples=[extra])), image)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparency_is_refused(tmp_path, bits):
    alpha = np.full((37, 53), 2**bits - 1, NOISE[bits].dtype)
    alpha[0, 0] -= 1
    data = png_of(opaque(NOISE[bits], alpha))
    assert "expected an opaque image, got transparency in 0.05% of the pixels; flatten" in refused(tmp_path, data)
    assert "transparency" in refused(tmp_path, png_of(opaque(NOISE[bits][..., 0], alpha)))
    assert "transparency" in refused(tmp_path, tiff(opaque(NOISE[bits], alpha), extrasamples=["unassalpha"]))


def test_a_transparent_colour_is_refused_only_where_it_occurs(tmp_path):
    key = tuple(int(level) for level in NOISE[8][3, 5])
    assert "transparency" in refused(tmp_path, pillow(NOISE[8], "PNG", transparency=key))
    black = np.zeros((4, 4, 3), np.uint8)
    assert same(read(tmp_path, pillow(black, "PNG", transparency=(1, 2, 3))), black)
    paletted = Image.fromarray(NOISE[8]).convert("P")
    assert "transparency" in refused(tmp_path, pillow(paletted, "PNG", transparency=paletted.getpixel((0, 0))))


def test_palettes_few_bits_and_interlacing(tmp_path):
    paletted = Image.fromarray(NOISE[8]).convert("P")
    colours = np.asarray(paletted.convert("RGB"))
    assert same(read(tmp_path, pillow(paletted, "PNG")), colours)
    assert same(read(tmp_path, pillow(paletted, "TIFF")), colours)
    stripes = bytes([0b01010101]) * 2
    two_levels = grey(np.tile(np.array([0, 255], np.uint8), (3, 8)))
    assert same(read(tmp_path, png((b"\0" + stripes) * 3, 16, 3, bits=1, colour=0)), two_levels)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [row for x, y, right, down in passes for row in NOISE[8][y::down, x::right]]
    interlaced = png(b"".join(b"\0" + row.tobytes() for row in rows), 53, 37, interlaced=1)
    assert same(read(tmp_path, interlaced), NOISE[8])


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_variants(tmp_path, bits, options):
    assert same(read(tmp_path, tiff(NOISE[bits], **options)), NOISE[bits])
    assert same(read(tmp_path, tiff(NOISE[bits][..., 0], **options)), grey(NOISE[bits][..., 0]))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_tiff_compressions(tmp_path, compression):
    assert same(read(tmp_path, pillow(NOISE[8], "TIFF", compression=compression)), NOISE[8])


def test_jpeg_in_tiff(tmp_path):
    data = pillow(SMOOTH, "TIFF", compression="jpeg", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read(tmp_path, data) - expected).max() <= 2


def test_a_reduced_copy_may_follow_in_a_tiff(tmp_path):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as pages:
        pages.write(NOISE[8], photometric="rgb")
        pages.write(NOISE[8][::2, ::2], photometric="rgb", subfiletype=1)
    assert same(read(tmp_path, file.getvalue()), NOISE[8])


# ---------------------------------------------------------------- refusals


def two_pages(first: int, second: int) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as pages:
        pages.write(NOISE[8], photometric="rgb", subfiletype=first)
        pages.write(NOISE[8], photometric="rgb", subfiletype=second)
    return file.getvalue()


def huge(width: int, height: int) -> bytes:
    return png(b"\0" * 100, width, height)


def looping_tiff() -> bytes:
    data = bytearray(tiff(NOISE[8]))
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * entries, at)
    return bytes(data)


REFUSED = {
    "empty": (b"", "expected a PNG, JPEG or TIFF image, got an empty file; convert it"),
    "text": (b"not an image", "got 12 bytes that start with b'not an i'; convert it"),
    "gif": (pillow(NOISE[8], "GIF"), "expected a PNG, JPEG or TIFF image"),
    "CMYK JPEG": (pillow(Image.fromarray(NOISE[8]).convert("CMYK"), "JPEG"), "got 8 bits in 4 (4 is CMYK)"),
    "CMYK TIFF": (pillow(Image.fromarray(NOISE[8]).convert("CMYK"), "TIFF"), "photometric interpretation 5"),
    "Lab TIFF": (pillow(Image.fromarray(NOISE[8]).convert("LAB"), "TIFF"), "photometric interpretation 8"),
    "white is 0": (tiff(NOISE[16][..., 0], photometric="miniswhite"), "photometric interpretation 0"),
    "float": (tiff(NOISE[8].astype(np.float32)), "got 32 bits of sample format 3"),
    "half": (tiff(NOISE[8].astype(np.float16)), "got 16 bits of sample format 3"),
    "32 bits": (tiff(NOISE[8].astype(np.uint32)), "expected whole numbers of 8 or 16 bits, got 32 bits"),
    "signed": (tiff(NOISE[8].astype(np.int16)), "got 16 bits of sample format 2"),
    "one bit": (pillow(Image.fromarray(NOISE[8]).convert("1"), "TIFF"), "got 1 bits"),
    "grey and alpha": (tiff(NOISE[8][..., :2], photometric="minisblack", planarconfig="contig"), "got 2 channels"),
    "five channels": (tiff(np.dstack([NOISE[8], NOISE[8][..., :2]])), "got 5 channels"),
    "tiles": (tiff(NOISE[8], tile=(16, 16)), "got tiles or planes"),
    "planes": (tiff(np.moveaxis(NOISE[16], 2, 0).copy(), planarconfig="separate"), "got tiles or planes"),
    "two pages": (two_pages(0, 0), "got 2 pages"),
    "thumbnail first": (two_pages(1, 0), "expected one full-size page first and only reduced copies after it"),
    "looping pages": (looping_tiff(), "expected a whole TIFF file"),
    "odd compression": (tiff(NOISE[16], compression="lzma"), "expected a TIFF that OpenCV can decode"),
    "animation": (png_of(NOISE[8], chunk(b"acTL", struct.pack(">II", 1, 0))), "expected one picture, got an animation"),
    "bomb": (
        huge(2**16, 2**15),
        "expected at most 268435456 pixels in all, got 32768x65536; cut it into pieces, or raise",
    ),
    "long side": (huge(2**20 + 1, 1), "expected 1 to 1048576 pixels a side"),
    "no width": (huge(0, 5), "got 5x0"),
    "no pixels": (png_of(NOISE[8])[:33] + chunk(b"IEND", b""), "states 37x53 pixels, which its 0 bytes of"),
    "rows missing": (png(bytes(54 * 3), 53, 37), "expected a PNG that OpenCV can decode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_right_is_refused(tmp_path, case, capfd):
    data, words = REFUSED[case]
    assert words in refused(tmp_path, data)
    assert "ERROR" not in capfd.readouterr().err


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none\.png: expected an image file, got nothing there; check the path"
    ):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"expected an image file, a regular file, got a folder; check the path"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["fotografía été.png", "写真.png", "a b'c\"d;%.png"])
def test_any_name_works(tmp_path, name):
    write_image(tmp_path / name, NOISE[16])
    assert same(read_image(tmp_path / name), NOISE[16])


# ---------------------------------------------------------------- truncation


def with_thumbnail(data: bytes) -> bytes:
    thumbnail = b"Exif\0\0" + pillow(NOISE[8][:8, :8], "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail + data[2:]


def in_chunks(data: bytes, size: int) -> bytes:
    content = data[41:-16]
    parts = [chunk(b"IDAT", content[at : at + size]) for at in range(0, len(content), size)]
    return data[:33] + b"".join(parts) + data[-12:]


WHOLE = {
    "png": png_of(NOISE[8]),
    "png of many chunks": in_chunks(png_of(NOISE[16]), 1000),
    "png alpha": png_of(opaque(NOISE[16])),
    "jpeg": pillow(SMOOTH, "JPEG"),
    "jpeg progressive": pillow(SMOOTH, "JPEG", progressive=True),
    "jpeg grey": pillow(SMOOTH[..., 0], "JPEG"),
    "jpeg restarts": pillow(SMOOTH, "JPEG", restart_marker_blocks=2),
    "jpeg thumbnail": with_thumbnail(pillow(SMOOTH, "JPEG")),
    "tiff directory first": tiff(NOISE[8], rowsperstrip=8),
    "tiff 16 bit": tiff(NOISE[16], rowsperstrip=8),
    "tiff deflate": tiff(SMOOTH, compression="zlib", rowsperstrip=8),
    "tiff lzw": pillow(SMOOTH, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": pillow(SMOOTH, "TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_truncated_file_is_refused_or_read_whole(tmp_path, case):
    data = WHOLE[case]
    whole = read(tmp_path, data)
    cuts = {*range(40), *range(0, len(data), len(data) // 25), *range(len(data) - 12, len(data))}
    cut_and_whole = 0
    for cut in sorted(cuts):
        try:
            image = read(tmp_path, data[:cut])
        except ValueError as error:
            assert "picture: expected a" in str(error)
        else:
            assert same(image, whole), f"cut at {cut} of {len(data)}: another picture"
            cut_and_whole += 1
    assert cut_and_whole == 0 or "tiff" in case


@pytest.mark.parametrize("case", [case for case in WHOLE if "jpeg" in case and "tiff" not in case])
def test_a_jpeg_needs_its_end_marker_and_may_go_on_after_it(tmp_path, case):
    data = WHOLE[case]
    assert "expected a whole JPEG file, got a truncated or damaged one; copy it again" in refused(tmp_path, data[:-2])
    assert "truncated" in refused(tmp_path, data[:-2] + bytes(1000))
    for trailer in (bytes(1000), b"maker data \xff\xd8\xff\xe0", data):
        assert same(read(tmp_path, data + trailer), read(tmp_path, data))


@pytest.mark.parametrize("name", ["Nikon_D90.jpg", "Samsung_S7edge_SM-G935L.jpg"])
def test_truncated_jpegs_of_cameras(tmp_path, name):
    path = DATA / "camera_jpeg" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    data = path.read_bytes()
    end = data.rindex(b"\xff\xd9")
    for cut in (*range(1000, end, end // 20), end - 1, end, end + 1):
        assert "truncated" in refused(tmp_path, data[:cut])
    assert read(tmp_path, data[: end + 2]).size > 3e7


@pytest.mark.parametrize("byte", range(41, 61))
def test_a_flipped_bit_in_a_png_is_noticed(tmp_path, byte):
    data = bytearray(WHOLE["png"])
    data[byte] ^= 16
    refused(tmp_path, bytes(data))


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("name", "image", "options", "words"),
    [
        (
            "a.gif",
            NOISE[8],
            {},
            r'expected a name ending in \.jpeg, \.jpg, \.png, \.tif, \.tiff, got "\.gif"; rename it',
        ),
        ("a", NOISE[8], {}, r'got ""; rename it'),
        ("a.jpg", NOISE[16], {}, r"a\.jpg: expected uint8, got uint16; convert it, or choose \.png"),
        ("a.png", NOISE[8] / 255, {}, r"a\.png: expected uint8 or uint16, got float64; convert it"),
        ("a.png", opaque(NOISE[8]), {}, r"expected the shape \(h, w, 3\) or \(h, w\), got \(37, 53, 4\); reshape it"),
        ("a.png", NOISE[8][:0], {}, r"got \(0, 53, 3\)"),
        ("a.jpg", NOISE[8], {"quality": 0}, r"expected a quality of 1 to 100, got 0"),
        (
            "a.jpg",
            np.zeros((1, 70000), np.uint8),
            {},
            r"expected a size that \.jpg can hold, got 1x70000; make it smaller",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, image, options, words):
    with pytest.raises(ValueError, match=words):
        write_image(tmp_path / name, image, **options)
    assert not [*tmp_path.iterdir()]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected an existing folder .*none, got none; make it first"):
        write_image(tmp_path / "none" / "a.png", NOISE[8])
    (tmp_path / "b.png").mkdir()
    with pytest.raises(ValueError, match=r"b\.png: expected the name of a file, got that of a folder"):
        write_image(tmp_path / "b.png", NOISE[8])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", NOISE[8])

    def full(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(tmp_path / "a.png", NOISE[16])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert same(read_image(tmp_path / "a.png"), NOISE[8])


def test_replace_file(tmp_path):
    replace_file(tmp_path / "a", b"1")
    replace_file(tmp_path / "a", b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"2"}


def test_jpeg_in_memory_refuses_the_rest():
    with pytest.raises(ValueError, match=r"encode_jpeg: expected uint8, got uint16"):
        encode_jpeg(NOISE[16], 90)
    with pytest.raises(
        ValueError, match=r"decode_jpeg: expected the bytes of a JPEG file, got \d+ bytes that start with .*PNG"
    ):
        decode_jpeg(WHOLE["png"])
    with pytest.raises(ValueError, match=r"decode_jpeg: expected a whole JPEG file"):
        decode_jpeg(WHOLE["jpeg"][:-2])


def test_opencv_that_cannot_be_imported_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        ImportError, match=r"install the Debian package libgl1, or `pip install opencv-python-headless`"
    ):
        read(tmp_path, WHOLE["png"])


def test_opencv_gets_its_log_level_back(tmp_path):
    cv2 = decoders.opencv()
    before = cv2.utils.logging.getLogLevel()
    refused(tmp_path, REFUSED["odd compression"][0])
    assert before == cv2.utils.logging.getLogLevel() != cv2.utils.logging.LOG_LEVEL_SILENT


@pytest.mark.parametrize("case", ["tiff directory first", "tiff 16 bit", "png", "jpeg"])
def test_a_file_without_its_last_byte_is_called_truncated(tmp_path, case):
    assert "got a truncated or damaged one; copy it again" in refused(tmp_path, WHOLE[case][:-1])

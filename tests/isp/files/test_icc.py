"""Colour profiles: against the arithmetic of their primaries and curves, and what is said of each."""

import struct
import tracemalloc
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from isp import doctor
from isp.apply import __main__ as apply
from isp.files import icc
from isp.files.pictures import opened, read_image
from isp.files.shot import read_photograph

# Primaries in XYZ under D50, and the exponent of the curve
SRGB = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
SPACES = {
    "Adobe RGB (1998)": (
        [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]],
        2.19921875,
    ),
    "Display P3": ([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]], 2.2),
    "Wide": ([[0.7161046, 0.1009296, 0.1471858], [0.2581874, 0.7249378, 0.0168748], [0.0, 0.0517813, 0.7734287]], 1.8),
}


def profile(name: str, primaries, gamma: float, space: bytes = b"RGB ") -> bytes:
    """A display profile of ICC version 2."""

    def xyz(values) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))

    text = name.encode() + b"\0"
    red, green, blue = zip(*primaries, strict=True)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = bytes(4) + struct.pack(">I", 0x02100000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    content = head.ljust(124, b"\0") + table + body
    return struct.pack(">I", len(content) + 4) + content


def scene() -> np.ndarray:
    coarse = np.random.Generator(np.random.PCG64(2)).integers(30, 226, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (32, 24))


@pytest.fixture
def tagged(tmp_path):
    def save(suffix=".png", name="Adobe RGB (1998)", content=None, picture=None):
        path = tmp_path / f"photo{suffix}"
        content = profile(name, *SPACES[name]) if content is None else content
        Image.fromarray(scene() if picture is None else picture).save(path, icc_profile=content)
        return path

    return save


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_colours_are_those_of_primaries_and_curves(tagged, suffix, name):
    path = tagged(suffix, name)
    expected = 255 * expected_of(read_image(path) / 255.0, *SPACES[name])
    for picture in (icc.read_srgb(path)[0], read_photograph(path).picture):
        assert np.abs(picture - expected).max() < 1.6
        assert np.abs(picture.astype(int) - read_image(path)).max() > 8
    assert read_photograph(path).warnings == (f"{path}: {name}; converted to sRGB",)


def test_srgb_keeps_every_number(tagged):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for content in (b"", own):
        found = read_photograph(tagged(content=content))
        assert np.array_equal(found.picture, scene()) and found.warnings == ()
    # A plain exponent is not the curve: near black they part.
    assert len(read_photograph(tagged(content=profile("nearly", SRGB, 2.2))).warnings) == 1


def test_grey_profiles_and_damage_are_said_and_left_out(tagged):
    for content, says in (
        (profile("Dot Gain 20%", *SPACES["Display P3"], space=b"GRAY"), "got Dot Gain 20% (GRAY); its values are"),
        (
            b"no profile at all",
            "expected a readable colour profile, got a damaged one; its values are assumed to be sRGB",
        ),
    ):
        found = read_photograph(tagged(content=content))
        assert np.array_equal(found.picture, scene())
        assert len(found.warnings) == 1 and says in found.warnings[0]


def test_exif_alone_can_say_adobe_rgb(tmp_path):
    block = Image.Exif()
    block.get_ifd(0x8769)[0xA001] = 65535
    block.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene()).save(path, exif=block)
    picture, finding = icc.read_srgb(path)
    assert finding.text == "Adobe RGB, by its EXIF; converted to sRGB"
    assert np.abs(picture - 255 * expected_of(read_image(path) / 255.0, *SPACES["Adobe RGB (1998)"])).max() < 1


def test_no_damage_to_a_profile_makes_more_than_a_sentence(tagged):
    whole = profile("Display P3", *SPACES["Display P3"])
    dice = np.random.Generator(np.random.PCG64(5))
    for turn in range(150):
        at = int(dice.integers(len(whole)))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << int(dice.integers(8)))]) + whole[at + 1 :]
        path = tagged(content=whole[:at] if turn % 3 == 0 else flipped)
        found = icc.colours_of(opened(path), read_image(path), {})
        assert "\n" not in found.finding.text and found.finding.severity in ("ok", "warning")


# ---------------------------------------------------------------- 16 bits


def expected_of(values, primaries, gamma):
    """sRGB values of values of a space, all in [0, 1]."""
    return srgb_of(values**gamma @ np.array(primaries).T @ np.linalg.inv(np.array(SRGB)).T)


def srgb_of(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def deep_scene() -> np.ndarray:
    return cv2.resize(np.random.Generator(np.random.PCG64(3)).integers(0, 65536, (6, 8, 3)).astype(np.uint16), (32, 24))


def png_with(path, picture, *chunks: tuple[bytes, bytes]):
    """Writes a PNG of OpenCV with more chunks behind its header."""
    content = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    extra = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(content[:33] + extra + content[33:])
    return path


def iccp(content: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"name\0\0" + zlib.compress(content)


@pytest.mark.parametrize("name", SPACES)
def test_16_bits_are_converted_exactly(tmp_path, name):
    path = png_with(tmp_path / "a.png", deep_scene(), iccp(profile(name, *SPACES[name])))
    picture, finding = icc.read_srgb(path)
    assert finding.text == f"{name}; converted to sRGB" and picture.dtype == np.uint16
    primaries, gamma = SPACES[name]
    expected = 65535 * expected_of(deep_scene() / 65535, primaries, round(256 * gamma) / 256)
    # The primaries under D50 are rounded differently, and the sRGB curve is steep near black.
    assert np.abs(picture - expected).max() < 66 and np.abs(picture - expected).mean() < 4
    assert np.array_equal(read_image(path), deep_scene())


def s15(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(65536 * number) for number in numbers))


CURVES = {
    "none": b"curv\0\0\0\0\0\0\0\0",
    "table": b"curv\0\0\0\0" + struct.pack(">I256H", 256, *(round(65535 * (at / 255) ** 1.7) for at in range(256))),
    "para 0": b"para" + bytes(4) + b"\0\0\0\0" + s15(1.8),
    "para 1": b"para" + bytes(4) + b"\0\1\0\0" + s15(2.0, 1.05, -0.05),
    "para 2": b"para" + bytes(4) + b"\0\2\0\0" + s15(2.0, 0.95, 0.02, 0.01),
    "para 3": b"para" + bytes(4) + b"\0\3\0\0" + s15(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    "para 4": b"para" + bytes(4) + b"\0\4\0\0" + s15(2.2, 0.9, 0.1, 0.2, 0.05, 0.0, 0.0),
}


def with_curve(content: bytes, curve: bytes) -> bytes:
    """A profile of `profile` whose three curves are replaced."""
    body = bytearray(content)
    for at in range(132, 132 + 12 * struct.unpack_from(">I", content, 128)[0], 12):
        if content[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", body, at + 4, len(content), len(curve))
    return struct.pack(">I", len(content) + len(curve)) + bytes(body[4:]) + curve


@pytest.mark.parametrize("kind", CURVES)
def test_curves_of_profiles_are_those_of_little_cms(tmp_path, kind):
    content = with_curve(profile("Wide", *SPACES["Wide"]), CURVES[kind])
    picture = cv2.resize(scene(), (64, 48))
    few, finding = icc.read_srgb(png_with(tmp_path / "8.png", picture, iccp(content)))
    many, _ = icc.read_srgb(png_with(tmp_path / "16.png", picture.astype(np.uint16) * 257, iccp(content)))
    assert finding.text == "Wide; converted to sRGB"
    assert np.abs(many / 257 - few).max() < 1.5


def table_profile() -> bytes:
    """A profile that leads from RGB to Lab by a table of 2x2x2 colours."""
    matrix = profile("Printer", *SPACES["Wide"])
    ramp, corners = bytes(range(256)) * 3, bytes([0, 128, 128, *[200, 100, 150] * 6, 255, 128, 128])
    table = b"mft1\0\0\0\0\3\3\2\0" + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp + corners + ramp
    at, content = matrix.index(b"rTRC"), bytearray(matrix + table)
    content[at : at + 12] = b"A2B0" + struct.pack(">II", len(matrix), len(table))
    content[20:24] = b"Lab "
    struct.pack_into(">I", content, 0, len(content))
    return bytes(content)


def test_16_bits_with_a_profile_of_tables_are_refused_in_a_sentence(tmp_path, capsys):
    path = png_with(tmp_path / "photo.png", deep_scene(), iccp(table_profile()))
    says = "expected sRGB, or a profile of a matrix and curves, in a picture of 16 bits, got the colour profile Printer"
    assert apply.main(["inverse", str(path), "--isp", "rsblur/a7r3", "--out", str(tmp_path)]) == apply.BAD_DATA
    assert f"{path}: {says}" in capsys.readouterr().err
    assert doctor.main([str(path)]) == doctor.BAD_DATA
    assert f"not usable: {says}" in capsys.readouterr().out
    few, finding = icc.read_srgb(png_with(tmp_path / "photo.png", scene(), iccp(table_profile())))
    assert finding.text == "Printer; converted to sRGB" and not np.array_equal(few, scene())


# ---------------------------------------------------------------- what a PNG states


def gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * exponent))


def chrm(*numbers: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * number) for number in numbers))


def cicp(*numbers: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(numbers)


PLAIN_SRGB = chrm(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PLAIN_P3 = chrm(0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
IDENTITY = SRGB
P3 = SPACES["Display P3"][0]


def linear_srgb(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def identity_of(values):
    return values


def to_srgb_from(primaries, curve):
    def convert(values):
        return srgb_of(curve(values) @ np.array(primaries).T @ np.linalg.inv(np.array(SRGB)).T)

    return convert


PNG = {  # what a PNG states: (its chunks, the right values, words of the finding)
    "nothing": ([], identity_of, "no colour profile; its values are assumed to be sRGB"),
    "sRGB": ([(b"sRGB", b"\0")], identity_of, "sRGB, as the file states"),
    "sRGB before gAMA": ([(b"sRGB", b"\0"), gama(1)], identity_of, "sRGB, as the file states"),
    "gamma of sRGB": ([gama(0.45455), PLAIN_SRGB], identity_of, "sRGB, by"),
    "gamma of sRGB, rounded": ([gama(0.45)], identity_of, "sRGB, by"),
    "linear": ([gama(1)], to_srgb_from(SRGB, lambda v: v), "linear light, by its gAMA chunk; converted to sRGB"),
    "gamma of old Macs": ([gama(1 / 1.8)], to_srgb_from(SRGB, lambda v: v**1.8), "gamma 1/1.8, by its gAMA chunk; conv"),
    "gamma of 1/3": ([gama(1 / 3)], to_srgb_from(SRGB, lambda v: v**3), "gamma 1/3, by its gAMA chunk; converted"),
    "primaries": ([PLAIN_P3], to_srgb_from(P3, linear_srgb), "the primaries of its cHRM chunk; converted to sRGB"),
    "both": ([gama(1), PLAIN_P3], to_srgb_from(P3, lambda v: v), "linear light, by its gAMA chunk, the primaries of"),
    "gamma 0": ([gama(0)], identity_of, "its gAMA chunk states 0; its values are assumed to be sRGB"),
    "gamma 40000": ([gama(40000)], identity_of, "its gAMA chunk states 40000; its values are assumed"),
    "primaries on a line": ([chrm(0.3, 0.3, *[0.3, 0.3] * 3)], identity_of, "its cHRM chunk states impossible primaries"),
    "primaries of nothing": ([chrm(*[0] * 8)], identity_of, "its cHRM chunk states impossible primaries"),
    "half a gAMA": ([(b"gAMA", b"\0\1")], identity_of, "no colour profile"),
    "cICP sRGB": ([cicp(1, 13, 0, 1), gama(1)], identity_of, "sRGB, by BT.709, by its cICP chunk"),
    "cICP video": ([cicp(1, 1, 0, 1), gama(0.50994)], identity_of, "sRGB, by BT.709, by its cICP chunk"),
    "cICP P3": ([cicp(12, 13, 0, 1), (b"sRGB", b"\0")], to_srgb_from(P3, linear_srgb), "Display P3, by its cICP chunk; conv"),
    "cICP linear": ([cicp(1, 8, 0, 1)], to_srgb_from(SRGB, lambda v: v), "BT.709 in linear light, by its cICP chunk"),
    "cICP before iCCP": (
        [cicp(1, 13, 0, 1), iccp(profile("Wide", *SPACES["Wide"]))], identity_of, "sRGB, by BT.709, by its cICP chunk",
    ),
    "iCCP before sRGB": (
        [iccp(profile("Display P3", *SPACES["Display P3"])), (b"sRGB", b"\0"), gama(1)],
        to_srgb_from(P3, lambda v: v ** (round(2.2 * 256) / 256)), "Display P3; converted to sRGB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("case", PNG)
def test_the_colours_that_a_png_states(tmp_path, case, bits):
    chunks, right, words = PNG[case]
    stored = scene() if bits == 8 else scene().astype(np.uint16) * 257
    picture, finding = icc.read_srgb(png_with(tmp_path / "a.png", stored, *chunks))
    assert words in finding.text
    assert finding.severity == ("warning" if "chunk states" in words else "ok")
    if right is identity_of:
        assert np.array_equal(picture, stored)
    else:
        most = np.iinfo(stored.dtype).max
        tolerance = 2 if "iCCP" in case else 1
        assert np.abs(picture / most - right(stored / most)).max() < tolerance / 255


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (cicp(9, 16, 0, 1), "expected a picture for a display, got HDR (PQ); render it to sRGB first"),
        (cicp(9, 18, 0, 1), "got HDR (HLG); render it to sRGB first"),
        (cicp(1, 16, 0, 1), "got HDR (PQ)"),
        (cicp(7, 13, 0, 1), "got the cICP code points (7, 13, 0, 1); convert it to sRGB"),
        (cicp(1, 9, 0, 1), "got the cICP code points (1, 9, 0, 1)"),
        (cicp(1, 13, 5, 1), "got the cICP code points (1, 13, 5, 1)"),
        (cicp(1, 13, 0, 0), "got the cICP code points (1, 13, 0, 0)"),
        (iccp(b"\0" * 128), None),
    ],
)
def test_hdr_and_unknown_colours_are_refused(tmp_path, chunk, words, capsys):
    path = png_with(tmp_path / "a.png", scene(), chunk)
    if words is None:
        assert icc.read_srgb(path)[1].severity == "warning"
        return
    with pytest.raises(ValueError, match=r"a\.png: expected") as caught:
        icc.read_srgb(path)
    assert words in str(caught.value)
    assert doctor.main([str(path)]) == doctor.BAD_DATA
    assert words in capsys.readouterr().out


def test_a_profile_of_hdr_is_refused(tmp_path):
    content = profile("Rec2100PQ", *SPACES["Display P3"])
    count = struct.unpack_from(">I", content, 128)[0]
    # one tag more moves the table's end by 12 bytes
    moved = bytearray(content[:128] + struct.pack(">I", count + 1) + content[132 : 132 + 12 * count])
    for at in range(132, 132 + 12 * count, 12):
        struct.pack_into(">I", moved, at + 4, struct.unpack_from(">I", moved, at + 4)[0] + 12)
    body = content[132 + 12 * count :]
    tag = b"cicp\0\0\0\0" + bytes([9, 16, 0, 1])
    moved += b"cicp" + struct.pack(">II", len(content) + 12, len(tag)) + body + tag
    struct.pack_into(">I", moved, 0, len(moved))
    with pytest.raises(ValueError, match=r"got HDR \(PQ\); render it to sRGB first"):
        icc.read_srgb(png_with(tmp_path / "a.png", scene(), iccp(bytes(moved))))


def test_a_profile_that_unpacks_to_gigabytes_takes_little_memory(tmp_path):
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()  # 1 GB
    path = png_with(tmp_path / "a.png", scene(), (b"iCCP", b"name\0\0" + bomb), (b"zTXt", b"Comment\0\0" + bomb))
    tracemalloc.start()
    try:
        picture, finding = icc.read_srgb(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(picture, scene()) and "got a damaged one" in finding.text
    assert peak < 100e6


def test_large_pictures_are_no_bombs(tagged):
    path = tagged(".jpg", picture=np.zeros((9600, 9600), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert icc.colours_of(opened(path), scene(), {}).transform is not None


def test_apply_and_doctor_say_it(tagged, tmp_path, capsys):
    path = tagged()
    assert doctor.main([str(path)]) == doctor.DONE
    assert "colours:       Adobe RGB (1998); converted to sRGB" in capsys.readouterr().out
    assert apply.main(["inverse", str(path), "--isp", "rsblur/a7r3", "--out", str(tmp_path / "raw")]) == apply.DONE
    assert f"{path}: Adobe RGB (1998); converted to sRGB" in capsys.readouterr().err

"""Colour profiles: against the arithmetic of their primaries and curves, and what is said of each."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from isp import doctor
from isp.apply import __main__ as apply
from isp.files import icc
from isp.files.pictures import read_image
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
    primaries, gamma = SPACES[name]
    linear = (read_image(path) / 255.0) ** gamma @ np.array(primaries).T @ np.linalg.inv(np.array(SRGB)).T
    linear = np.clip(linear, 0, 1)
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = read_photograph(path)
    assert np.abs(found.picture - expected).max() < 1.6
    assert np.abs(found.picture.astype(int) - read_image(path)).max() > 8
    assert found.warnings == (f"{path}: {name}; isp.apply converts it to sRGB",)


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
    (warning,) = read_photograph(path).warnings
    assert "Adobe RGB by its EXIF, without a profile; its values are assumed to be sRGB" in warning


def test_no_damage_to_a_profile_makes_more_than_a_sentence(tagged):
    whole = profile("Display P3", *SPACES["Display P3"])
    dice = np.random.Generator(np.random.PCG64(5))
    for turn in range(150):
        at = int(dice.integers(len(whole)))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << int(dice.integers(8)))]) + whole[at + 1 :]
        path = tagged(content=whole[:at] if turn % 3 == 0 else flipped)
        found = icc.colours_of(path, read_image(path), {})
        assert "\n" not in found.finding.text and found.finding.severity in ("ok", "warning")


def test_16_bits_are_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), scene().astype(np.uint16) * 257)
    content = path.read_bytes()
    chunk = b"iCCPname\0\0" + zlib.compress(profile("Display P3", *SPACES["Display P3"]))
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:33] + framed + content[33:])  # behind the header
    says = "expected sRGB in a picture of 16 bits, got the colour profile Display P3; convert it to sRGB, or to 8 bits"
    assert apply.main(["inverse", str(path), "--isp", "rsblur/a7r3", "--out", str(tmp_path)]) == apply.BAD_DATA
    assert f"{path}: {says}\n" in capsys.readouterr().err
    assert doctor.main([str(path)]) == doctor.BAD_DATA
    assert f"not usable: {says}\n" in capsys.readouterr().out
    path.write_bytes(content)
    assert apply.main(["inverse", str(path), "--isp", "rsblur/a7r3", "--out", str(tmp_path)]) == apply.DONE


def test_large_pictures_are_no_bombs(tagged):
    path = tagged(".jpg", picture=np.zeros((9600, 9600), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert icc.colours_of(path, scene(), {}).transform is not None


def test_apply_and_doctor_say_it(tagged, tmp_path, capsys):
    path = tagged()
    assert doctor.main([str(path)]) == doctor.DONE
    assert "colours:       Adobe RGB (1998); isp.apply converts it to sRGB" in capsys.readouterr().out
    assert apply.main(["inverse", str(path), "--isp", "rsblur/a7r3", "--out", str(tmp_path / "raw")]) == apply.DONE
    assert f"{path}: Adobe RGB (1998); isp.apply converts it to sRGB" in capsys.readouterr().err

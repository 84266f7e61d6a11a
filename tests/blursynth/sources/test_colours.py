"""Pictures with a colour profile become sRGB when a clip is read, and the user is told how many there are."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from blursynth.sources import Frames, Pairs, Photos, colours
from isp.files.pictures import read_image, write_image
from isp.rng import generator

PRIMARIES = {  # columns of the matrix to D50, as the profiles of the products have them
    "Display P3": ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)),
    "Adobe RGB (1998)": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}


def profile(name: str) -> bytes:
    def fixed(values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def xyz(values):
        return b"XYZ \0\0\0\0" + fixed(values)

    white = (0.9642, 1, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78
    columns = [(key, xyz(values)) for key, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), PRIMARIES[name], strict=True)]
    curves = [(key, curve) for key in (b"rTRC", b"gTRC", b"bTRC")]
    entries = [(b"desc", description), (b"wtpt", xyz(white)), *columns, *curves, (b"cprt", b"text\0\0\0\0-\0")]
    at, table, body = 132 + 12 * len(entries), b"", b""
    for key, data in entries:
        table += key + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I", at + len(body)) + b"\0" * 4 + struct.pack(">I", 0x02100000) + b"mntrRGB XYZ " + b"\0" * 12
    return head + b"acsp" + b"\0" * 28 + fixed(white) + b"\0" * 48 + struct.pack(">I", len(entries)) + table + body


PLAIN = generator(0, 0, "colours").integers(40, 216, (8, 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def save(path: Path, name: str) -> Path:
    """The picture PLAIN in the colours of a profile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = profile(name)
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(BytesIO(content)), "RGB", "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    ImageCms.applyTransform(Image.fromarray(PLAIN), transform).save(path, icc_profile=content)
    return path


def off(picture: np.ndarray) -> int:
    return int(np.abs(picture.astype(int) - PLAIN).max())


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photographs_are_converted_and_counted(tmp_path, name, suffix):
    for stem in "ab":
        assert off(read_image(save(tmp_path / f"{stem}{suffix}", name))) > 8
    write_image(tmp_path / "c.png", PLAIN)
    footage = Photos().open(tmp_path)
    for clip in footage.clips:
        pictures = clip.read()
        assert off(pictures.sharp) <= 2
        assert off(pictures.image[0]) <= 2
    assert footage.notes == (f"colours of 2 of 3 pictures: {name}; converted to sRGB",)
    assert footage.skipped == {}


def test_every_frame_is_converted(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", "Display P3")
    footage = Frames(window=3).open(tmp_path)
    assert [off(image) <= 2 for image in footage.clips[0].read().image] == [True] * 3
    assert footage.notes == ("colours of 1 of 1 pictures: Display P3; converted to sRGB",)


def test_of_pairs_both_pictures_are_converted_and_the_mask_is_not(tmp_path):
    for role in ("avg65_img/avg_blur.png", "avg65_mask_100/avg_blur.png", "gt/gt_sharp.png"):
        save(tmp_path / "0001/000001" / role, "Display P3")
    pictures = Pairs(layout="rsblur").open(tmp_path).clips[0].read()
    assert off(pictures.image[0]) <= 2
    assert off(pictures.sharp) <= 2
    assert (pictures.saturation == read_image(tmp_path / "0001/000001/avg65_mask_100/avg_blur.png")).all()


@pytest.mark.parametrize("content", [None, "sRGB"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_pictures_in_srgb_keep_every_bit(tmp_path, content, suffix):
    tag = {} if content is None else {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    Image.fromarray(PLAIN).save(tmp_path / f"a{suffix}", **tag)
    footage = Photos().open(tmp_path)
    assert (footage.clips[0].read().sharp == read_image(tmp_path / f"a{suffix}")).all()
    assert footage.notes == ()


def test_of_many_pictures_some_are_looked_at(tmp_path, monkeypatch):
    for number in range(10):
        save(tmp_path / f"{number}.png", "Display P3")
    monkeypatch.setattr(colours, "_MOST", 5)
    assert Photos().open(tmp_path).notes == ("colours of 5 of 5 pictures looked at: Display P3; converted to sRGB",)


def test_what_cannot_be_converted_is_told_before_it_is_read(tmp_path):
    Image.fromarray(PLAIN).save(tmp_path / "a.png", icc_profile=b"no profile" * 20)
    assert Photos().open(tmp_path).notes == (
        "colours of 1 of 1 pictures: expected a readable colour profile, got a damaged one; its values are assumed to be "
        "sRGB",
    )


def test_a_file_that_is_no_picture_is_not_looked_at_in_vain(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert Photos().open(tmp_path).notes == ()

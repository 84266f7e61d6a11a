"""Folders of RAW + JPEG: pictures are found on their mosaic to the pixel, or the reason is given."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from isp import cfa, color, pairs
from isp.files import pictures
from isp.files.pictures import decode_jpeg, encode_jpeg, read_image
from isp.files.raw import read_embedded_jpeg, read_raw
from isp.levels import bayer_of_raw
from isp.prepare import __main__ as prepare
from isp.prepare import registration, splits

HEIGHT, WIDTH = 420, 600
UPRIGHT = {  # of a picture as the sensor lies, by EXIF orientation; what `turned_back` undoes
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


@pytest.fixture(scope="session")
def shot(dng, scene, tmp_path_factory):
    """(the bytes of a DNG, the camera's picture of its whole mosaic) for a phase and a seed; made once."""
    made = {}
    folder = tmp_path_factory.mktemp("shots")

    def of(pattern="RGGB", seed=0, orientation=1):
        if (pattern, seed, orientation) not in made:
            blank = np.full((HEIGHT, WIDTH), 500, np.uint16)
            blank[-1] += np.arange(WIDTH, dtype=np.uint16) % 50
            path = folder / "shot.dng"
            path.write_bytes(dng(blank, pattern))
            camera = read_raw(path).camera
            linear = torch.from_numpy(scene(HEIGHT, WIDTH, seed)).permute(2, 0, 1)[None]
            mosaic = cfa.mosaic(color.linear_to_sensor(linear, camera), camera.cfa)
            level = cfa.mosaic(camera.black[:, :, None, None].expand(-1, -1, HEIGHT, WIDTH), camera.cfa)
            values = level + mosaic.clamp(0, 1) * (camera.white - level)
            raw = values[0, 0].round().numpy().astype(np.uint16)
            rendered = color.sensor_to_linear(
                cfa.demosaic(bayer_of_raw(torch.from_numpy(raw), camera), camera.cfa), camera
            )
            tone = rendered[0].permute(1, 2, 0).clamp(0, 1).numpy() ** (1 / 2.2)
            tone = tone * tone * (3 - 2 * tone)  # an S-shaped curve of some contrast
            picture = decode_jpeg(encode_jpeg((tone * 255).round().astype(np.uint8), 92))
            made[pattern, seed, orientation] = dng(raw, pattern, orientation=orientation), picture
        return made[pattern, seed, orientation]

    return of


@pytest.fixture
def place(shot, tmp_path):
    """Writes a DNG and a picture made of its rendering; returns the folder."""

    def of(
        name="a", change=lambda picture: picture, folder="data", suffix=".jpg", pattern="RGGB", orientation=1, seed=0
    ):
        target = tmp_path / folder
        target.mkdir(parents=True, exist_ok=True)
        content, picture = shot(pattern, seed, orientation)
        (target / f"{name}.dng").write_bytes(content)
        Image.fromarray(np.ascontiguousarray(change(picture))).save(target / f"{name}{suffix}", quality=92)
        return tmp_path / "data"

    return of


@pytest.fixture
def run(tmp_path, capsys):
    def of(*arguments, data=None, out=None):
        code = prepare.main(
            ["--data", str(data or tmp_path / "data"), "--out", str(out or tmp_path / "out"), *map(str, arguments)]
        )
        said = capsys.readouterr()
        return code, said.out, said.err

    return of


def record(run, *arguments):
    code, said, _ = run("--json", *arguments)
    return code, json.loads(said)


def refused(run, *arguments) -> str:
    """Why the only shot was skipped."""
    code, found = record(run, *arguments)
    assert code == 1
    assert found["pairs"] == []
    (skipped,) = found["skipped"]
    assert "\n" not in skipped["reason"]
    return str(skipped["reason"])


def cropped(top, left, bottom=0, right=0):
    return lambda picture: picture[top : HEIGHT - bottom, left : WIDTH - right]


# ---------------------------------------------------------------- one pair


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize(("top", "left"), [(0, 0), (7, 12), (8, 5), (11, 9)])
def test_a_cropped_picture_is_found_to_the_pixel(place, run, tmp_path, shot, pattern, top, left):
    place(change=cropped(top, left, 5, 2), pattern=pattern)
    code, found = record(run)
    assert code == 0
    (pair,) = found["pairs"]
    assert pair["correlation"] > 0.9  # less where a block takes one colour of the mosaic for another
    even_top, even_left = top + top % 2, left + left % 2
    assert (pair["raw_top"], pair["raw_left"]) == (even_top, even_left)
    assert (pair["picture_top"], pair["picture_left"]) == (even_top - top, even_left - left)
    content, picture = shot(pattern)
    (tmp_path / "whole.dng").write_bytes(content)
    whole = read_raw(tmp_path / "whole.dng")
    stored = pairs.Pair(tmp_path / "out" / "a.h5")
    height, width = stored.size
    assert (height % 2, width % 2) == (0, 0)
    assert HEIGHT - 5 - even_top - height in (0, 1)
    assert WIDTH - 2 - even_left - width in (0, 1)
    assert stored.camera.cfa == (pattern,)
    bayer, srgb, camera = stored.window(0, 0, height, width)
    rows, columns = slice(even_top, even_top + height), slice(even_left, even_left + width)
    expected = bayer_of_raw(torch.from_numpy(whole.raw), whole.camera)[:, :, rows, columns]
    assert torch.equal(bayer, expected)
    difference = srgb[0].permute(1, 2, 0).numpy() * 255 - picture[rows, columns]
    assert np.sqrt((difference**2).mean()) < 6  # one more JPEG; a pixel aside it is above 20
    rendered = color.sensor_to_linear(cfa.demosaic(bayer, camera.cfa), camera).clamp(0, 1) ** (1 / 2.2)
    assert np.corrcoef(rendered.flatten(), srgb.flatten())[0, 1] > 0.97


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_turned_back(place, run, tmp_path, orientation):
    place(change=lambda picture: UPRIGHT[orientation](picture[6:-4, 3:]), orientation=orientation)
    code, found = record(run)
    assert code == 0
    (pair,) = found["pairs"]
    assert pair["orientation_undone"] == orientation
    assert (pair["raw_top"], pair["raw_left"], pair["picture_left"]) == (6, 4, 1)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_turned_by_its_tag(place, run, tmp_path, shot, orientation):
    place(orientation=orientation)
    tags = Image.Exif()
    tags[274] = orientation
    Image.fromarray(shot()[1]).save(tmp_path / "data" / "a.jpg", exif=tags, quality=92)
    code, found = record(run)
    assert code == 0
    assert found["pairs"][0]["orientation_undone"] == orientation
    assert found["pairs"][0]["height"] == HEIGHT


def test_a_turn_that_the_tags_do_not_tell_is_found(place, run):
    place(change=lambda picture: UPRIGHT[8](picture[6:-4, 4:]), orientation=1)
    code, found = record(run)
    assert code == 0
    assert found["pairs"][0]["orientation_undone"] == 8


def test_a_picture_larger_than_the_visible_area(place, run):
    place(change=lambda picture: np.pad(picture, ((4, 0), (3, 5), (0, 0)), mode="reflect"))
    code, found = record(run)
    assert code == 0
    (pair,) = found["pairs"]
    assert (pair["raw_top"], pair["raw_left"], pair["picture_top"], pair["picture_left"]) == (0, 0, 4, 3)
    assert (pair["height"], pair["width"]) == (HEIGHT, WIDTH)


def moved(rows, columns):
    matrix = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    return lambda picture: cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)[4:-4, 4:-4]


@pytest.mark.parametrize(("rows", "columns"), [(0.1, -0.2), (-0.2, 0.2), (0.15, 0)])
def test_a_small_fraction_of_a_pixel_is_the_nearest_pixel(place, run, rows, columns):
    place(change=moved(rows, columns))
    code, found = record(run)
    assert code == 0
    assert (found["pairs"][0]["raw_top"], found["pairs"][0]["raw_left"]) == (4, 4)


@pytest.mark.parametrize(("rows", "columns"), [(0.5, 0), (0, 0.5), (-0.5, -0.5), (1.5, 0)])
def test_half_a_pixel_is_refused(place, run, rows, columns):
    place(change=moved(rows, columns))
    assert "shift by whole pixels" in refused(run)


def test_strong_noise_hides_no_place(dng, place, run, tmp_path):
    place(change=cropped(7, 12))
    path = tmp_path / "data" / "a.dng"
    raw = read_raw(path).raw.astype(float)
    noise = np.random.Generator(np.random.PCG64(2)).normal(0, 1, raw.shape) * np.sqrt(1200 * raw)
    path.write_bytes(dng(np.clip(raw + noise, 0, 4000).astype(np.uint16)))
    code, found = record(run)
    assert code == 0
    (pair,) = found["pairs"]
    assert (pair["raw_top"], pair["picture_top"], pair["raw_left"]) == (8, 1, 12)
    assert pair["correlation"] < 0.5


def resized(factor):
    return lambda picture: cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("factor", [0.5, 0.25, 1 / 3.2])
def test_a_reduced_copy_is_named_as_one(place, run, factor):
    place(change=resized(factor))
    reason = refused(run)
    assert "full size" in reason
    assert f"reduced about {1 / factor:.1f} times" in reason


def test_an_enlarged_copy_is_named_as_one(place, run):
    place(change=resized(2))
    assert "enlarged about 2.0 times" in refused(run)


@pytest.mark.parametrize("factor", [0.985, 1.012, 1.03])
def test_slightly_resized_pictures_are_refused(place, run, factor):
    place(change=resized(factor))
    assert "a.jpg: expected" in refused(run)


def barrel(picture, strength=0.012):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    u, v = (x - WIDTH / 2) / WIDTH, (y - HEIGHT / 2) / WIDTH
    stretch = 1 + strength * (u * u + v * v) / 0.3
    return cv2.remap(picture, u * stretch * WIDTH + WIDTH / 2, v * stretch * WIDTH + HEIGHT / 2, cv2.INTER_CUBIC)


def test_corrected_lens_distortion_is_refused(place, run):
    place(change=barrel)
    assert "lens distortion" in refused(run)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda picture: np.random.Generator(np.random.PCG64(5)).integers(0, 256, picture.shape, np.uint8), "scene"),
        (lambda picture: np.zeros_like(picture), "expected detail"),
        (lambda picture: picture[:40, :40], "at least 64x64 pixels"),
        (lambda picture: np.where(np.arange(WIDTH)[:, None] < 330, picture, picture[::-1, ::-1]), "blocks"),
    ],
)
def test_what_does_not_fit_is_refused(place, run, change, reason):
    place(change=change)
    assert reason in refused(run)


def test_another_scene_is_refused(place, run, shot):
    place(change=lambda _: shot(seed=1)[1])
    assert "expected the RAW's scene" in refused(run)


def test_turning_back_undoes_every_orientation():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for orientation, turn in UPRIGHT.items():
        assert np.array_equal(pictures.turned_back(np.ascontiguousarray(turn(image)), orientation), image)


# ---------------------------------------------------------------- the camera of a pair


def test_the_picture_tells_what_the_raw_file_does_not(dng, place, tmp_path, run, shot):
    place()
    exif = {34855: ("short", [0]), 33437: ("rational", [2.8])}
    whole = read_raw(tmp_path / "data" / "a.dng")
    (tmp_path / "data" / "a.dng").write_bytes(dng(whole.raw, exif=exif))
    tags = Image.Exif()
    tags[34665] = {34855: 1600, 33437: IFDRational(8), 37386: IFDRational(50)}
    Image.fromarray(shot()[1]).save(tmp_path / "data" / "a.jpg", exif=tags, quality=92)
    assert record(run)[0] == 0
    camera = pairs.Pair(tmp_path / "out" / "a.h5").camera
    assert float(camera.iso[0]) == 1600
    assert float(camera.f_number[0]) == pytest.approx(2.8)  # the RAW file's stands
    assert float(camera.focal_mm[0]) == 50
    assert camera.exposure_s is None


def test_warnings_of_the_raw_file_reach_the_report(dng, place, tmp_path, run):
    place()
    path = tmp_path / "data" / "a.dng"
    path.write_bytes(dng(read_raw(path).raw, neutral=(1, 1, 1)))
    code, said, _ = run()
    assert code == 0
    assert f"warning: {path}: its white balance" in said


# ---------------------------------------------------------------- layouts


def test_flat_takes_the_picture_beside_the_raw_file(place, run):
    place("a", folder="data/one")
    place("b", folder="data/two", suffix=".tif")
    code, found = record(run)
    assert code == 0
    assert found["layout"] == "flat"
    assert [pair["source"] for pair in found["pairs"]] == ["one/a.dng + one/a.jpg", "two/b.dng + two/b.tif"]


def test_a_jpeg_goes_before_a_tiff_and_two_jpegs_are_too_many(place, run, tmp_path):
    place("a", suffix=".tif")
    place("a", suffix=".jpg")
    place("b", suffix=".jpg")
    place("b", suffix=".jpeg")
    code, found = record(run)
    assert code == 1
    assert [pair["source"] for pair in found["pairs"]] == ["a.dng + a.jpg"]
    assert "got several" in found["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("raws", "pictures", "names"),
    [
        (("raw/a.DNG",), ("jpg/a.JPG",), ["a"]),
        (("a.dng",), ("A.JPG",), ["a"]),
        (("a.dng",), ("a.png",), ["a"]),
        (("100/a.dng", "101/a.dng"), ("100/a.jpg", "101/a.jpg"), ["100-a", "101-a"]),
        (("a.dng", "b/a.dng"), ("a.jpg", "b/a.jpg"), ["a", "b-a"]),
        (("a.dng", "A.dng"), ("a.jpg", "A.jpg"), ["A-", "a-"]),
        (("p.RAW-02.ORIGINAL.dng",), ("p.RAW-01.MP.COVER.jpg",), ["p.RAW-02.ORIGINAL"]),
        (("b/a-b.dng", "b-a/b.dng", "b.dng", "a-b.dng"), ("b/a-b.jpg", "b-a/b.jpg", "b.jpg", "a-b.jpg"),
         ["a-b", "b", "b-a-b-", "b-a-b-"]),
    ],
)  # fmt: skip
def test_pairs_as_people_keep_them(shot, run, tmp_path, raws, pictures, names):
    content, picture = shot()
    for name in (*raws, *pictures):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in raws:
            path.write_bytes(content)
        else:
            Image.fromarray(picture).save(path, **({} if path.suffix == ".png" else {"quality": 92}))
    code, found = record(run)
    assert code == 0
    made = sorted(pair["name"] for pair in found["pairs"])
    assert len({name.casefold() for name in made}) == len(made) == len(raws)
    assert all(
        name == wanted or (wanted[-1] == "-" and name.startswith(wanted))
        for name, wanted in zip(made, names, strict=True)
    )
    assert {pair["source"] for pair in found["pairs"]} == {
        " + ".join(pair) for pair in zip(raws, pictures, strict=True)
    }
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.h5")) == made
    assert record(run) == (code, found)  # a second run finds them


def test_a_shot_keeps_its_name_when_another_of_that_name_comes(place, run, tmp_path):
    place("a", folder="data/100")
    assert record(run)[0] == 0
    before = (tmp_path / "out" / "a.h5").read_bytes()
    place("a", folder="data/101", seed=1)
    code, found = record(run)
    assert code == 0
    assert {pair["name"]: pair["source"] for pair in found["pairs"]} == {
        "a": "100/a.dng + 100/a.jpg",
        "101-a": "101/a.dng + 101/a.jpg",
    }
    assert (tmp_path / "out" / "a.h5").read_bytes() == before
    shutil.rmtree(tmp_path / "data" / "100")  # and the other way round
    code, found = record(run)
    assert (code, [pair["name"] for pair in found["pairs"]]) == (0, ["101-a"])


def test_numbers_that_come_again_are_no_pair_that_exists(place, run, tmp_path):
    place("a")
    assert record(run)[0] == 0
    before = (tmp_path / "out" / "a.h5").read_bytes()
    place("a", seed=1)
    reason = refused(run)
    assert "another RAW file of that name; choose another --out" in reason
    assert (tmp_path / "out" / "a.h5").read_bytes() == before


def test_a_picture_far_away_is_tried_before_the_one_inside(shot, dng, run, tmp_path):
    content, picture = shot()
    (tmp_path / "a.dng").write_bytes(content)
    raw = read_raw(tmp_path / "a.dng").raw
    for folder, jpeg in (("with", encode_jpeg(picture, 92)), ("without", None)):
        (tmp_path / folder / "2019").mkdir(parents=True)
        inside = None if jpeg is None else (jpeg, HEIGHT, WIDTH)
        (tmp_path / folder / "2019" / "a.dng").write_bytes(dng(raw, jpeg=inside))
        (tmp_path / folder / "2020").mkdir()
        Image.fromarray(shot(seed=1)[1]).save(tmp_path / folder / "2020" / "a.jpg")
    code, said, _ = run("--json", data=tmp_path / "with", out=tmp_path / "with" / "out")
    assert code == 0
    assert json.loads(said)["pairs"][0]["source"] == "2019/a.dng + the JPEG inside it"
    code, said, _ = run("--json", data=tmp_path / "without", out=tmp_path / "without" / "out")
    (skipped,) = json.loads(said)["skipped"]
    assert code == 1
    for part in (
        "2020/a.jpg: expected the RAW's scene",
        "2019/a.dng: expected its picture",
        "a.jpg",
        "put the camera's",
    ):
        assert part in skipped["reason"]


def test_files_that_give_no_pair_are_summed_up(shot, run, tmp_path):
    data = tmp_path / "data"
    (data / "@eaDir" / "x").mkdir(parents=True)
    Image.fromarray(shot()[1]).save(data / "@eaDir" / "x" / "SYNOPHOTO_THUMB_B.jpg")
    for at in range(3):
        (data / f"R{at}.dng").write_bytes(shot()[0])
        (data / f"P{at}.heic").write_bytes(b"x")
    Image.fromarray(shot()[1]).save(data / "elsewhere.jpg")
    (data / "R1.heic").write_bytes(b"x")
    code, found = record(run)
    reasons = {each["name"]: each["reason"] for each in found["skipped"]}
    assert (code, found["pairs"], len(reasons)) == (1, [], 4)
    assert "put the camera's full-size JPEG beside it as R0.jpg (if elsewhere.jpg is its picture," in reasons["R0"]
    assert "convert R1.heic" in reasons["R1"]
    code, said, _ = run()
    assert "saw: 3 RAW files (3 .dng), 1 picture (1 .jpg), 4 other files (4 .heic)" in said
    (line,) = (line for line in said.splitlines() if line.startswith("skipped: 3 files for one reason, such as "))
    assert "R0.dng: expected its picture" in line
    assert "skipped: " + reasons[str(data / "elsewhere.jpg")] in said
    assert "@eaDir: left out, since it holds thumbnails" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "got none; check --data"),
        (
            ("a/x.JPG", "b.png"),
            "2 pictures (1 .jpg, 1 .png), such as a/x.JPG; put the RAW file of each picture beside it",
        ),
        (("x.heic", "notes"), "2 other files (1 .heic, 1 without a suffix), such as notes; check --data"),
    ],
)
def test_a_folder_without_raw_files_is_described(run, tmp_path, files, said):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name in files:
        (tmp_path / "data" / name).write_bytes(b"x")
    code, out, error = run()
    assert (code, out) == (1, "")
    assert "expected RAW files (" in error and said in error


def test_links_to_folders_are_followed_once(place, run, tmp_path):
    place("a", folder="real")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "two").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "up").symlink_to(tmp_path / "data")
    code, found = record(run)
    assert code == 0
    assert [pair["source"] for pair in found["pairs"]] == ["one/a.dng + one/a.jpg"]


def test_a_folder_that_cannot_be_listed_is_named(place, run, tmp_path, monkeypatch):
    place("a")
    (tmp_path / "data" / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # the superuser, who tests often are, may list everything
    code, found = record(run)
    assert (code, len(found["pairs"])) == (1, 1)
    assert f"{tmp_path / 'data' / 'closed'}: expected a folder that can be listed" in found["skipped"][0]["reason"]


def test_colour_profiles_are_converted_and_said(place, run, tmp_path):
    place("plain")
    place("wide")
    path = tmp_path / "data" / "wide.jpg"
    with Image.open(path) as opened:
        picture = np.asarray(opened)
    Image.fromarray(picture).save(path, quality=92, icc_profile=swapped_profile())
    place("odd")
    with Image.open(tmp_path / "data" / "odd.jpg") as opened:
        opened.save(tmp_path / "data" / "odd.jpg", quality=92, icc_profile=b"nonsense" * 40)
    code, found = record(run)
    assert code == 0
    warnings = {pair["name"]: pair["warnings"] for pair in found["pairs"]}
    assert not any("profile" in text for text in warnings["plain"])
    assert any("profile" in text and str(tmp_path / "data" / "odd.jpg") in text for text in warnings["odd"])
    plain, wide = (pairs.Pair(tmp_path / "out" / f"{name}.h5").window(0, 0, 64, 64)[1] for name in ("plain", "wide"))
    assert (plain - wide).abs().mean() > 0.02


def test_the_jpeg_inside_is_converted_too(shot, dng, run, tmp_path):
    content, picture = shot()
    (tmp_path / "a.dng").write_bytes(content)
    raw = read_raw(tmp_path / "a.dng").raw
    for name, profile in (("plain", None), ("wide", swapped_profile())):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=92, icc_profile=profile)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.dng").write_bytes(dng(raw, jpeg=(stream.getvalue(), HEIGHT, WIDTH)))
    assert record(run)[0] == 0
    plain, wide = (pairs.Pair(tmp_path / "out" / f"{name}.h5").window(0, 0, 64, 64)[1] for name in ("plain", "wide"))
    assert (plain - wide).abs().mean() > 0.02


def swapped_profile() -> bytes:
    """A profile of an RGB space whose curve is far from that of sRGB."""
    from PIL import ImageCms

    lab = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Each curve of this profile is parametric: replace the exponent, the first of its parameters, by 1.2.
    at = 0
    while (at := lab.find(b"para\0\0\0\0", at)) >= 0:
        lab[at + 12 : at + 16] = int(1.2 * 65536).to_bytes(4, "big")
        at += 16
    return bytes(lab)


@pytest.mark.parametrize(
    ("layout", "raw", "picture", "name"),
    [
        ("raise", "NEF/r000da54ft.dng", "TIFF/r000da54ft.tif", "r000da54ft"),
        ("realblur", "raw/BLR-02091-00001.dng", "jpg/BLR-02091-00001.jpg", "BLR-02091-00001"),
        ("s7", "20161107_233158/short_exposure.dng", "20161107_233158/short_exposure.jpg", "20161107_233158-short"),
        ("s7", "20161107_233158-medium.dng", "20161107_233158-medium.jpg", "20161107_233158-medium"),
    ],
)
def test_layouts_are_known_by_their_names(place, run, tmp_path, layout, raw, picture, name):
    place("shot", suffix=Path(picture).suffix, folder="made")
    for source, target in ((".dng", raw), (Path(picture).suffix, picture)):
        (tmp_path / "data" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "made" / f"shot{source}", tmp_path / "data" / target)
    code, found = record(run)
    assert code == 0
    assert (found["layout"], found["pairs"][0]["name"]) == (layout, name)
    assert found["pairs"][0]["source"] == f"{raw} + {picture}"
    assert (tmp_path / "out" / f"{name}.h5").is_file()


def test_a_name_of_another_layout_is_reported(place, run):
    place("a")
    reasons = [each["reason"] for each in record(run, "--layout", "raise")[1]["skipped"]]
    assert "layout raise" in reasons[0]


def test_pictures_without_raw_file_and_broken_files_are_reported(place, run, tmp_path):
    place("a")
    place("broken")
    whole = (tmp_path / "data" / "broken.dng").read_bytes()
    (tmp_path / "data" / "broken.dng").write_bytes(whole[: len(whole) // 2])
    place("cut")
    (tmp_path / "data" / "cut.jpg").write_bytes((tmp_path / "data" / "cut.jpg").read_bytes()[:2000])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "data" / "lonely.jpg")
    place("none")
    (tmp_path / "data" / "none.jpg").unlink()
    code, said, _ = run()
    assert code == 1
    assert f"{tmp_path / 'out'}: 1 pairs" in said
    for name in ("broken.dng", "cut.jpg", "lonely.jpg", "none.dng"):
        assert f"{tmp_path / 'data' / name}: expected" in said


def test_sixteen_bits_are_refused(place, run, tmp_path):
    place("a")
    picture = read_image(tmp_path / "data" / "a.jpg")
    (tmp_path / "data" / "a.jpg").unlink()
    cv2.imwrite(str(tmp_path / "data" / "a.tif"), picture.astype(np.uint16) * 257)
    assert "8 bits" in refused(run)


# ---------------------------------------------------------------- splits


@pytest.fixture
def three(place, tmp_path):
    for name in ("a", "b", "c"):
        place(name)

    def lists(**names):
        for split, content in names.items():
            (tmp_path / f"{split}.list").write_text("\n".join(content) + "\n")
        return ["--split", *(f"{split}={tmp_path / split}.list" for split in names)]

    return lists


def splits_of(out):
    return {name: [pair.path.stem for pair in pairs.split(out, name)] for name in ("train", "val", "test")}


def test_lists_decide(three, run, tmp_path):
    code, found = record(run, *three(train=["b", "elsewhere"], val=["a"], test=["", "c"]))
    assert code == 0
    assert splits_of(tmp_path / "out") == {"train": ["b"], "val": ["a"], "test": ["c"]} == found["splits"]
    assert "train.list" in found["split_rule"]


def test_without_lists_the_hash_of_the_name_decides(three, run, tmp_path):
    code, said, _ = run()
    assert code == 0
    assert splits.HASH_RULE in said
    found = splits_of(tmp_path / "out")
    assert {name: split for split, names in found.items() for name in names} == {
        name: splits.hashed_split(name) for name in "abc"
    }
    assert json.loads((tmp_path / "out" / "prepare.json").read_text())["split_rule"] == splits.HASH_RULE


def test_the_hash_rule_is_fixed_and_gives_its_shares():
    assert [splits.hashed_split(name) for name in ("r000da54ft", "BLR-02091-00001", "a")] == EXPECTED
    found = [splits.hashed_split(f"name {number}") for number in range(4000)]
    assert found.count("train") == pytest.approx(3600, abs=80)
    assert found.count("val") == pytest.approx(200, abs=60)
    assert found.count("test") == pytest.approx(200, abs=60)


EXPECTED = ["train", "train", "train"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"train": ["a", "b"]}, "1 in none: c"),
        ({"train": ["a", "b", "c"], "val": ["b"]}, "got b again"),
        ({"train": ["a", "b", "c", "a"]}, "got a again"),
        ({"trian": ["a", "b", "c"]}, "expected train=FILE"),
    ],
)
def test_wrong_lists_stop_before_anything_is_written(three, run, tmp_path, names, problem):
    code, said, error = run(*three(**names))
    assert (code, said) == (2, "")
    assert problem in error
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- again


def stamps(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.h5")}


def test_a_second_run_makes_only_what_is_missing(three, run, tmp_path, contents):
    assert record(run)[0] == 0
    out = tmp_path / "out"
    whole, before = contents(out), stamps(out)
    (out / "b.h5").unlink()
    (out / "train.txt").unlink()
    code, found = record(run)
    assert code == 0
    assert [pair["name"] for pair in found["pairs"]] == ["a", "b", "c"]
    after = stamps(out)
    assert {name for name in before if after[name] != before[name]} == {"b.h5"}
    assert contents(out) == whole
    assert record(run, "--force")[0] == 0
    assert all(stamps(out)[name] > after[name] for name in after)
    assert contents(out) == whole


def test_other_pairs_are_neither_overwritten_nor_lost(place, run, tmp_path):
    place("a", folder="data/one")
    assert record(run)[0] == 0
    before = (tmp_path / "out" / "a.h5").read_bytes()
    shutil.move(tmp_path / "data" / "one", tmp_path / "data" / "two")
    assert "use --force" in refused(run)
    assert (tmp_path / "out" / "a.h5").read_bytes() == before
    shutil.rmtree(tmp_path / "data")
    place("b")
    code, found = record(run)
    assert code == 0
    assert sorted(name for names in found["splits"].values() for name in names) == ["a", "b"]
    assert {pair["name"] for pair in json.loads((tmp_path / "out" / "prepare.json").read_text())["pairs"]} == {"a", "b"}


def test_names_do_not_move_between_splits_unasked(three, run, tmp_path):
    assert record(run, *three(train=["a", "b"], val=["c"], test=[]))[0] == 0
    others = three(train=["a"], val=["b", "c"], test=[])
    code, _, error = run(*others)
    assert code == 2
    assert "got others for 1 pairs (b)" in error
    assert record(run, *others, "--force")[0] == 0
    assert splits_of(tmp_path / "out") == {"train": ["a"], "val": ["b", "c"], "test": []}


def test_a_damaged_pair_is_reported_and_made_again_by_force(place, run, tmp_path):
    place()
    assert record(run)[0] == 0
    path = tmp_path / "out" / "a.h5"
    path.write_bytes(path.read_bytes()[:3000])
    assert "a.h5: expected a sound pair" in refused(run)
    assert record(run, "--force")[0] == 0
    assert pairs.Pair(path).size == (HEIGHT, WIDTH)


# ---------------------------------------------------------------- what others have put there


def test_files_of_others_are_not_replaced(place, run, tmp_path):
    place("a")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.h5").write_bytes(b"a thesis")
    for force in ((), ("--force",)):
        assert f"{out / 'a.h5'}: expected" in refused(run, *force)
        assert (out / "a.h5").read_bytes() == b"a thesis"
    (out / "a.h5").unlink()
    (out / "train.txt").write_text("r000da54ft\nr001\n")
    code, said, error = run("--split", f"train={out / 'train.txt'}")
    assert (code, said) == (2, "")
    assert f'{out / "train.txt"}: expected names of pairs, such as NAME.h5, got "r000da54ft"' in error
    assert (out / "train.txt").read_text() == "r000da54ft\nr001\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.txt", b"../thesis.h5\n"), ("val.txt", b"a.h5\n/etc/passwd.h5\n"), ("test.txt", b"\xff.h5\n"),
        ("train.txt", None), ("prepare.json", b"[]"), ("prepare.json", b'{"pairs": 3}'), ("prepare.json", b"[" * 100_000),
        ("prepare.json", b'{"pairs": [{"name": "a"}]}'), ("prepare.json", b'{"pairs": [{"name": ["a"]}]}'),
        ("prepare.json", None), ("prepare.json", b'{"pairs": [{"name": "a", "source": "x", "warnings": [], "raw": 3}]}'),
    ],
)  # fmt: skip
def test_lists_and_records_are_not_trusted(place, run, tmp_path, name, content):
    """None stands for a folder."""
    place("a")
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "thesis.h5").write_bytes(b"mine")
    (out / name).mkdir() if content is None else (out / name).write_bytes(content)
    code, said, error = run()
    assert (code, said) == (2, "") or b'"raw": 3' in (content or b"")
    assert code == 0 or (f"{out / name}: expected" in error and error.count("\n") == 1)
    assert (tmp_path / "thesis.h5").read_bytes() == b"mine"


def test_a_full_disk_stops_the_run_in_a_sentence(three, run, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        code, said, error = run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, said) == (1, "")
    assert f"{tmp_path / 'out' / 'a.h5'}: File too large; what was finished is kept" in error.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []
    assert record(run)[0] == 0


def test_a_shot_that_does_not_fit_into_memory_is_named(three, run, monkeypatch):
    real = registration.align

    def align(raw, picture, camera, orientation):
        if not calls:
            calls.append(1)
            raise cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")
        return real(raw, picture, camera, orientation)

    calls: list[int] = []
    monkeypatch.setattr(registration, "align", align)
    code, found = record(run)
    assert (code, len(found["pairs"])) == (1, 2)
    assert "a.dng: expected enough memory" in found["skipped"][0]["reason"]


def test_an_interrupted_run_goes_on(three, run, tmp_path, monkeypatch):
    real = prepare.prepare

    def stopped(shot, data, path):
        if shot.name == "b":
            raise KeyboardInterrupt
        return real(shot, data, path)

    monkeypatch.setattr(prepare, "prepare", stopped)
    code, _, error = run()
    assert code == 130
    assert "run the same command again to continue" in error
    assert stamps(tmp_path / "out").keys() == {"a.h5"}
    monkeypatch.setattr(prepare, "prepare", real)
    code, found = record(run)
    assert code == 0
    assert len(found["pairs"]) == 3


# ---------------------------------------------------------------- the command


def test_usage(run, tmp_path, capsys):
    assert prepare.main([]) == 2
    assert prepare.main(["--help"]) == 0
    assert "--split" in capsys.readouterr().out
    code, _, error = run(data=tmp_path / "nothing")
    assert code == 2
    assert "expected a folder" in error
    (tmp_path / "data").mkdir()
    code, _, error = run()
    assert code == 1
    assert "expected RAW files" in error


def test_help_loads_nothing_heavy():
    statement = (
        "import sys, isp.prepare.__main__; print(sorted({'torch', 'cv2', 'numpy', 'rawpy', 'h5py'} & {*sys.modules}))"
    )
    process = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, timeout=60)
    assert process.stdout == "[]\n", process.stderr


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    "name",
    [
        "nikon_d1/RAW_NIKON_D1.NEF",
        "canon_s30/RAW_CANON_S30.CRW",
        "canon_550d_ml/colorchart.dng",
        "gopro/HERO6_GOPR0024.dng",
    ],
)
def test_renderings_of_real_files_are_found(real, name):
    found = read_raw(real(f"raw/{name}"))
    rendered = color.sensor_to_linear(
        cfa.demosaic(bayer_of_raw(torch.from_numpy(found.raw), found.camera), found.camera.cfa), found.camera
    )
    tone = rendered[0].permute(1, 2, 0).clamp(0, 1).numpy() ** (1 / 2.2)
    picture = decode_jpeg(encode_jpeg((tone * 255).round().astype(np.uint8)[9:-6, 14:-3], 90))
    upright = np.ascontiguousarray(UPRIGHT[found.orientation](picture))
    alignment = registration.align(found.raw, upright, found.camera, found.orientation)
    assert (alignment.top, alignment.left, alignment.orientation) == (9, 14, found.orientation)
    assert alignment.correlation > 0.75
    with pytest.raises(ValueError, match=r"reduced about 4\.0 times"):
        registration.align(found.raw, resized(0.25)(upright), found.camera, found.orientation)


def test_the_preview_inside_a_real_file_is_a_reduced_copy(real):
    path = real("raw/canon_s30/RAW_CANON_S30.CRW")
    found = read_raw(path)
    with pytest.raises(ValueError, match=r"got 480x640, a copy reduced about 3\.2 times"):
        registration.align(found.raw, read_embedded_jpeg(path), found.camera, found.orientation)


@pytest.mark.parametrize("name", ["Nikon_D90.jpg", "Nikon_D40.jpg", "Samsung_S7edge_SM-G935L.jpg"])
def test_camera_jpegs_fit_no_other_raw_file(real, name):
    found = read_raw(real("raw/nikon_d1/RAW_NIKON_D1.NEF"))
    with pytest.raises(ValueError, match="expected the RAW's scene"):
        registration.align(found.raw, read_image(real(f"camera_jpeg/{name}")), found.camera, found.orientation)


def test_a_folder_of_real_files_is_reported_whole(real, run, tmp_path):
    source = real("raw")
    names = [
        "nikon_d1/RAW_NIKON_D1.NEF",
        "canon_s30/RAW_CANON_S30.CRW",
        "heads/D7100_head.NEF",
        "odd/RAW_KODAK_DC50.KDC",
    ]
    (tmp_path / "data").mkdir()
    for name in names:
        shutil.copy(source / name, tmp_path / "data")
    code, found = record(run)
    assert code == 1
    assert found["pairs"] == []
    reasons = {each["name"]: each["reason"] for each in found["skipped"]}
    assert "got a BITMAP" in reasons["RAW_NIKON_D1"]
    assert "reduced about 3.2" in reasons["RAW_CANON_S30"]
    assert "whole RAW file" in reasons["D7100_head"]
    assert "colour matrix" in reasons["RAW_KODAK_DC50"]
    assert not list((tmp_path / "out").glob("*.h5"))

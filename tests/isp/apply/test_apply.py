"""One photograph of one's own, there and back: what is written, what is assumed, and what is refused in one sentence."""

import contextlib
import dataclasses
import io
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from isp import cfa, color, doctor, full_size, levels, profile, registry
from isp.apply import __main__ as apply
from isp.apply import one_file, preview
from isp.command import BAD_DATA, DONE, INTERRUPTED, USAGE
from isp.contract import Limits
from isp.files import photographs
from isp.files.exif import optics_of, orientation_of, read_tags
from isp.files.pictures import decode_jpeg, encode_jpeg, read_image, turned_back, write_image
from isp.files.raw import read_embedded_jpeg, read_raw
from isp.levels import bayer_of_raw

PAIR = ("--isp", "rsblur/a7r3")  # parametric: loads at once, and undoes itself
OPTICS = {"iso": 400, "exposure_s": 1 / 250, "f_number": 6.3, "focal_mm": 4.2}


def run(*arguments):
    """(exit code, listed results, lines on stderr)"""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = apply.main([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    return code, [Path(line) for line in out.getvalue().splitlines()], err.getvalue().splitlines()


def refused(path, *arguments):
    """The sentence why the only file cannot be used: path first, what was expected, what came, what to do."""
    code, results, lines = run(*arguments)
    assert code == BAD_DATA
    assert results == []
    assert lines[-1] == f"1 of 1 files could not be used: {path}"
    sentence = lines[-2]
    assert str(path.with_suffix("")) in sentence.split(": ")[0]
    return sentence


def photograph(height=120, width=160, name="chelsea.png", blur_px=0.0):
    """A part of a built-in photograph, reduced; blurred ones lose nothing in a mosaic."""
    picture = read_image(photographs.folder() / name)
    scale = max(height / picture.shape[0], width / picture.shape[1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:height, :width]
    return cv2.GaussianBlur(picture, (0, 0), blur_px) if blur_px else picture


def exif(orientation=1, make="Maker", model="Camera 1"):
    block = Image.Exif()
    block[0x010F], block[0x0110], block[0x0112] = make, model, orientation
    fractions = {0x829A: IFDRational(1, 250), 0x829D: IFDRational(63, 10), 0x920A: IFDRational(42, 10)}
    block.get_ifd(0x8769).update({**fractions, 0x8827: 400, 0xA405: 26})  # the last is the 35-mm equivalent
    return block.tobytes()[6:]


def psnr_db(first, second, border=2):
    inside = (slice(border, -border), slice(border, -border))
    of = [image[inside].astype(np.float64) / np.iinfo(image.dtype).max for image in (first, second)]
    return -10 * np.log10(np.mean((of[0] - of[1]) ** 2))


@pytest.fixture
def photo(tmp_path):
    """Writes a photograph, and returns its path."""

    def write(name="photo.png", picture=None, **options):
        write_image(tmp_path / name, photograph(blur_px=2.0) if picture is None else picture, **options)
        return tmp_path / name

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    ("isp", "blur_px", "least_db"), [("paramisp", 0.0, 34.0), ("rsblur/a7r3", 0.0, 32.0), ("rsblur/a7r3", 2.0, 44.0)]
)
def test_a_photograph_comes_back_from_raw(photo, out, isp, blur_px, least_db):
    picture = photograph(blur_px=blur_px)
    options = [word for field, value in OPTICS.items() for word in ("--" + field.replace("_", "-"), value)]
    code, results, _ = run("inverse", photo(picture=picture), "--isp", isp, "--out", out, *options)
    assert code == DONE
    assert results == [out / "photo.tif", out / "photo.json", out / "photo_preview.png"]
    code, results, _ = run("forward", out / "photo.tif", "--isp", isp, "--out", out, "--format", "png16")
    assert (code, results) == (DONE, [out / "photo.png"])
    found = read_image(out / "photo.png")
    assert found.dtype == np.uint16
    assert psnr_db(found, picture) > least_db


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_sensor_lies_unturned_and_pictures_stand_upright(photo, out, orientation):
    stored = photograph(40, 64, blur_px=2.0)
    path = photo("photo.jpg", stored, exif=exif(orientation))
    upright = read_image(path)
    assert run("inverse", path, *PAIR, "--out", out)[0] == DONE
    assert json.loads((out / "photo.json").read_text())["orientation"] == orientation
    mosaic = read_image(out / "photo.tif")
    assert mosaic.shape == stored.shape
    plain = photo("plain.jpg", stored)  # the same without EXIF
    assert run("inverse", plain, *PAIR, "--out", out)[0] == DONE
    assert np.array_equal(mosaic, read_image(out / "plain.tif"))
    assert read_image(out / "photo_preview.png").shape == upright.shape
    assert run("forward", out / "photo.tif", *PAIR, "--out", out)[0] == DONE
    assert psnr_db(read_image(out / "photo.png"), upright) > 40
    assert run("hdr", path, *PAIR, "--out", out, "--gains", "1")[0] == DONE
    assert psnr_db(read_image(out / "photo_hdr.png"), upright) > 40


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 3), (31, 17), (30, 17)])
@pytest.mark.parametrize("isp", ["rsblur/a7r3", "paramisp"])
def test_small_and_odd_sizes(photo, out, size, isp):
    picture = photograph(*size, blur_px=2.0)
    path = photo(picture=picture)
    for arguments in (("inverse", path), ("forward", out / "photo.tif"), ("hdr", path, "--gains", "0.5,1")):
        assert run(*arguments, "--isp", isp, "--out", out)[0] == DONE
    assert read_image(out / "photo.tif").shape == read_image(out / "photo.png").shape == picture.shape
    assert read_image(out / "photo_preview.png").shape == read_image(out / "photo_hdr.png").shape == picture.shape
    assert read_image(out / "photo_hdr_before_after.jpg").shape == (size[0], 2 * size[1], 3)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_mirrors_keep_the_phase(pattern):
    flat = torch.tensor([0.1, 0.5, 0.9])[None, :, None, None].expand(1, 3, 16, 16)
    whole = cfa.mosaic(flat, [pattern])
    for height, width in ((2, 2), (3, 2), (5, 7)):
        assert torch.equal(cfa.mirrored(whole[..., :height, :width], 16, 15), whole[..., :15])


def test_less_than_a_cell_is_refused(photo, out):
    path = photo(picture=photograph(2, 8)[:1])
    assert "expected at least 2x2 pixels, got 1x8" in refused(path, "inverse", path, *PAIR, "--out", out)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_every_phase(photo, out, pattern):
    red = np.zeros((12, 16, 3), np.uint8) + np.uint8([200, 20, 20])
    # Without a colour matrix the red sites alone are bright.
    options = ("--cfa", pattern, "--matrix", "1,0,0,0,1,0,0,0,1", "--white-balance", "1,1", "--black", "0")
    assert run("inverse", photo(picture=red), *PAIR, "--out", out, *options)[0] == DONE
    cells = read_image(out / "photo.tif")[:2, :2, 0].flatten()
    assert int(cells.argmax()) == pattern.index("R")
    assert np.sort(cells)[-2] < cells.max() / 4
    assert run("forward", out / "photo.tif", *PAIR, "--out", out)[0] == DONE
    assert np.abs(read_image(out / "photo.png").astype(int) - red).max() <= 1


def test_grey_and_16_bit_pictures(photo, out):
    fine = photograph(blur_px=2.0).astype(np.uint16) * 257
    grey = photograph(blur_px=2.0)[..., 1]
    paths = photo("fine.png", fine), photo("grey.jpg", grey)
    assert run("inverse", *paths, *PAIR, "--out", out)[0] == DONE
    assert run("forward", out / "fine.tif", out / "grey.tif", *PAIR, "--out", out)[0] == DONE
    assert psnr_db(read_image(out / "fine.png"), fine) > 44
    found = read_image(out / "grey.png").astype(int)
    assert np.abs(found - found[..., 1:2]).mean() < 1
    assert psnr_db(found.astype(np.uint8), np.stack([grey] * 3, 2)) > 35


# ---------------------------------------------------------------- what is known of the shot


def test_levels_are_the_cameras_and_unknown_ones_are_said(photo, out):
    white = np.full((8, 8, 3), 255, np.uint8)
    black = np.zeros((8, 8, 3), np.uint8)
    paths = photo("white.png", white), photo("black.png", black)
    neutral = ("--white-balance", "1,1")  # so that white reaches saturation in every colour
    for options, wanted in (((), (512, 16383)), (("--black", "64", "--white", "4095"), (64, 4095))):
        assert run("inverse", *paths, *PAIR, *neutral, *options, "--out", out, "--force")[0] == DONE
        assert [int(read_image(out / f"{name}.tif").mean().round()) for name in ("black", "white")] == [*wanted]
    _, _, lines = run("inverse", *paths, *PAIR, "--camera", "d90", *neutral, "--out", out, "--force")
    assert "d90 gives no levels; using black 0, white 16383 (--black and --white set others)" in lines
    assert read_image(out / "white.tif").max() == 16383


def test_what_is_assumed_is_said(photo, out):
    path = photo()
    lines = run("inverse", path, "--out", out)[2]
    assert lines[0] == "no --isp given; using paramisp/a7r3-virtual, which comes with the package"
    assert lines[1] == "no --camera given; using a7r3, which paramisp/a7r3-virtual was trained for"
    assert lines[2] == "no white balance given; using daylight of a7r3: red 2.739, blue 1.369"
    assert (
        f"{path}: iso, exposure_s, f_number, focal_mm not in the file, so ignored; "
        "set with --iso, --exposure-s, --f-number, --focal-mm" in lines
    )
    told = run("inverse", path, *PAIR, "--camera", "a7r3", "--white-balance", "2,1.5", "--out", out, "--force",
               "--iso", 100, "--exposure-s", 0.1, "--f-number", 2, "--focal-mm", 35)[2]  # fmt: skip
    assert told == ["rsblur/a7r3 inverse of 120x160: in strips, " + told[0].rpartition(", ")[2]]


def test_an_isp_that_was_trained_for_another_camera_says_so(photo, dng, tmp_path, out):
    for name, (make, model) in {"own": ("SONY", "ILCE-7RM3"), "other": ("NIKON CORPORATION", "NIKON D90")}.items():
        mosaic = photograph()[..., 1].astype(np.uint16) * 16
        (tmp_path / f"{name}.dng").write_bytes(dng(mosaic, make=make, model=model))
    for chosen, other in (
        (("--camera", "a7r3"), None),
        (("--like", tmp_path / "own.dng"), None),
        (("--camera", "d90"), "d90"),
        (("--like", tmp_path / "other.dng"), "NIKON CORPORATION/NIKON D90"),
    ):
        lines = run("inverse", photo(), *chosen, "--out", out, "--force")[2]
        said = f"paramisp/a7r3-virtual was trained for a7r3, not for {other}: tones will be those of a7r3"
        assert [line for line in lines if "was trained for" in line] == ([said] if other else [])


def test_exif_gives_the_optical_values_and_options_override_them(photo, out):
    path = photo("photo.jpg", exif=exif())
    assert run("inverse", path, *PAIR, "--out", out, "--iso", "3200")[0] == DONE
    camera = json.loads((out / "photo.json").read_text())["camera"]
    assert [camera[field] for field in OPTICS] == pytest.approx([3200, 1 / 250, 6.3, 4.2])


@pytest.mark.parametrize(
    ("make", "model", "other"),
    [
        ("NIKON CORPORATION", "NIKON D90", "d90"),
        ("samsung", "SM-G935F", "s7"),
        ("SONY", "ILCE-7RM3", None),
        ("", "", None),
    ],
)
def test_another_profile_for_the_photographs_model_is_named(photo, out, make, model, other):
    path = photo("photo.jpg", exif=exif(make=make, model=model))
    lines = [line for line in run("inverse", path, *PAIR, "--out", out)[2] if "would use its matrix" in line]
    assert [line.split("--camera ")[1].split()[0] for line in lines] == ([other] if other else [])


def test_daylight_is_the_cameras_response_to_white_and_libraws(dng, tmp_path):
    coefficients = profile.load("a7r3").xyz_to_sensor
    gains = color.daylight_white_balance(coefficients)
    xyz_white = torch.tensor(color.LINEAR_TO_XYZ, dtype=torch.float64).sum(1)
    assert (torch.tensor(coefficients, dtype=torch.float64) @ xyz_white * gains).std() < 1e-12
    assert gains[1] == 1
    (tmp_path / "shot.dng").write_bytes(
        dng(photograph()[..., 1].astype(np.uint16) * 16, neutral=None, matrix=None, make="SONY", model="ILCE-7RM3")
    )
    libraws = read_raw(tmp_path / "shot.dng").camera.white_balance[0]
    assert torch.allclose(libraws.double(), gains, rtol=0.01)
    with pytest.raises(ValueError, match="positive response"):
        color.daylight_white_balance([[1, 0, 0], [0, -1, 0], [0, 0, 1]])


def test_like_takes_everything_but_the_optical_values_from_a_raw_file(dng, photo, out, tmp_path):
    (tmp_path / "like.dng").write_bytes(
        dng(photograph()[..., 1].astype(np.uint16) * 16, "GBRG", black=(100, 120, 130, 120))
    )
    path = photo("photo.jpg", exif=exif(model="Camera 2"))
    code, _, lines = run("inverse", path, *PAIR, "--like", tmp_path / "like.dng", "--out", out, "--iso", 100)
    assert code == DONE
    assert lines[:-1] == [
        f"{path}: taken with Maker/Camera 2, but --like {tmp_path / 'like.dng'} was taken with Maker/Camera 1"
    ]
    camera = json.loads((out / "photo.json").read_text())["camera"]
    assert (camera["cfa"], camera["white"], camera["black"]) == ("GBRG", 4000, [130, 110, 120])
    assert camera["white_balance"] == pytest.approx([2, 1, 1.6])
    assert (camera["iso"], camera["focal_mm"]) == (100, pytest.approx(4.2))


def test_a_raw_file_is_rendered_upright_with_its_exif(dng, out, tmp_path):
    linear = photograph(64, 96, blur_px=2.0).astype(np.float32) / 255 * 0.4
    raw = cfa.mosaic(torch.from_numpy(linear).permute(2, 0, 1)[None], ["RGGB"])[0, 0].numpy() * 3900 + 100
    (tmp_path / "shot.dng").write_bytes(dng(raw.astype(np.uint16), black=(100,) * 4, orientation=6))
    assert run("forward", tmp_path / "shot.dng", *PAIR, "--out", out)[0] == DONE
    assert read_image(out / "shot.png").shape == (96, 64, 3)
    tags, _ = read_tags(out / "shot.png")
    assert str(tags["Image Make"]) == "Maker"
    assert optics_of(tags) == pytest.approx({"iso": 400, "exposure_s": 1 / 250, "f_number": 2.8, "focal_mm": 35})
    before = read_image(out / "shot.png")
    changed = ("--white-balance", "1,1", "--matrix=1,0,0,0,1,0,0,0,1", "--black", "90,100,110", "--white", "3000")
    assert run("forward", tmp_path / "shot.dng", *PAIR, "--out", out, "--force", *changed, "--iso", 50)[0] == DONE
    assert np.abs(read_image(out / "shot.png").astype(int) - before).mean() > 3
    assert optics_of(read_tags(out / "shot.png")[0])["iso"] == 50


def test_levels_of_the_command_line_are_those_of_the_file(dng, out, tmp_path):
    """Its reader brings a file of several black levels to others; the options still replace the file's own."""
    raw = photograph()[..., 1].astype(np.uint16) * 10 + 300
    for name, options in (("several", {"black": (100, 300, 300, 200)}), ("one", {"black": (150,) * 4, "white": 3000})):
        (tmp_path / f"{name}.dng").write_bytes(dng(raw, **options))
    levels = ("--black", 150, "--white", 3000)
    assert run("forward", tmp_path / "several.dng", *PAIR, "--out", out, *levels)[0] == DONE
    assert run("forward", tmp_path / "one.dng", *PAIR, "--out", out)[0] == DONE
    assert np.array_equal(read_image(out / "several.png"), read_image(out / "one.png"))


@pytest.mark.parametrize("form", apply.SUFFIXES)
def test_results_carry_the_exif_that_matters(photo, out, form):
    path = photo("photo.jpg", exif=exif(6, "NIKON CORPORATION", "NIKON D90"))
    run("inverse", path, *PAIR, "--out", out)
    made = [
        run("forward", out / "photo.tif", *PAIR, "--out", out, "--format", form)[1][0],
        run("hdr", path, *PAIR, "--out", out, "--format", form, "--gains", "1,2")[1][0],
        run("transfer", path, "--from", *PAIR[1:], "--to", *PAIR[1:], "--out", out, "--format", form)[1][0],
        out / "photo_preview.png",
    ]
    for result in made:
        tags, warnings = read_tags(result)
        assert warnings == []
        assert (str(tags["Image Make"]), str(tags["Image Model"])) == ("NIKON CORPORATION", "NIKON D90")
        assert orientation_of(tags) == 1
        assert optics_of(tags) == pytest.approx(OPTICS)
        assert read_image(result).shape == (160, 120, 3)
        with Image.open(result) as opened:
            opened.verify()  # checksums of a PNG
    assert read_image(made[0]).dtype == (np.uint16 if form == "png16" else np.uint8)


GIVEN = ("--white-balance", "2,1.6", "--matrix", "1.6,-0.5,-0.1,-0.2,1.5,-0.3,0,-0.4,1.4")


@pytest.mark.parametrize(
    "lacking",
    [
        {"matrix": None},
        {"neutral": None, "matrix": None},
        {"neutral": (1, 1, 1)},
        {"neutral": (0, 0, 0)},
        {"matrix": (1,) * 9},
    ],
    ids=str,
)
def test_matrix_and_white_balance_rescue_a_file_that_lacks_them(dng, photo, out, tmp_path, lacking):
    """The result is that of a file that lacks nothing, with the same options."""
    raw = 100 + photograph(64, 96, blur_px=2.0)[..., 1].astype(np.uint16) * 14
    for name, options in (("whole", {}), ("poor", lacking)):
        (tmp_path / f"{name}.dng").write_bytes(dng(raw, black=(100,) * 4, **options))
        code, _, lines = run("forward", tmp_path / f"{name}.dng", *PAIR, "--out", out, *GIVEN)
        assert code == DONE, lines
        assert not any("white balance" in line for line in lines)
        for command in ("inverse", "hdr"):
            like = (
                "--like",
                tmp_path / f"{name}.dng",
                *GIVEN,
                "--force",
                *(("--gains", "1") if command == "hdr" else ()),
            )
            assert run(command, photo(), *PAIR, *like, "--out", out / name)[0] == DONE
    assert np.array_equal(read_image(out / "whole.png"), read_image(out / "poor.png"))
    for result in ("photo.tif", "photo_hdr.png"):
        assert np.array_equal(read_image(out / "whole" / result), read_image(out / "poor" / result))


def test_equal_gains_are_taken_from_the_options(dng, out, tmp_path):
    """Some sensors are balanced before their signal is digitised."""
    raw = 100 + photograph(64, 96, blur_px=2.0)[..., 1].astype(np.uint16) * 14
    (tmp_path / "shot.dng").write_bytes(dng(raw, black=(100,) * 4, neutral=(1, 1, 1)))
    assert run("forward", tmp_path / "shot.dng", *PAIR, "--out", out, "--white-balance", "1,1")[0] == DONE
    camera = read_raw(tmp_path / "shot.dng", white_balance=(1.0, 1.0, 1.0)).camera
    assert camera.white_balance.tolist() == [[1, 1, 1]]


def test_a_file_without_a_matrix_is_told_which_option_gives_it(dng, out, tmp_path):
    (tmp_path / "shot.dng").write_bytes(dng(photograph()[..., 1].astype(np.uint16) * 15, matrix=None, black=(100,) * 4))
    assert "--matrix" in refused(tmp_path / "shot.dng", "forward", tmp_path / "shot.dng", *PAIR, "--out", out)
    code, _, lines = run("transfer", tmp_path / "x.png", "--to", "rsblur", "--from", "rsblur", "--from-camera", "s7")
    assert code == USAGE  # transfer has no such option, so it does not name one
    assert lines[-1].endswith("choose another camera") and "--matrix" not in lines[-1] and "--white-b" not in lines[-1]


def test_the_levels_of_the_options_are_those_of_the_file(dng, out, tmp_path):
    """Also if the file's own levels differ from site to site, so that its reader would apply them."""
    raw = 200 + photograph(64, 96)[..., 1].astype(np.uint16) * 14
    for name, black in (("right", (100,) * 4), ("wrong", (100, 180, 130, 60))):
        (tmp_path / f"{name}.dng").write_bytes(dng(raw, black=black))
        assert (
            run("forward", tmp_path / f"{name}.dng", *PAIR, "--out", out, "--black", "100", "--white", "4000")[0]
            == DONE
        )
    assert np.array_equal(read_image(out / "right.png"), read_image(out / "wrong.png"))


# ---------------------------------------------------------------- transfer and hdr


def test_transfer_keeps_linear_and_so_a_picture_between_true_pairs(photo, out):
    picture = photograph(blur_px=2.0)
    path = photo(picture=picture)
    both = ("--from", "rsblur/a7r3", "--to", "rsblur/a7r3")
    assert run("transfer", path, *both, "--to-camera", "d90", "--out", out)[0] == DONE
    assert psnr_db(read_image(out / "photo_transfer.png"), picture) > 40
    # Another response is another picture, but grey stays grey.
    grey = photo("grey.png", np.stack([picture[..., 1]] * 3, 2))
    assert (
        run("transfer", grey, "--from", "rsblur/a7r3", "--to", "rsblur/srgb", "--to-camera", "d90", "--out", out)[0]
        == 0
    )
    found = read_image(out / "grey_transfer.png").astype(int)
    assert np.abs(found - found[..., 1:2]).mean() < 1
    assert np.abs(found - read_image(grey)).mean() > 10


def test_hdr_lifts_shadows_and_keeps_highlights(photo, out):
    ramp = np.tile(np.linspace(0, 250, 160).astype(np.uint8)[None, :, None], (120, 1, 3))
    assert run("hdr", photo(picture=ramp), *PAIR, "--out", out)[0] == DONE
    found = read_image(out / "photo_hdr.png").astype(int)
    assert found[:, 10:40].mean() > ramp[:, 10:40].mean() + 15
    assert found[:, 150].mean() < 250
    assert found[:, 150].mean() > found[:, 80].mean() > found[:, 20].mean()


def test_hdr_renders_raw_beyond_saturation(photo, out, monkeypatch):
    seen = []

    def forward(camera_isp, bayer, camera, memory_bytes, *, reference):
        seen.append(float(bayer.max()))
        return camera_isp.forward(bayer, camera)

    monkeypatch.setattr(full_size, "forward", forward)
    path = photo(picture=np.full((16, 16, 3), 250, np.uint8))
    assert run("hdr", path, *PAIR, "--out", out)[0] == DONE
    assert len(seen) == 4
    assert [value / seen[0] * 0.1 for value in seen] == pytest.approx([0.1, 1.4, 2.7, 4.0], rel=1e-4)
    assert seen[-1] > 1


def test_before_and_after_side_by_side_at_most_2000_px_wide(photo, out):
    path = photo("photo.jpg", cv2.resize(photograph(), (1300, 975)), exif=exif(6))
    assert run("hdr", path, *PAIR, "--out", out, "--gains", "4")[0] == DONE
    both = read_image(out / "photo_hdr_before_after.jpg")
    assert both.shape == (1300, 2 * 975, 3)
    before = read_image(path)
    assert psnr_db(both[:, :975], before) > 30
    wide = preview.before_after(np.zeros((30, 3001, 3), np.uint16), np.full((30, 3001, 3), 255, np.uint8))
    assert wide.shape == (7, 1500, 3)
    assert (wide[:, :750].max(), wide[:, 750:].min()) == (0, 255)


# ---------------------------------------------------------------- an ISP that needs a reference picture


@pytest.fixture
def shot_with(dng, tmp_path):
    """Writes a DNG of 64x96 whose embedded JPEG is the given picture, None for none, and returns its path."""

    def write(picture, orientation=1):
        mosaic = photograph(64, 96)[..., 1].astype(np.uint16) * 16
        jpeg = None if picture is None else (encode_jpeg(picture, 95), *picture.shape[:2])
        (tmp_path / "shot.dng").write_bytes(dng(mosaic, orientation=orientation, jpeg=jpeg))
        return tmp_path / "shot.dng"

    return write


@pytest.mark.parametrize("command", [("hdr", "--gains", "1", "--isp"), ("transfer", "--from", "rsblur", "--to")])
@pytest.mark.parametrize("size", [(120, 160), (37, 5)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_transfer_and_hdr_give_the_photograph(photo, out, monkeypatch, reference_isp, command, size, orientation):
    monkeypatch.setattr(full_size, "STRIP_ROWS", 24)
    path = photo("photo.jpg", photograph(*size), exif=exif(orientation))
    code, results, _ = run(*command, reference_isp, path, "--out", out)
    assert code == DONE
    found, upright = read_image(results[0]).astype(int), read_image(path)
    # Fusing one picture rounds.
    assert found.shape == upright.shape and np.abs(found - upright).max() <= (command[0] == "hdr")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_forward_gives_the_jpeg_inside_a_raw_file(shot_with, out, monkeypatch, reference_isp, orientation):
    monkeypatch.setattr(full_size, "STRIP_ROWS", 24)
    picture = photograph(64, 96, blur_px=2.0)
    path = shot_with(picture, orientation)
    assert doctor_takes(path, reference_isp)
    assert run("forward", path, "--isp", reference_isp, "--out", out)[0] == DONE
    # A camera stores it as the sensor lies; LibRaw marks it with the orientation of the shot.
    rendered = read_image(out / "shot.png")
    assert np.array_equal(turned_back(rendered, orientation), decode_jpeg(encode_jpeg(picture, 95)))
    assert np.array_equal(rendered, read_embedded_jpeg(path))


def doctor_takes(path, isp):
    """Whether the doctor lists the ISP among those that can render a mosaic."""
    (finding,) = (finding for finding in doctor.diagnose(path).findings if finding.topic == "ISPs, forward")
    return isp in finding.text.partition(";")[0].split(", ")


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (None, r"No thumbnail in file|JPEG"),
        ((32, 48), "its embedded JPEG has 32x48 pixels, its mosaic 64x96"),
        ((96, 64), "its embedded JPEG has 96x64 pixels, its mosaic 64x96"),
    ],
)
def test_without_a_usable_jpeg_doctor_and_forward_agree(shot_with, out, reference_isp, size, why):
    path = shot_with(None if size is None else photograph(*size))
    assert not doctor_takes(path, reference_isp)
    assert doctor_takes(path, "rsblur/a7r3")
    sentence = refused(path, "forward", path, "--isp", reference_isp, "--out", out)
    assert f"{path}: echo: needs the sRGB picture of the same scene as a reference, got none (" in sentence
    assert re.search(why, sentence) and sentence.endswith("); choose another ISP")


def test_a_mosaic_of_inverse_holds_no_reference(photo, out, reference_isp):
    assert run("inverse", photo(), "--isp", reference_isp, "--out", out)[0] == DONE
    mosaic = out / "photo.tif"
    assert not doctor_takes(mosaic, reference_isp)
    sentence = refused(mosaic, "forward", mosaic, "--isp", reference_isp, "--out", out / "again")
    assert "got none (a mosaic of isp.apply inverse holds no picture); choose another ISP" in sentence


def test_a_raw_file_with_a_json_file_beside_it_is_no_mosaic_of_apply(shot_with, reference_isp):
    path = shot_with(photograph(64, 96))
    path.with_suffix(".json").write_text("{}")
    assert doctor_takes(path, reference_isp)


# ---------------------------------------------------------------- nothing is overwritten, files are independent


def test_nothing_is_overwritten_silently(photo, out):
    path = photo()
    assert run("inverse", path, *PAIR, "--out", out)[0] == DONE
    (out / "photo.json").write_text("mine")
    (out / "photo.tif").unlink()
    code, results, lines = run("inverse", path, *PAIR, "--out", out)
    assert (code, results) == (USAGE, [])
    assert lines == [f"{out / 'photo.json'}: exists already; choose another --out, or replace it with --force"]
    assert not (out / "photo.tif").exists()
    assert run("inverse", path, *PAIR, "--out", out, "--force")[0] == DONE
    assert (out / "photo.json").read_text() != "mine"
    assert sorted(entry.name for entry in out.iterdir()) == ["photo.json", "photo.tif", "photo_preview.png"]


def test_inputs_of_one_stem_and_results_in_place_of_inputs_are_refused(photo, out, tmp_path):
    first, second = photo("photo.png"), photo("photo.jpg")
    for force in ((), ("--force",)):
        code, _, lines = run("inverse", first, second, *PAIR, "--out", out, *force)
        assert code == USAGE
        assert lines == [
            f"{second}: its results would have the names of those of {first}; "
            "run the command on it alone, with another --out"
        ]
    picture = photo("grey.tif", photograph())
    code, _, lines = run("inverse", picture, *PAIR, "--out", tmp_path, "--force")
    assert code == USAGE
    assert "the output would overwrite an input" in lines[0]


def test_files_are_independent_and_the_isp_is_opened_once(photo, out, tmp_path, monkeypatch):
    opened = []
    create = registry.create
    monkeypatch.setattr(registry, "create", lambda *given, **named: opened.append(given) or create(*given, **named))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xffnonsense")
    paths = photo("a.png"), tmp_path / "bad.jpg", tmp_path / "missing.png", photo("b.png")
    code, results, lines = run("inverse", *paths, *PAIR, "--out", out)
    assert code == BAD_DATA
    assert [path.name for path in results if path.suffix == ".tif"] == ["a.tif", "b.tif"]
    assert lines[-1] == f"2 of 4 files could not be used: {paths[1]}, {paths[2]}"
    assert sum(line.startswith((f"{paths[1]}: expected", f"{paths[2]}: expected")) for line in lines) == 2
    assert len(opened) == 1
    assert run("transfer", paths[0], paths[3], "--from", "rsblur", "--to", "rsblur", "--out", out)[0] == DONE
    assert len(opened) == 2


# ---------------------------------------------------------------- what cannot be done is said


@pytest.mark.parametrize(
    "options",
    [
        ("--matrix", "1,0,0"), ("--matrix", "1,2,3,2,4,6,0,0,1"), ("--white-balance", "2"), ("--white-balance", "0,1"),
        ("--black", "1,2"), ("--black", "70000"), ("--white", "nan"), ("--black", "600", "--white", "600"),
        ("--cfa", "RGBG"), ("--iso", "-1"), ("--iso", "inf"), ("--memory", "much"), ("--memory", "0"), ("--memory", "4X"),
        ("--camera", "a7r4"), ("--camera", "missing.yaml"), ("--camera", "rsblur"), ("--camera", "s7"),
        ("--camera", "a7r3", "--like", "shot.nef"), ("--like", "missing.nef"), ("--isp", "rsblur/a7r4"), ("--device", "tpu"),
        ("--out", __file__),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_options_are_refused_before_any_work(photo, out, options):
    code, results, lines = run("inverse", photo(), "--out", out, *PAIR, *options)
    assert (code, results) == (USAGE, [])
    assert not out.exists()
    assert "expected" in lines[-1] or "choose from" in lines[-1] or "not allowed with" in lines[-1]


@pytest.mark.parametrize("options", [("--format", "gif"), ("--quality", "0"), ("--gains", "1,0"), ("--gains", "")])
def test_wrong_ways_of_writing_are_refused(photo, out, options):
    assert run("hdr", photo(), "--out", out, *PAIR, *options)[0] == USAGE


def test_a_matrix_can_be_given_where_the_profile_has_none(photo, out):
    own = ("--white-balance", "2,1.5", "--matrix=1,0,0,0,1,0,0,0,1")
    assert run("inverse", photo(), *PAIR, "--camera", "rsblur", *own, "--out", out)[0] == DONE
    camera = json.loads((out / "photo.json").read_text())["camera"]
    assert camera["sensor_to_linear"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert run("inverse", photo(), *PAIR, "--camera", "s7", *own[:2], "--out", out, "--force")[0] == DONE


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(cfas=("GRBG",)), "needs the CFA pattern GRBG, got RGGB; choose another ISP"),
        (
            Limits(needs=("iso", "f_number")),
            "needs iso, f_number, which are unknown; give --iso, --f-number, or choose",
        ),
    ],
)
def test_limits_of_an_isp_are_kept(photo, out, monkeypatch, limits, said):
    whole = registry.create("rsblur")
    narrow = SimpleNamespace(name="narrow", limits=limits, weights=(), inverse=whole.inverse, forward=whole.forward)
    monkeypatch.setattr(registry, "create", lambda *_, **__: narrow)
    path = photo()
    assert f"{path}: narrow: {said}" in refused(path, "hdr", path, "--isp", "narrow", "--out", out)


def test_an_isp_gets_the_multiple_it_needs(photo, out, monkeypatch):
    whole, sizes = registry.create("rsblur"), []

    def noting(run_it):
        return lambda image, camera, **_: sizes.append(tuple(image.shape[-2:])) or run_it(image, camera)

    narrow = SimpleNamespace(
        name="narrow",
        limits=Limits(multiple_of=16),
        weights=(),
        inverse=noting(whole.inverse),
        forward=noting(whole.forward),
    )
    monkeypatch.setattr(registry, "create", lambda *_, **__: narrow)
    picture = photograph(37, 5, blur_px=2.0)
    assert run("hdr", photo(picture=picture), "--isp", "narrow", "--gains", "1", "--out", out)[0] == DONE
    assert sizes == [(48, 16), (48, 16)]
    assert psnr_db(read_image(out / "photo_hdr.png"), picture) > 36


def test_the_memory_budget_reaches_the_engine(photo, out, monkeypatch):
    budgets = []

    def inverse(camera_isp, srgb, camera, memory_bytes):
        budgets.append(memory_bytes)
        raise ValueError(f"expected more memory, got {memory_bytes}; give more")

    monkeypatch.setattr(full_size, "inverse", inverse)
    path = photo()
    for memory in ("1.5G", "512m", "8000000", None):
        given = ("--memory", memory) if memory else ()
        assert "expected more memory" in refused(path, "inverse", path, *PAIR, "--out", out, *given)
    assert budgets[:3] == [1_500_000_000, 512_000_000, 8_000_000]
    assert 2**26 < budgets[3] < 2**45


def test_fusing_counts(photo, out):
    path = photo(picture=photograph(100, 100))
    said = refused(path, "hdr", path, *PAIR, "--gains", "1,2,3", "--memory", "1M", "--out", out)
    assert "to fuse 3 exposures of 100x100, got 0.001;" in said


def test_numbers_that_are_none_are_no_picture(photo, out, monkeypatch):
    path = photo()
    monkeypatch.setattr(full_size, "inverse", lambda camera_isp, srgb, camera, memory_bytes: srgb * torch.nan)
    assert "got NaN" in refused(path, "inverse", path, *PAIR, "--out", out)
    assert list(out.iterdir()) == []


@contextlib.contextmanager
def files_of_at_most(size):
    """As on a disk that is full: longer files cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", [("inverse",), ("hdr", "--format", "jpg")])
def test_where_results_cannot_be_written_none_stay_and_no_more_is_tried(photo, out, command):
    paths = photo("first.png"), photo("second.png")
    command = (*command, *paths, *PAIR, "--out", out)
    code, listed, _ = run(*command)
    assert code == DONE
    # What is there stays, and is whole.
    kept = {result: result.read_bytes() for result in listed}
    with files_of_at_most(1000):
        assert run(*command, "--force")[0] == BAD_DATA
    assert {result: result.read_bytes() for result in out.iterdir()} == kept
    first, second, *_ = map(len, kept.values())
    assert command[0] == "inverse" or first < second
    for result in listed:
        result.unlink()
    # The disk is full before the first result of all, or between the two of the first photograph.
    with files_of_at_most(first // 2 if command[0] == "inverse" else (first + second) // 2):
        code, listed, lines = run(*command)
    assert (code, listed) == (BAD_DATA, [])
    assert lines[-1] == (
        f"--out {out}: cannot write the results of {paths[0]}: File too large; fix that or choose another --out; "
        "the files listed above are complete, run the command again for the rest"
    )
    assert not any(str(paths[1]) in line for line in lines)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("at", ["mosaic", "sidecar", "preview"])
@pytest.mark.parametrize("force", [False, True])
def test_results_are_of_one_run_or_of_the_one_before(photo, out, monkeypatch, at, force):
    """A new mosaic beside the sidecar of another run would be read with wrong levels."""
    path = photo()
    if force:
        assert run("inverse", path, *PAIR, "--out", out)[0] == DONE
    kept = {result: result.read_bytes() for result in out.glob("*")}
    write, read = (one_file.sidecar, "write") if at == "sidecar" else (one_file, "write_image")
    real = getattr(write, read)

    def fails(target, *arguments, **options):
        if at in ("sidecar", "mosaic") or target.name.endswith("_preview.png"):
            raise OSError(28, "No space left on device", str(target))
        return real(target, *arguments, **options)

    monkeypatch.setattr(write, read, fails)
    code, listed, lines = run("inverse", path, *PAIR, "--out", out, "--black", "77", *(("--force",) if force else ()))
    assert (code, listed) == (BAD_DATA, [])
    assert f"--out {out}: cannot write the results of {path}: No space left on device" in lines[-1]
    assert {result: result.read_bytes() for result in out.glob("*")} == kept
    assert not list(out.glob(".*"))


def test_a_folder_in_place_of_a_result_is_named(photo, out):
    (out / "photo_preview.png").mkdir(parents=True)
    code, _, lines = run("inverse", photo(), *PAIR, "--out", out, "--force")
    assert code == USAGE
    assert lines == [
        f"{out / 'photo_preview.png'}: expected the name of a file, got that of a folder; choose another --out"
    ]


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), cv2.error("(-4:Insufficient memory) Failed"),
    ],
    ids=lambda problem: type(problem).__name__,
)  # fmt: skip
def test_a_photograph_that_does_not_fit_into_memory_is_one_sentence(photo, out, monkeypatch, problem):
    real = full_size.inverse

    def inverse(camera_isp, srgb, camera, memory_bytes):
        if srgb.shape[-1] > 100:
            raise problem
        return real(camera_isp, srgb, camera, memory_bytes)

    monkeypatch.setattr(full_size, "inverse", inverse)
    large, small = photo("large.png"), photo("small.png", photograph(40, 60))
    code, listed, lines = run("inverse", large, small, *PAIR, "--out", out)
    assert (code, [path.name for path in listed]) == (BAD_DATA, ["small.tif", "small.json", "small_preview.png"])
    assert f"{large}: expected enough memory for its pixels, got too little; give less with --memory" in "\n".join(
        lines
    )


def test_any_other_error_is_no_lack_of_memory(photo, out, monkeypatch):
    """A mistake in the program must not be taken for a bad file."""
    monkeypatch.setattr(full_size, "inverse", lambda *_: {}["a mistake"])
    with pytest.raises(KeyError):
        run("inverse", photo(), *PAIR, "--out", out)


def test_an_interruption_is_130(photo, out, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(one_file, "inverse", interrupted)
    assert run("inverse", photo(), *PAIR, "--out", out)[0] == INTERRUPTED


@pytest.mark.parametrize(("command", "name"), [("forward", "photo.png"), ("inverse", "shot.NEF"), ("hdr", "shot.dng")])
def test_the_wrong_direction_is_told(photo, out, command, name, tmp_path):
    photo()
    (tmp_path / name).touch()
    assert "; " in refused(tmp_path / name, command, tmp_path / name, *PAIR, "--out", out)


def test_help_answers_at_once():
    code = (
        "from isp.apply.__main__ import main; main(['hdr', '--help']); "
        "import sys; print({'torch', 'numpy'} & {*sys.modules})"
    )
    environment = {"PYTHONPATH": str(Path(apply.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.startswith("usage: python -m isp.apply hdr")
    assert done.stdout.endswith("set()\n")


# ---------------------------------------------------------------- sidecars


def changed(record, path, value):
    """A copy in which the entry at `path` is `value`; without a value it is gone."""
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


def mutations():
    sidecar_keys = ("size", "camera", "orientation", "model", "source", "isp", "weights")
    camera_keys = ("camera", "name"), *(("camera", field.name) for field in dataclasses.fields(profile.Camera)[1:])
    for path in (*((key,) for key in sidecar_keys), *camera_keys):
        yield path, None
        yield path, [{}]
    for key in ("white_balance", "sensor_to_linear", "xyz_to_sensor", "black"):
        yield ("camera", key), [1.0, 2.0]
        yield ("camera", key), float("nan")
    for key in ("white", *OPTICS):
        yield from ((("camera", key), value) for value in (float("nan"), float("inf"), -1, "100", 1e300, [1.0]))
    yield ("camera", "white"), 100
    yield ("camera", "white_balance"), [1, 0, 1]
    yield ("camera", "white_balance"), [1, float("nan"), 1]
    yield ("camera", "sensor_to_linear"), [[1, 2, 3]] * 3
    yield ("camera", "cfa"), "RGBG"
    yield ("camera", "unheard"), 1
    yield from ((("orientation",), value) for value in (0, 9, "6", True))
    yield ("size",), [120, 161]


def test_every_wrong_sidecar_is_one_sentence(photo, out):
    assert run("inverse", photo(), *PAIR, "--out", out)[0] == DONE
    mosaic, sidecar = out / "photo.tif", out / "photo.json"
    record = json.loads(sidecar.read_text())
    texts = [json.dumps(changed(record, path, value)) for path, value in mutations()]
    texts += ["", "[]", "null", "{", "[" * 100_000, "\0", json.dumps(record)[:-9]]
    assert len(texts) > 80
    for text in texts:
        sidecar.write_text(text)
        sentence = refused(mosaic, "forward", mosaic, *PAIR, "--out", out / "again")
        assert "expected" in sentence and ", got " in sentence and "; " in sentence, text[:300]
        assert len(sentence) < 500
    sidecar.write_bytes(b"\xff\xfe")
    refused(mosaic, "forward", mosaic, *PAIR, "--out", out / "again")
    sidecar.unlink()
    assert "expected the sidecar" in refused(mosaic, "forward", mosaic, *PAIR, "--out", out / "again")


def test_a_tiff_that_is_no_mosaic_is_refused(photo, out):
    run("inverse", photo(), *PAIR, "--out", out)
    mosaic = out / "photo.tif"
    for picture in (
        photograph(),
        photograph()[..., 0],
        photograph().astype(np.uint16),
        photograph()[1:, :, 0].astype(np.uint16),
    ):
        write_image(mosaic, picture)
        assert "expected a mosaic" in refused(mosaic, "forward", mosaic, *PAIR, "--out", out / "again")


def test_the_levels_and_back():
    camera = dataclasses.replace(
        profile.load("a7r3").camera((2.0, 1.5), cfa="GRBG"), black=torch.tensor([[100.0, 200.0, 300.0]])
    )
    raw = np.random.Generator(np.random.PCG64(0)).integers(0, 16384, (7, 9), dtype=np.uint16)
    assert np.array_equal(levels.raw_of_bayer(bayer_of_raw(torch.from_numpy(raw), camera), camera).numpy(), raw)
    beyond = levels.raw_of_bayer(torch.tensor([-9.0, 9.0]).expand(1, 1, 2, 2).contiguous(), camera).numpy()
    assert (beyond[:, 0].max(), beyond[:, 1].min()) == (0, 16383)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.tif"])
def test_damaged_pictures_are_a_picture_or_one_sentence(photo, out, name):
    whole = photo(name, photograph(24, 32), **({} if name == "photo.tif" else {"exif": exif()}))
    check_damage("inverse", whole, out)


def test_damaged_mosaics_are_a_picture_or_one_sentence(photo, out):
    run("inverse", photo(picture=photograph(24, 32)), *PAIR, "--out", out)
    check_damage("forward", out / "photo.tif", out / "again")


def check_damage(command, path, out):
    data = path.read_bytes()
    dice = np.random.Generator(np.random.PCG64(1))
    damaged = [data[: len(data) * step // 12] for step in range(12)]
    # The first bytes hold the structure and the EXIF, and deserve more of the flips.
    for at in (*dice.integers(0, min(len(data), 400), 30), *dice.integers(0, len(data), 10)):
        damaged.append(data[:at] + bytes([data[at] ^ (1 << int(dice.integers(8)))]) + data[at + 1 :])
    outcomes = set()
    for content in damaged:
        path.write_bytes(content)
        code, listed, lines = run(command, path, *PAIR, "--out", out, "--force")
        outcomes.add(code)
        if code == DONE:
            assert all(result.stat().st_size for result in listed)
        else:
            assert code == BAD_DATA
            assert str(path) in lines[-2] and ": expected" in lines[-2] and "\n" not in lines[-2]
    assert BAD_DATA in outcomes


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "orientation", "remark", "least_db"),
    [  # the red of D40's telephone box is outside what an A7R3 takes
        ("Nikon_D40", 6, "--camera d40", 24.0),
        ("Nikon_D90", 1, "--camera d90", 48.0),
        ("Samsung_S7edge_SM-G935L", 1, "", 38.0),
    ],
)
def test_a_camera_jpeg_there_and_back(real, out, tmp_path, name, orientation, remark, least_db):
    with Image.open(real(f"camera_jpeg/{name}.jpg")) as whole:  # a part with all its EXIF: whole ones take minutes
        path = tmp_path / f"{name}.jpg"
        whole.crop((1200, 900, 1501, 1101)).save(path, quality=97, exif=whole.info["exif"])
    code, _, lines = run("inverse", path, *PAIR, "--out", out)
    assert code == DONE
    assert any(remark in line for line in lines)
    record = json.loads((out / f"{name}.json").read_text())
    assert (record["orientation"], record["size"]) == (orientation, [201, 301])
    assert all(record["camera"][field] for field in OPTICS)
    assert run("forward", out / f"{name}.tif", *PAIR, "--out", out)[0] == DONE
    assert psnr_db(read_image(out / f"{name}.png"), read_image(path)) > least_db


@pytest.mark.parametrize("name", ["canon_s30/RAW_CANON_S30.CRW", "canon_550d_ml/colorchart.dng"])
def test_a_real_raw_file_becomes_a_picture(real, out, name):
    path = real(f"raw/{name}")
    code, (result,), _ = run("forward", path, *PAIR, "--out", out, "--format", "jpg")
    assert code == DONE
    picture = read_image(result)
    assert picture.shape[:2] == read_raw(path).raw.shape
    assert 20 < picture.mean() < 200
    assert picture.std() > 20


@pytest.mark.parametrize(
    "name",
    [
        "raw/heads/D7100_head.NEF", "raw/heads/EOS-1DsIII_head.CR2", "raw/heads/SLT-A55V_head.ARW",
        "raw/odd/Nikon_coolscan.nef", "raw/odd/RAW_KODAK_DC120.KDC", "raw/odd/RAW_KODAK_DC50.KDC",
        "raw/odd/canon_eos_6d_lineardng.dng", "raw/odd/exiftool_Nikon_D70_noraw.nef", "raw/gopro/HERO6_GOPR0024.GPR",
        "raw/nikon_d750_crop/DSC_1339_768x512_rggb.raw", "raw/packed/x90_3_4.npy", "raw/packed/imx135_001.png",
    ],
)  # fmt: skip
def test_real_files_that_are_no_mosaic_are_one_sentence(real, out, name):
    path = real(name)
    assert f"{path}: expected" in refused(path, "forward", path, *PAIR, "--out", out)

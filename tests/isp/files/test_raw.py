"""RAW files: every value on a DNG that is written here, and every real file right or refused in one sentence."""

import math
import os
import tracemalloc
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rawpy
import torch

from isp import cfa, color
from isp.files import raw, soundness
from isp.files.exif import optics_of, read_tags
from isp.files.raw import read_embedded_jpeg, read_raw
from isp.levels import bayer_of_raw

RAW = np.random.Generator(np.random.PCG64(0)).integers(100, 4000, (64, 96), dtype=np.uint16)


@pytest.fixture
def read(dng, tmp_path):
    def of(raw=RAW, *arguments, **options):
        (tmp_path / "shot.dng").write_bytes(dng(raw, *arguments, **options))
        return read_raw(tmp_path / "shot.dng")

    return of


def refused(path) -> str:
    """The sentence, which starts with the path and is only one."""
    with pytest.raises(ValueError, match=r": expected .*, got .*; ") as caught:
        read_raw(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def values(field):
    return None if field is None else [round(value, 6) for value in field.flatten().tolist()]


# ---------------------------------------------------------------- what stands in a file


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_everything_on_a_dng_in_every_phase(read, pattern):
    black_of = {"R": 100, "G": 103, "B": 106}
    found = read(RAW, pattern, black=[black_of[letter] for letter in pattern])
    camera = found.camera
    assert np.array_equal(found.raw, RAW)
    assert found.raw.dtype == np.uint16
    assert found.warnings == ()
    assert (found.model, camera.name) == ("Maker/Camera 1", ("Maker/Camera 1",))
    assert camera.cfa == (pattern,)
    assert values(camera.black) == [100, 103, 106]
    assert values(camera.white) == [4000]
    assert values(camera.white_balance) == [2, 1, 1.6]
    assert values(camera.iso) == [400]
    assert values(camera.exposure_s) == [0.004]
    assert values(camera.f_number) == [2.8]
    assert values(camera.focal_mm) == [35]


@pytest.mark.parametrize("top", [0, 1, 2])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_the_pattern_is_that_of_the_visible_top_left_pixel(read, top, left):
    # Each colour has its own range of values, so that the pixels themselves say which is which.
    level = {"R": 1000, "G": 2000, "B": 3000}
    active = "GRBG"  # a DNG counts it from the active area
    whole = cfa.shift(active, top, left)  # shifting by the same again undoes it
    raw = np.array([[level[whole[2 * (y % 2) + x % 2]] for x in range(96)] for y in range(64)], np.uint16)
    raw = raw + RAW % 50
    found = read(raw, active, active=(top, left, 62, 94), black=(100,) * 4)
    seen = "".join("RGB"[round(float(found.raw[y, x]) / 1000) - 1] for y in (0, 1) for x in (0, 1))
    assert found.camera.cfa == (seen,)
    assert found.raw.shape[0] in (62 - top, 62 - top - 1)


def test_white_stays_white_and_the_matrix_is_the_files(read):
    camera = read().camera
    expected = color.matrix_from_libraw(
        torch.tensor([[0.664, -0.1847, -0.0503], [-0.5238, 1.301, 0.2474], [-0.0993, 0.1673, 0.6527]])
    )
    assert torch.allclose(camera.sensor_to_linear[0].sum(1), torch.ones(3), atol=1e-6)
    assert torch.allclose(
        camera.sensor_to_linear[0].double(), expected, atol=2e-3
    )  # LibRaw's sRGB primaries differ a little
    assert camera.xyz_to_sensor is None


def test_a_camera_that_libraw_knows_has_its_coefficients(read):
    camera = read(matrix=None, make="SONY", model="ILCE-7RM3").camera
    assert values(camera.xyz_to_sensor) == [0.664, -0.1847, -0.0503, -0.5238, 1.301, 0.2474, -0.0993, 0.1673, 0.6527]
    assert torch.allclose(
        camera.sensor_to_linear[0].double(), color.matrix_from_libraw(camera.xyz_to_sensor[0]), atol=1e-6
    )


def test_no_matrix_at_all_is_refused(dng, tmp_path):
    (tmp_path / "shot.dng").write_bytes(dng(RAW, matrix=None))
    assert "colour matrix, got none" in refused(tmp_path / "shot.dng")


FLIPS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}  # LibRaw's flip: what it means in EXIF


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("stated", [None, 1, 3])
def test_libraws_flip_counts_only_if_nothing_is_stated(dng, tmp_path, monkeypatch, flip, stated):
    (tmp_path / "shot.dng").write_bytes(dng(RAW))
    opened = raw._opened

    @contextmanager
    def turned(path):
        with opened(path) as inner:
            yield Turned(inner, flip)

    monkeypatch.setattr(raw, "_opened", turned)
    monkeypatch.setattr(raw, "orientation_of", lambda tags: stated)
    assert read_raw(tmp_path / "shot.dng").orientation == (FLIPS[flip] if stated is None else stated)


class Turned:
    """A file as LibRaw shows it, but for its flip."""

    def __init__(self, inner, flip):
        self._inner, self._flip = inner, flip

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        return found._replace(flip=self._flip) if name == "sizes" else found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_told_and_not_applied(read, orientation):
    found = read(orientation=orientation)
    assert found.orientation == orientation
    assert np.array_equal(found.raw, RAW)


# ---------------------------------------------------------------- values of the caller

MATRIX = ((1.5, -0.4, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5))


@pytest.mark.parametrize(
    "lacking",
    [
        {"matrix": None},
        {"neutral": None, "matrix": None},
        {"neutral": (1, 1, 1), "matrix": None},
        {"neutral": (0, 1, 0.5)},
        {"matrix": (1.0, 2.0, 3.0) * 3},
        {},
    ],
)
def test_the_caller_rescues_a_file_that_lacks_matrix_or_gains(dng, tmp_path, lacking):
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(RAW, **lacking))
    image = read_raw(path, white_balance=(1.8, 0.9, 1.35), sensor_to_linear=MATRIX)
    assert image.warnings == ()
    assert values(image.camera.white_balance) == [2, 1, 1.5]
    assert torch.allclose(image.camera.sensor_to_linear[0], torch.tensor(MATRIX))
    assert image.camera.xyz_to_sensor is None
    assert np.array_equal(image.raw, RAW)


def test_one_value_of_the_caller_leaves_the_others_to_the_file(dng, tmp_path):
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(RAW, matrix=None))
    assert "colour matrix, got none; give --matrix" in refused(path)
    camera = read_raw(path, sensor_to_linear=MATRIX).camera
    assert values(camera.white_balance) == [2, 1, 1.6]
    with pytest.raises(ValueError, match="colour matrix, got none"):
        read_raw(path, white_balance=(2.0, 1.0, 1.5))
    path.write_bytes(dng(RAW, neutral=(1, 1, 1), matrix=None, make="x"))
    with pytest.raises(ValueError, match=r"white-balance gains, got .*; give --white-balance"):
        read_raw(path, sensor_to_linear=MATRIX)


def test_levels_of_the_caller(dng, tmp_path):
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(RAW, white=90))
    camera = read_raw(path, black=[50.0], white=5000.0).camera
    assert (values(camera.black), values(camera.white)) == ([50, 50, 50], [5000])
    path.write_bytes(dng(RAW))
    image = read_raw(path, black=(100.0, 200.0, 300.0))
    assert values(image.native.black) == [100, 200, 300]
    bayer = bayer_of_raw(torch.from_numpy(image.raw), image.camera)[0, 0]
    assert bayer[1, 1].item() == pytest.approx((RAW[1, 1] - 300) / (4000 - 300), abs=1e-4)
    assert bayer[0, 0].item() == pytest.approx((RAW[0, 0] - 100) / (4000 - 300), abs=1e-4)
    with pytest.raises(ValueError, match="expected white above black, got 300"):
        read_raw(path, black=[400.0], white=300.0)


@pytest.mark.parametrize(
    "unusable",
    [
        {"white_balance": (0.0, 1.0, 1.0)},
        {"white_balance": (math.nan, 1.0, 1.0)},
        {"white_balance": (1.0, 1.0)},
        {"sensor_to_linear": ((1.0, 0.0), (0.0, 1.0))},
        {"sensor_to_linear": ((0.0,) * 3,) * 3},
        {"sensor_to_linear": ((math.inf,) * 3,) * 3},
        {"black": (1.0, 2.0)},
        {"black": (-1.0,)},
        {"white": 0.0},
        {"white": math.nan},
    ],
)
def test_values_of_the_caller_are_checked(dng, tmp_path, unusable):
    (tmp_path / "shot.dng").write_bytes(dng(RAW))
    with pytest.raises(ValueError, match=r"expected .*, got .*; check"):
        read_raw(tmp_path / "shot.dng", **unusable)


def test_a_file_without_a_header_is_not_rescued(real):
    """LibRaw guesses its layout from its size, and is wrong."""
    with pytest.raises(ValueError, match="colour matrix, got none"):
        read_raw(
            real("raw/nikon_d750_crop/DSC_1339_768x512_rggb.raw"),
            white_balance=(2.0, 1.0, 1.5),
            sensor_to_linear=MATRIX,
        )


@pytest.mark.parametrize("name", ["RAW_KODAK_DC120.KDC", "RAW_KODAK_DC50.KDC"])
def test_real_files_without_matrix_and_gains_are_rescued(real, name):
    image = read_raw(real(f"raw/odd/{name}"), white_balance=(2.0, 1.0, 1.5), sensor_to_linear=MATRIX)
    assert image.camera.cfa == ("GRBG",)
    assert image.warnings == ()


# ---------------------------------------------------------------- white balance


@pytest.mark.parametrize(
    ("neutral", "trouble"), [((1, 1, 1), "the same for all colours"), ((2, 1, 1.6), "inverted"), (None, "")]
)
def test_gains_that_cannot_be_right_become_daylight(read, tmp_path, neutral, trouble):
    found = read(neutral=neutral)
    assert len(found.warnings) == 1
    assert str(tmp_path / "shot.dng") in found.warnings[0]
    assert trouble in found.warnings[0]
    red, green, blue = values(found.camera.white_balance)
    assert green == 1
    assert 1.5 < red < 3.5
    assert 1 < blue < 2.5


DAYLIGHT = (2.0, 1.0, 1.5)


@pytest.mark.parametrize(
    "gains",
    [(0, 1, 0), (-2, 1, 1.5), (math.nan, 1, 1.5), (math.inf, 1, 1.5), (2, 0, 1.5), (256, 256, 256), (1e30, 1, 1.5)],
)
def test_every_wrong_triple_is_seen(gains):
    instead, said = soundness.white_balance([*map(float, gains)], DAYLIGHT)
    assert instead == (2, 1, 1.5)
    assert said.severity == "warning"
    assert "; using LibRaw's daylight gains 2 1 1.5" in said.text
    instead, said = soundness.white_balance([*map(float, gains)], (0.0, 0.0, 0.0))
    assert instead is None
    assert said.severity == "fatal"
    assert said.text.startswith("expected white-balance gains, got ")


@pytest.mark.parametrize("gains", [(2, 1, 1.5), (1.1, 1, 2.6), (3.3, 1, 0.95), (512, 256, 384), (0.9, 1, 2.8)])
def test_tungsten_shade_and_other_units_are_right(gains):
    instead, said = soundness.white_balance([*map(float, gains)], DAYLIGHT)
    assert instead == (gains[0] / gains[1], 1, gains[2] / gains[1])
    assert said.severity == "ok"


# ---------------------------------------------------------------- EXIF


def tag(*content):
    return SimpleNamespace(values=list(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ((400,), 400), ((200, 0), 200), ((Fraction(28, 5),), 5.6), ((0,), None), ((), None), (("junk",), None),
        ((math.nan,), None), ((-3,), None), ((65535,), None), (("1600",), 1600),
        (("1/0",), None),
    ],
)  # fmt: skip
def test_arrays_rationals_and_nothing(content, expected):
    assert optics_of({"EXIF ISOSpeedRatings": tag(*content)}) == {"iso": expected}


@pytest.mark.parametrize(
    ("text", "expected"), [("1/60", 1 / 60), ("0.02\0", 0.02), ("", None), ("1/0", None), ("fast", None)]
)
def test_a_time_that_is_written_out(text, expected):
    assert optics_of({"EXIF ExposureTime": SimpleNamespace(values=text)}) == {"exposure_s": expected}


def test_the_equivalent_focal_length_is_no_focal_length(read):
    assert optics_of({"EXIF FocalLengthIn35mmFilm": tag(52)}) == {}
    camera = read(exif={41989: ("short", [52])}).camera
    assert camera.focal_mm is None


def test_zero_is_unknown(read):
    camera = read(
        exif={33434: ("rational", [0]), 33437: ("rational", [0]), 34855: ("short", [0]), 37386: ("rational", [0])}
    ).camera
    assert (camera.iso, camera.exposure_s, camera.f_number, camera.focal_mm) == (None, None, None, None)


# ---------------------------------------------------------------- damage


def test_truncated_anywhere_is_refused(dng, tmp_path):
    whole = dng(RAW)
    for length in np.linspace(0, len(whole) - 1, 21).astype(int):
        path = tmp_path / f"{length}.dng"
        path.write_bytes(whole[:length])
        refused(path)


def test_pixels_that_ended_early_are_refused(dng, tmp_path):
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(np.zeros_like(RAW)))
    assert "zeros in every pixel" in refused(path)
    half = RAW.copy()
    half[40:] = 0
    path.write_bytes(dng(half))
    assert "in all 64 rows, got zeros from row 40 on; it is truncated" in refused(path)
    half[40:] = half[38:40].repeat(12, 0).reshape(2, 12, 96).swapaxes(0, 1).reshape(24, 96)
    path.write_bytes(dng(half))
    assert "the rows above again, from row 40 on" in refused(path)
    path.write_bytes(dng(np.full_like(RAW, 2048)))
    assert "got 2048 in every pixel" in refused(path)
    block = RAW.copy()
    block[:32, 32:] = 0
    path.write_bytes(dng(block))
    assert "got zeros in 33.3%" in refused(path)


def test_compressed_data_that_the_file_does_not_hold_are_refused():
    """LibRaw gives zeros, or an earlier tile again, for them."""
    page = {"compression": (7,), "offsets": (8, 500), "counts": (492, 500)}
    assert soundness.data(RAW, (100.0,), page, 1000).severity == "ok"
    assert (
        "a whole RAW file of at least 1000 bytes, got 999; it is truncated"
        in soundness.data(RAW, (100.0,), page, 999).text
    )
    # Of uncompressed data LibRaw says itself what is missing; their directories are sometimes wrong.
    assert soundness.data(RAW, (100.0,), page | {"compression": (1,)}, 999).severity == "ok"


def test_a_blown_out_last_row_is_a_picture(read):
    bright = RAW.copy()
    bright[-4:] = 4000
    assert np.array_equal(read(bright).raw, bright)


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ({"white": 90}, "expected white above black, got 90"),
        ({"white": 255}, "expected pixels up to the white level 255, got "),
        ({"black": (2500,) * 4}, "expected pixels above the black level 2500, got "),
    ],
)
def test_levels_that_the_pixels_contradict_are_refused(dng, tmp_path, levels, sentence):
    (tmp_path / "shot.dng").write_bytes(dng(RAW, **levels))
    assert sentence in refused(tmp_path / "shot.dng")


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ({"black": (1500,) * 4}, "of its pixels are below the black level; they become negative"),
        ({"white": 3500}, "of its pixels are above the white level 3500, up to 3999; they become white"),
        ({"white": 65000}, "its brightest pixel is 3999, far below the white level 65000"),
    ],
)
def test_levels_that_the_pixels_make_doubtful_are_told(read, levels, sentence):
    (warning,) = read(RAW, **levels).warnings
    assert sentence in warning


@pytest.mark.parametrize("black", [(100,) * 4, (100, 300, 300, 200)])
@pytest.mark.parametrize("clip", [1500, 3000])
def test_what_is_blown_out_below_the_white_level_is_white(read, scene, black, clip):
    seen = cfa.mosaic(torch.from_numpy(scene(96, 128)).permute(2, 0, 1)[None] * 3, ["RGGB"])[0, 0].numpy()
    levels = np.tile(np.reshape(black, (2, 2)), (48, 64))
    found = read(np.minimum(seen * (4000 - max(black)) + levels, clip).astype(np.uint16), black=black)
    (warning,) = found.warnings
    assert f"its red, green and blue pixels pile up at {clip}, below the white level 4000; using {clip}" in warning
    assert values(found.native.white) == [clip]
    bayer = bayer_of_raw(torch.from_numpy(found.raw), found.camera)[0, 0].numpy()
    blown = seen * (4000 - max(black)) + levels >= clip
    assert bayer[blown].min() >= 1
    assert bayer[~blown].max() < 1.1  # sites of a lower black level have a little more range


@pytest.mark.parametrize("content", [b"", b"no picture", b"II*\0" + b"\xff" * 500, b"\xff\xd8\xff" + b"\0" * 2000])
def test_what_is_no_raw_file_is_refused(tmp_path, content):
    path = tmp_path / "shot.nef"
    path.write_bytes(content)
    refused(path)


def test_folders_and_missing_files(tmp_path):
    refused(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing there; check the path"):
        read_raw(tmp_path / "shot.dng")


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.dng")
    for path, got in ((tmp_path / "pipe.dng", "a named pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        assert f"a regular file, got {got}" in refused(path)
        with pytest.raises(ValueError, match=f"a regular file, got {got}"):
            read_embedded_jpeg(path)


@pytest.mark.parametrize("name", [b"\xff.dng", b"caf\xe9 1.nef", "é 🙂.dng".encode()])
def test_names_that_are_not_utf_8_are_names(dng, tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(dng(RAW))
    assert np.array_equal(read_raw(path).raw, RAW)
    path.write_bytes(dng(RAW)[:-5])
    assert refused(path).startswith(f"{path}: ")
    with pytest.raises(ValueError, match="expected a JPEG inside it"):
        read_embedded_jpeg(path)


@pytest.mark.parametrize("side", [4000, 20000, 30000])
def test_sizes_that_the_file_cannot_fill_cost_nothing(dng, tmp_path, side):
    """A lossless JPEG in a DNG, which LibRaw would decode as far as it goes into gigabytes."""
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(RAW, extra={256: ("long", [side]), 257: ("long", [side]), 259: ("short", [7])}))
    tracemalloc.start()
    said = refused(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert (
        f"of {side}x{side} pixels, which take at least" in said or "truncated" in said or "expected a whole RAW" in said
    )


def raising(error):
    def raises(*_):
        raise error

    return raises


ERRORS = [error for error in vars(rawpy).values() if isinstance(error, type) and issubclass(error, Exception)]


@pytest.mark.parametrize("error", [*ERRORS, MemoryError, OSError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("step", ["imread", "_decoded"])
def test_every_error_of_libraw_is_a_sentence(dng, tmp_path, monkeypatch, error, step):
    (tmp_path / "shot.dng").write_bytes(dng(RAW))
    problem = error(b"out of luck") if issubclass(error, rawpy.LibRawError) else error("out of luck")
    if step == "imread":
        monkeypatch.setattr(rawpy, "imread", raising(problem))
        with pytest.raises(ValueError, match="expected a JPEG inside it"):
            read_embedded_jpeg(tmp_path / "shot.dng")
    else:
        monkeypatch.setattr(raw, "_decoded", raising(problem))
    said = refused(tmp_path / "shot.dng")
    assert ("out of luck" in said) or ("more pixels than fit into memory" in said)


def test_a_dng_without_a_jpeg_inside(dng, tmp_path):
    (tmp_path / "shot.dng").write_bytes(dng(RAW))
    with pytest.raises(ValueError, match=r"expected a JPEG inside it, got .*; put one beside it"):
        read_embedded_jpeg(tmp_path / "shot.dng")


# ---------------------------------------------------------------- real files

REAL = {  # size, cfa, black, white, white balance, (iso, exposure_s, f_number, focal_mm), name; SOURCES.md
    "nikon_d1/RAW_NIKON_D1.NEF": (
        (1324, 2012), "BGGR", (0, 0, 0), 4095, (2.667, 1.095), (200, 1 / 250, 7.6, 20), "NIKON CORPORATION/NIKON D1",
    ),
    "canon_s30/RAW_CANON_S30.CRW": (
        (1550, 2088), "RGGB", (31, 31.5, 31), 1023, (1776 / 1066, 1455 / 1066), (50, 1 / 1002, 5.6, 12.28), "unknown",
    ),
    "canon_550d_ml/colorchart.dng": (
        # its AsShotNeutral 1, 2.477, 1.462 is what a grey patch gives; the gains make the chart's patches grey
        (1156, 1734), "RGGB", (2056,) * 3, 15000, (2.477, 2.477 / 1.462), (None,) * 4, "Canon/Canon EOS Kiss X4",
    ),
    "blackmagic/Blackmagic.dng": (
        (2176, 4128), "RGGB", (512,) * 3, 65535, (2.206, 1.887), (None,) * 4, "Blackmagic Pocket Cinema Camera 4K",
    ),
    "gopro/HERO6_GOPR0024.dng": (
        (3000, 4000), "RGGB", (8192,) * 3, 65535, (1.914, 1.750), (100, 1 / 455, 2.8, 3), "GoPro/HERO6 Black",
    ),
}  # fmt: skip
REFUSED = {
    "gopro/HERO6_GOPR0024.GPR": "VC-5 (GoPro GPR), which LibRaw cannot decode",
    "nikon_d750_crop/DSC_1339_768x512_rggb.raw": "expected",
    "odd/canon_eos_6d_lineardng.dng": "3 colours in each pixel",
    "odd/RAW_KODAK_DC120.KDC": "colour matrix, got none",
    "odd/RAW_KODAK_DC50.KDC": "colour matrix, got none",
    "odd/Nikon_coolscan.nef": "3 colours in each pixel",
    "odd/exiftool_Nikon_D70_noraw.nef": "whole RAW file",
    "heads/D7100_head.NEF": "at least 28842901 bytes, got 3477280; it is truncated",
    "heads/SLT-A55V_head.ARW": "at least 17474560 bytes, got 1293760; it is truncated",
    "heads/EOS-1DsIII_head.CR2": "at least 20859768 bytes, got 339216; it is truncated",
}
DEVELOPED = {".npy", ".png", ".json"}  # arrays and pictures for other tests


@pytest.mark.parametrize("name", REAL)
def test_real_files_say_what_they_say(real, name):
    size, pattern, black, white, (red, blue), optics, model = REAL[name]
    path = real(f"raw/{name}")
    found = read_raw(path)
    camera = found.camera
    assert found.raw.shape == size
    assert camera.cfa == (pattern,)
    assert tuple(values(camera.black)) == black
    assert values(camera.white) == [white]
    assert values(camera.white_balance) == pytest.approx([red, 1, blue], rel=1e-3)
    assert camera.name == (model,)
    for field, expected in zip(("iso", "exposure_s", "f_number", "focal_mm"), optics, strict=True):
        assert values(getattr(camera, field)) == (expected and pytest.approx([expected], rel=2e-3)), field
    assert torch.allclose(camera.sensor_to_linear.sum(2), torch.ones(1, 3), atol=1e-5)
    sensor = bayer_of_raw(torch.from_numpy(found.raw), camera)
    assert sensor.max() <= 1.001
    assert 0.01 < float(sensor.mean()) < 0.8
    if "NIKON_D1" in name:
        (said,) = found.warnings
        balance = "its white balance (1, 1, 1) is the same for all colours; using LibRaw's daylight gains 2.667 1 1.095"
        assert said.startswith(f"{path}: {balance}; if the colours are far off")
    elif "gopro" in name:
        (said,) = found.warnings
        assert said.startswith(f"{path}: 4 OpcodeList2 GainMap: gains of 1 to 2.08 for its pixels, applied")
    else:
        assert found.warnings == ()


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_are_refused_in_one_sentence(real, name):
    assert REFUSED[name] in refused(real(f"raw/{name}"))


def test_no_real_file_is_forgotten(real):
    folder = real("raw")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in found if Path(name).suffix not in DEVELOPED} == REAL.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", ["canon_s30/RAW_CANON_S30.CRW", "nikon_d1/RAW_NIKON_D1.NEF"])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.8, 0.999])
def test_real_files_cut_short_are_refused(real, tmp_path, name, share):
    content = real(f"raw/{name}").read_bytes()
    path = tmp_path / Path(name).name
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


@pytest.mark.parametrize(
    ("name", "optics"),
    [
        ("Nikon_D90.jpg", (250, 1 / 10, 3.2, 24)),
        ("Nikon_D40.jpg", (200, 1 / 160, 6.3, 26)),
        ("Samsung_S7edge_SM-G935L.jpg", (640, 1 / 10, 1.7, 4.2)),
    ],
)
def test_camera_jpegs_have_optics_and_are_no_raw_files(real, name, optics):
    path = real(f"camera_jpeg/{name}")
    tags, warnings = read_tags(path)
    assert warnings == []
    found = optics_of(tags)
    assert tuple(found[field] for field in ("iso", "exposure_s", "f_number", "focal_mm")) == pytest.approx(optics)
    refused(path)

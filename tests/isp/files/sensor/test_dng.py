"""What a DNG states beyond LibRaw: levels of every site, gains, light, and what is only mentioned."""

import re
import struct

import numpy as np
import pytest
import torch

from isp import cfa
from isp.files.findings import verdict
from isp.files.raw import examine, read_raw
from isp.levels import bayer_of_raw

HEIGHT, WIDTH, WHITE = 64, 96, 4000
BEHIND, REPEAT, LEVEL, DELTA_H, DELTA_V = 50829, 50713, 50714, 50715, 50716


def dice(seed):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture
def shot(dng, tmp_path):
    """Writes a DNG and returns its path."""

    def write(raw, *arguments, **options):
        path = tmp_path / "shot.dng"
        path.write_bytes(dng(np.round(raw).astype(np.uint16), *arguments, **options))
        return path

    return write


def bayer_of(path):
    image = read_raw(path)
    return bayer_of_raw(torch.from_numpy(image.raw), image.camera)[0, 0].numpy(), image


def visible(path):
    """The rows and columns that LibRaw shows: it leaves out the first if that makes them even."""
    ((_, text),) = says(path, "visible area")
    height, width, top, left = map(int, re.match(r"(\d+)x(\d+) at row (\d+), column (\d+) ", text).groups())
    return slice(top, top + height), slice(left, left + width)


def says(path, topic):
    return [(finding.severity, finding.text) for finding in examine(path).findings if finding.topic == topic]


# ---------------------------------------------------------------- black levels

TILES = {
    "4x4": [[350, 700, 420, 610], [880, 330, 505, 760], [410, 590, 870, 320], [640, 450, 555, 720]],
    "2x1": [[100], [900]],
    "1x2": [[100, 300]],
    "2x2, greens alike": [[400, 600], [600, 512]],
    "2x2, greens apart": [[400, 600], [500, 512]],
    "3x3": [[100, 200, 300], [400, 500, 600], [700, 650, 150]],
    "8x2": [[100 + 40 * row, 500 - 30 * row] for row in range(8)],
    "larger than the picture": (100 + dice(0).integers(0, 400, (128, 200))).tolist(),
}


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("active", [None, (1, 3, 61, 91)])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_each_site_has_its_own_level_and_all_have_one_range(shot, name, active, pattern):
    tile = np.array(TILES[name])
    top, left, bottom, right = active or (0, 0, HEIGHT, WIDTH)
    truth = dice(1).uniform(-0.02, 1, (HEIGHT, WIDTH))
    rows, columns = np.arange(HEIGHT) - top, np.arange(WIDTH) - left
    black = tile[rows % tile.shape[0]][:, columns % tile.shape[1]]
    used = tile[: bottom - top, : right - left]
    raw = np.clip(truth * (WHITE - used.max()) + black, 0, WHITE)
    extra = {REPEAT: ("short", list(tile.shape)), LEVEL: ("rational", tile.ravel().tolist())}
    path = shot(raw, pattern, active=active, extra=extra)
    found, image = bayer_of(path)
    assert np.abs(found - truth[visible(path)]).max() < 1.5 / (WHITE - used.max())
    assert image.warnings == ()
    assert image.camera.black.tolist() == [[8192] * 3]
    assert image.camera.white.tolist() == [65535]
    assert image.native.white.tolist() == [WHITE]
    assert image.native.black[0].mean() == pytest.approx(tile.mean(), abs=float(np.ptp(tile)))


def test_levels_of_rows_and_columns_are_added(shot):
    tile, across, down = 300.0, dice(2).uniform(-100, 100, WIDTH).round(), dice(3).uniform(-80, 80, HEIGHT).round()
    black = tile + across + down[:, None]
    truth = dice(1).uniform(0, 1, (HEIGHT, WIDTH))
    raw = truth * (WHITE - black.max()) + black
    extra = {
        REPEAT: ("short", [1, 1]),
        LEVEL: ("rational", [tile]),
        DELTA_H: ("signed", across.tolist()),
        DELTA_V: ("signed", down.tolist()),
    }
    found, _ = bayer_of(shot(raw, extra=extra))
    assert np.abs(found - truth).max() < 1.5 / (WHITE - black.max())


def test_noise_below_black_and_saturation_survive(shot):
    raw = dice(0).normal(200, 60, (HEIGHT, WIDTH)).clip(0)
    raw[:20] = WHITE
    found, _ = bayer_of(shot(raw, black=(100, 300, 300, 200)))
    assert found[20:].min() < -0.04
    assert (found[:20] == 1).all()


@pytest.mark.parametrize("levels", [(100, 103, 103, 106), (256,) * 4, (0, 0, 0, 0), (100, 104, 107, 100)])
def test_levels_that_a_camera_can_hold_leave_the_mosaic_as_recorded(shot, levels):
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    image = read_raw(shot(raw, black=levels))
    assert np.array_equal(image.raw, raw)
    red, green, other, blue = levels
    assert image.camera.black[0].tolist() == pytest.approx([red, (green + other) / 2, blue])
    assert image.camera.white.tolist() == image.native.white.tolist() == [WHITE]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({REPEAT: ("short", [2, 3])}, "BlackLevel has 4 values, but repeats after 2x3 pixels"),
        ({REPEAT: ("short", [0, 0])}, "BlackLevel has 4 values, but repeats after 0x0 pixels"),
        ({DELTA_H: ("rational", [1.0, 2.0])}, "BlackLevelDeltaH has 2 values"),
        ({LEVEL: ("ascii", "none")}, "BlackLevel cannot be read"),
        ({BEHIND: ("long", [50, 0, 20, 90])}, "ActiveArea 50, 0, 20, 90 is outside"),
        ({51009: ("undefined", [0, 0, 0, 3, 1, 2])}, "OpcodeList2 cannot be read (the list ends early)"),
    ],
)
def test_damaged_tags_are_named_and_left_out(shot, extra, said):
    path = shot(dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), extra=extra)
    texts = says(path, "DNG")
    # LibRaw refuses some of these files itself.
    assert any(severity == "warning" and said in text for severity, text in texts) or "not usable" in verdict(
        examine(path).findings
    )


# ---------------------------------------------------------------- gains


def opcodes(*bodies):
    packed = (struct.pack(">4I", number, 0x01030000, 1, len(body)) + body for number, body in bodies)
    return ("undefined", list(struct.pack(">I", len(bodies)) + b"".join(packed)))


def gain_map(points, area=(0, 0, HEIGHT, WIDTH), pitch=(1, 1), planes=(0, 1)):
    rows, columns = points.shape
    head = struct.pack(">10I4dI", *area, *planes, *pitch, rows, columns, 1 / (rows - 1), 1 / (columns - 1), 0, 0, 1)
    return head + points.astype(">f4").tobytes()


def interpolated(points, height=HEIGHT, width=WIDTH):
    """Straight lines between points at the edges of the picture."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in (height, width))
    at = [np.linspace(0, 1, count) for count in points.shape]
    down = np.array([np.interp(rows, at[0], column) for column in points.T]).T
    return np.array([np.interp(columns, at[1], row) for row in down])


@pytest.mark.parametrize("place", [51009, 51022])
@pytest.mark.parametrize("most", [1.3, 2.1, 4])
def test_a_gain_map_is_applied(shot, place, most):
    points = dice(0).uniform(1, most, (5, 7))
    full = interpolated(points)
    truth = dice(1).uniform(0, 1, (HEIGHT, WIDTH))
    raw = truth / full * (WHITE - 100) + 100
    planes = (0, 1) if place == 51009 else (0, 3)
    path = shot(raw, black=(100,) * 4, extra={place: opcodes((9, gain_map(points, planes=planes)))})
    found, image = bayer_of(path)
    assert np.abs(found - truth).max() < most / (WHITE - 100)
    (warning,) = image.warnings
    assert f"GainMap: gains of {points.min():.3g} to {points.max():.3g} for its pixels, applied" in warning
    assert image.native.black.tolist() == [[100] * 3]


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_maps_of_each_phase_count_from_the_active_area(shot, pattern):
    active = (2, 4, 62, 94)
    height, width = 60, 90
    maps = dice(0).uniform(1, 2, (4, 3, 4))
    bodies = [(9, gain_map(points, (site // 2, site % 2, height, width), (2, 2))) for site, points in enumerate(maps)]
    full = np.ones((HEIGHT, WIDTH))
    for site, points in enumerate(maps):
        inner = interpolated(points, height, width)
        full[2 + site // 2 : 62 : 2, 4 + site % 2 : 94 : 2] = inner[site // 2 :: 2, site % 2 :: 2]
    truth = dice(1).uniform(0, 1, (HEIGHT, WIDTH))
    raw = truth / full * (WHITE - 100) + 100
    path = shot(raw, pattern, black=(100,) * 4, active=active, extra={51009: opcodes(*bodies)})
    found, image = bayer_of(path)
    assert image.camera.cfa == (pattern,)
    assert np.abs(found - truth[visible(path)]).max() < 2 / (WHITE - 100)


def test_a_vignette_is_corrected_and_saturation_stays(shot):
    body = struct.pack(">7d", 0.5, 0.1, 0, 0, 0, 0.5, 0.5)
    raw = np.full((HEIGHT, WIDTH), 1000) + dice(0).integers(0, 9, (HEIGHT, WIDTH))
    raw[:10] = WHITE
    found, image = bayer_of(shot(raw, black=(100,) * 4, extra={51022: opcodes((3, body))}))
    assert (found[:10] == 1).all()
    assert found[-1, 0] == pytest.approx((raw[-1, 0] - 100) / (WHITE - 100) * 1.6, rel=0.01)
    assert found[HEIGHT // 2, WIDTH // 2] == pytest.approx((raw[32, 48] - 100) / (WHITE - 100), rel=0.01)
    assert "OpcodeList3 FixVignetteRadial" in image.warnings[0]


def test_saturation_stays_white_under_gains_below_1(shot):
    raw = dice(0).integers(300, WHITE - 1, (HEIGHT, WIDTH))
    raw[:10] = WHITE
    found, _ = bayer_of(shot(raw, black=(100,) * 4, extra={51009: opcodes((9, gain_map(np.full((2, 2), 0.8))))}))
    assert (found[:10] == 1).all()
    assert found[10:].max() < 0.81


@pytest.mark.parametrize(
    ("place", "number", "body", "name"),
    [
        (51008, 4, b"\0" * 8, "OpcodeList1 FixBadPixelsConstant"),
        (51008, 9, b"", "OpcodeList1 GainMap"),
        (51022, 1, b"\0" * 68, "OpcodeList3 WarpRectilinear"),
        (51009, 8, b"\0" * 68, "OpcodeList2 MapPolynomial"),
        (51009, 9, b"\0" * 20, "OpcodeList2 GainMap (the list ends early)"),
        (51022, 99, b"", "OpcodeList3 opcode 99"),
    ],
)
def test_what_is_not_applied_is_named(shot, place, number, body, name):
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    path = shot(raw, extra={place: opcodes((number, body))})
    image = read_raw(path)
    (warning,) = image.warnings
    assert f"it asks for {name}, not applied here" in warning
    assert f"{name} not applied" in verdict(examine(path).findings)
    assert np.array_equal(image.raw, raw)


def test_many_opcodes_take_bounded_time(shot):
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    path = shot(raw, black=(100,) * 4, extra={51009: opcodes(*[(9, gain_map(np.full((2, 2), 1.001)))] * 100)})
    (first, second) = read_raw(path).warnings
    assert "64 OpcodeList2 GainMap: gains of 1 to 1" in first
    assert "36 OpcodeList2 GainMap, not applied" in second


# ---------------------------------------------------------------- light

CLOUDY = [0.72, -0.2, -0.06, -0.48, 1.22, 0.26, -0.1, 0.2, 0.6]
LIGHTS = {"tungsten": (0.4476, 0.4074), "D50": (0.3457, 0.3585), "D65": (0.3127, 0.329), "shade": (0.2990, 0.3149)}


def two_matrices():
    return {
        50721: ("signed", CLOUDY),
        50722: ("signed", [0.664, -0.1847, -0.0503, -0.5238, 1.301, 0.2474, -0.0993, 0.1673, 0.6527]),
        50778: ("short", [17]),
        50779: ("short", [21]),
    }


CAMERAS = {
    "one matrix": {},
    "two matrices": two_matrices(),
    "analog balance": {50727: ("rational", [1.5, 1.0, 1.3])},
    "calibration": {50723: ("signed", [0.98, 0, 0, 0, 1.0, 0, 0, 0, 1.04])},
    "all of these": two_matrices()
    | {50727: ("rational", [1.5, 1.0, 1.3]), 50724: ("signed", [0.98, 0, 0, 0, 1.0, 0, 0, 0, 1.04])},
}


def share_of_first(x, y):
    """By correlated colour temperature; of the four lights, from CIE tables."""
    kelvin = {0.4476: 2856, 0.3457: 5003, 0.3127: 6504, 0.2990: 7504}[x]
    return min(max((1 / kelvin - 1 / 6500) / (1 / 2850 - 1 / 6500), 0), 1)


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_a_light_in_xy_is_the_light_of_the_shot(shot, light, camera):
    x, y = LIGHTS[light]
    extra = CAMERAS[camera]
    first = np.array(
        extra.get(50721, (0, [0.664, -0.1847, -0.0503, -0.5238, 1.301, 0.2474, -0.0993, 0.1673, 0.6527]))[1]
    )
    last = np.array(extra.get(50722, (0, first))[1])
    corrections = [np.array(extra.get(tag, (0, np.eye(3).ravel()))[1]).reshape(3, 3) for tag in (50723, 50724)]
    share = share_of_first(x, y) if 50722 in extra else 1
    matrix = share * corrections[0] @ first.reshape(3, 3) + (1 - share) * corrections[1] @ last.reshape(3, 3)
    response = np.array(extra.get(50727, (0, [1, 1, 1]))[1]) * (matrix @ (x / y, 1, (1 - x - y) / y))
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    by_xy = read_raw(shot(raw, neutral=None, extra=extra | {50729: ("rational", [x, y])}))
    by_neutral = read_raw(shot(raw, neutral=(response / response.max()).tolist(), extra=extra))
    assert by_xy.warnings == by_neutral.warnings == ()
    assert torch.allclose(by_xy.camera.white_balance, by_neutral.camera.white_balance, rtol=5e-3)
    assert torch.allclose(by_xy.camera.sensor_to_linear, by_neutral.camera.sensor_to_linear, atol=2e-3)
    assert by_xy.camera.white_balance[0].tolist() == pytest.approx(response[1] / response, rel=5e-3)


def test_the_verdict_on_a_light_in_xy_names_no_daylight(shot):
    path = shot(
        dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), neutral=None, extra={50729: ("rational", [0.4476, 0.4074])}
    )
    assert verdict(examine(path).findings) == "good"


@pytest.mark.parametrize("xy", [(0, 0), (0.3, 0), (0.9, 0.9), (0, 1)])
def test_an_impossible_light_is_refused_or_replaced(shot, xy):
    path = shot(dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), neutral=None, extra={50729: ("rational", list(xy))})
    assert verdict(examine(path).findings) != "good"


@pytest.mark.parametrize("balance", [(2.0, 1.0, 1.5), (1.0, 1.3, 1.0)])
def test_equal_gains_are_right_if_the_colours_were_balanced_in_hardware(shot, balance):
    path = shot(
        dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), neutral=(1, 1, 1), extra={50727: ("rational", list(balance))}
    )
    image = read_raw(path)
    assert image.camera.white_balance.tolist() == [[1, 1, 1]]
    assert image.warnings == ()


def test_an_even_analog_balance_says_nothing_of_the_kind(shot):
    path = shot(
        dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), neutral=(1, 1, 1), extra={50727: ("rational", [1, 1, 1])}
    )
    assert "the same for all colours" in read_raw(path).warnings[0]


# ---------------------------------------------------------------- what is mentioned


@pytest.mark.parametrize(
    ("extra", "topic", "severity", "said"),
    [
        ({50730: ("signed", [1.5])}, "exposure", "ok", "BaselineExposure of +1.5 EV"),
        ({50730: ("signed", [-0.25])}, "exposure", "ok", "BaselineExposure of -0.25 EV"),
        ({50718: ("rational", [1.0, 2.0])}, "scale", "warning", "not square (DefaultScale 1 x 2)"),
        ({50718: ("rational", [0.5, 0.5])}, "scale", "ok", "DefaultScale 0.5 x 0.5"),
        ({50720: ("long", [80, 60])}, "crop", "ok", "DefaultCropSize 60x80"),
    ],
)
def test_tags_that_change_nothing_are_mentioned(shot, extra, topic, severity, said):
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    path = shot(raw, extra=extra)
    ((found, text),) = says(path, topic)
    assert (found, said in text) == (severity, True)
    assert np.array_equal(read_raw(path).raw, raw)


@pytest.mark.parametrize(
    "extra",
    [{50730: ("signed", [0])}, {50718: ("rational", [1.0, 1.0])}, {50720: ("long", [WIDTH, HEIGHT])}],
)
def test_tags_that_say_nothing_are_not_mentioned(shot, extra):
    found = examine(shot(dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), extra=extra)).findings
    assert not {"exposure", "scale", "crop", "DNG"} & {finding.topic for finding in found}


# ---------------------------------------------------------------- colour filters


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 2, 2], [1, 1, 2, 2]], "quad-Bayer"),
        ([[0, 1], [1, 2], [0, 1], [1, 2], [1, 0], [2, 1], [1, 0], [2, 1]], "8x2 pixels"),
        ([[0, 6], [6, 2]], "colours B, R, W"),
        ([[3, 5], [1, 4]], "colours C, G, M, Y"),
        ([[0, 1], [2, 1]], "2x2 pixels (RG/BG)"),
    ],
)
def test_patterns_that_libraw_takes_for_bayer_are_refused_by_name(shot, cell, said):
    cell = np.array(cell)
    planes = sorted(set(cell.ravel().tolist()))
    extra = {33421: ("short", list(cell.shape)), 33422: ("byte", cell.ravel().tolist()), 50710: ("byte", planes)}
    with pytest.raises(ValueError, match="expected a Bayer mosaic of 2x2 pixels, got ") as caught:
        read_raw(shot(dice(0).integers(300, WHITE, (HEIGHT, WIDTH)), extra=extra))
    assert said in str(caught.value)


def test_a_bayer_cell_written_larger_is_read(shot):
    extra = {33421: ("short", [4, 4]), 33422: ("byte", np.tile([[1, 0], [2, 1]], (2, 2)).ravel().tolist())}
    raw = dice(0).integers(300, WHITE, (HEIGHT, WIDTH))
    image = read_raw(shot(raw, extra=extra))
    assert image.camera.cfa == ("GRBG",)
    assert np.array_equal(image.raw, raw)

"""Where a sensor clips: a pile-up below white is found in every form, and nothing else is taken for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isp import cfa
from isp.files.sensor import histogram
from isp.files.sensor.levels import uniform

HEIGHT, WIDTH, BLACK, WHITE = 240, 320, 512.0, 15000.0
NEUTRAL = np.array([0.5, 1, 0.65])  # what the sensor sees of white


def dice(seed):
    return np.random.Generator(np.random.PCG64(seed))


def scene(seed=0):
    """Sensor colours, smooth and of all levels up to about 0.9; a grey patch and a coloured one are flat."""
    coarse = dice(seed).random((3, 9, 12))
    rows, columns = np.linspace(0, 7.999, HEIGHT), np.linspace(0, 10.999, WIDTH)
    above, before = rows.astype(int), columns.astype(int)
    down, along = (rows - above)[:, None], columns - before
    upper = coarse[:, above][:, :, before] * (1 - along) + coarse[:, above][:, :, before + 1] * along
    lower = coarse[:, above + 1][:, :, before] * (1 - along) + coarse[:, above + 1][:, :, before + 1] * along
    linear = (0.9 * (upper * (1 - down) + lower * down) ** 2).transpose(1, 2, 0)
    linear[20:70, 20:70] = 0.5
    linear[20:70, 100:150] = (0.5, 0.1, 0.1)
    return linear * NEUTRAL


def recorded(sensor, pattern="RGGB", clip=(WHITE, WHITE, WHITE), noise=0.0):
    raw = np.empty((HEIGHT, WIDTH))
    for colour, rows, columns in cfa.sites(pattern):
        values = sensor[rows, columns, colour] * (WHITE - BLACK) + BLACK
        values = values + noise * np.sqrt(values) * dice(colour).standard_normal(values.shape)
        raw[rows, columns] = np.minimum(values, clip[colour])
    return raw.round().clip(0, 65535).astype(np.uint16)


def white_of(raw, pattern="RGGB", white=WHITE, black=((BLACK,),)):
    counts = histogram.counts_of(raw)
    return histogram.white_of(raw, counts, pattern, uniform(black, *raw.shape), white)


ANY = st.one_of(st.sampled_from([0.0, 65534.5, 65535.0, 65536.0]), st.floats(-1e12, 1e12))
PLAIN = recorded(np.minimum(scene() * 3, 1), clip=(12000,) * 3)


@given(tile=st.lists(ANY, min_size=4, max_size=4), white=ANY)
def test_levels_of_any_size_are_judged(tile, white):
    """A damaged file may state any: black in the millions stopped a whole batch."""
    black = uniform([tile[:2], tile[2:]], *PLAIN.shape)
    counts = histogram.counts_of(PLAIN)
    is_sound, findings = histogram.levels(counts, black, "as stated", white)
    assert is_sound == all(finding.severity != "fatal" for finding in findings)
    found, _ = histogram.white_of(PLAIN, counts, "RGGB", black, white)
    assert found <= white


@pytest.mark.parametrize("noise", [0, 0.5])
@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize(("exposure", "limit"), [(3, 12000), (2, 12000), (1.5, 9000), (3, 14500), (6, 4000), (3, 1500)])
def test_clipping_below_white_is_found(exposure, limit, pattern, noise):
    raw = recorded(np.minimum(scene() * exposure, 1), pattern, (limit,) * 3, noise)
    white, (said,) = white_of(raw, pattern)
    assert white == limit
    assert said.severity == "warning"
    assert f"pile up at {limit}, below the white level 15000; using {limit} for white" in said.text


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [1, 6, 12])
def test_a_peak_need_not_be_one_value(spread, seed):
    raw = recorded(scene(seed) * 3, clip=(12000,) * 3, noise=0.5)
    shaken = np.where(raw == 12000, raw + spread * dice(1).standard_normal(raw.shape), raw).round().astype(np.uint16)
    white, _ = white_of(shaken)
    assert abs(white - 12000) <= spread


def test_colours_that_clip_at_different_values_share_the_lowest():
    raw = recorded(scene() * 4, clip=(12500, 11500, 12000), noise=0.5)
    white, (said,) = white_of(raw)
    assert white == 11500
    assert "its red, green and blue pixels pile up at 11500 to 12500" in said.text


def test_a_colour_that_goes_on_above_the_others_is_told_and_leaves_white():
    sensor = scene() * 2
    sensor[100:200, 100:300, 0] = np.linspace(0.4, 0.99, 200)
    white, (said,) = white_of(recorded(sensor, clip=(WHITE, 9000, WHITE), noise=0.5))
    assert white == WHITE
    assert "its green pixels pile up at 9000" in said.text
    assert "the white level stays, and blown-out areas may be tinted" in said.text


NOT_CLIPPED = {
    "as exposed": lambda raw: raw,
    "at white": lambda raw: np.where(raw > 6000, WHITE, raw),
    "half a percent below white": lambda raw: np.where(raw > 6000, WHITE - 80, raw),
    "hot pixels": lambda raw: np.where(dice(2).random(raw.shape) < 0.01, 12000, raw),
    "a small lamp": lambda raw: np.where((np.indices(raw.shape) - 100 < 12).all(0), 12000, raw),
    "dead rows": lambda raw: np.where(np.arange(HEIGHT)[:, None] % 60 == 0, 0, raw),
}


@pytest.mark.parametrize("case", NOT_CLIPPED)
@pytest.mark.parametrize("exposure", [0.02, 0.1, 0.5, 1])
@pytest.mark.parametrize("noise", [0, 0.5])
def test_photographs_that_are_not_clipped_are_left_alone(case, exposure, noise):
    raw = recorded(scene() * exposure, noise=noise)
    if case == "a small lamp":
        raw[100:112, 100:112] = 12000
    else:
        raw = NOT_CLIPPED[case](raw).astype(np.uint16)
    assert white_of(raw) == (WHITE, [])


def test_a_flat_surface_is_no_clipping():
    """The brightest thing of a scene without noise, evenly lit: every colour is flat there, each at its own value."""
    sensor = scene() * 0.2
    sensor[100:200, 100:300] = 0.6 * NEUTRAL
    assert white_of(recorded(sensor)) == (WHITE, [])


def test_a_grey_card_fills_the_picture():
    light = np.linspace(0.55, 0.6, WIDTH)[None, :, None] * NEUTRAL * np.ones((HEIGHT, 1, 1))
    assert white_of(recorded(light, noise=1.0)) == (WHITE, [])


def test_levels_by_site_that_reach_white_are_not_taken_for_clipping():
    """Each site of a DNG clips at its own level plus the common range."""
    black = ((400.0, 900.0), (600.0, 500.0))
    raw = recorded(np.minimum(scene() * 3, 1)).astype(int) - BLACK
    raw = (raw * (15000 - 900) // (15000 - 512) + np.tile(black, (HEIGHT // 2, WIDTH // 2))).astype(np.uint16)
    assert white_of(raw, black=black) == (WHITE, [])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (3, 3), (5, 1), (7, 9)])
def test_tiny_pictures(shape):
    raw = np.full(shape, 700, np.uint16)
    assert white_of(raw) == (WHITE, [])


def test_counts_are_those_of_every_site():
    raw = dice(0).integers(0, 65536, (37, 51), dtype=np.uint16)
    counts = histogram.counts_of(raw)
    for site in range(4):
        values, numbers = np.unique(raw[site // 2 :: 2, site % 2 :: 2], return_counts=True)
        assert np.array_equal(counts[site].nonzero()[0], values)
        assert np.array_equal(counts[site][values], numbers)

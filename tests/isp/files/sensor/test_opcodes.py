"""Opcodes of a DNG: gains at every pixel as the specification has them, and no damage that is more than a `ValueError`."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.files.sensor.levels import colours_of
from isp.files.sensor.opcodes import GainMap, Opcode, Vignette, Window, gain_of, listed

HEIGHT, WIDTH = 22, 34


def dice(seed):
    return np.random.Generator(np.random.PCG64(seed))


def map_body(points, area=(0, 0, HEIGHT, WIDTH), planes=(0, 1), pitch=(1, 1), spacing=None, origin=(0.0, 0.0)):
    rows, columns, depth = points.shape
    spacing = spacing or (1 / max(1, rows - 1), 1 / max(1, columns - 1))
    head = struct.pack(">10I4dI", *area, *planes, *pitch, rows, columns, *spacing, *origin, depth)
    return head + points.astype(">f4").tobytes()


def of_list(*bodies):
    """A list of opcodes: (number, body) each."""
    packed = (struct.pack(">4I", number, 0x01030000, 3, len(body)) + body for number, body in bodies)
    return struct.pack(">I", len(bodies)) + b"".join(packed)


def by_the_specification(gain, y, x, plane, height=HEIGHT, width=WIDTH):
    """The gain of one pixel of the active area: bilinear between points, the border's beyond them."""
    at = []
    for place, side, start, step, count in zip(
        (y, x), (height, width), gain.origin, gain.spacing, gain.points.shape, strict=False
    ):
        index = 0.0 if count == 1 else ((place + 0.5) / side - start) / step
        at.append(min(max(index, 0.0), count - 1))
    (down, below), (along, beside) = ((math.floor(index), index % 1) for index in at)
    points = gain.points[..., min(plane, gain.points.shape[2] - 1)].astype(float)

    def point(row, column):
        return points[min(row, len(points) - 1), min(column, points.shape[1] - 1)]

    upper = point(down, along) * (1 - beside) + point(down, along + 1) * beside
    lower = point(down + 1, along) * (1 - beside) + point(down + 1, along + 1) * beside
    return upper * (1 - below) + lower * below


CASES = {
    "whole": {},
    "one phase": {"area": (1, 0, HEIGHT, WIDTH), "pitch": (2, 2)},
    "other phase, odd start": {"area": (3, 5, 19, 30), "pitch": (2, 2)},
    "wide pitch": {"area": (2, 1, HEIGHT, WIDTH), "pitch": (3, 5)},
    "larger than the picture": {"area": (0, 0, 2**31, 2**32 - 1)},
    "empty": {"area": (4, 4, 4, 20)},
    "origin and spacing": {"origin": (0.2, -0.1), "spacing": (0.15, 0.4)},
    "of no colour of the mosaic": {"planes": (1, 2)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(5, 7, 1), (1, 1, 1), (1, 4, 1), (3, 1, 1), (4, 4, 3)])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 2)])
def test_a_map_acts_on_every_pixel_as_specified(case, shape, top, left):
    points = 1 + dice(0).random(shape)
    gain = GainMap.of(Opcode(2, 9, map_body(points, **CASES[case])))
    band = dice(1).random((HEIGHT - top - 2, WIDTH - left - 3)).astype(np.float32)
    window = Window(top, left, HEIGHT, WIDTH, colours_of("RGGB"))
    expected = band.copy()
    first, start, last, stop = gain.area
    for y, x in np.ndindex(*band.shape):
        row, column = y + top, x + left
        if (
            0 in gain.planes
            and first <= row < last
            and start <= column < stop
            and (row - first) % gain.pitch[0] == 0
            and (column - start) % gain.pitch[1] == 0
        ):
            expected[y, x] *= by_the_specification(gain, row, column, 0)
    gain.multiply(band, window)
    np.testing.assert_allclose(band, expected, rtol=2e-6)


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
@pytest.mark.parametrize("planes", [(0, 3), (1, 1), (1, 2), (2, 5)])
def test_a_map_of_the_demosaicked_picture_acts_on_the_sites_of_its_colours(pattern, planes):
    gain = GainMap.of(Opcode(3, 9, map_body(1 + dice(0).random((3, 4, 2)), planes=planes)))
    band = dice(1).random((HEIGHT, WIDTH)).astype(np.float32)
    expected = band.copy()
    for y, x in np.ndindex(HEIGHT, WIDTH):
        colour = "RGB".index(pattern[2 * (y % 2) + x % 2])
        if colour in range(planes[0], sum(planes)):
            expected[y, x] *= by_the_specification(gain, y, x, colour)
    gain.multiply(band, Window(0, 0, HEIGHT, WIDTH, colours_of(pattern)))
    np.testing.assert_allclose(band, expected, rtol=2e-6)


def test_a_vignette_grows_from_its_centre():
    terms, (across, down) = (0.5, 0.2, -0.1, 0.05, 0.01), (0.4, 0.55)
    gain = Vignette.of(Opcode(3, 3, struct.pack(">7d", *terms, across, down)))
    band = np.ones((HEIGHT, WIDTH), np.float32)
    gain.multiply(band, Window(0, 0, HEIGHT, WIDTH, colours_of("RGGB")))
    x, y = across * (WIDTH - 1), down * (HEIGHT - 1)
    corner = max(math.hypot(i - x, j - y) for i in (0, WIDTH - 1) for j in (0, HEIGHT - 1))
    for row, column in ((0, 0), (HEIGHT - 1, 0), (7, 20), (HEIGHT - 1, WIDTH - 1)):
        r = math.hypot(column - x, row - y) / corner
        expected = 1 + sum(term * r ** (2 * power) for power, term in enumerate(terms, 1))
        assert band[row, column] == pytest.approx(expected, rel=1e-5)


def test_opcodes_are_listed_in_order_with_their_names():
    content = of_list((1, b"abc"), (9, b""), (77, b"z"))
    assert [(opcode.place, opcode.name, opcode.body) for opcode in listed(content, 3)] == [
        (3, "WarpRectilinear", b"abc"),
        (3, "GainMap", b""),
        (3, "opcode 77", b"z"),
    ]
    assert gain_of(Opcode(3, 1, b"abc")) is None
    assert gain_of(Opcode(1, 9, b"")) is None  # list 1 acts before the values are linear


POINTS = np.ones((3, 4, 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        map_body(POINTS)[:75],
        map_body(POINTS)[:-1],
        map_body(POINTS, pitch=(0, 1)),
        map_body(POINTS, area=(9, 0, 3, 5)),
        map_body(POINTS, spacing=(0.0, 0.3)),
        map_body(POINTS, spacing=(-0.1, 0.3)),
        map_body(POINTS, spacing=(math.nan, 0.3)),
        map_body(POINTS, origin=(math.inf, 0.0)),
        map_body(POINTS * 0),
        map_body(POINTS * -1),
        map_body(POINTS * np.nan),
        map_body(POINTS * 1e6),
        struct.pack(">10I4dI", 0, 0, 9, 9, 0, 1, 1, 1, 2**31, 2**31, 0.1, 0.1, 0, 0, 2**31),
        struct.pack(">10I4dI", 0, 0, 9, 9, 0, 1, 1, 1, 0, 0, 0.1, 0.1, 0, 0, 0),
    ],
)
def test_a_damaged_map_is_a_value_error(body):
    with pytest.raises(ValueError, match=r"."):
        gain_of(Opcode(2, 9, body))


@pytest.mark.parametrize(
    "numbers",
    [(0.0,) * 4, (math.nan, 0, 0, 0, 0, 0.5, 0.5), (0, 0, 0, 0, 0, 2, 0.5), (-2, 0, 0, 0, 0, 0.5, 0.5)],
)
def test_a_damaged_vignette_is_a_value_error(numbers):
    with pytest.raises(ValueError, match=r"."):
        gain_of(Opcode(3, 3, struct.pack(f">{len(numbers)}d", *numbers)))


@given(st.binary(max_size=200), st.sampled_from([1, 2, 3]))
@settings(max_examples=300, deadline=None)
def test_random_bytes_end_in_opcodes_or_a_value_error(content, place):
    try:
        opcodes = listed(content, place)
    except ValueError:
        return
    for opcode in opcodes:
        try:
            gain_of(opcode)
        except ValueError:
            continue


def test_a_list_says_more_opcodes_than_it_has():
    with pytest.raises(ValueError, match="ends early"):
        listed(struct.pack(">I", 2**32 - 1) + of_list((1, b""))[4:], 2)

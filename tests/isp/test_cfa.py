"""The colour filter array: mosaicking and demosaicing, at every phase, size and border."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isp import cfa

patterns = st.sampled_from(cfa.PATTERNS)
sides = st.integers(3, 13)
quick = settings(deadline=None, max_examples=60)
EDGE_DIRECTED_HALO = 3  # how far the mirrored border of `edge_directed_demosaic` reaches


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape, dtype=np.float32))


def filters(pattern: str, height: int, width: int) -> torch.Tensor:
    """1 where the filter of a colour sits, spelt out pixel by pixel."""
    mask = torch.zeros(3, height, width)
    for row in range(height):
        for column in range(width):
            mask["RGB".index(pattern[2 * (row % 2) + column % 2]), row, column] = 1
    return mask


# ---------------------------------------------------------------- mosaicking


@quick
@given(pattern=patterns, height=st.integers(1, 13), width=st.integers(1, 13))
def test_mosaic_takes_at_every_pixel_the_colour_of_its_filter(pattern, height, width):
    sensor = noise(2, 3, height, width)
    expected = (sensor * filters(pattern, height, width)).sum(1, keepdim=True)
    assert torch.equal(cfa.mosaic(sensor, (pattern,)), expected)
    assert torch.equal(cfa.mosaic(sensor, (pattern, pattern)), expected)


@quick
@given(pattern=patterns, height=sides, width=sides)
def test_site_gains_multiply_every_pixel_by_the_gain_of_its_colour(pattern, height, width):
    bayer, gains = noise(2, 1, height, width), torch.tensor([[2.0, 1.0, 1.5], [0.5, 1.25, 3.0]])
    expected = bayer * torch.einsum("nc,chw->nhw", gains, filters(pattern, height, width))[:, None]
    assert torch.equal(cfa.site_gains(bayer, gains, (pattern,)), expected)
    one = gains[:1]
    assert torch.equal(cfa.site_gains(bayer, one, (pattern,) * 2), cfa.site_gains(bayer, one, (pattern,)))


@quick
@given(pattern=patterns, height=sides, width=sides, top=st.integers(0, 2), left=st.integers(0, 2))
def test_cropping_shifts_the_pattern(pattern, height, width, top, left):
    sensor = noise(1, 3, height, width)
    cropped = sensor[..., top:, left:]
    shifted = cfa.shift(pattern, top, left)
    assert torch.equal(cfa.mosaic(cropped, (shifted,)), cfa.mosaic(sensor, (pattern,))[..., top:, left:])


@quick
@given(
    pattern=patterns, height=st.integers(8, 13), width=st.integers(8, 13), top=st.integers(0, 1), left=st.integers(0, 1)
)
def test_demosaicing_a_crop_is_cropping_what_was_demosaiced(pattern, height, width, top, left):
    bayer = noise(1, 1, height, width)
    whole = cfa.demosaic(bayer, (pattern,))[..., top:, left:]
    part = cfa.demosaic(bayer[..., top:, left:], (cfa.shift(pattern, top, left),))
    inside = (..., slice(cfa.DEMOSAIC_HALO, -cfa.DEMOSAIC_HALO), slice(cfa.DEMOSAIC_HALO, -cfa.DEMOSAIC_HALO))
    assert torch.allclose(part[inside], whole[inside], atol=1e-6)


@quick
@given(pattern=patterns, height=st.integers(1, 8), width=st.integers(1, 8), turns=st.integers(-4, 5))
def test_flips_and_turns_of_the_pattern_are_those_of_the_mosaic(pattern, height, width, turns):
    sensor = noise(1, 3, height, width)
    bayer = cfa.mosaic(sensor, (pattern,))
    for axis, dim in (("vertical", -2), ("horizontal", -1)):
        flipped = cfa.flip(pattern, axis, height, width)
        assert torch.equal(cfa.mosaic(sensor.flip(dim), (flipped,)), bayer.flip(dim))
    turned = cfa.rotate(pattern, turns, height, width)
    assert torch.equal(cfa.mosaic(sensor.rot90(turns, (2, 3)), (turned,)), bayer.rot90(turns, (2, 3)))


# ---------------------------------------------------------------- demosaicing


@quick
@given(pattern=patterns, height=sides, width=sides, border=st.sampled_from(["phase", "replicate", "zero"]))
def test_demosaicing_keeps_the_samples(pattern, height, width, border):
    bayer = noise(2, 1, height, width) * 4 - 2
    assert torch.equal(cfa.mosaic(cfa.demosaic(bayer, (pattern,), border), (pattern,)), bayer)


@quick
@given(pattern=patterns, height=sides, width=sides, colour=st.tuples(*[st.floats(-1, 1, width=32)] * 3))
def test_a_flat_colour_survives_borders_included(pattern, height, width, colour):
    flat = torch.tensor(colour)[None, :, None, None].expand(1, 3, height, width)
    assert float((cfa.demosaic(cfa.mosaic(flat, (pattern,)), (pattern,)) - flat).abs().max()) < 1e-6


@pytest.mark.parametrize("border", ["replicate", "zero"])
@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_the_published_borders_spoil_a_flat_colour_but_only_in_the_halo(border, pattern):
    flat = torch.tensor([0.8, 0.5, 0.2])[None, :, None, None].expand(1, 3, 9, 12)
    error = (cfa.demosaic(cfa.mosaic(flat, (pattern,)), (pattern,), border) - flat).abs()
    halo = cfa.DEMOSAIC_HALO
    assert float(error[..., halo:-halo, halo:-halo].max()) < 1e-6
    assert float(error.max()) > 0.05


@quick
@given(
    pattern=patterns,
    height=st.integers(6, 13),
    width=st.integers(6, 13),
    slopes=st.lists(st.floats(-1, 1), min_size=6, max_size=6),
)
def test_linear_ramps_are_exact_inside(pattern, height, width, slopes):
    down, across = torch.tensor(slopes).view(2, 1, 3, 1, 1)
    ramp = down * torch.linspace(0, 1, height)[:, None] + across * torch.linspace(0, 1, width)
    error = (cfa.demosaic(cfa.mosaic(ramp, (pattern,)), (pattern,)) - ramp).abs()
    halo = cfa.DEMOSAIC_HALO
    assert float(error[..., halo:-halo, halo:-halo].max()) < 2e-6


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_demosaicing_is_the_published_correlation(pattern):
    """Each estimate by a plain 5x5 sum around its pixel, with the filters of Malvar et al. written out."""
    bayer = noise(1, 1, 10, 11)
    green, along_row, other = (
        torch.tensor(sixteenths) / 16
        for sixteenths in (
            [[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]],
            [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]],
            [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]],
        )
    )
    keep = torch.zeros(5, 5)
    keep[2, 2] = 1
    ours = cfa.demosaic(bayer, (pattern,))
    colours = filters(pattern, 10, 11)
    for row in range(2, 8):
        for column in range(2, 9):
            here = int(colours[:, row, column].argmax())
            beside = int(colours[:, row, column + 1].argmax())
            for channel in range(3):
                if channel == here:
                    kernel = keep
                elif channel == 1:
                    kernel = green
                elif here != 1:
                    kernel = other
                else:
                    kernel = along_row if beside == channel else along_row.T
                expected = (bayer[0, 0, row - 2 : row + 3, column - 2 : column + 3] * kernel).sum()
                assert float(ours[0, channel, row, column]) == pytest.approx(float(expected), abs=1e-6)


@quick
@given(
    mixed=st.lists(patterns, min_size=2, max_size=5),
    height=sides,
    width=sides,
    border=st.sampled_from(["phase", "zero"]),
)
def test_a_mixed_batch_equals_its_images_alone(mixed, height, width, border):
    sensor, gains = noise(len(mixed), 3, height, width), noise(len(mixed), 3, seed=1)
    bayer = cfa.mosaic(sensor, mixed)
    balanced = cfa.site_gains(bayer, gains, mixed)
    rgb = cfa.demosaic(bayer, mixed, border)
    for at, pattern in enumerate(mixed):
        alone = slice(at, at + 1)
        assert torch.equal(bayer[alone], cfa.mosaic(sensor[alone], (pattern,)))
        assert torch.equal(balanced[alone], cfa.site_gains(bayer[alone], gains[alone], (pattern,)))
        assert torch.allclose(rgb[alone], cfa.demosaic(bayer[alone], (pattern,), border), atol=1e-6)


def test_nothing_is_edited_in_place():
    sensor, bayer = noise(2, 3, 8, 8), noise(2, 1, 8, 8)
    kept = sensor.clone(), bayer.clone()
    cfa.mosaic(sensor, ("RGGB", "GBRG"))
    cfa.site_gains(bayer, torch.tensor([[2.0, 1.0, 3.0]]), ("RGGB",))
    cfa.demosaic(bayer, ("RGGB", "BGGR"))
    assert torch.equal(sensor, kept[0]) and torch.equal(bayer, kept[1])


# ---------------------------------------------------------------- demosaicing along edges

edge_sides = st.integers(6, 13)


@quick
@given(pattern=patterns, height=edge_sides, width=edge_sides)
def test_edge_directed_demosaicing_keeps_the_samples(pattern, height, width):
    bayer = noise(2, 1, height, width) * 4 - 2
    kept = cfa.mosaic(cfa.edge_directed_demosaic(bayer, (pattern,)), (pattern,))
    assert torch.allclose(kept, bayer, atol=2e-6)


@quick
@given(pattern=patterns, height=edge_sides, width=edge_sides, colour=st.tuples(*[st.floats(-1, 1, width=32)] * 3))
def test_edge_directed_demosaicing_keeps_a_flat_colour_borders_included(pattern, height, width, colour):
    flat = torch.tensor(colour)[None, :, None, None].expand(1, 3, height, width)
    assert float((cfa.edge_directed_demosaic(cfa.mosaic(flat, (pattern,)), (pattern,)) - flat).abs().max()) < 1e-6


@quick
@given(
    pattern=patterns,
    height=st.integers(8, 13),
    width=st.integers(8, 13),
    slopes=st.lists(st.floats(-1, 1), min_size=6, max_size=6),
)
def test_edge_directed_demosaicing_is_exact_inside_linear_ramps(pattern, height, width, slopes):
    down, across = torch.tensor(slopes).view(2, 1, 3, 1, 1)
    ramp = down * torch.linspace(0, 1, height)[:, None] + across * torch.linspace(0, 1, width)
    error = (cfa.edge_directed_demosaic(cfa.mosaic(ramp, (pattern,)), (pattern,)) - ramp).abs()
    halo = EDGE_DIRECTED_HALO
    assert float(error[..., halo:-halo, halo:-halo].max()) < 2e-6


@quick
@given(pattern=patterns, top=st.integers(0, 1), left=st.integers(0, 1), height=st.integers(9, 14))
def test_edge_directed_demosaicing_of_a_crop(pattern, top, left, height):
    bayer, halo = noise(1, 1, height, 13), EDGE_DIRECTED_HALO
    whole = cfa.edge_directed_demosaic(bayer, (pattern,))[..., top:, left:]
    part = cfa.edge_directed_demosaic(bayer[..., top:, left:], (cfa.shift(pattern, top, left),))
    inside = (..., slice(halo, -halo), slice(halo, -halo))
    assert torch.allclose(part[inside], whole[inside], atol=1e-6)


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
@pytest.mark.parametrize("turns", [0, 1])
def test_edge_directed_demosaicing_is_exact_along_a_grey_edge(pattern, turns):
    """A grey bar that Malvar's filters give coloured edges."""
    columns = torch.tensor([0.2] * 5 + [0.8] * 4 + [0.2] * 7)
    picture = columns.expand(1, 3, 16, 16).rot90(turns, (2, 3))
    bayer = cfa.mosaic(picture, (pattern,))
    halo = (..., slice(3, -3), slice(3, -3))
    directed = (cfa.edge_directed_demosaic(bayer, (pattern,)) - picture)[halo].abs().mean()
    malvar = (cfa.demosaic(bayer, (pattern,)) - picture)[halo].abs().mean()
    assert float(directed) < 1e-6 and float(malvar) > 0.01


def test_edge_directed_demosaicing_is_its_formula():
    """Green at one red site and red at two sites, worked out by hand from 9x9 numbers."""
    bayer = noise(1, 1, 9, 9)
    value = bayer[0, 0]

    def green(row: int, column: int) -> float:
        bends = [
            2 * value[row, column] - value[row - d, column - e] - value[row + d, column + e]
            for d, e in ((0, 2), (2, 0))
        ]
        ends = [(value[row, column - 1], value[row, column + 1]), (value[row - 1, column], value[row + 1, column])]
        slopes = [float(abs(a - b) + abs(bend)) for (a, b), bend in zip(ends, bends, strict=True)]
        best = slopes.index(min(slopes))
        return float(sum(ends[best]) / 2 + bends[best] / 4)

    ours = cfa.edge_directed_demosaic(bayer, ("RGGB",))[0]
    assert float(ours[1, 4, 4]) == pytest.approx(green(4, 4), abs=1e-6)
    beside = float(value[4, 5]) + sum(float(value[4, c]) - green(4, c) for c in (4, 6)) / 2
    assert float(ours[0, 4, 5]) == pytest.approx(beside, abs=1e-6)


@quick
@given(mixed=st.lists(patterns, min_size=2, max_size=5), height=edge_sides, width=edge_sides)
def test_a_mixed_batch_is_demosaiced_along_edges_like_its_images_alone(mixed, height, width):
    bayer = noise(len(mixed), 1, height, width)
    kept = bayer.clone()
    rgb = cfa.edge_directed_demosaic(bayer, mixed)
    assert torch.equal(bayer, kept)
    for at, pattern in enumerate(mixed):
        assert torch.equal(rgb[at : at + 1], cfa.edge_directed_demosaic(bayer[at : at + 1], (pattern,)))


def test_edge_directed_demosaicing_refuses_what_is_too_small():
    with pytest.raises(ValueError, match=r"edge_directed_demosaic: expected at least 6x6 pixels, got 5x8"):
        cfa.edge_directed_demosaic(noise(1, 1, 5, 8), ("RGGB",))


# ---------------------------------------------------------------- refusals


def test_wrong_input_is_refused_in_words():
    bayer = noise(3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"cfa: expected a CFA pattern out of RGGB, BGGR, GRBG, GBRG, got 'RGBG'"):
        cfa.demosaic(bayer, ("RGBG",))
    with pytest.raises(ValueError, match=r"expected a CFA pattern out of .*, got 'rggb'"):
        cfa.mosaic(noise(2, 3, 4, 4), ("RGGB", "rggb"))
    with pytest.raises(ValueError, match=r"cfa: expected one pattern or one for each of the 3 images, got 2"):
        cfa.demosaic(bayer, ("RGGB", "BGGR"))
    with pytest.raises(ValueError, match=r"cfa: expected one pattern or one for each of the 3 images, got 0"):
        cfa.site_gains(bayer, torch.ones(1, 3), ())
    with pytest.raises(ValueError, match=r"demosaic: expected at least 3x3 pixels, got 2x8"):
        cfa.demosaic(bayer[..., :2, :], ("RGGB",))
    with pytest.raises(ValueError, match=r'flip: expected the axis "vertical" or "horizontal", got \'diagonal\''):
        cfa.flip("RGGB", "diagonal", 4, 4)


@given(height=st.integers(1, 40), rows=st.integers(1, 12), halo=st.integers(0, 5), start=st.integers(0, 10))
def test_strips_are_every_row_once_with_what_is_around(height, rows, halo, start):
    image = torch.arange(height)
    seen = []
    for place, window, inner in cfa.strips(height, rows, halo, start):
        assert torch.equal(image[window][inner], image[place])
        assert image[window].tolist() == list(range(max(0, place.start - halo), min(height, place.stop + halo)))
        assert len(image[place]) <= rows
        seen += image[place].tolist()
    assert seen == list(range(start, height))

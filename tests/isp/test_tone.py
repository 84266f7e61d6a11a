"""Tone curves: each and its inverse undo each other, none ever falls, and their values are the published ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from isp import tone

UNIT = torch.arange(65536) / 65535

# (curve, its inverse, bound of inverse(curve(x)) - x, bound of curve(inverse(y)) - y), all on [0, 1]. An arcsine is
# steep at its ends, so the inverse smoothstep cannot tell the last float32 steps there; the gamma curve has its floor.
PAIRS = {
    "srgb": (tone.srgb_curve, tone.inverse_srgb_curve, 1e-6, 1e-6),
    "a7r3": (tone.a7r3_response, tone.inverse_a7r3_response, 1e-5, 2e-6),
    "smoothstep": (tone.smoothstep, tone.inverse_smoothstep, 5e-4, 1e-6),
    "gamma": (tone.gamma_curve, tone.inverse_gamma_curve, 2e-7, 2.4e-4),
}
CURVES = [curve for pair in PAIRS.values() for curve in pair[:2]]


def values(low: float = 0.0, high: float = 1.0) -> st.SearchStrategy[torch.Tensor]:
    shapes = array_shapes(max_dims=4, max_side=6)
    return arrays(np.float32, shapes, elements=st.floats(low, high, width=32)).map(torch.from_numpy)


@pytest.mark.parametrize("name", PAIRS)
@given(given_values=values())
@settings(deadline=None, max_examples=40)
def test_curves_invert_each_other(name, given_values):
    curve, inverse, back, forth = PAIRS[name]
    assert float((inverse(curve(given_values)) - given_values).abs().max()) <= back
    assert float((curve(inverse(given_values)) - given_values).abs().max()) <= forth


@pytest.mark.parametrize("name", PAIRS)
def test_curves_invert_each_other_on_every_16_bit_value(name):
    curve, inverse, back, forth = PAIRS[name]
    assert float((inverse(curve(UNIT)) - UNIT).abs().max()) <= back
    assert float((curve(inverse(UNIT)) - UNIT).abs().max()) <= forth


@pytest.mark.parametrize("curve", CURVES)
@given(given_values=values(-0.5, 1.5))
@settings(deadline=None, max_examples=40)
def test_curves_never_fall_and_keep_shape_type_and_input(curve, given_values):
    before = given_values.clone()
    result = curve(given_values)
    assert torch.equal(given_values, before)
    assert result.shape == given_values.shape and result.dtype == torch.float32
    ordered = curve(given_values.flatten().sort().values)
    # Two roundings of a power; the two published branches of the sRGB curve meet 3e-8 apart.
    assert bool((ordered.diff() >= -2.5e-7 * ordered[1:].abs().clamp(min=1)).all())


@pytest.mark.parametrize("curve", [tone.a7r3_response, tone.inverse_a7r3_response])
def test_the_a7r3_table_is_strictly_increasing_from_0_to_1(curve):
    assert bool((curve(UNIT).diff() > 0).all())
    assert curve(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, 1], abs=6e-7)
    assert torch.equal(curve(torch.tensor([-1.0, 2.0])), curve(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize(("curve", "column"), [(tone.a7r3_response, 0), (tone.inverse_a7r3_response, 1)])
def test_the_a7r3_table_is_made_of_straight_lines_between_its_knots(curve, column):
    knots = np.array(tone.A7R3_KNOTS) / 255
    assert len(knots) == 58
    dense = np.unique(np.concatenate([UNIT.numpy(), knots[:, column], np.nextafter(np.float32(knots[:, column]), 0)]))
    expected = np.interp(dense, knots[:, column], knots[:, 1 - column])
    # A line as steep as 25, drawn in float32 from its offset.
    assert np.abs(curve(torch.from_numpy(dense).float()).numpy() - expected).max() < 6e-6


def test_the_a7r3_polynomial_follows_the_table_but_falls_in_the_highlights():
    assert float((tone.a7r3_polynomial(UNIT) - tone.a7r3_response(UNIT)).abs().max()) < 0.0073
    expected = {
        0.0: 0.0,
        0.0011: 0.0,
        0.1: 0.532,
        0.2: 0.740,
        0.5: 0.945,
        0.8: 0.98259,
        0.9: 0.98258,
        0.974: 1.0,
        1.0: 1.0,
    }
    assert tone.a7r3_polynomial(torch.tensor(list(expected))).tolist() == pytest.approx(
        list(expected.values()), abs=6e-4
    )
    falls = UNIT[1:][tone.a7r3_polynomial(UNIT.double()).diff() < 0]
    assert (float(falls.min()), float(falls.max())) == pytest.approx((0.8301, 0.8870), abs=1e-4)


@pytest.mark.parametrize("curve", [tone.srgb_curve, tone.inverse_srgb_curve])
@given(given_values=values(0.0, 16.0))
@settings(deadline=None, max_examples=40)
def test_the_srgb_pair_is_odd(curve, given_values):
    assert torch.equal(curve(-given_values), -curve(given_values))


def test_the_srgb_pair_follows_its_power_branch_above_1():
    above = torch.linspace(1, 4, 301)
    assert torch.allclose(tone.srgb_curve(above), 1.055 * above ** (1 / 2.4) - 0.055, atol=1e-6)
    assert torch.allclose(tone.inverse_srgb_curve(tone.srgb_curve(above)), above, rtol=1e-6)
    assert float(tone.srgb_curve(above[-1])) > 1.8


def test_known_values():
    cases = [
        (tone.srgb_curve, {0.0: 0.0, 0.002: 0.02584, 0.1: 0.349190, 0.5: 0.735357, 1.0: 1.0}),
        (tone.inverse_srgb_curve, {0.0: 0.0, 0.02584: 0.002, 0.5: 0.214041, 1.0: 1.0}),
        (tone.smoothstep, {-1.0: 0.0, 0.0: 0.0, 0.25: 0.15625, 0.5: 0.5, 1.0: 1.0, 2.0: 1.0}),
        (tone.inverse_smoothstep, {-1.0: 0.0, 0.1: 0.1958001, 0.25: 0.3263518, 0.5: 0.5, 0.9: 0.8041999, 2.0: 1.0}),
        (tone.gamma_curve, {-1.0: 2.3101e-4, 0.0: 2.3101e-4, 0.5: 0.729740, 1.0: 1.0}),
        (tone.inverse_gamma_curve, {-1.0: 0.0, 0.5: 0.217638, 1.0: 1.0}),
    ]
    for curve, expected in cases:
        assert curve(torch.tensor(list(expected))).tolist() == pytest.approx(list(expected.values()), abs=1e-6)

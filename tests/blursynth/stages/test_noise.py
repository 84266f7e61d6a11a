"""Noise: the map from normals to photon counts against the exact Poisson distribution, and what the stages make of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blursynth.sample import Sample
from blursynth.stages.noise import SensorNoise, SRGBNoise
from isp import profile
from isp.light.noise import poisson_gaussian, poisson_of_normal
from isp.rng import generator

EXACT_RATES = (0.0, 0.01, 0.3, 1.0, 3.0, 9.0, 15.99)
EXPANDED_RATES = (16.0, 16.5, 20.0, 50.0, 200.0, 1000.0, 11247.0)

# |z| <= 6 holds all but 2e-9 of the draws, which is one pixel in 500 million.
Z = np.linspace(-6, 6, 1_200_001)
WEIGHT = scipy.stats.norm.pdf(Z) / scipy.stats.norm.pdf(Z).sum()

JUST_BELOW = float(np.nextafter(np.float32(16), np.float32(0)))

# How often the expansion misses the exact count, by one. It falls as the rate grows, until floats of 24 bits end.
MISSED_SHARE = {16.0: 1.6e-3, 16.5: 1.5e-3, 20.0: 1.3e-3, 50.0: 5e-4, 200.0: 1.5e-4, 1000.0: 6e-5, 11247.0: 6e-4}


def counts_at(rate: float, z: np.ndarray = Z) -> np.ndarray:
    normal = torch.from_numpy(z.astype(np.float32))
    return poisson_of_normal(normal, torch.full_like(normal, rate)).double().numpy()


def exact_counts(rate: float, z: np.ndarray = Z) -> np.ndarray:
    """Poisson's quantile of the distribution function of the same float32 draws, counted in steps of z.

    The count exceeds k where z exceeds the normal quantile of P(count <= k); in the upper half by the survival
    function, which keeps its digits there.
    """
    rate = float(np.float32(rate))
    k = np.arange(rate + 10 * math.sqrt(rate) + 60)
    below = scipy.stats.poisson.cdf(k, rate)
    beyond = scipy.stats.norm.isf(scipy.stats.poisson.sf(k, rate))
    steps = np.where(below < 0.5, scipy.stats.norm.ppf(below), beyond)
    return np.searchsorted(steps, z.astype(np.float32).astype(np.float64), side="left").astype(np.float64)


def moments(counts: np.ndarray) -> tuple[float, float, float]:
    """Mean, variance, skewness of the counts of a standard normal: integrated, so without sampling noise."""
    mean = float(WEIGHT @ counts)
    variance = float(WEIGHT @ (counts - mean) ** 2)
    return mean, variance, float(WEIGHT @ (counts - mean) ** 3) / variance**1.5


# ---------------------------------------------------------------- the map


@pytest.mark.parametrize("rate", [*EXACT_RATES, *EXPANDED_RATES])
def test_the_reference_is_scipys_quantile(rate: float) -> None:
    z = np.linspace(-5, 5, 301)
    assert np.array_equal(
        exact_counts(rate, z), scipy.stats.poisson.ppf(scipy.stats.norm.cdf(np.float64(np.float32(z))), rate)
    )


@pytest.mark.parametrize("rate", EXACT_RATES)
def test_low_rates_are_the_exact_quantile(rate: float) -> None:
    assert np.array_equal(counts_at(rate), exact_counts(rate))


@pytest.mark.parametrize("rate", EXPANDED_RATES)
def test_high_rates_are_the_quantile_but_for_rare_single_counts(rate: float) -> None:
    difference = counts_at(rate) - exact_counts(rate)
    assert np.abs(difference).max() <= 1
    assert WEIGHT @ (difference != 0) < MISSED_SHARE[rate]


@pytest.mark.parametrize("rate", [*EXACT_RATES, *EXPANDED_RATES])
def test_the_distribution_function_is_met(rate: float) -> None:
    """Kolmogorov's distance: measured 1.3e-4 at a rate of 16, below 2.5e-5 from 50 on."""
    counts = counts_at(rate)
    whole = np.arange(counts.min(), counts.max() + 1)
    ours = np.cumsum(np.bincount((counts - counts.min()).astype(int), WEIGHT))
    bound = 1e-5 if rate < 16 else 2e-3 / rate + 1e-5
    assert np.abs(ours - scipy.stats.poisson.cdf(whole, rate)).max() < bound


@pytest.mark.parametrize("rate", [*EXACT_RATES[1:], *EXPANDED_RATES])
def test_moments(rate: float) -> None:
    mean, variance, skewness = moments(counts_at(rate))
    assert mean == pytest.approx(rate, rel=2e-5)
    assert variance == pytest.approx(rate, rel=3e-5)
    # The expansion's next term: 1.2 % of the skewness at a rate of 16, nothing below it.
    assert abs(skewness * math.sqrt(rate) - 1) < (5e-5 if rate < 16 else 0.2 / rate + 2e-4)


# Beyond the expansion's last term, tails are off by a few parts of 1/rate.
@pytest.mark.parametrize("rate", [*EXACT_RATES[1:], *EXPANDED_RATES])
@pytest.mark.parametrize(("probability", "off"), [(1e-3, 0.6), (1e-5, 5.0)])
def test_tails(rate: float, probability: float, off: float) -> None:
    counts = counts_at(rate)
    within = 0.007 if rate < 16 else off / rate + 5e-4
    low = scipy.stats.poisson.ppf(probability, rate)
    assert WEIGHT @ (counts <= low) == pytest.approx(scipy.stats.poisson.cdf(low, rate), rel=within)
    high = scipy.stats.poisson.isf(probability, rate)
    assert WEIGHT @ (counts > high) == pytest.approx(scipy.stats.poisson.sf(high, rate), rel=within)


def test_the_distribution_is_continuous_at_the_change_of_method() -> None:
    below, above = moments(counts_at(JUST_BELOW)), moments(counts_at(16.0))
    assert above[0] == pytest.approx(below[0], rel=1e-5)
    assert above[1] == pytest.approx(below[1], rel=4e-5)
    assert above[2] == pytest.approx(below[2], rel=0.013)


@given(st.floats(-2, 20_000, width=32), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_monotone_in_the_draw(rate: float, seed: int) -> None:
    z = np.sort(generator(seed, 0, "z").uniform(-6, 6, 400)).astype(np.float32)
    counts = counts_at(rate, z)
    assert np.all(np.diff(counts) >= 0)
    assert counts.min() >= 0
    assert np.array_equal(counts, np.round(counts))


@given(st.floats(-6, 6, width=32), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_monotone_in_the_rate_on_either_side(z: float, seed: int) -> None:
    rng = generator(seed, 0, "rates")
    for low, high in ((-1, 15.999), (16, 60), (16, 20_000)):
        rates = torch.from_numpy(np.sort(rng.uniform(low, high, 400)).astype(np.float32))
        counts = poisson_of_normal(torch.full_like(rates, z), rates)
        assert bool((counts.diff() >= 0).all())


def test_across_the_change_of_method_a_count_falls_by_at_most_one() -> None:
    """The one place where more light can give fewer photons: a rate going through 16, for 8 draws in 10,000."""
    step = counts_at(16.0) - counts_at(JUST_BELOW)
    assert np.abs(step).max() == 1
    assert 0 < WEIGHT @ (step < 0) < 8e-4
    assert WEIGHT @ (step != 0) < 1.6e-3


def test_negative_rates_count_as_none() -> None:
    z = torch.linspace(-6, 6, 101)
    assert bool((poisson_of_normal(z, torch.linspace(-50, 0, 101)) == 0).all())


def test_the_far_lower_tail_has_no_negative_counts() -> None:
    """Below -5.5 sigma the expansion at a rate of 16 goes below 0; a count cannot."""
    z = np.linspace(-7, -5, 2001)
    for rate in (16.0, 17.0, 20.0, 30.0):
        assert counts_at(rate, z).min() >= 0


def test_a_rate_that_is_no_number_gives_none() -> None:
    counts = poisson_of_normal(torch.zeros(4), torch.tensor([math.nan, 1.0, 100.0, math.nan]))
    assert counts.isnan().tolist() == [True, False, False, True]
    pixels = torch.full((1, 1, 2, 2), 0.5)
    pixels[..., 0, 0] = math.nan
    noisy = poisson_gaussian(pixels, 1e-3, 1e-3, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert noisy.isnan().flatten().tolist() == [True, False, False, False]


def test_the_map_leaves_its_inputs_alone() -> None:
    z, rate = torch.linspace(-3, 3, 50), torch.linspace(-1, 40, 50)
    kept = z.clone(), rate.clone()
    poisson_of_normal(z, rate)
    assert torch.equal(z, kept[0]) and torch.equal(rate, kept[1])


# ---------------------------------------------------------------- photons and readout


def draws(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    photons, readout = (
        torch.from_numpy(generator(seed, 0, kind).standard_normal((1, 1, 1, count), dtype=np.float32))
        for kind in ("photons", "readout")
    )
    return photons, readout


@pytest.mark.parametrize("level", [-0.01, 0.0, 2e-4, 1e-3, 0.02, 0.18, 0.7, 1.0, 1.4])
@pytest.mark.parametrize(("shot_gain", "read_std"), [(8.8915e-5, 2.943e-5), (1e-4, 9.1504e-4), (5e-3, 0.0)])
def test_mean_and_variance_within_their_standard_errors(level: float, shot_gain: float, read_std: float) -> None:
    count = 200_000
    values = poisson_gaussian(torch.full((1, 1, 1, count), level), shot_gain, read_std, *draws(count))
    values = values.flatten().double().numpy()
    light = max(level, 0)
    variance = shot_gain * light + read_std**2
    if variance == 0:
        assert np.all(values == np.float32(level))
        return
    # Fourth central moment: 3 variance^2 of both parts together, and the Poisson part's excess.
    fourth = 3 * variance**2 + shot_gain**3 * light
    assert abs(values.mean() - level) < 5 * math.sqrt(variance / count) + 1e-7 * abs(level)
    assert abs(values.var() - variance) < 5 * math.sqrt((fourth - variance**2) / count)


def test_read_std_is_a_standard_deviation_and_the_gain_a_photon() -> None:
    photons, readout = draws(100_000)
    dark = poisson_gaussian(torch.zeros_like(photons), 1e-3, 0.02, photons, readout)
    assert float(dark.std()) == pytest.approx(0.02, rel=0.01)
    still = poisson_gaussian(torch.full_like(photons, 0.01), 1e-3, 0.0, photons, readout)
    steps = still / 1e-3
    assert float((steps - steps.round()).abs().max()) < 1e-4


@given(st.sampled_from([1e-7, -1e-7, 3e-7]), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_change_in_the_seventh_digit_changes_few_pixels_by_one_photon(change: float, seed: int) -> None:
    """The promise between machines: 1 pixel in 100 at most moves, and by one photon."""
    photons, readout = (draw.view(1, 1, 100, 200) for draw in draws(20_000, seed))
    bayer = torch.linspace(-0.05, 1.2, 20_000).view(1, 1, 100, 200)
    gain = 8.8915e-5
    one = poisson_gaussian(bayer, gain, 3e-5, photons, readout)
    other = poisson_gaussian(bayer * (1 + change), gain, 3e-5, photons, readout)
    moved = ((one - other).abs() / gain).round()
    assert float(moved.max()) <= 1
    assert float((moved > 0).float().mean()) < 0.01


# ---------------------------------------------------------------- the stages


def flat(level: float = 0.5, iso: float | None = 160.0, side: int = 64, index: int = 0, **others) -> Sample:
    return Sample(
        image=torch.full((1, 1, side, side), level),
        space="bayer",
        sharp=torch.zeros(1, 3, side, side),
        camera=profile.load("a7r3").camera((2.0, 1.7), iso=iso),
        seed=2022,
        index=index,
        source="flat",
        stage="sensor_noise",
        **others,
    )


def test_the_dice_do_not_depend_on_threads_nor_on_the_picture() -> None:
    stage = SensorNoise(profile="a7r3")
    once = stage(flat())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = stage(flat())
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(once.image, again.image)
    assert once.draws == again.draws
    # The readout of another picture is the same draw.
    dark, bright = (stage(flat(level)).image for level in (0.0, -0.25))
    assert torch.allclose(dark, bright + 0.25, atol=1e-7)


def test_another_index_another_noise() -> None:
    stage = SensorNoise(profile="a7r3")
    one, other = (stage(flat(index=index)).image.flatten() for index in (0, 1))
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 5 / 64


def test_the_profile_at_an_iso_equals_the_numbers_themselves() -> None:
    """Shot gain follows ISO; read noise does not fall below that of ISO 160."""
    for iso, gain, read in ((160.0, 1.0, 1.0), (640.0, 4.0, 4.0), (100.0, 0.625, 1.0)):
        by_profile = SensorNoise(profile="a7r3")(flat(iso=iso))
        by_numbers = SensorNoise(shot_gain=8.8915e-5 * gain, read_std=2.943e-5 * read)(flat(iso=None))
        assert torch.equal(by_profile.image, by_numbers.image)
        assert by_profile.draws == by_numbers.draws


def test_scale_multiplies_both_numbers_by_draws_of_their_own() -> None:
    stage = SensorNoise(shot_gain=1e-3, read_std=1e-2, scale=(0.5, 1.5))
    dice = [stage(flat(side=8, index=index)).draws for index in range(400)]
    gains = np.array([each["sensor_noise.shot_gain"] for each in dice]) / 1e-3
    reads = np.array([each["sensor_noise.read_std"] for each in dice]) / 1e-2
    for drawn in (gains, reads):
        assert scipy.stats.kstest(drawn, "uniform", args=(0.5, 1.0)).pvalue > 1e-3
    assert abs(np.corrcoef(gains, reads)[0, 1]) < 5 / 20
    fixed = SensorNoise(shot_gain=1e-3, read_std=1e-2, scale=(1.0, 1.0))(flat(side=8))
    assert fixed.draws == {"sensor_noise.shot_gain": 1e-3, "sensor_noise.read_std": 1e-2}


def test_clip_white_cuts_at_saturation_only() -> None:
    keys = {"shot_gain": 1e-3, "read_std": 1e-2}
    free = SensorNoise(**keys)(flat(0.99)).image
    cut = SensorNoise(**keys, clip="white")(flat(0.99)).image
    assert float(free.max()) > 1
    assert torch.equal(cut, free.clamp(max=1))
    dark = SensorNoise(**keys, clip="white")(flat(0.0)).image
    assert float(dark.min()) < 0


def test_a_camera_without_iso_is_refused_by_a_profile_that_needs_it() -> None:
    with pytest.raises(ValueError, match="expected a known ISO"):
        SensorNoise(profile="a7r3")(flat(iso=None))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "expected either profile, or both shot_gain and read_std, got none"),
        ({"profile": "a7r3", "read_std": 0.1}, "got profile and read_std"),
        ({"shot_gain": 1e-3}, "got shot_gain"),
        ({"profile": "a7r3", "scale": [0, 1]}, "expected a positive scale, got 0"),
        ({"profile": "a7r3", "scale": [2, 1]}, r"expected \[smallest, largest\], got \[2, 1\]"),
        ({"shot_gain": 0, "read_std": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense(keys: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SensorNoise(**keys)


def test_a_profile_without_noise_is_a_problem() -> None:
    assert SensorNoise(profile="d40").problems() == ['profile: "d40" has no noise; give shot_gain and read_std instead']
    assert 'did you mean "a7r3"?' in SensorNoise(profile="a7r4").problems()[0]
    assert SensorNoise(profile="a7r3").problems() == []


def test_srgb_noise_is_gaussian_of_the_drawn_std_and_clipped() -> None:
    grey = flat(side=128).replace(image=torch.full((1, 3, 128, 128), 0.5), space="srgb", stage="srgb_noise")
    made = SRGBNoise(std=0.02, scale=(0.5, 1.5))(grey)
    std = made.draws["srgb_noise.std"]
    assert 0.01 <= std <= 0.03
    noise = (made.image - 0.5).flatten().double().numpy()
    assert scipy.stats.kstest(noise / std, "norm").pvalue > 1e-3
    channels = np.corrcoef((made.image - 0.5)[0].flatten(1).numpy())
    assert np.abs(channels - np.eye(3)).max() < 5 / 128
    white = SRGBNoise(std=0.02)(grey.replace(image=torch.ones_like(grey.image))).image
    assert float(white.max()) == 1 and float((white == 1).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(SRGBNoise(std=0.02)(grey.replace(image=torch.zeros_like(grey.image))).image.min()) == 0

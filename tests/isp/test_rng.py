"""Addressed randomness: equal addresses give equal streams, others independent ones, and nothing else is touched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.rng import generator

addresses = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.text(max_size=20))


@given(addresses)
@settings(max_examples=50, deadline=None)
def test_an_address_gives_the_same_stream_again(address) -> None:
    first, second = generator(*address), generator(*address)
    assert np.array_equal(first.standard_normal(64, dtype=np.float32), second.standard_normal(64, dtype=np.float32))
    assert first.bit_generator.state["state"]["key"].tolist() == second.bit_generator.state["state"]["key"].tolist()


@given(addresses, addresses)
@settings(max_examples=100, deadline=None)
def test_two_addresses_give_two_streams(one, other) -> None:
    equal = np.array_equal(generator(*one).integers(2**63, size=4), generator(*other).integers(2**63, size=4))
    assert equal == (one == other)


def test_the_stream_is_written_down() -> None:
    """A change of the generator would change every data set: these numbers are part of the format."""
    assert generator(2022, 0, "camera.iso").integers(1000, size=5).tolist() == [34, 515, 558, 759, 676]
    assert generator(2**63 - 1, 2**40, "sensor_noise.photons").integers(1000, size=3).tolist() == [431, 105, 32]


def test_neighbouring_addresses_are_uncorrelated() -> None:
    base = (2022, 7, "sensor_noise.photons")
    neighbours = [
        (2023, 7, base[2]),
        (2022, 8, base[2]),
        (7, 2022, base[2]),
        (2022, 7, "sensor_noise.readout"),
        (2022, 7, "sensor_noise.1.photons"),
        (2022 + 2**32, 7, base[2]),
        (2**63 - 1, 7, base[2]),
        (2**63 - 2, 7, base[2]),
        (2022, 7 + 2**32, base[2]),
        (2022 + 7 * 2**32, 0, base[2]),
    ]
    count = 40_000
    drawn = np.stack([generator(*address).standard_normal(count) for address in [base, *neighbours]])
    correlation = np.corrcoef(drawn)
    pairs = list(itertools.combinations(range(len(drawn)), 2))
    # 55 pairs: 5 standard errors, and none of a lagged pair either.
    assert max(abs(correlation[pair]) for pair in pairs) < 5 / np.sqrt(count)
    lagged = [abs(np.corrcoef(drawn[0, :-1], other[1:])[0, 1]) for other in drawn]
    assert max(lagged) < 5 / np.sqrt(count)


def test_long_seeds_do_not_run_into_the_index() -> None:
    """Joined as they stand, the words of 32 bits of these two addresses are the same."""
    long_seed, long_index = generator(2022 + 7 * 2**32, 5, "x"), generator(2022, 7 + 5 * 2**32, "x")
    assert long_seed.integers(2**63) != long_index.integers(2**63)


@pytest.mark.parametrize("vary", ["seed", "index", "purpose"])
def test_the_first_draws_of_many_addresses_are_uniform(vary: str) -> None:
    """A stage draws one number from each generator: across samples these must look random, too."""
    address = {"seed": 1, "index": 2, "purpose": "x"}
    first = [generator(**address | {vary: f"x{i}" if vary == "purpose" else i}).random() for i in range(3000)]
    assert scipy.stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(len(first))


@pytest.mark.parametrize("address", [(-1, 0), (0, -1)])
def test_negative_addresses_are_refused(address: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        generator(*address, "x")

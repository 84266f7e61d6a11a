"""Addressed randomness: every purpose has a stream of its own, so no draw depends on what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Return the generator of (`seed`, `index`, `purpose`): Philox, keyed by a SeedSequence of the three.

    Equal addresses give equal streams on every machine; different addresses give independent ones. Draw on the CPU and
    move the result, so that it is the same for every device. `seed` and `index` lie in [0, 2^64).

    >>> int(generator(2022, 0, "camera.iso").integers(1000)) == int(generator(2022, 0, "camera.iso").integers(1000))
    True
    """
    digest = hashlib.sha256(purpose.encode()).digest()[:16]
    words = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)]
    # Two words each: SeedSequence would otherwise confuse a long seed and a short index with a short seed and a long one.
    number = [half for value in (seed, index) for half in (value % 2**32, value >> 32)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([*number, *words])))

"""Addressed randomness: a draw is found by what it is for, never consumed from a stream that others share."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """The generator of (`seed`, `index`, `purpose`): Philox, keyed through a SeedSequence of the three.

    Equal addresses give equal streams on every machine; different addresses give independent ones. Draws are made on
    the CPU and moved, so that they are the same for every device. `seed` and `index` are at least 0, below 2^64.

    >>> int(generator(2022, 0, "camera.iso").integers(1000)) == int(generator(2022, 0, "camera.iso").integers(1000))
    True
    """
    digest = hashlib.sha256(purpose.encode()).digest()[:16]
    words = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)]
    # Two words each: SeedSequence would run a long seed and a short index together like a short seed and a long index.
    number = [half for value in (seed, index) for half in (value % 2**32, value >> 32)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([*number, *words])))

"""Sensor noise: photons are counted, then the electrons are read out.

Every draw is a standard normal, and photon counts are a monotone function of it, so the noise survives rounding
differences between machines. (`numpy`'s own Poisson draws reject and retry: a light that differs in the seventh digit
would change every later pixel.)
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Values = Float[Tensor, "..."]

# Below this rate the expansion in 1/sqrt(rate) is too coarse; above it the exact inverse takes too many steps.
_EXACT_BELOW = 16.0
_LARGEST_EXACT_COUNT = 80  # far beyond six sigma of a rate of 16: P(count > 80) < 1e-28


def standard_normals(rng: np.random.Generator, like: Values) -> Values:
    """Draw a float32 standard normal for each element of `like`, on the CPU, and move them to its device."""
    drawn = rng.standard_normal(like.numel(), dtype=np.float32)
    return torch.from_numpy(drawn).view(like.shape).to(like.device)


def poisson_of_normal(normal: Values, rate: Values) -> Values:
    """Return a Poisson count of mean `rate` as a monotone map of a standard normal draw.

    Negative rates count as 0; a rate of NaN gives NaN, never a number.

    The same draw gives nearly the same count if the rate changes a little. Below a rate of 16 the map is the exact
    inverse of the distribution function; above, it is the Cornish-Fisher expansion with the correction for whole numbers:

        floor(rate + sqrt(rate) z + 1/3 + z^2/6 - (z/36 + z^3/72) / sqrt(rate))

    Source: giles2016, normal asymptotic expansion
    """
    safe = rate.clamp(min=_EXACT_BELOW)
    root = safe.sqrt()
    square = normal * normal
    correction = normal * (1 / 36 + square / 72) / root
    counts = torch.floor(safe + root * normal + (1 / 3 + square / 6) - correction).clamp_(min=0)
    low = rate < _EXACT_BELOW
    if bool(low.any()):
        counts[low] = _exact_poisson_quantile(normal[low], rate[low])
    return counts


def _exact_poisson_quantile(normal: Float[Tensor, " n"], rate: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the smallest count at which the Poisson distribution function reaches that of `normal`."""
    probability = torch.special.ndtr(normal.double())
    rate = rate.double().clamp(min=0)
    mass = torch.exp(-rate)
    reached = mass.clone()
    counts = torch.zeros_like(normal)
    for count in range(1, _LARGEST_EXACT_COUNT + 1):
        missing = reached < probability
        if not bool(missing.any()):
            break
        counts += missing
        mass *= rate / count
        reached += mass
    return counts


def poisson_gaussian(
    bayer: Float[Tensor, "b 1 h w"],
    shot_gain: float,
    read_std: float,
    photons: Float[Tensor, "b 1 h w"],
    readout: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b 1 h w"]:
    """Return the mosaic with sensor noise.

        noisy = shot_gain * Poisson(max(bayer, 0) / shot_gain) + min(bayer, 0) + read_std * N(0, 1)

    The result has mean `bayer` and variance shot_gain * bayer + read_std^2; nothing is clipped. `photons` and `readout`
    are `standard_normals`; `shot_gain` is the signal of one electron. Unprocessing (brooks2019) gives read noise as a
    variance: pass its square root. Source: rim2022, RSBlur@ae33a6c
    """
    counted = poisson_of_normal(photons, bayer / shot_gain)
    return torch.add(bayer.clamp(max=0) + shot_gain * counted, readout, alpha=read_std)

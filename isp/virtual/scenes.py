"""Scenes for the virtual cameras: strongly varied photographs, and dead leaves, which need no photograph at all.

A scene is light, not a picture: it has no noise, no mosaic and no tone curve, and it may exceed the range of any sensor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isp import tone
from isp.color import LINEAR_TO_XYZ
from isp.files.pictures import Picture

EV100_RANGE = (3.0, 16.0)  # from a room lit by a few lamps to sand in the sun


@dataclass(frozen=True, eq=False)
class Scene:
    """The light that enters a camera.

    linear   scene-linear, sRGB primaries, white-balanced; its mean luminance is 1
    ev100    its brightness: the exposure value that a light meter shows for ISO 100
    """

    linear: Float[Tensor, "3 h w"]
    ev100: float


def luminance(linear: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b h w"]:
    """Return CIE Y of linear RGB in sRGB primaries; 1 for white. Source: iec61966"""
    red, green, blue = LINEAR_TO_XYZ[1]
    return red * linear[..., 0, :, :] + green * linear[..., 1, :, :] + blue * linear[..., 2, :, :]


def metered(linear: Float[Tensor, "3 h w"], ev100: float) -> Scene:
    """Make a scene of linear radiance in any unit. Raises `ValueError` if it is black or not finite."""
    mean = float(luminance(linear).mean())
    if not (math.isfinite(mean) and mean > 0):
        raise ValueError(f"scene: expected radiance with a positive mean luminance, got {mean:g}; check the picture")
    return Scene((linear / mean).clamp(min=0), ev100)


def draw_ev100(rng: np.random.Generator) -> float:
    """Draw a brightness, uniform in `EV100_RANGE`."""
    return float(rng.uniform(*EV100_RANGE))


def split(names: Iterable[str], held_out_share: float = 0.2) -> tuple[list[str], list[str]]:
    """Return (names to train on, names to test on), both sorted. No photograph is in both.

    The names are ranked by the SHA-256 of their text; the first ones, `held_out_share` of all rounded up, are held out.
    Neither the order of `names` nor any seed matters. Raises `ValueError` for a repeated name, or if one side would be
    empty.
    """
    given = list(names)
    ranked = sorted(given, key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(set(given)) != len(given):
        raise ValueError("split: expected every photograph once, got one name twice; photographs need different names")
    count = math.ceil(held_out_share * len(ranked))
    if not 0 < count < len(ranked):
        raise ValueError(
            f"split: expected photographs on both sides, got {count} of {len(ranked)} held out; give more photographs "
            "or another held_out_share"
        )
    return sorted(ranked[count:]), sorted(ranked[:count])


# ---------------------------------------------------------------- photographs


@cache
def _linear_of_level(peak: int) -> Float[np.ndarray, " n"]:
    """Return the linear value of every level from 0 to `peak`: a table is faster than computing it for each pixel."""
    linear: Float[np.ndarray, " n"] = tone.inverse_srgb_curve(torch.arange(peak + 1, device="cpu") / peak).numpy()
    return linear


def _linear(photograph: Picture) -> Float[Tensor, "3 h w"]:
    return torch.from_numpy(_linear_of_level(np.iinfo(photograph.dtype).max)[photograph]).permute(2, 0, 1)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def from_photograph(photograph: Picture, height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw a `height` x `width` scene from an sRGB photograph.

    The draws are: one of the eight turns and mirrors; a window anywhere in the photograph, at a scale of 2/3 to 2.5
    photograph pixels per scene pixel (less if the photograph is too small); an exponent of U(1, 1.5) on the linear
    values, because a photograph has less range than its scene had; a factor of up to 6 on clipped areas; a factor of
    U(0.6, 1.3) on saturation; a remaining colour cast of 6 % per channel, as white balance leaves it; and a brightness
    from `EV100_RANGE`. The photograph is linearised by the sRGB curve.
    """
    ev100 = draw_ev100(rng)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    zoom = _log_uniform(rng, 2 / 3, 2.5)
    at = rng.uniform(size=2)
    contrast, headroom, saturation = rng.uniform(1, 1.5), _log_uniform(rng, 1.0, 6.0), rng.uniform(0.6, 1.3)
    cast = torch.from_numpy(np.exp(rng.normal(0, 0.06, size=(3, 1, 1)))).float()

    turned = np.rot90(photograph, turns)
    turned = np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
    zoom = min(zoom, turned.shape[0] / height, turned.shape[1] / width)
    rows, columns = max(1, round(zoom * height)), max(1, round(zoom * width))
    top, left = int(at[0] * (turned.shape[0] - rows + 1)), int(at[1] * (turned.shape[1] - columns + 1))
    linear = _linear(turned[top : top + rows, left : left + columns])
    linear = functional.interpolate(
        linear[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )[0]

    linear = linear.clamp(min=0) ** contrast
    brightest = linear.amax(0)
    linear = linear * (1 + (headroom - 1) * tone.smoothstep((brightest - 0.8) / 0.2))
    grey = luminance(linear)
    linear = (grey + saturation * (linear - grey)).clamp(min=0) * cast
    return metered(linear + 1e-4, ev100)  # stray light: no part of a scene is entirely black


# ---------------------------------------------------------------- dead leaves

_TEXTURE_SIDE = 256


def _fractal_texture(rng: np.random.Generator) -> Float[Tensor, "1 t t"]:
    """Draw a positive periodic texture whose logarithm has an amplitude spectrum of 1/f; geometric mean 1."""
    frequency = torch.fft.fftfreq(_TEXTURE_SIDE, device="cpu")
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = torch.inf
    white = torch.from_numpy(rng.standard_normal((_TEXTURE_SIDE, _TEXTURE_SIDE), dtype=np.float32))
    shaped = torch.fft.ifft2(torch.fft.fft2(white) / radius).real
    return torch.exp(0.4 * shaped / shaped.std())[None]


def _colours(count: int, rng: np.random.Generator) -> Float[Tensor, "n 3"]:
    """Draw linear colours of every hue, from grey to pure; their brightness is 0.2, times or divided by 2.5 (1 sigma)."""
    hue = rng.uniform(0, 1, count)
    purity = rng.beta(1.0, 1.5, count)
    value = np.minimum(10 ** rng.normal(-0.7, 0.4, count), 1)
    # Three raised cosines a third of a turn apart, scaled so that the largest channel is 1.
    wheel = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[:, None] - np.arange(3) / 3))
    wheel /= wheel.max(1, keepdims=True)
    return torch.from_numpy(value[:, None] * (1 - purity[:, None] * (1 - wheel))).float()


def _radii(count: int, smallest: float, largest: float, rng: np.random.Generator) -> NDArray[Any]:
    """Draw radii with the density r^-3 between two bounds, by the inverse of the distribution function."""
    radii: NDArray[Any] = rng.uniform(largest**-2, smallest**-2, count) ** -0.5
    return radii


def _cover(height: int, width: int, radii: NDArray[Any], centres: NDArray[Any]) -> Int64[np.ndarray, "h w"]:
    """Return the index of the disc that is visible at every pixel; later discs cover earlier ones."""
    seen = np.zeros((height, width), np.int64)
    row, column = np.arange(height), np.arange(width)
    for leaf, (radius, (y, x)) in enumerate(zip(radii, centres, strict=True)):
        top, bottom = max(0, math.ceil(y - radius)), min(height, math.floor(y + radius) + 1)
        left, right = max(0, math.ceil(x - radius)), min(width, math.floor(x + radius) + 1)
        if top < bottom and left < right:
            inside = (row[top:bottom, None] - y) ** 2 + (column[left:right] - x) ** 2 <= radius**2
            seen[top:bottom, left:right][inside] = leaf
    return seen


def dead_leaves(height: int, width: int, rng: np.random.Generator, photographs: Sequence[Picture] = ()) -> Scene:
    """Draw discs that cover one another, with radii of density r^-3, which makes the scene scale-invariant.

    The smallest radius is 1.5 to 6 pixels, the largest a third of the longer side. The power spectrum falls like 1/f^2,
    as in natural scenes. Every disc has a colour, a texture and a linear shading; one in a hundred is a lamp, 4 to 20
    times brighter. Colours come from `photographs` for two discs in three, else from a distribution over all hues; the
    texture is that of a photograph if there is one, else a 1/f texture.
    Source: lee2001
    """
    ev100 = draw_ev100(rng)
    smallest, largest = _log_uniform(rng, 1.5, 6.0), max(height, width) / 3
    # Centres lie up to half the largest radius outside, so that the border is covered like the middle. A disc covers
    # 2 pi smallest^2 ln(largest / smallest) pixels on average; the count below covers every pixel five times.
    area = (height + largest) * (width + largest)
    count = max(1, round(5 * area / (2 * math.pi * smallest**2 * math.log(largest / smallest))))
    radii = _radii(count, smallest, largest, rng)
    centres = rng.uniform(-0.5, 0.5, (count, 2)) * (height + largest, width + largest) + (height / 2, width / 2)
    seen = _cover(height, width, radii, centres)

    colours = _colours(count, rng)
    tilt = rng.uniform(-0.5, 0.5, (count, 2)) / radii[:, None]
    offset = rng.integers(0, 2**16, (count, 2))
    strength = torch.from_numpy(rng.uniform(0, 1.2, count)).float()
    lamp = torch.from_numpy(np.where(rng.uniform(size=count) < 0.01, 10 ** rng.uniform(0.6, 1.3, count), 1.0)).float()
    texture = _fractal_texture(rng)
    if photographs:
        photograph = _linear(photographs[int(rng.integers(len(photographs)))])
        places = rng.integers(0, photograph[0].numel(), count)
        borrowed = photograph.flatten(1)[:, places].T
        from_photograph = torch.from_numpy(rng.uniform(size=count) < 2 / 3)
        colours = torch.where(from_photograph[:, None], borrowed * 10 ** rng.uniform(-0.5, 0.5), colours)
        grey = luminance(photograph)[None].clamp(min=1e-3)
        texture = grey / grey.log().mean().exp()

    y, x = np.mgrid[:height, :width]
    shading = 1 + tilt[seen, 0] * (y - centres[seen, 0]) + tilt[seen, 1] * (x - centres[seen, 1])
    # The photograph is mirrored at its edges, so no seam runs through a disc.
    rows, columns = (
        torch.from_numpy((side - 1) - np.abs((place + offset[seen, axis]) % (2 * side - 1) - (side - 1)))
        for axis, (place, side) in enumerate(zip((y, x), texture.shape[1:], strict=True))
    )
    grain = texture[0, rows, columns].clamp(1 / 8, 8) ** strength[seen]
    light = torch.from_numpy(shading).float().clamp(min=0.05) * grain * lamp[seen]
    linear = colours[seen].permute(2, 0, 1) * light
    return metered(linear + 1e-4, ev100)

"""The colour filter array: its four phases, mosaicking, and demosaicing by Malvar-He-Cutler and by Hamilton-Adams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

Border = Literal["phase", "replicate", "zero"]

# ---------------------------------------------------------------- patterns


def check(pattern: str, owner: str = "cfa") -> None:
    """Raise `ValueError` unless `pattern` is one of the four, read from the top-left pixel; `owner` starts the message."""
    if pattern not in PATTERNS:
        raise ValueError(f"{owner}: expected a CFA pattern out of {', '.join(PATTERNS)}, got {pattern!r}")


def channels(pattern: str) -> tuple[int, int, int, int]:
    """Return the colour index (0 red, 1 green, 2 blue) at (0,0), (0,1), (1,0), (1,1).

    >>> channels("GRBG")
    (1, 0, 2, 1)
    """
    check(pattern)
    first, second, third, fourth = ("RGB".index(letter) for letter in pattern)
    return first, second, third, fourth


def shift(pattern: str, top: int, left: int) -> str:
    """Return the pattern as seen from pixel (`top`, `left`).

    >>> shift("RGGB", 1, 0)
    'GBRG'
    """
    check(pattern)
    return "".join(pattern[2 * ((row + top) % 2) + (column + left) % 2] for row in (0, 1) for column in (0, 1))


def flip(pattern: str, axis: str, height: int, width: int) -> str:
    """Return the pattern of a flipped `height` x `width` mosaic: an odd side keeps its phase along that axis.

    Raises `ValueError` if `axis` is neither "vertical" nor "horizontal".
    """
    if axis not in ("vertical", "horizontal"):
        raise ValueError(f'flip: expected the axis "vertical" or "horizontal", got {axis!r}')
    return shift(pattern, height - 1, 0) if axis == "vertical" else shift(pattern, 0, width - 1)


def rotate(pattern: str, quarter_turns: int, height: int, width: int) -> str:
    """Return the pattern of a `height` x `width` mosaic turned counter-clockwise by `quarter_turns`."""
    check(pattern)
    for _ in range(quarter_turns % 4):
        # After one turn, pixel (row, column) is the old pixel (column, width - 1 - row).
        old = ((column % 2, (width - 1 - row) % 2) for row in (0, 1) for column in (0, 1))
        pattern = "".join(pattern[2 * row + column] for row, column in old)
        height, width = width, height
    return pattern


def sites(pattern: str) -> list[tuple[int, slice, slice]]:
    """Return (colour index, rows, columns) of the four sites of the cell: `image[..., rows, columns]` has that colour."""
    return [
        (channel, slice(site // 2, None, 2), slice(site % 2, None, 2)) for site, channel in enumerate(channels(pattern))
    ]


def _rows_of(pattern: str, cfa: Sequence[str]) -> list[int]:
    return [row for row, other in enumerate(cfa) if other == pattern]


def _check_batch(images: Tensor, cfa: Sequence[str]) -> None:
    if len(cfa) not in (1, len(images)):
        raise ValueError(f"cfa: expected one pattern or one for each of the {len(images)} images, got {len(cfa)}")


# ---------------------------------------------------------------- sensor <-> bayer


def mosaic(sensor: Float[Tensor, "b 3 h w"], cfa: Sequence[str]) -> Float[Tensor, "b 1 h w"]:
    """Keep at every pixel the colour of its filter. Any size; `cfa` has one pattern for all images, or one for each.

    Raises `ValueError` for an unknown pattern or a wrong number of them.
    Source: rim2022, RSBlur@ae33a6c
    """
    _check_batch(sensor, cfa)
    bayer = torch.empty_like(sensor[:, :1])
    for image, pattern in enumerate(cfa):
        images = slice(image, image + 1) if len(cfa) > 1 else slice(None)
        for channel, rows, columns in sites(pattern):
            bayer[images, 0, rows, columns] = sensor[images, channel, rows, columns]
    return bayer


def strips(height: int, rows: int, halo: int, start: int = 0) -> Iterator[tuple[slice, slice, slice]]:
    """Cut the rows of an image from `start` on into strips of `rows`, each with `halo` rows of its surroundings.

    Yields (the strip in the image, the strip with its halo in the image, the strip within its halo). Even numbers keep
    the CFA phase.
    """
    for top in range(start, height, rows):
        above, bottom = max(0, top - halo), min(height, top + rows)
        yield slice(top, bottom), slice(above, min(height, bottom + halo)), slice(top - above, bottom - above)


def mirrored(image: Float[Tensor, "b c h w"], height: int, width: int) -> Float[Tensor, "b c height width"]:
    """Extend `image` at the bottom and right by mirroring without repeating the edge, which keeps the CFA phase.

    A small image is mirrored repeatedly. Raises `ValueError` below 2x2.
    """
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"expected at least 2x2 pixels, got {image.shape[-2]}x{image.shape[-1]}; give a larger image")
    for axis, wanted in ((2, height), (3, width)):
        side = image.shape[axis]
        if wanted > side:
            at = torch.arange(wanted, device=image.device) % (2 * side - 2)
            image = image.index_select(axis, torch.minimum(at, 2 * side - 2 - at))
    return image


def site_gains(
    bayer: Float[Tensor, "b 1 h w"], gains: Float[Tensor, "n 3"], cfa: Sequence[str]
) -> Float[Tensor, "b 1 h w"]:
    """Multiply every pixel of the mosaic by the gain of its colour; `gains` has one row for all images, or one for each."""
    _check_batch(bayer, cfa)
    scaled = torch.empty_like(bayer)
    for image, pattern in enumerate(cfa):
        images = slice(image, image + 1) if len(cfa) > 1 else slice(None)
        gain = gains[images] if len(gains) > 1 else gains
        for channel, rows, columns in sites(pattern):
            scaled[images, 0, rows, columns] = bayer[images, 0, rows, columns] * gain[:, channel, None, None]
    return scaled


# ---------------------------------------------------------------- Malvar-He-Cutler

# In eighths. Every kernel is symmetric under a half turn, so correlation and convolution agree.
_Kernel = tuple[tuple[float, ...], ...]
_GREEN_AT_RED_OR_BLUE: _Kernel = (
    (0, 0, -1, 0, 0),
    (0, 0, 2, 0, 0),
    (-1, 2, 4, 2, -1),
    (0, 0, 2, 0, 0),
    (0, 0, -1, 0, 0),
)
_ALONG_ROW: _Kernel = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
_ALONG_COLUMN: _Kernel = tuple(zip(*_ALONG_ROW, strict=True))
_ACROSS: _Kernel = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))
_IDENTITY: _Kernel = ((0,) * 5, (0,) * 5, (0, 0, 8, 0, 0), (0,) * 5, (0,) * 5)

DEMOSAIC_HALO = 2


def _malvar_kernel(pattern: str, site: int, channel: int) -> Float[Tensor, "5 5"]:
    """Return the kernel that estimates `channel` at cell position `site`."""
    here = channels(pattern)[site]
    if here == channel:
        eighths = _IDENTITY
    elif channel == 1:
        eighths = _GREEN_AT_RED_OR_BLUE
    elif here != 1:
        eighths = _ACROSS
    else:
        neighbour_in_row = channels(pattern)[site ^ 1]
        eighths = _ALONG_ROW if neighbour_in_row == channel else _ALONG_COLUMN
    return torch.tensor(eighths, dtype=torch.float32, device="cpu") / 8


@cache
def _polyphase_kernels(pattern: str) -> Float[Tensor, "12 4 3 3"]:
    """Return Malvar's kernels for the four half-resolution planes: no masks, and no result is computed in vain.

    Output plane 4 * channel + site takes from input plane `source` at half-resolution offset (dy, dx) the tap that
    lies 2 * (dy, dx) + source - site away at full resolution.
    """
    weight = torch.zeros(12, 4, 3, 3, device="cpu")
    for channel in range(3):
        for site in range(4):
            kernel = _malvar_kernel(pattern, site, channel)
            for row in range(-2, 3):
                for column in range(-2, 3):
                    dy, source_row = divmod(site // 2 + row, 2)
                    dx, source_column = divmod(site % 2 + column, 2)
                    source = 2 * source_row + source_column
                    weight[4 * channel + site, source, 1 + dy, 1 + dx] = kernel[2 + row, 2 + column]
    return weight


def demosaic(bayer: Float[Tensor, "b 1 h w"], cfa: Sequence[str], border: Border = "phase") -> Float[Tensor, "b 3 h w"]:
    """Demosaic by gradient-corrected linear interpolation; at least 3x3 pixels, any range, nothing is clipped.

    border="phase" mirrors without repeating the edge, which keeps every colour on its own sites, so a flat colour
    survives. "replicate" and "zero" are the borders of published codes; they spoil the outer `DEMOSAIC_HALO` pixels.
    Raises `ValueError` for an unknown pattern, a wrong number of them, or an image that is too small.
    Source: malvar2004, Fig. 2
    """
    _check_batch(bayer, cfa)
    height, width = bayer.shape[-2:]
    if min(height, width) < 3:
        raise ValueError(f"demosaic: expected at least 3x3 pixels, got {height}x{width}")
    mode = {"phase": "reflect", "replicate": "replicate", "zero": "constant"}[border]
    padded = functional.pad(bayer, (2, 2, 2, 2), mode=mode)
    even = functional.pad(padded, (0, width % 2, 0, height % 2))  # no pixel of the result reads this
    planes = functional.pixel_unshuffle(even, 2)
    if len(set(cfa)) == 1:
        estimated = functional.conv2d(planes, _polyphase_kernels(cfa[0]).to(planes))
    else:
        estimated = planes.new_empty(len(planes), 12, planes.shape[-2] - 2, planes.shape[-1] - 2)
        for pattern in sorted(set(cfa)):
            rows = _rows_of(pattern, cfa)
            estimated[rows] = functional.conv2d(planes[rows], _polyphase_kernels(pattern).to(planes))
    return functional.pixel_shuffle(estimated, 2)[..., :height, :width]


# ---------------------------------------------------------------- Hamilton-Adams


def _neighbour(image: Tensor, down: int, right: int) -> Tensor:
    """Return at every pixel the value `down` rows below and `right` columns to the right of it; wraps around."""
    return torch.roll(image, (-down, -right), (-2, -1))


def _along_the_smoother(first: Tensor, first_slope: Tensor, second: Tensor, second_slope: Tensor) -> Tensor:
    """Return the estimate with the smaller slope, or their mean if the slopes are equal."""
    chosen = torch.where(first_slope < second_slope, first, second)
    return torch.where(first_slope == second_slope, (first + second) / 2, chosen)


def edge_directed_demosaic(bayer: Float[Tensor, "b 1 h w"], cfa: Sequence[str]) -> Float[Tensor, "b 3 h w"]:
    """Demosaic by adaptive colour plane interpolation; at least 6x6 pixels, any range, nothing is clipped.

    Green at a red (or blue) site C is estimated along the row or the column, whichever has the smaller slope:

        estimate = (G[-1] + G[+1]) / 2 + (2 C[0] - C[-2] - C[+2]) / 4
        slope = |G[-1] - G[+1]| + |2 C[0] - C[-2] - C[+2]|

    Then red minus green and blue minus green are averaged over the neighbours that have them: the two beside a green
    site, or the two on the diagonal with the smaller slope at a site of the other colour. The border is mirrored in phase.
    Raises `ValueError` for an unknown pattern, a wrong number of them, or an image that is too small.
    Source: hamilton1997
    """
    _check_batch(bayer, cfa)
    height, width = bayer.shape[-2:]
    if min(height, width) < 6:
        raise ValueError(f"edge_directed_demosaic: expected at least 6x6 pixels, got {height}x{width}")
    full = bayer.new_empty(len(bayer), 3, height, width)
    for pattern in sorted(set(cfa)):
        rows = _rows_of(pattern, cfa) if len(cfa) > 1 else slice(None)
        red = channels(pattern).index(0)
        # The mirror keeps colours on their sites. The padding puts a red site into the corner, and it is wide enough to
        # hold everything that wraps around.
        top, left = 4 - red // 2, 4 - red % 2
        bottom, right = 4 + (height + top) % 2, 4 + (width + left) % 2
        padded = functional.pad(bayer[rows], (left, right, top, bottom), mode="reflect")
        full[rows] = _edge_directed_rggb(padded)[..., top : top + height, left : left + width]
    return full


def _edge_directed_rggb(bayer: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Apply the formula to a mosaic of even sides that begins at a red site; borders wrap around."""

    def green_along(down: int, right: int) -> tuple[Tensor, Tensor]:
        before, after = _neighbour(bayer, -down, -right), _neighbour(bayer, down, right)
        far = _neighbour(bayer, -2 * down, -2 * right) + _neighbour(bayer, 2 * down, 2 * right)
        bend = 2 * bayer - far
        return (before + after) / 2 + bend / 4, (before - after).abs() + bend.abs()

    green = _along_the_smoother(*green_along(0, 1), *green_along(1, 0))
    green[..., 0::2, 1::2] = bayer[..., 0::2, 1::2]
    green[..., 1::2, 0::2] = bayer[..., 1::2, 0::2]

    difference = bayer - green

    def difference_along(down: int, right: int) -> tuple[Tensor, Tensor]:
        before, after = _neighbour(difference, -down, -right), _neighbour(difference, down, right)
        bend = 2 * green - _neighbour(green, -down, -right) - _neighbour(green, down, right)
        slope = (_neighbour(bayer, -down, -right) - _neighbour(bayer, down, right)).abs() + bend.abs()
        return (before + after) / 2, slope

    across = _along_the_smoother(*difference_along(1, 1), *difference_along(1, -1))
    beside, _ = difference_along(0, 1)
    above, _ = difference_along(1, 0)
    red, blue = difference.clone(), difference.clone()
    red[..., 1::2, 1::2], blue[..., 0::2, 0::2] = across[..., 1::2, 1::2], across[..., 0::2, 0::2]
    red[..., 0::2, 1::2], blue[..., 0::2, 1::2] = beside[..., 0::2, 1::2], above[..., 0::2, 1::2]
    red[..., 1::2, 0::2], blue[..., 1::2, 0::2] = above[..., 1::2, 0::2], beside[..., 1::2, 0::2]
    return torch.cat([red + green, green, blue + green], dim=1)

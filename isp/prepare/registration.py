"""Find the orientation and the crop of the camera's picture on the RAW mosaic, to the pixel, or say why it does not fit.

Both are compared as band-passed luminance by normalised cross-correlation: first over the whole picture at reduced size,
then in many small blocks at full size, which must agree. Tone, colour and sharpness may differ; geometry may not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from isp import cfa
from isp.camera import Camera
from isp.files.pictures import UNTURN, turned_back

COARSE_SIDE = 512  # px of the RAW's longer side while orientation, scale and position are unknown
COARSE_LOW_PX, BLOCK_LOW_PX = 6.0, 4.0  # standard deviation of the blur that is subtracted
LEAST_COARSE = 0.35  # correlation of the whole reduced picture
LEAST_BLOCK = 0.1  # correlation of a block at full size; noise at ISO 6400 leaves little more
LEAST_AGREEING = 0.75  # share of the blocks that must correlate, and agree on the position
LEAST_BLOCKS = 4
MOST_APART_PX = 0.75  # largest distance of an agreeing block from the median position
MOST_FRACTION_PX = 0.35  # largest distance of the position from a whole pixel
LEAST_TEXTURE = 0.003  # standard deviation of the band-passed picture in a block; less is noise
BLOCKS_A_SIDE = 6
BLOCK, LEAST_SIDE = 192, 64

Luminance = Float32[np.ndarray, "_ _"]  # of any size


@dataclass(frozen=True)
class Alignment:
    """Where the picture lies: turned to the sensor's orientation, its top-left pixel is the RAW's pixel (`top`, `left`).

    orientation   the EXIF orientation that was undone
    correlation   median over the blocks that correlate
    blocks        how many blocks were compared
    apart_px      largest distance of an agreeing block from the median position
    """

    orientation: int
    top: int
    left: int
    correlation: float
    blocks: int
    apart_px: float


def align(
    raw: UInt16[np.ndarray, "h w"], picture: UInt8[np.ndarray, "u v 3"], camera: Camera, orientation: int
) -> Alignment:
    """Find the upright `picture` on the mosaic; `orientation` is the RAW file's, which is tried first.

    Raises `ValueError` with the reason if the picture does not fit: another scene, a reduced copy, corrected or rotated
    geometry, a shift by a fraction of a pixel, or no detail to compare.
    """
    if min(raw.shape + picture.shape[:2]) < LEAST_SIDE:
        raise ValueError(f"expected at least {LEAST_SIDE}x{LEAST_SIDE} pixels, got {_size(raw)} and {_size(picture)}")
    step = max(2.0, max(raw.shape) / COARSE_SIDE)
    field = _band_passed(_resized(_half_size_luminance(raw, camera), 2 / step), COARSE_LOW_PX)
    luminance = _luminance_of(picture)
    found = _whole(field, step, luminance, orientation)
    if found.correlation < LEAST_COARSE:
        found = max(
            (_whole(field, step, luminance, other) for other in UNTURN if other != orientation),
            key=lambda other: other.correlation,
        )
    if found.correlation < LEAST_COARSE:
        raise ValueError(f"expected the RAW's scene, got a picture that correlates by {found.correlation:.2f} at best")
    if found.scale != 1:
        raise ValueError(
            f"expected a picture of full size, got {_size(picture)}, a copy reduced about {found.scale:.1f} times"
            if found.scale > 1
            else f"expected a picture of full size, got {_size(picture)}, a copy enlarged about {1 / found.scale:.1f} times"
        )
    return _refined(raw, turned_back(picture, found.orientation), camera, found)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"


# ---------------------------------------------------------------- luminance


def _half_size_luminance(raw: UInt16[np.ndarray, "h w"], camera: Camera) -> Luminance:
    """Return (R + 2 G + B) / 4 of each cell of the mosaic, white-balanced and display-encoded."""
    height, width = (side // 2 * 2 for side in raw.shape)
    total = np.zeros((height // 2, width // 2), np.float32)
    for colour, rows, columns in cfa.sites(camera.cfa[0]):
        total += _balanced(raw[:height, :width][rows, columns], camera, colour)
    return _encoded(total / 4)


def _full_size_luminance(raw: UInt16[np.ndarray, "h w"], camera: Camera) -> Luminance:
    """Return the same centred on every pixel: a binomial 3x3 filter weights R, G and B equally at every position."""
    import cv2

    balanced = np.empty(raw.shape, np.float32)
    for colour, rows, columns in cfa.sites(camera.cfa[0]):
        balanced[rows, columns] = _balanced(raw[rows, columns], camera, colour)
    blurred: Luminance = cv2.GaussianBlur(balanced, (3, 3), 0.8, borderType=cv2.BORDER_REFLECT_101)
    return _encoded(blurred)


def _balanced(values: UInt16[np.ndarray, "h w"], camera: Camera, colour: int) -> Luminance:
    """Return one colour of the mosaic with black subtracted, white-balanced, clipped to [0, 1]."""
    if camera.black is None or camera.white is None:
        raise ValueError(f'camera "{camera.name[0]}": expected black and white levels, got none')
    black, white = float(camera.black[0, colour]), float(camera.white[0])
    gain = float(camera.white_balance[0, colour]) / (white - black)
    balanced: Luminance = np.clip((values.astype(np.float32) - np.float32(black)) * np.float32(gain), 0, 1)
    return balanced


def _encoded(luminance: Luminance) -> Luminance:
    encoded: Luminance = np.power(luminance, np.float32(1 / 2.2))
    return encoded


def _luminance_of(picture: UInt8[np.ndarray, "u v 3"]) -> Luminance:
    return picture.astype(np.float32) @ np.array([0.25, 0.5, 0.25], np.float32) / 255


def _band_passed(luminance: Luminance, low_px: float) -> Luminance:
    """Subtract slow changes, which tone curves and vignetting alter; the position of edges stays."""
    import cv2

    luminance = np.ascontiguousarray(luminance)
    return luminance - cv2.GaussianBlur(luminance, (0, 0), low_px, borderType=cv2.BORDER_REFLECT_101)


# ---------------------------------------------------------------- the whole picture, reduced


@dataclass(frozen=True)
class _Whole:
    orientation: int
    scale: float  # pixels of the RAW per pixel of the picture
    top: float
    left: float
    correlation: float
    step: float  # pixels of the RAW per compared pixel


def _whole(field: Luminance, step: float, upright: Luminance, orientation: int) -> _Whole:
    """Find the best position of the picture in that orientation, at scale 1 and at the scales at which it fills the RAW.

    `field` is the band-passed RAW, reduced by `step`.
    """
    import cv2

    turned = UNTURN[orientation](upright)
    filling = min(step * side / own for side, own in zip(field.shape, turned.shape, strict=True))
    # A camera crops a few per cent of the visible area.
    others = [] if abs(filling - 1) < 0.1 else [filling * share / 100 for share in range(90, 101)]
    best = _Whole(orientation, 1.0, 0.0, 0.0, -1.0, step)
    for scale in (1.0, *others):
        reduced = _band_passed(UNTURN[orientation](_resized(upright, scale / step)), COARSE_LOW_PX)
        height, width = reduced.shape
        # The picture may extend slightly beyond the RAW; its central part does not.
        top, left = height // 8, width // 8
        part = reduced[top : height - top, left : width - left]
        if min(part.shape) < 8 or any(own > side for own, side in zip(part.shape, field.shape, strict=True)):
            continue
        scores = cv2.matchTemplate(field, np.ascontiguousarray(part), cv2.TM_CCOEFF_NORMED)
        _, score, _, (column, row) = cv2.minMaxLoc(scores)
        if score > best.correlation:
            best = _Whole(orientation, scale, (row - top) * step, (column - left) * step, float(score), step)
    return best


def _resized(luminance: Luminance, factor: float) -> Luminance:
    import cv2

    height, width = (max(1, round(side * factor)) for side in luminance.shape)
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized: Luminance = cv2.resize(luminance, (width, height), interpolation=kind)
    return resized


# ---------------------------------------------------------------- blocks at full size


@dataclass(frozen=True)
class _Block:
    row: float  # of its centre in the picture
    column: float
    top: float  # position of the picture on the RAW, according to this block
    left: float
    correlation: float


def _refined(
    raw: UInt16[np.ndarray, "h w"], picture: UInt8[np.ndarray, "u v 3"], camera: Camera, found: _Whole
) -> Alignment:
    """Find the position to the pixel. Raises `ValueError` if blocks are too few, do not correlate or do not agree."""
    blocks = list(_blocks(raw, picture, camera, found))
    if len(blocks) < LEAST_BLOCKS:
        raise ValueError(f"expected detail in at least {LEAST_BLOCKS} places to compare, got it in {len(blocks)}")
    like = [block for block in blocks if block.correlation >= LEAST_BLOCK]
    if len(like) < LEAST_AGREEING * len(blocks):
        raise ValueError(
            f"expected a correlation of {LEAST_BLOCK} in {LEAST_AGREEING:.0%} of {len(blocks)} blocks, "
            f"got it in {len(like)}"
        )
    places = np.array([[block.top, block.left] for block in like])
    place = np.median(places, axis=0)
    apart = np.abs(places - place).max(axis=1)
    agreeing = int((apart <= MOST_APART_PX).sum())
    if agreeing < LEAST_AGREEING * len(blocks):
        raise ValueError(
            f"expected one shift for the whole picture, got blocks up to {apart.max():.1f} px apart "
            f"(scale {_scale(like):.4f}); the picture may be resized, or its lens distortion corrected"
        )
    top, left = (round(float(side)) for side in place)
    fraction = float(np.abs(place - np.round(place)).max())
    if fraction > MOST_FRACTION_PX:
        raise ValueError(f"expected a shift by whole pixels, got {place[0]:.2f}, {place[1]:.2f}")
    return Alignment(
        orientation=found.orientation,
        top=top,
        left=left,
        correlation=float(np.median([block.correlation for block in like])),
        blocks=len(blocks),
        apart_px=float(apart[apart <= MOST_APART_PX].max()),
    )


def _blocks(
    raw: UInt16[np.ndarray, "h w"], picture: UInt8[np.ndarray, "u v 3"], camera: Camera, found: _Whole
) -> Iterator[_Block]:
    """Compare a grid of blocks over the common area; blocks without detail are left out."""
    import cv2

    reach = math.ceil(1.5 * found.step) + 2
    first = [max(0, math.ceil(reach - place)) for place in (found.top, found.left)]
    last = [
        min(own, math.floor(side - reach - place))
        for own, side, place in zip(picture.shape[:2], raw.shape, (found.top, found.left), strict=True)
    ]
    side = min(BLOCK, (last[0] - first[0]) // 3, (last[1] - first[1]) // 3)
    if side < LEAST_SIDE // 4:
        return
    rows, columns = (
        np.linspace(start, end - side, BLOCKS_A_SIDE).astype(int) for start, end in zip(first, last, strict=True)
    )
    for row, column in ((int(row), int(column)) for row in rows for column in columns):
        cut = picture[row : row + side, column : column + side]
        own = _band_passed(cv2.GaussianBlur(_luminance_of(cut), (3, 3), 0.8), BLOCK_LOW_PX)
        if own.std() < LEAST_TEXTURE:
            continue
        top, left = (math.floor(place) + at - reach for place, at in ((found.top, row), (found.left, column)))
        window = raw[top : top + side + 2 * reach, left : left + side + 2 * reach]
        field = _band_passed(_full_size_luminance(window, camera.crop(top, left)), BLOCK_LOW_PX)
        scores = cv2.matchTemplate(field, own, cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(scores)
        yield _Block(
            row + side / 2,
            column + side / 2,
            top + y + _peak(scores[:, x], y) - row,
            left + x + _peak(scores[y], x) - column,
            float(score),
        )


def _peak(scores: Float32[np.ndarray, " n"], at: int) -> float:
    """Return the offset, in [-0.5, 0.5], of the parabola's peak through the highest score and its two neighbours."""
    if not 0 < at < len(scores) - 1:
        return 0.0
    before, here, after = (float(score) for score in scores[at - 1 : at + 2])
    curvature = before - 2 * here + after
    return 0.0 if curvature >= 0 else 0.5 * (before - after) / curvature


def _scale(blocks: list[_Block]) -> float:
    """Estimate the pixels of the RAW per pixel of the picture, by least squares over the blocks."""
    places = np.array([[block.row, block.column] for block in blocks])
    shifts = np.array([[block.top, block.left] for block in blocks])
    places, shifts = places - places.mean(axis=0), shifts - shifts.mean(axis=0)
    return 1 + float((places * shifts).sum() / max((places**2).sum(), 1e-9))

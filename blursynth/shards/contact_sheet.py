"""The contact sheet of a set of shards: sharp, blurred, and their difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blursynth.shards.folders import shards_of
from blursynth.shards.reader import open_shard, records_of
from isp.files import pictures

CONTACT_SHEET = "contact_sheet.png"

_TILE, _GAP, _CAPTION = 256, 8, 20  # pixels
_DIFFERENCE_GAIN = 8


def write_contact_sheet(place: Path, out: Path | None = None, most: int = 8) -> Path:
    """Draw sharp | blurred | 8x difference of up to `most` pairs, spread over the set, and return the path of the sheet.

    If the shards hold kernels, each is shown in a corner of its blurred image. Without `out`, the sheet goes beside the
    shards. Raises `ValueError` if there is no pair, `OSError` if the sheet cannot be written.
    """
    entries = records_of(shards_of(place))
    if not entries:
        raise ValueError(f"{place}: expected at least one pair, got none; every sample was skipped")
    chosen = [entries[at] for at in np.linspace(0, len(entries) - 1, min(most, len(entries))).round().astype(int)]
    strips = [_strip(*entry) for entry in chosen]
    if len(strips) % 2 and len(strips) > 1:
        strips.append(np.full_like(strips[0], 255))
    columns = 2 if len(strips) > 1 else 1
    rows = [np.concatenate(strips[at : at + columns], axis=1) for at in range(0, len(strips), columns)]
    path = out or (place / CONTACT_SHEET if place.is_dir() else place.with_suffix(".png"))
    try:
        pictures.write_image(path, np.concatenate(rows, axis=0))
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(path)) from problem
    return path


def _strip(path: Path, position: int, record: dict[str, Any]) -> np.ndarray:
    """The strip of one pair: three tiles side by side under a caption."""
    import cv2

    with open_shard(path) as shard:
        blur, sharp = (_eight_bit(shard.read(name, position)) for name in ("blur", "sharp"))
        kernel = shard.read("kernel", position) if "kernel" in shard.names else None
    difference = np.abs(blur.astype(np.int16) - sharp) * _DIFFERENCE_GAIN
    tiles = [_fitted(sharp), _fitted(blur), _fitted(difference.clip(0, 255).astype(np.uint8))]
    if kernel is not None:
        _inset(tiles[1], kernel)
    strip = np.full((_CAPTION + _TILE + _GAP, 3 * (_TILE + _GAP), 3), 255, np.uint8)
    for column, tile in enumerate(tiles):
        left = column * (_TILE + _GAP) + _GAP // 2
        strip[_CAPTION : _CAPTION + tile.shape[0], left : left + tile.shape[1]] = tile
    caption = _caption(record).encode("ascii", "replace").decode()  # OpenCV draws ASCII, and crashes if it is not UTF-8
    cv2.putText(strip, caption, (_GAP // 2, _CAPTION - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Pixels of 8 or 16 bits, in 8 bits."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _fitted(tile: np.ndarray) -> np.ndarray:
    """Every n-th pixel of `tile`, so that it fits; averaging would hide noise and edges."""
    step = max(1, -(-max(tile.shape[:2]) // _TILE))
    return np.ascontiguousarray(tile[::step, ::step])


def _inset(tile: np.ndarray, kernel: np.ndarray) -> None:
    """Draw the kernel, brightened, into the lower right corner of `tile`, if there is room."""
    scale = max(1, 64 // len(kernel))
    drawn = np.kron(np.sqrt(kernel / kernel.max()), np.ones((scale, scale)))
    size = len(drawn)
    if size + 1 < min(tile.shape[:2]):
        tile[-size - 1 :, -size - 1 :] = 255
        tile[-size:, -size:] = (255 * drawn)[..., None].astype(np.uint8)


def _caption(record: dict[str, Any]) -> str:
    """The index, the source and what was drawn, in one line."""
    camera = record["camera"] or {}
    drawn = record["dice"]
    parts = [f"#{record['index']}", Path(record["source"]).name]
    if camera.get("iso"):
        parts.append(f"ISO {camera['iso']:.0f}")
    parts += [f"{drawn[key]}" for key in ("camera_shake.family",) if key in drawn]
    parts += [f"{drawn[key]} px" for key in ("camera_shake.size",) if key in drawn]
    ratio = record["blur_psnr_db"]
    parts.append("unchanged" if ratio is None else f"{ratio:.1f} dB")
    return "  ".join(parts)

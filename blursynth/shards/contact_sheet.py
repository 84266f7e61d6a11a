"""The contact sheet of a set of shards: sharp, blurred, and their difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blursynth.shards import folders, shard
from isp.files import pictures

CONTACT_SHEET = "contact_sheet.png"


_TILE = 256


_GAP = 8


_CAPTION = 20


_DIFFERENCE_GAIN = 8


def shards_of(place: Path) -> list[Path]:
    """The finished shards in a folder, or the one named. Raises `ValueError` where there is none."""
    found = folders.shards_in(place) if place.is_dir() else [place]
    if not found or not all(path.is_file() for path in found):
        raise ValueError(
            f"{place}: expected a shard or a folder of shards (shard-00000.h5), got none; run blursynth.make"
        )
    return found


def records_of(paths: Sequence[Path]) -> list[tuple[Path, int, dict[str, Any]]]:
    """(shard, position in it, record) of every pair."""
    found = []
    for path in paths:
        with shard.open_shard(path) as file:
            found += [(path, at, json.loads(record)) for at, record in enumerate(file["record"][:])]
    return found


def write_contact_sheet(place: Path, out: Path | None = None, most: int = 8) -> Path:
    """Draws sharp | blurred | 8x difference of up to `most` pairs, spread over the set, and returns where it is.

    Kernels are shown in a corner of the blurred image where the shards hold them. Without `out` the sheet goes beside
    the shards. Raises `ValueError` where there is no shard.
    """
    entries = records_of(shards_of(place))
    if not entries:
        raise ValueError(f"{place}: expected at least one pair, got none; every sample of it was skipped")
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


def _strip(path: Path, at: int, record: dict[str, Any]) -> np.ndarray:
    """One pair: three tiles side by side under a caption."""
    import cv2

    with shard.open_shard(path) as file:
        blur, sharp = (_eight_bit(file[name][at]) for name in ("blur", "sharp"))
        kernel = file["kernel"][at] if "kernel" in file else None
    difference = np.abs(blur.astype(np.int16) - sharp) * _DIFFERENCE_GAIN
    tiles = [_fitted(sharp), _fitted(blur), _fitted(difference.clip(0, 255).astype(np.uint8))]
    if kernel is not None:
        _inset(tiles[1], kernel)
    strip = np.full((_CAPTION + _TILE + _GAP, 3 * (_TILE + _GAP), 3), 255, np.uint8)
    for column, tile in enumerate(tiles):
        left = column * (_TILE + _GAP) + _GAP // 2
        strip[_CAPTION : _CAPTION + tile.shape[0], left : left + tile.shape[1]] = tile
    caption = _caption(record).encode("ascii", "replace").decode()  # OpenCV dies of names that are not UTF-8
    cv2.putText(strip, caption, (_GAP // 2, _CAPTION - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _fitted(tile: np.ndarray) -> np.ndarray:
    """`tile` scaled down to the size of the sheet's tiles, by whole pixels so that noise and edges stay honest."""
    step = max(1, -(-max(tile.shape[:2]) // _TILE))
    return np.ascontiguousarray(tile[::step, ::step])


def _inset(tile: np.ndarray, kernel: np.ndarray) -> None:
    """Draws the kernel, brightened, into the lower right corner."""
    scale = max(1, 64 // len(kernel))
    drawn = np.kron(np.sqrt(kernel / kernel.max()), np.ones((scale, scale)))
    size = len(drawn)
    if size + 1 < min(tile.shape[:2]):
        tile[-size - 1 :, -size - 1 :] = 255
        tile[-size:, -size:] = (255 * drawn)[..., None].astype(np.uint8)


def _caption(record: dict[str, Any]) -> str:
    camera = record["camera"] or {}
    dice = record["dice"]
    parts = [f"#{record['index']}", Path(record["source"]).name]
    if camera.get("iso"):
        parts.append(f"ISO {camera['iso']:.0f}")
    parts += [f"{dice[key]}" for key in ("camera_shake.family",) if key in dice]
    parts += [f"{dice[key]} px" for key in ("camera_shake.size",) if key in dice]
    ratio = record["blur_psnr_db"]
    parts.append("unchanged" if ratio is None else f"{ratio:.1f} dB")
    return "  ".join(parts)

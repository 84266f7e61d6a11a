"""Training batches: a patch is found by (seed, step, row), so that resuming needs no state of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa
from isp.camera import Camera
from isp.pairs import Pair, Split, split
from isp.rng import generator


class Batch(NamedTuple):
    """Patches with the cameras that took them; `bayer` as recorded, `srgb` the camera's own picture."""

    bayer: Float[Tensor, "b 1 h w"]
    srgb: Float[Tensor, "b 3 h w"]
    camera: Camera

    def to(self, device: torch.device) -> Batch:
        return Batch(self.bayer.to(device), self.srgb.to(device), self.camera.to(device))


@dataclass(frozen=True)
class Folders:
    """One folder of pairs for each camera. Every epoch takes equally many patches of each, in a new order.

    Source: kim2024, §S5; kim2024, ParamISP@0e4913f (samplers)
    """

    paths: tuple[Path, ...]

    def pairs(self, name: Split) -> list[list[Pair]]:
        """The pairs of a split, by camera. Raises `ValueError` where a folder has none."""
        found = [split(path, name) for path in self.paths]
        empty = [str(path) for path, pairs in zip(self.paths, found, strict=True) if not pairs]
        if empty:
            raise ValueError(f"{', '.join(empty)}: expected pairs in {name}.txt, got none")
        return found


def training_batch(
    pairs: Sequence[Sequence[Pair]], seed: int, step: int, rows: range, batch: int, patches: int, patch: int
) -> Batch:
    """The `rows` (of 0 to `batch` - 1) of training step `step`: each a random window of a random pair of its camera.

    Raises `ValueError` for a picture that is smaller than a patch.
    """
    per_epoch = patches * len(pairs)
    drawn = []
    for row in rows:
        epoch, place = divmod(step * batch + row, per_epoch)
        order = generator(seed, epoch, "train.order").permutation(per_epoch)
        of_camera = pairs[int(order[place]) % len(pairs)]
        rng = generator(seed, step * batch + row, "train.patch")
        pair = of_camera[int(rng.integers(len(of_camera)))]
        if min(pair.size) < patch:
            raise ValueError(
                f"{pair.path}: expected at least {patch}x{patch} pixels, got {pair.size[0]}x{pair.size[1]}"
            )
        top, left = (int(rng.integers(0, side - patch, endpoint=True)) for side in pair.size)
        drawn.append(pair.window(top, left, patch, patch))
    return stacked(drawn)


def validation_batches(pairs: Sequence[Sequence[Pair]], patches: int, patch: int) -> list[Batch]:
    """The middle windows of up to `patches` pairs, as many of each camera, one a batch; of small pictures all they have."""
    each = max(1, patches // len(pairs))
    batches = []
    for pair in (pair for of_camera in pairs for pair in of_camera[:each]):
        height, width = (min(side, patch) for side in pair.size)
        top, left = (pair.size[0] - height) // 2, (pair.size[1] - width) // 2
        batches.append(stacked([pair.window(top, left, height, width)]))
    return batches


def stacked(windows: Sequence[tuple[Tensor, Tensor, Camera]]) -> Batch:
    """One batch of windows of one size."""
    bayers, pictures, cameras = zip(*windows, strict=True)
    return Batch(torch.cat(bayers), torch.cat(pictures), Camera.stack(cameras))


def quantisation_noise(batch: Batch, seed: int, step: int, rows: range, width: int, std: float) -> Batch:
    """Gaussian noise of `std` quantisation steps on both pictures, addressed by row: 1/255 of sRGB, one raw level of RAW.

    `width` is the number of rows in a step. Source: kim2024, ParamISP@0e4913f
    """
    rngs = [generator(seed, step * width + row, "train.noise") for row in rows]

    def normal(like: Tensor) -> Tensor:
        drawn = [torch.from_numpy(rng.standard_normal(like[0].numel(), dtype="float32")) for rng in rngs]
        return torch.stack(drawn).view(like.shape)

    camera = batch.camera
    levels = torch.ones_like(batch.bayer)
    if camera.white is not None and camera.black is not None:
        span = (camera.white[:, None] - camera.black)[:, :, None, None].expand(-1, -1, *batch.bayer.shape[-2:])
        levels = cfa.mosaic(span.contiguous(), camera.cfa)
    bayer = batch.bayer + std / levels * normal(batch.bayer)
    return Batch(bayer, batch.srgb + std / 255 * normal(batch.srgb), camera)

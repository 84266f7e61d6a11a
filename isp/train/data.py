"""Training batches: (seed, step, row) determines a patch, so that resuming needs no state of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isp import cfa
from isp.camera import Camera
from isp.contract import Batch, Edit, TrainingBatch
from isp.files import photographs
from isp.files.pictures import Picture, read_image
from isp.pairs import Pair, Split, split
from isp.rng import generator
from isp.train.plan import Plan
from isp.virtual import cameras, scenes, simulate
from isp.virtual.simulate import Shot


@dataclass(frozen=True)
class Folders:
    """One folder of pairs for each camera. Every epoch takes equally many patches of each, in a new order.

    Source: kim2024, §S5; kim2024, ParamISP@0e4913f (samplers)
    """

    paths: tuple[Path, ...]

    def pairs(self, name: Split) -> list[list[Pair]]:
        """List the pairs of a split, by camera. Raises `ValueError` if a folder has none."""
        found = [split(path, name) for path in self.paths]
        empty = [str(path) for path, pairs in zip(self.paths, found, strict=True) if not pairs]
        if empty:
            raise ValueError(f"{', '.join(empty)}: expected pairs in {name}.txt, got none")
        return found


@dataclass(frozen=True)
class VirtualPair:
    """A shot of a virtual camera, taken anew for each access. The camera, the scene's number and the side determine it.

    Every second scene is a photograph, the others are dead leaves with its colours. A share `low_key` of them gets up to 6
    stops less light than its exposure is made for.
    """

    virtual_camera: str
    number: int
    side: int
    photographs: tuple[Path, ...]
    low_key: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    @property
    def path(self) -> str:
        return f"{self.virtual_camera}, scene {self.number}"

    @property
    def camera(self) -> Camera:
        return self._shot().camera

    def _shot(self) -> Shot:
        rng = generator(self.number, self.side, f"train.{self.virtual_camera}")
        chosen = _photograph(self.photographs[int(rng.integers(len(self.photographs)))])
        if self.number % 2:
            scene = scenes.from_photograph(chosen, self.side, self.side, rng)
        else:
            scene = scenes.dead_leaves(self.side, self.side, rng, [chosen])
        is_low, depth = generator(self.number, self.side, f"train.low_key.{self.virtual_camera}").uniform(size=2)
        if is_low < self.low_key:
            scene = scenes.Scene(scene.linear * 2 ** (-6 * depth), scene.ev100)
        return simulate.take(scene, cameras.load(self.virtual_camera), rng)

    def window(self, top: int, left: int, height: int, width: int) -> tuple[Tensor, Tensor, Camera]:
        """Return (bayer, srgb, camera) of a window; the camera has the window's CFA phase."""
        shot = self._shot().crop(top, left, height, width)
        srgb = torch.from_numpy(shot.srgb.astype("float32")).div_(255).permute(2, 0, 1)[None]
        return shot.bayer(), srgb.contiguous(), shot.camera


@cache
def _photograph(path: Path) -> Picture:
    return read_image(path)


@dataclass(frozen=True)
class VirtualShots:
    """Virtual cameras over the built-in photographs, some of which only validation and test see.

    A shot is one pixel wider and higher than a patch, so that all CFA phases occur. Each camera sees `shots` scenes for
    training, and `held_out` scenes (by default a twentieth of `shots`) each for validation and for the test.
    """

    cameras: tuple[str, ...]
    shots: int
    patch: int
    held_out: int | None = None
    low_key: float = 0.0

    @staticmethod
    def of(plan: Plan) -> VirtualShots:
        """Return what a plan trains on if no data are given."""
        return VirtualShots(plan.cameras, plan.shots, plan.patch, low_key=plan.low_key)

    def pairs(self, name: Split) -> list[list[VirtualPair]]:
        """List the shots of a split, by camera. Raises `ValueError` for an unknown camera."""
        training, held_out = scenes.split(photographs.NAMES)
        folder = photographs.folder()
        seen = tuple(folder / file for file in (training if name == "train" else held_out))
        others = max(2, self.shots // 20) if self.held_out is None else self.held_out
        count = self.shots if name == "train" else others
        for camera in self.cameras:
            cameras.load(camera)
        first = {"train": 0, "val": 1_000_000, "test": 2_000_000}[name]
        return [
            [VirtualPair(camera, first + at, self.patch + 1, seen, self.low_key) for at in range(count)]
            for camera in self.cameras
        ]


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draw the order of the patches of an epoch, once for all rows."""
    return generator(seed, epoch, "train.order").permutation(count)


def training_batch(
    pairs: Sequence[Sequence[Pair | VirtualPair]], plan: Plan, step: int, rows: range, device: torch.device
) -> TrainingBatch:
    """Make what training step `step` sees of `pairs`, by camera: the `rows` (of 0 to `plan.batch` - 1), with noise.

    Raises `ValueError` for a picture that is smaller than a patch.
    """
    clean = clean_batch(pairs, plan.seed, step, rows, plan.batch, plan.patches, plan.patch)
    noisy = quantisation_noise(clean, plan.seed, step, rows, plan.batch, plan.noise).to(device)
    clean = clean.to(device)
    return TrainingBatch(
        noisy=noisy,
        clean=clean,
        edit=Edit(expose=partial(cfa.mosaic, cfa=clean.camera.cfa), srgb=clean.srgb, reference=noisy.srgb),
        border=plan.border,
        rows=rows,
        generator=torch.Generator(device="cpu").manual_seed(plan.seed * 1_000_003 + step),
    )


def clean_batch(
    pairs: Sequence[Sequence[Pair | VirtualPair]],
    seed: int,
    step: int,
    rows: range,
    batch: int,
    patches: int,
    patch: int,
) -> Batch:
    """Cut the `rows` of a training step out of their pairs: each is a random window of a random pair of its camera.

    Raises `ValueError` for a picture that is smaller than a patch.
    """
    per_epoch = patches * len(pairs)
    drawn = []
    for row in rows:
        epoch, place = divmod(step * batch + row, per_epoch)
        candidates = pairs[int(_order(seed, epoch, per_epoch)[place]) % len(pairs)]
        rng = generator(seed, step * batch + row, "train.patch")
        pair = candidates[int(rng.integers(len(candidates)))]
        if min(pair.size) < patch:
            raise ValueError(
                f"{pair.path}: expected at least {patch}x{patch} pixels, got {pair.size[0]}x{pair.size[1]}"
            )
        top, left = (int(rng.integers(0, side - patch, endpoint=True)) for side in pair.size)
        drawn.append(pair.window(top, left, patch, patch))
    return stacked(drawn)


def validation_batches(pairs: Sequence[Sequence[Pair | VirtualPair]], patches: int, patch: int) -> list[Batch]:
    """Cut the middle windows out of up to `patches` pairs, equally many of each camera, one a batch.

    A picture smaller than a patch stays whole.
    """
    each = max(1, patches // len(pairs))
    batches = []
    for pair in (pair for candidates in pairs for pair in candidates[:each]):
        height, width = (min(side, patch) for side in pair.size)
        top, left = (pair.size[0] - height) // 2, (pair.size[1] - width) // 2
        batches.append(stacked([pair.window(top, left, height, width)]))
    return batches


def stacked(windows: Sequence[tuple[Tensor, Tensor, Camera]]) -> Batch:
    """Stack windows of one size into a batch."""
    bayers, pictures, cameras = zip(*windows, strict=True)
    return Batch(torch.cat(bayers), torch.cat(pictures), Camera.stack(cameras))


def quantisation_noise(batch: Batch, seed: int, step: int, rows: range, width: int, std: float) -> Batch:
    """Add Gaussian noise of `std` quantisation steps to both pictures, addressed by row.

    A quantisation step is 1/255 of sRGB, and one raw level of RAW. `width` is the number of rows in a training step.
    Source: kim2024, ParamISP@0e4913f
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

"""Photographs of any size through any ISP, within a given memory.

An ISP that pools over the whole image knows its own ways (`contract.Bounded`). Any other sees no farther than its halo, so
that strips with that much around them give the same as the whole.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from isp import cfa
from isp.camera import Camera
from isp.contract import ISP, Bounded, Direction, Meter, Strategy

SHARE = 0.8
STRIP_ROWS = 256
SECONDS_A_LINE = 5
BYTES_A_PIXEL = 200  # of a parametric ISP at once, float32: its input, output and a dozen maps between


def inverse(
    camera_isp: ISP, srgb: Float[Tensor, "1 3 h w"], camera: Camera, memory_bytes: int
) -> Float[Tensor, "1 3 h w"]:
    """`sensor` of one photograph, with the process within `memory_bytes`; says on stderr how, and how far it is.

    Raises `ValueError` where no strategy is that small.
    """
    return _run(camera_isp, "inverse", srgb, camera, memory_bytes)


def forward(
    camera_isp: ISP, bayer: Float[Tensor, "1 1 h w"], camera: Camera, memory_bytes: int
) -> Float[Tensor, "1 3 h w"]:
    """sRGB in [0, 1] of one mosaic, else as `inverse`."""
    return _run(camera_isp, "forward", bayer, camera, memory_bytes)


def _run(camera_isp: ISP, direction: Direction, image: Tensor, camera: Camera, memory_bytes: int) -> Tensor:
    strategy = strategy_for(camera_isp, direction, image, memory_bytes)
    height, width = image.shape[-2:]
    most = (_resident_bytes(image.device) + strategy.peak_bytes) / 1e9
    sys.stderr.write(f"{camera_isp.name} {direction} of {height}x{width}: {strategy.said}, {most:.1f} GB at most\n")
    with _progress(direction, strategy.work) as meter:
        return strategy.run(image, camera, meter)


def strategy_for(camera_isp: ISP, direction: Direction, image: Float[Tensor, "b c h w"], memory_bytes: int) -> Strategy:
    """The preferred way that keeps the process within `memory_bytes`. Raises `ValueError` where none does."""
    count, _, height, width = image.shape
    ways: Sequence[Strategy] = (_local(camera_isp, direction, image),)
    if isinstance(camera_isp, Bounded):
        ways = camera_isp.strategies(direction, count, height, width)
    taken = _resident_bytes(image.device)
    strategy = next((strategy for strategy in ways if taken + strategy.peak_bytes <= memory_bytes), None)
    if strategy is None:
        least = taken + min(strategy.peak_bytes for strategy in ways)
        raise ValueError(
            f"{camera_isp.name}: expected {least / 1e9:.1f} GB of memory for {direction} of {height}x{width} pixels, "
            f"got {memory_bytes / 1e9:.1f} GB; allow more, or give a smaller picture"
        )
    return strategy


def budget_bytes(device: torch.device | str) -> int:
    """What is taken where nobody says: `SHARE` of the memory that is free or this process's already.

    Of the CUDA device; else of the machine or the container, whichever has less.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free = float(torch.cuda.mem_get_info(device)[0])
    else:
        free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        table = Path("/proc/meminfo")
        if table.is_file():
            rows = (line.split() for line in table.read_text(encoding="utf-8").splitlines())
            free = next((1024.0 * int(row[1]) for row in rows if row[0] == "MemAvailable:"), free)
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
        if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
            free = min(free, float(limit.read_text()) - float(used.read_text()))
    return int(SHARE * (max(0.0, free) + _resident_bytes(device)))


@contextmanager
def _progress(direction: Direction, work: float) -> Iterator[Meter]:
    """A bar on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        with tqdm(total=work, bar_format=f"{direction} {{percentage:3.0f}} %, {{remaining}} left", leave=False) as bar:
            yield bar.update
        return
    done, began = 0.0, time.monotonic()
    said = began

    def line(step: float) -> None:
        nonlocal done, said
        done, now = done + step, time.monotonic()
        if now - said > SECONDS_A_LINE:
            left_s = (now - began) * max(0.0, work / done - 1)
            sys.stderr.write(f"{direction} {min(1.0, done / work):.0%}, {left_s:.0f} s left\n")
            said = now

    yield line


def _local(camera_isp: ISP, direction: Direction, image: Tensor) -> Strategy:
    """Of an ISP that sees no farther than its halo."""
    height, width = image.shape[-2:]
    limits = camera_isp.limits
    halo = limits.inverse_halo if direction == "inverse" else limits.forward_halo
    whole_cells = math.lcm(2, limits.multiple_of)  # the CFA phase stays
    halo = -(-halo // whole_cells) * whole_cells

    def in_strips(image: Tensor, camera: Camera, meter: Meter) -> Tensor:
        result = image.new_empty(len(image), 3, height, width)
        for place, window, inner in cfa.strips(height, STRIP_ROWS, halo):
            result[:, :, place] = getattr(camera_isp, direction)(image[:, :, window], camera)[:, :, inner]
            meter(float(place.stop - place.start))
        return result

    peak_bytes = len(image) * (12.0 * height + BYTES_A_PIXEL * (STRIP_ROWS + 2 * halo)) * width
    return Strategy(said="in strips", peak_bytes=peak_bytes, work=float(height), run=in_strips)


def _resident_bytes(device: torch.device) -> float:
    """What is taken already: by the process, or of the device's memory."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    statm = Path("/proc/self/statm")
    if statm.exists():
        return float(int(statm.read_text().split()[1]) * resource.getpagesize())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)  # kilobytes elsewhere

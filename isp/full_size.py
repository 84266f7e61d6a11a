"""Images of any size through any ISP, within a given amount of memory.

An ISP that pools over the whole image brings its own strategies (`contract.Bounded`). Every other ISP sees no farther than
its halo, so strips that overlap by the halo give the same result as the whole image.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa, command
from isp.camera import Camera
from isp.contract import ISP, Bounded, Direction, Meter, Strategy

SHARE = 0.8
STRIP_ROWS = 256
BYTES_A_PIXEL = 200  # of a parametric ISP, float32: its input, its output and a dozen maps between


def inverse(
    camera_isp: ISP, srgb: Float[Tensor, "1 3 h w"], camera: Camera, memory_bytes: int
) -> Float[Tensor, "1 3 h w"]:
    """Return `sensor` of one photograph; the process stays within `memory_bytes`. Strategy and progress go to stderr.

    Raises `ValueError` if no strategy fits the budget.
    """
    return _run(camera_isp, "inverse", srgb, camera, None, memory_bytes)


def forward(
    camera_isp: ISP,
    bayer: Float[Tensor, "1 1 h w"],
    camera: Camera,
    memory_bytes: int,
    *,
    reference: Float[Tensor, "1 3 h w"] | None = None,
) -> Float[Tensor, "1 3 h w"]:
    """Return sRGB in [0, 1] of one mosaic, otherwise as `inverse`.

    `reference` is the sRGB picture of the same scene, for an ISP that needs one; it is cut into the same strips.
    """
    return _run(camera_isp, "forward", bayer, camera, reference, memory_bytes)


def _run(
    camera_isp: ISP, direction: Direction, image: Tensor, camera: Camera, reference: Tensor | None, memory_bytes: int
) -> Tensor:
    strategy = strategy_for(camera_isp, direction, image, memory_bytes)
    height, width = image.shape[-2:]
    most = (_resident_bytes(image.device) + strategy.peak_bytes) / 1e9
    command.warn(f"{camera_isp.name} {direction} of {height}x{width}: {strategy.label}, at most {most:.1f} GB")

    def line(pace: command.Pace) -> str:
        return f"{direction} {min(1.0, pace.done / pace.total):.0%}, {pace.left_s:.0f} s left"

    with command.progress(strategy.work, line) as meter:
        return strategy.run(image, camera, reference, meter)


def strategy_for(camera_isp: ISP, direction: Direction, image: Float[Tensor, "b c h w"], memory_bytes: int) -> Strategy:
    """Return the preferred strategy that keeps the process within `memory_bytes`. Raises `ValueError` if none does."""
    count, _, height, width = image.shape
    strategies: Sequence[Strategy] = (_local(camera_isp, direction, image),)
    if isinstance(camera_isp, Bounded):
        strategies = camera_isp.strategies(direction, count, height, width)
    taken = _resident_bytes(image.device)
    chosen = next((strategy for strategy in strategies if taken + strategy.peak_bytes <= memory_bytes), None)
    if chosen is None:
        least = taken + min(strategy.peak_bytes for strategy in strategies)
        raise ValueError(
            f"{camera_isp.name}: expected at least {least / 1e9:.1f} GB of memory for {direction} of {height}x{width} "
            f"pixels, got {memory_bytes / 1e9:.1f} GB; allow more memory, or use a smaller picture"
        )
    return chosen


def budget_bytes(device: torch.device | str) -> int:
    """Return the default budget: `SHARE` of the memory that is free or already taken by this process.

    It is the memory of the CUDA device, else the least of that of the machine, of its container, and of what `ulimit -v`
    leaves to this process.
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
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free = min(free, most - _addressed_bytes())
    return int(SHARE * (max(0.0, free) + _resident_bytes(device)))


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what torch and OpenCV raise if the memory does not suffice into `MemoryError`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        if command.lacks_memory(problem):
            raise MemoryError(str(problem).partition("\n")[0]) from problem
        raise


def _local(camera_isp: ISP, direction: Direction, image: Tensor) -> Strategy:
    """Return the strategy for an ISP that sees no farther than its halo: strips that overlap by it."""
    height, width = image.shape[-2:]
    limits = camera_isp.limits
    halo = limits.inverse_halo if direction == "inverse" else limits.forward_halo
    whole_cells = math.lcm(2, limits.multiple_of)  # keeps the CFA phase
    halo = -(-halo // whole_cells) * whole_cells
    rows = -(-STRIP_ROWS // whole_cells) * whole_cells

    def in_strips(image: Tensor, camera: Camera, reference: Tensor | None, meter: Meter) -> Tensor:
        result = image.new_empty(len(image), 3, height, width)
        for place, window, inner in cfa.strips(height, rows, halo):
            strip = image[:, :, window]
            if direction == "inverse":
                rendered = camera_isp.inverse(strip, camera)
            else:
                part = None if reference is None else reference[:, :, window]
                rendered = camera_isp.forward(strip, camera, reference=part)
            result[:, :, place] = rendered[:, :, inner]
            meter(float(place.stop - place.start))
        return result

    peak_bytes = len(image) * (12.0 * height + BYTES_A_PIXEL * (rows + 2 * halo)) * width
    return Strategy(label="in strips", peak_bytes=peak_bytes, work=float(height), run=in_strips)


def _addressed_bytes() -> float:
    """Return the size of the address space of this process; 0 if the system does not say."""
    statm = Path("/proc/self/statm")
    return float(int(statm.read_text().split()[0]) * resource.getpagesize()) if statm.exists() else 0.0


def _resident_bytes(device: torch.device) -> float:
    """Return the memory that this process has taken already, on the CUDA device or else in all."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    statm = Path("/proc/self/statm")
    if statm.exists():
        return float(int(statm.read_text().split()[1]) * resource.getpagesize())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)  # kilobytes elsewhere

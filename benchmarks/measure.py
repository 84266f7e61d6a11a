"""Timing for benchmarks: everything that is compared runs interleaved, in one process, on one thread."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> str:
    """The machine and how busy it is: figures are read with this beside them."""
    cpu = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores, load {load}, torch {torch.__version__}"


def interleaved(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of every task in every round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            began = time.process_time()
            task()
            if turn:
                seconds[name].append(time.process_time() - began)
    return seconds


def ms(seconds: list[float]) -> str:
    """Least and median, in milliseconds."""
    return f"{1e3 * min(seconds):8.2f} {1e3 * statistics.median(seconds):8.2f}"


def ratio(seconds: list[float], against: list[float]) -> float:
    """Of the medians: both were measured side by side, so that the machine's noise falls on both."""
    return statistics.median(seconds) / statistics.median(against)

"""`python -m isp.evaluate --isp paramisp/FOLDER --data PAIRS`: computes the paper's tables for any ISP on held-out pairs.

`--virtual CAMERA` makes the pairs with a virtual camera instead, from photographs that no training has seen.

RAW compares the picture through the inverse ISP with the recorded mosaic. sRGB compares the mosaic through the forward ISP
with the camera's picture. Cycle compares the picture through both with itself. An ISP that needs a reference gets the
camera's picture. Protocol "paper" measures whole pictures, peak 1, and averages over them; "official" measures the authors'
five windows of a picture as one batch, with the range for SSIM taken from the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isp import command
from isp.command import BAD_DATA, DONE, USAGE, at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from isp.camera import Camera
    from isp.contract import ISP, Batch, Direction
    from isp.metrics import Window
    from isp.pairs import Pair
    from isp.train.data import VirtualPair

Protocol = Literal["paper", "official"]

# Typical extremes of each optical parameter; a wrong value is drawn log-uniformly between them. Source: kim2024, §S6
WRONG = {"iso": (100.0, 6400.0), "exposure_s": (1 / 4000, 1 / 2), "f_number": (1.8, 16.0), "focal_mm": (18.0, 200.0)}


def batch_of(pair: Pair | VirtualPair, protocol: Protocol, crop: int) -> Batch:
    """Return the part of a pair that is measured: the official five windows as one batch, or the whole picture.

    Raises `ValueError` for a picture too small for the protocol.
    """
    from isp.metrics import five_windows
    from isp.train.data import stacked

    windows: list[Window] = [(0, 0, *pair.size)]
    if protocol == "official":
        windows = list(five_windows(pair.size, crop, pair.camera.cfa[0]))
    return stacked([pair.window(*window) for window in windows])


def with_wrong(camera: Camera, parameter: str, seed: int, index: int) -> Camera:
    """Change one optical parameter of `camera` at random, to at least twice or at most half of its true value.

    Source: kim2024, §S6; kim2024, Table S5
    """
    import torch

    from isp.rng import generator

    true = getattr(camera, parameter)
    if true is None:
        return camera
    low, high = WRONG[parameter]
    rng = generator(seed, index, f"evaluate.{parameter}")
    values = low * (high / low) ** torch.from_numpy(rng.random((64, len(camera)), dtype="float32"))
    far = torch.maximum(values / true.cpu(), true.cpu() / values) >= 2
    first = far.float().argmax(0)
    changed: dict[str, Any] = {parameter: values.gather(0, first[None])[0].to(true)}
    return dataclasses.replace(camera, **changed)


def measure(learned: ISP, batch: Batch, protocol: Protocol) -> dict[str, tuple[float, float]]:
    """Return {"raw" | "srgb" | "cycle": (PSNR in dB, SSIM)}; predictions are clipped to [0, 1]."""
    from isp import cfa, full_size, metrics

    camera = batch.camera

    def through(direction: Direction, image: Tensor) -> Tensor:
        # A whole picture at once would take 1.7 GB a megapixel.
        strategy = full_size.strategy_for(learned, direction, image, full_size.budget_bytes(image.device))
        return strategy.run(image, camera, batch.srgb if direction == "forward" else None, lambda work: None)

    raw = cfa.mosaic(through("inverse", batch.srgb), camera.cfa).clamp(0, 1)
    predicted: dict[str, tuple[Tensor, Tensor]] = {
        "raw": (raw, batch.bayer),
        "srgb": (through("forward", batch.bayer), batch.srgb),
        "cycle": (through("forward", raw), batch.srgb),
    }
    data_range = None if protocol == "official" else 1.0
    return {
        name: (metrics.psnr_db(ours, theirs), metrics.ssim(ours, theirs, data_range=data_range))
        for name, (ours, theirs) in predicted.items()
    }


def check_fit(learned: ISP, batch: Batch) -> None:
    """Raise `ValueError` if the ISP cannot take the pictures of the batch."""
    from typing import get_args

    from isp.contract import Direction, known_fields, unfit

    known = known_fields(batch.camera)
    height, width = batch.bayer.shape[-2:]
    for direction in get_args(Direction):
        misfits = unfit(
            learned.limits, direction, cfa=batch.camera.cfa, known=known, has_reference=True, size=(height, width)
        )
        if misfits:
            sentences = "; ".join(misfit.sentence for misfit in misfits)
            raise ValueError(f"{learned.name}: {sentences}; choose another ISP, or other pairs")


Figures = dict[str, tuple[float, float]]  # {"raw" | "srgb" | "cycle": (PSNR in dB, SSIM)}
Table = dict[str, Figures]  # {camera: means}


def figures_of(
    learned: ISP,
    pair: Pair | VirtualPair,
    index: int,
    protocol: Protocol,
    crop: int,
    device: torch.device,
    wrong: Sequence[str | None],
) -> tuple[str, list[Figures]]:
    """Return (camera, the figures of a pair for each entry of `wrong`: a parameter that is wrong, None for none).

    Raises `ValueError` or `OSError` if the pair cannot be read, or if the ISP cannot take it, `MemoryError` if it does not
    fit into memory.
    """
    import torch

    from isp import full_size

    batch = batch_of(pair, protocol, crop)
    check_fit(learned, batch)
    found = []
    for parameter in wrong:
        camera = batch.camera if parameter is None else with_wrong(batch.camera, parameter, 0, index)
        with torch.no_grad(), full_size.memory_errors():
            figures = measure(learned, batch._replace(camera=camera).to(device), protocol)
        if any(math.isnan(value) for values in figures.values() for value in values):
            raise ValueError("expected finite pixels, got NaN; check the camera's values and the ISP's weights")
        found.append(figures)
    return batch.camera.name[0], found


def means(found: Sequence[tuple[str, Figures]]) -> Table:
    """Return the means over the pairs of each camera."""
    cameras = dict.fromkeys(camera for camera, _ in found)
    rows = {camera: [figures for own, figures in found if own == camera] for camera in cameras}
    return {
        camera: {name: (_mean([one[name][0] for one in own]), _mean([one[name][1] for one in own])) for name in own[0]}
        for camera, own in rows.items()
    }


def evaluate(
    learned: ISP,
    pairs: Sequence[Pair | VirtualPair],
    protocol: Protocol,
    crop: int,
    device: torch.device,
    wrong: str | None = None,
) -> Table:
    """Return the means over the pairs of each camera. Raises what `figures_of` raises, with the name of the pair."""
    found = []
    for index, pair in enumerate(pairs):
        try:
            camera, (figures,) = figures_of(learned, pair, index, protocol, crop, device, [wrong])
        except ValueError as problem:
            raise ValueError(command.located(pair.path, str(problem))) from problem
        found.append((camera, figures))
    return means(found)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 bad data or weights, 2 usage."""
    parser = command.parser("isp.evaluate", "Computes the paper's tables for any ISP.")
    parser.add_argument("--isp", required=True, metavar="NAME", help="such as paramisp/FOLDER or rsblur/a7r3")
    pairs = parser.add_mutually_exclusive_group(required=True)
    pairs.add_argument("--data", type=Path, nargs="+", metavar="DIR", help="folders of pairs, one per camera")
    pairs.add_argument("--virtual", nargs="+", metavar="CAMERA", help="virtual cameras, such as a7r3-virtual")
    parser.add_argument(
        "--shots", type=at_least(1), default=40, metavar="N", help="pictures per virtual camera (default: 40)"
    )
    parser.add_argument(
        "--side",
        type=at_least(32),
        default=296,
        metavar="N",
        help="pixels per side of a virtual picture (default: 296)",
    )
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--protocol", choices=("paper", "official"), default="paper")
    parser.add_argument(
        "--crop", type=at_least(16), default=1024, metavar="N", help="side of the official windows (default: 1024)"
    )
    parser.add_argument("--wrong", action="store_true", help="repeat with each optical parameter wrong (Table S5)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="print the figures as JSON; the PSNR of equal pictures is null",
    )
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    import torch

    from isp.registry import create

    if problem := command.device_problem(args.device):
        return command.refuse(f"--device: {problem}", USAGE)
    device = torch.device(args.device)
    try:
        learned = create(args.isp, device=device)
        held_out = _held_out(args)
    except (ValueError, OSError) as trouble:
        return command.refuse(command.sentence_of(trouble, "check the path"), BAD_DATA)
    wrong = (None, *WRONG) if args.wrong else (None,)
    found: dict[str | None, list[tuple[str, Figures]]] = {parameter: [] for parameter in wrong}
    failed: dict[str, list[str]] = {}
    for index, pair in enumerate(held_out):
        try:
            camera, rows = figures_of(learned, pair, index, args.protocol, args.crop, device, wrong)
        except (ValueError, OSError, MemoryError) as trouble:
            failed.setdefault(_reason(trouble, pair), []).append(str(pair.path))
            continue
        for parameter, row in zip(wrong, rows, strict=True):
            found[parameter].append((camera, row))
    tables = {
        "true" if parameter is None else f"wrong {parameter}": means(own) for parameter, own in found.items() if own
    }
    if args.as_json:
        command.say(command.json_of(tables))
    else:
        command.say(_report(tables, args.isp, args.protocol))
    _warn_of(failed, len(held_out))
    return BAD_DATA if failed else DONE


def _held_out(args: argparse.Namespace) -> list[Pair | VirtualPair]:
    """Return the pairs to measure. Raises `ValueError` or `OSError` if there are none, or if a list cannot be read."""
    from isp.pairs import split
    from isp.train.data import VirtualShots

    if args.virtual:
        virtual = VirtualShots(tuple(args.virtual), args.shots, args.side - 1, held_out=args.shots)
        return [pair for of_camera in virtual.pairs(args.split) for pair in of_camera]
    pairs = [pair for folder in args.data for pair in split(folder, args.split)]
    if not pairs:
        lists = ", ".join(str(folder / f"{args.split}.txt") for folder in args.data)
        raise ValueError(f"{lists}: expected names of pairs, got none; choose another --split")
    return [*pairs]


def _reason(problem: Exception, pair: Pair | VirtualPair) -> str:
    """Return why a pair cannot be used, without its path."""
    if isinstance(problem, MemoryError):
        return "expected enough memory for its pixels, got too little; close other programs, or use smaller pairs"
    return command.sentence_of(problem, "check the path").removeprefix(f"{pair.path}: ")


def _warn_of(failed: Mapping[str, Sequence[str]], count: int) -> None:
    """Name the pairs that could not be used, one line for each reason; `failed` is {reason: pairs}."""
    for reason, (first, *others) in failed.items():
        more = f" (and {len(others)} more pairs)" if others else ""
        command.warn(command.shown(f"{first}{more}: {reason}"))
    if failed:
        bad = sum(map(len, failed.values()))
        command.warn(f"{bad} of {count} pairs could not be used; the figures are those of the others")


def _report(tables: Mapping[str, Table], isp_name: str, protocol: Protocol) -> str:
    lines = [f"{isp_name}, protocol {protocol}, PSNR in dB / SSIM"]
    for title, table in tables.items():
        for camera, row in table.items():
            figures = "   ".join(f"{name} {psnr:6.2f} / {similarity:.4f}" for name, (psnr, similarity) in row.items())
            lines.append(command.shown(f"{camera:16} {title:18} {figures}"))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

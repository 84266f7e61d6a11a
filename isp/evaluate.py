"""`python -m isp.evaluate --isp paramisp/FOLDER --data PAIRS`: computes the paper's tables for any ISP on held-out pairs.

`--virtual CAMERA` makes the pairs with a virtual camera instead, from photographs that no training has seen.

RAW compares the picture through the inverse ISP with the recorded mosaic. sRGB compares the mosaic through the forward ISP
with the camera's picture. Cycle compares the picture through both with itself. An ISP that needs a reference gets the
camera's picture. Protocol "paper" measures whole pictures, peak 1, and averages over them; "official" measures the authors'
five windows of a picture as one batch, with the range for SSIM taken from the data.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
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


def evaluate(
    learned: ISP,
    pairs: Sequence[Pair | VirtualPair],
    protocol: Protocol,
    crop: int,
    device: torch.device,
    wrong: str | None = None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the means over the pairs of each camera, {camera: {"raw" | "srgb" | "cycle": (PSNR in dB, SSIM)}}.

    Raises `ValueError` if the ISP cannot take a pair.
    """
    import torch

    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for index, pair in enumerate(pairs):
        batch = batch_of(pair, protocol, crop)
        try:
            check_fit(learned, batch)
        except ValueError as problem:
            raise ValueError(f"{pair.path}: {problem}") from problem
        if wrong is not None:
            batch = batch._replace(camera=with_wrong(batch.camera, wrong, 0, index))
        with torch.no_grad():
            figures = measure(learned, batch.to(device), protocol)
        for name, figure in figures.items():
            found.setdefault(batch.camera.name[0], {}).setdefault(name, []).append(figure)
    return {
        camera: {
            name: (_mean([f[0] for f in figures]), _mean([f[1] for f in figures])) for name, figures in rows.items()
        }
        for camera, rows in found.items()
    }


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
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the figures as JSON")
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    import torch

    from isp.pairs import split
    from isp.registry import create
    from isp.train.data import VirtualShots

    if problem := command.device_problem(args.device):
        return command.refuse(f"--device: {problem}", USAGE)
    device = torch.device(args.device)
    held_out: list[Pair | VirtualPair] = []
    try:
        learned = create(args.isp, device=device)
        if args.virtual:
            virtual = VirtualShots(tuple(args.virtual), args.shots, args.side - 1, held_out=args.shots)
            held_out.extend(pair for of_camera in virtual.pairs(args.split) for pair in of_camera)
        else:
            held_out.extend(pair for folder in args.data for pair in split(folder, args.split))
        tables = {"true": evaluate(learned, held_out, args.protocol, args.crop, device)}
        for parameter in WRONG if args.wrong else ():
            tables[f"wrong {parameter}"] = evaluate(learned, held_out, args.protocol, args.crop, device, parameter)
    except (ValueError, OSError) as problem:
        return command.refuse(str(problem), BAD_DATA)
    if args.as_json:
        command.say(json.dumps(tables))
        return DONE
    command.say(f"{args.isp}, protocol {args.protocol}, PSNR in dB / SSIM")
    for title, table in tables.items():
        for camera, row in table.items():
            figures = "   ".join(f"{name} {psnr:6.2f} / {similarity:.4f}" for name, (psnr, similarity) in row.items())
            command.say(f"{camera:16} {title:18} {figures}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())

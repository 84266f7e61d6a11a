"""`python -m isp.train --recipe train/paramisp_pretrain [--data PAIRS ...] --out DIR`, alone or under torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from isp import command
from isp.command import BAD_DATA, DONE, USAGE, refuse


@command.door("interrupted; the last saved state is kept, run the same command again to resume from it")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command.parser("isp.train", "Train a learned ISP from RAW + JPEG pairs.")
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="train/paramisp_pretrain, or a .yaml file")
    parser.add_argument(
        "--data", type=command.folder, nargs="+", metavar="DIR",
        help="folders of pairs, one a camera (default: virtual cameras)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=command.folder, metavar="DIR", help="folder for weights and state (default: out/<recipe>)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (default: cpu)")
    parser.add_argument(
        "--steps", type=command.at_least(1), metavar="N", help="stop after N more steps; the next call resumes"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args(argv)
    from isp.train import plan

    try:
        planned = plan.load(args.recipe, args.overrides)
    except ValueError as problem:
        return refuse(str(problem), USAGE)
    import torch
    from torch import distributed

    from isp.train.data import Folders, VirtualShots
    from isp.train.loop import Ranks, train

    ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    try:
        device = torch.device(args.device)
    except RuntimeError:
        return refuse(f"--device: expected cpu or cuda, got {args.device}", USAGE)
    if device.type == "cuda" and ranks.size > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if ranks.size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    out = args.out or Path("out") / planned.name
    try:
        source: Folders | VirtualShots = VirtualShots.of(planned)
        if args.data:
            source = Folders(tuple(args.data))
        elif ranks.rank == 0:
            command.warn(f"no --data given; training on the virtual cameras {', '.join(planned.cameras)}")
        result = train(planned, source, out, device, ranks, args.steps)
    except (ValueError, OSError) as problem:
        return refuse(command.sentence_of(problem), BAD_DATA)
    finally:
        if ranks.size > 1:
            distributed.destroy_process_group()
    if ranks.rank == 0:
        for name, value in result.items():
            command.say(f"{name:8} {value:.2f} dB")
        command.say(f"weights in {out}")
    return DONE


if __name__ == "__main__":
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # When the interpreter ends, gloo's threads abort the process in about one run of six, although all work is done.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)

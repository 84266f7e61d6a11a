"""`python -m isp.train --recipe train/paramisp_pretrain [--data PAIRS ...] --out DIR`, alone or under torchrun."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 1 bad data or disk, 2 usage or recipe, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m isp.train", description="Train a learned ISP from RAW + JPEG pairs."
    )
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="train/paramisp_pretrain, or a .yaml file")
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="DIR", help="folders of pairs, one a camera (default: virtual cameras)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where weights and state go (default: out/<recipe>)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (default: cpu)")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after so many more steps; the next call goes on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args(argv)
    from isp.train import plan

    try:
        planned = plan.load(args.recipe, args.overrides)
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    import torch
    from torch import distributed

    from isp.train.data import Folders, VirtualShots
    from isp.train.loop import Ranks, train

    ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    device = torch.device(args.device)
    if device.type == "cuda" and ranks.size > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if ranks.size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        out = args.out or Path("out") / planned.name
        source: Folders | VirtualShots = VirtualShots.of(planned)
        if args.data:
            source = Folders(tuple(args.data))
        elif ranks.rank == 0:
            sys.stderr.write(f"no --data: training on the virtual cameras {', '.join(planned.cameras)}\n")
        result = train(planned, source, out, device, ranks, args.steps)
    except (ValueError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the last validated state is kept, run the same command again to go on\n")
        return 130
    finally:
        if ranks.size > 1:
            distributed.destroy_process_group()
    if ranks.rank == 0:
        sys.stdout.write("".join(f"{name:8} {value:.2f} dB\n" for name, value in result.items()))
        sys.stdout.write(f"weights in {out}\n")
    return 0


if __name__ == "__main__":
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # At the interpreter's end the threads of gloo abort the process, in about one run of six, with all work done.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)

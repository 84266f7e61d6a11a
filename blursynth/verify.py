"""`python -m blursynth.verify DIR`: is a folder of shards complete and unchanged? Repairs it if asked."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isp import command
from isp.command import BAD_DATA, DONE


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("blursynth.verify", "Check that a folder of shards is complete and unchanged.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a finished folder of shards")
    parser.add_argument("--repair", action="store_true", help="make what is broken again, and only that")
    parser.add_argument(
        "--resynthesise", type=command.at_least(0), default=0, metavar="K", help="make K random pairs again and compare"
    )
    parser.add_argument(
        "--data",
        type=command.folder,
        metavar="DIR",
        help="what the folder was made from (default: built-in photographs)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")
    return parser


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    command.check_device(args.device)
    return verify(args)


def verify(args: argparse.Namespace) -> int:
    """Do the whole job; return the exit code. Raises what `command.door` turns into exit codes."""
    from blursynth.sealed import SealedFolder, repair, resynthesise

    folder = SealedFolder.open(args.folder)
    found = folder.problems()
    repaired: list[str] = []
    again = 0
    differing: list[str] = []
    if args.repair or args.resynthesise:
        footage = folder.recipe.source.open(args.data)
        if args.repair and found:
            repair(folder, list(found), footage, args.device)
            folder = SealedFolder.open(args.folder)
            left = folder.problems()
            repaired = [name for name in found if name not in left]
            found = left
        if args.resynthesise and not found:
            again, differing = resynthesise(folder, footage, args.resynthesise, args.device)
    result: dict[str, Any] = {
        "shards": len(folder.expected),
        "problems": found,
        "repaired": repaired,
        "resynthesised": again,
        "differing": differing,
    }
    if args.as_json:
        command.say(json.dumps(result))
    else:
        for name, wrong in found.items():
            command.say(command.shown(f"{name}: {'; '.join(wrong)}"))
        for name in repaired:
            command.say(command.shown(f"{name}: repaired"))
        for difference in differing:
            command.say(command.shown(difference))
        whole = len(folder.expected) - len(set(found) & set(folder.expected))
        compared = f", {again} samples made again, {len(differing)} differences" if args.resynthesise else ""
        command.say(f"{whole} of {len(folder.expected)} shards are sound{compared}")
    return BAD_DATA if found or differing else DONE


if __name__ == "__main__":
    sys.exit(main())

"""`python -m blursynth.verify DIR`: is a folder of shards complete and unchanged? Repairs it if asked."""

from __future__ import annotations

import argparse
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
    aside: list[Path] = []
    again = 0
    differing: list[str] = []
    if args.repair and found:
        aside = repair(folder, found, args.data, args.device)
        folder = SealedFolder.open(args.folder)
        left = folder.problems()
        repaired = [name for name in found if name not in left]
        found = left
    if args.resynthesise and not found:
        again, differing = resynthesise(folder, args.data, args.resynthesise, args.device)
    shards = folder.manifest.receipts
    result: dict[str, Any] = {
        "shards": len(shards),
        "problems": found,
        "repaired": repaired,
        "set_aside": list(map(str, aside)),
        "resynthesised": again,
        "differing": differing,
        "notes": folder.notes(),
    }
    if args.as_json:
        command.say(command.json_of(result))
    else:
        whole = len(shards) - len(set(found) & set(shards))
        compared = f", {again} samples made again, {len(differing)} differences" if args.resynthesise else ""
        lines = [
            *(f"{name}: {'; '.join(wrong)}" for name, wrong in found.items()),
            *(f"{path}: was not written by blursynth, so it was renamed" for path in aside),
            *(f"{name}: repaired" for name in repaired),
            *differing,
            *(f"note: {note}" for note in result["notes"]),
            f"{whole} of {len(shards)} shards are sound{compared}",
        ]
        for line in lines:
            command.say(command.shown(line))
    return BAD_DATA if found or differing else DONE


if __name__ == "__main__":
    sys.exit(main())

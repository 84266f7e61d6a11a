"""`python -m blursynth.inspect DIR|FILE`: a contact sheet to look at, statistics, and what was drawn."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isp import command
from isp.command import BAD_DATA, DONE, UsageError


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("blursynth.inspect", "Draw a contact sheet of shards and print their statistics.")
    parser.add_argument("place", type=Path, metavar="DIR|FILE", help="folder of shards, or one shard")
    parser.add_argument(
        "--out", type=Path, metavar="PNG", help="path of the contact sheet (default: beside the shards)"
    )
    parser.add_argument(
        "--pairs", type=command.at_least(1), default=8, metavar="N", help="pairs on the sheet (default: 8)"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the statistics as JSON")
    return parser


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    _check_sheet(args.out)
    try:
        return inspect(args)
    except (ValueError, OSError) as problem:
        sentence = command.sentence_of(problem, "fix that and run the same command again")
        return command.refuse(command.located(args.place, sentence), BAD_DATA)


def _check_sheet(path: Path | None) -> None:
    """Raise `UsageError` if no picture can be written at `path`, before anything is read."""
    from isp.files.pictures import IMAGE_SUFFIXES

    if path is None:
        return
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UsageError(f"--out: expected a name ending in {', '.join(sorted(IMAGE_SUFFIXES))}, got {path}")
    if not path.parent.is_dir():
        raise UsageError(f"--out: expected a path in an existing folder, got {path}")


def inspect(args: argparse.Namespace) -> int:
    """Print the statistics and write the contact sheet; return the exit code. Statistics need no writing."""
    from blursynth.shards.contact_sheet import write_contact_sheet

    found = summary(args.place)
    refused = ""
    try:
        found["contact_sheet"] = str(write_contact_sheet(args.place, args.out, args.pairs))
    except OSError as problem:
        if problem.errno is None:  # a damaged shard
            raise
        found["contact_sheet"] = None
        refused = command.sentence_of(problem, "choose another place for the contact sheet with --out")
    if args.as_json:
        command.say(command.json_of(found))
    else:
        _print(found)
    return command.refuse(refused, BAD_DATA) if refused else DONE


def summary(place: Path) -> dict[str, Any]:
    """Counts, arrays, blur PSNR, saturation, and every draw: smallest, mean and largest of numbers, counts of words."""
    from blursynth.shards.folders import shards_of
    from blursynth.shards.reader import open_shard, records_of

    paths = shards_of(place)
    records = [record for _, _, record in records_of(paths)]
    with open_shard(paths[0]) as shard:
        shapes = {name: [*shard.shape(name), str(shard.dtype(name))] for name in shard.names}
        recipe = shard.recipe["name"]
    draws = sorted({name for record in records for name in record["dice"]})
    ratios = [record["blur_psnr_db"] for record in records if record["blur_psnr_db"] is not None]
    return {
        "recipe": recipe,
        "shards": len(paths),
        "pairs": len(records),
        "datasets": shapes,
        "blur_psnr_db": _spread(ratios),
        "saturated_share": _spread([record["saturated_share"] for record in records]),
        "sources": dict(Counter(record["source"] for record in records).most_common(20)),
        "draws": {name: _spread([r["dice"][name] for r in records if name in r["dice"]]) for name in draws},
    }


def _spread(values: list[Any]) -> dict[str, Any]:
    if values and all(isinstance(value, int | float) for value in values):
        return {"least": min(values), "mean": statistics.fmean(values), "most": max(values)}
    return dict(Counter(str(value) for value in values).most_common(20))


# ---------------------------------------------------------------- what the user sees


def _print(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if not isinstance(value, dict):
            command.say(f"{name:16} {'-' if value is None else command.shown(str(value))}")
    for name in ("blur_psnr_db", "saturated_share"):
        command.say(f"{name:16} {_line(found[name])}")
    titles = {"datasets": "datasets", "sources": "sources", "draws": 'draws ("dice" in the records)'}
    for part, title in titles.items():
        command.say(title)
        for name, value in found[part].items():
            command.say(f"  {command.shown(name):28} {_line(value)}")


def _line(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"least", "mean", "most"}:
        return f"{value['least']:.6g} .. {value['mean']:.6g} .. {value['most']:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{number} x {command.shown(word)}" for word, number in value.items())
    if isinstance(value, list):
        *sides, kind = value
        return f"{' x '.join(map(str, sides))} {kind}"
    return command.shown(str(value))


if __name__ == "__main__":
    sys.exit(main())

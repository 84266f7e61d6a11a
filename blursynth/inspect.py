"""`python -m blursynth.inspect DIR|FILE`: a contact sheet to look at, statistics, and the dice."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blursynth import make
from blursynth.shards import shard
from blursynth.shards.contact_sheet import records_of, shards_of, write_contact_sheet

# ---------------------------------------------------------------- contact sheet


# ---------------------------------------------------------------- statistics


def summary(place: Path) -> dict[str, Any]:
    """Counts, blur PSNR, saturation, and how every die fell: range and mean of numbers, counts of words."""
    paths = shards_of(place)
    records = [record for _, _, record in records_of(paths)]
    with shard.open_shard(paths[0]) as file:
        shapes = {name: [*dataset.shape[1:], str(dataset.dtype)] for name, dataset in file.items() if name != "record"}
        recipe = json.loads(str(file.attrs["recipe"]))["name"]
    dice = sorted({name for record in records for name in record["dice"]})
    ratios = [record["blur_psnr_db"] for record in records if record["blur_psnr_db"] is not None]
    return {
        "recipe": recipe,
        "shards": len(paths),
        "pairs": len(records),
        "datasets": shapes,
        "blur_psnr_db": _spread(ratios),
        "saturated_share": _spread([record["saturated_share"] for record in records]),
        "sources": dict(Counter(record["source"] for record in records).most_common(20)),
        "dice": {name: _spread([r["dice"][name] for r in records if name in r["dice"]]) for name in dice},
    }


def _spread(values: list[Any]) -> dict[str, Any]:
    if values and all(isinstance(value, int | float) for value in values):
        return {"least": min(values), "mean": statistics.fmean(values), "most": max(values)}
    return dict(Counter(str(value) for value in values).most_common(20))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m blursynth.inspect", description="Look at a set of shards.")
    parser.add_argument("place", type=Path, metavar="DIR|FILE", help="folder of shards, or one shard")
    parser.add_argument(
        "--out", type=Path, metavar="PNG", help="where the contact sheet goes (default: beside the shards)"
    )
    parser.add_argument(
        "--pairs", type=make.at_least(1), default=8, metavar="N", help="pairs on the sheet (default: 8)"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print statistics as JSON")
    args = parser.parse_args(argv)
    try:
        found = summary(args.place)
        found["contact_sheet"] = str(write_contact_sheet(args.place, args.out, args.pairs))
    except (ValueError, OSError, KeyError) as problem:
        sys.stderr.write(f"{args.place}: {problem}\n")
        return 1
    if args.as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    for name, value in found.items():
        if not isinstance(value, dict):
            sys.stdout.write(f"{name:16} {value}\n")
    for name in ("blur_psnr_db", "saturated_share"):
        sys.stdout.write(f"{name:16} {_line(found[name])}\n")
    for title in ("datasets", "sources", "dice"):
        sys.stdout.write(f"{title}\n")
        for name, value in found[title].items():
            # Names on a disk need not be UTF-8.
            sys.stdout.write(f"  {name:28} {_line(value)}\n".encode("utf-8", "backslashreplace").decode())
    return 0


def _line(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"least", "mean", "most"}:
        return f"{value['least']:.6g} .. {value['mean']:.6g} .. {value['most']:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{number} x {word}" for word, number in value.items())
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m isp.prepare`: turns folders of RAW + JPEG into training pairs (`isp.pairs`).

    python -m isp.prepare --data photos --out pairs
    python -m isp.prepare --data RAISE --out pairs --split train=train_ids.txt val=val_ids.txt test=test_ids.txt

A pair has the orientation of the sensor: the picture is turned and cropped to the mosaic, never the other way round, at
even offsets, so the CFA phase stays that of the RAW file. A picture that does not fit to the pixel is skipped and listed.

`isp.prepare.matching` documents which picture belongs to which RAW file, `isp.prepare.layouts` what the shots are named.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isp import command
from isp.prepare import splits
from isp.prepare.layouts import LAYOUTS
from isp.prepare.one_shot import prepare, raw_id, source_of
from isp.prepare.shots import ShotFiles, Skipped, find_shots

Record = dict[str, Any]

RECORD = "prepare.json"
_MOST_RECORD_BYTES = 2**30

# ---------------------------------------------------------------- all of them


def prepare_all(
    data: Path, out: Path, shots: Sequence[ShotFiles], records: Mapping[str, Record], remake: Iterable[str]
) -> tuple[list[Record], list[Skipped]]:
    """Make the pairs; return (their records, what was skipped). An existing pair is made again only if in `remake`.

    Raises `OSError` if `out` cannot be written to: no other pair could be written either.
    """
    from isp import full_size

    remake = set(remake)
    prepared, skipped = [], []
    for number, shot in enumerate(shots, 1):
        path = out / f"{shot.name}.h5"
        try:
            with full_size.memory_errors():
                if path.exists() and shot.name not in remake:
                    prepared.append(_record_of_existing(path, shot, data, records.get(shot.name)))
                    result = "exists already"
                else:
                    _check_own(path, shot.name, records)
                    prepared.append(prepare(shot, data, path))
                    result = f"{prepared[-1]['height']}x{prepared[-1]['width']}"
        except (OSError, ValueError, MemoryError) as problem:
            if isinstance(problem, OSError) and problem.filename == str(path):
                raise
            reason = _sentence(problem, shot, path)
            skipped.append(Skipped(shot.name, reason))
            result = f"skipped, {reason}"
        command.warn(f"{number}/{len(shots)} {shot.name}: {command.shown(result)}")
    return prepared, skipped


def _sentence(problem: Exception, shot: ShotFiles, path: Path) -> str:
    """Return why a shot gives no pair; the sentence begins with the file that it is about."""
    text = str(problem)
    if isinstance(problem, MemoryError):
        text = "expected enough memory for its pixels, got too little; close other programs, or leave it out"
    elif isinstance(problem, OSError) and problem.errno is not None:
        text = f"{problem.filename or shot.raw}: expected a readable file, got an error ({problem.strerror}); check it"
    places = (shot.raw, path, *filter(None, shot.pictures))
    return text if any(text.startswith(str(place)) for place in places) else f"{shot.raw}: {text}"


def _record_of_existing(path: Path, shot: ShotFiles, data: Path, record: Record | None) -> Record:
    """Return the record of a pair that an earlier run made. Raises `ValueError` if it was made of other files."""
    from isp.pairs import Pair

    earlier = Pair(path)
    sources = [source_of(shot.raw, picture, data) for picture in (*shot.pictures, None)]
    if earlier.source not in sources:
        raise ValueError(
            f'{path}: expected a pair of "{sources[0]}", got one of "{earlier.source}"; choose another --out, or make it '
            "again, use --force"
        )
    if earlier.raw_id not in ("", raw_id(shot.raw)):
        raise ValueError(
            f"{path}: expected a pair of {shot.raw}, got one of another RAW file of that name; choose another --out"
        )
    return record or {"name": path.stem, "source": earlier.source, "warnings": []}


def _check_own(path: Path, name: str, records: Mapping[str, Record]) -> None:
    """Raise `ValueError` if a file that isp.prepare did not write stands in the place of a pair."""
    from isp.pairs import Pair

    if not path.exists() or name in records:
        return
    try:
        _ = Pair(path).source
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{path}: expected nothing or a pair of isp.prepare there, got another file; move it, or choose another --out"
        ) from problem


# ---------------------------------------------------------------- the run


def _run(args: argparse.Namespace, lists: Mapping[str, str] | None) -> int:
    """Plan the splits, make the pairs, list them, record them; return the exit code."""
    try:
        earlier, records = splits.read(args.out), _earlier_records(args.out)
    except ValueError as problem:
        return command.refuse(str(problem), command.USAGE)
    names = {str(record.get("raw", record["source"].partition(" + ")[0])): name for name, record in records.items()}
    found = find_shots(args.data, args.layout, names)
    try:
        planned = splits.assigned((shot.name for shot in found.shots), lists)
        if not args.force:
            splits.check_nothing_moves(planned, earlier, args.out)
    except ValueError as problem:
        return command.refuse(str(problem), command.USAGE)

    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        sentence = f"--out {args.out}: expected a folder to write into, got: {problem.strerror}; choose another"
        return command.refuse(sentence, command.USAGE)
    command.warn(f"{args.data}: {found.saw}; {len(found.shots)} shots")
    remake = [shot.name for shot in found.shots] if args.force else []
    known = records | {name: {"name": name, "source": "", "warnings": []} for name in earlier if name not in records}
    prepared, misfits = prepare_all(args.data, args.out, found.shots, known, remake)

    listed = splits.existing(args.out, earlier | {pair["name"]: planned[pair["name"]] for pair in prepared})
    splits.write(args.out, listed)

    skipped = [*misfits, *found.skipped]
    record: Record = {
        "layout": found.layout,
        "split_rule": splits.HASH_RULE if lists is None else f"lists {' '.join(args.split)}",
        "saw": found.saw,
        "splits": listed,
        "pairs": prepared,
        "skipped": [dataclasses.asdict(each) for each in skipped],
        "unused": [dataclasses.asdict(each) for each in found.unused],
    }
    _write_record(args.out, record, records)
    command.say(command.json_of(record) if args.json else _report(record, args.out))
    return command.BAD_DATA if skipped or not prepared else command.DONE


def _earlier_records(out: Path) -> dict[str, Record]:
    """Read what an earlier run recorded; return {name: record of the pair}."""
    from isp.files import places

    path = out / RECORD
    if not path.exists():
        return {}
    try:
        pairs = json.loads(places.read_bytes(path, "the record of an earlier run", _MOST_RECORD_BYTES))["pairs"]
        records = {pair["name"]: pair for pair in pairs}
        if all(
            isinstance(record["source"], str) and isinstance(record["warnings"], list) for record in records.values()
        ):
            return records
        cause = None
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        cause = problem
    raise ValueError(f"{path}: expected the record of an earlier run, got none; move it elsewhere") from cause


def _write_record(out: Path, record: Mapping[str, Any], earlier: Mapping[str, Record]) -> None:
    """Write the record of the run, and of earlier pairs that are still listed."""
    from isp.files.whole import replace_file

    made = {pair["name"] for pair in record["pairs"]}
    listed = {name for names in record["splits"].values() for name in names}
    kept = [pair for name, pair in earlier.items() if name in listed - made]
    whole = {**record, "pairs": sorted([*kept, *record["pairs"]], key=lambda pair: str(pair["name"]))}
    replace_file(out / RECORD, (command.json_of(whole, indent=1) + "\n").encode())


def _report(record: Mapping[str, Any], out: Path) -> str:
    counts = ", ".join(f"{len(record['splits'][split])} {split}" for split in splits.NAMES)
    lines = [
        f"{out}: {len(record['pairs'])} pairs from this run (layout {record['layout']}); now listed: {counts}",
        f"saw: {record['saw']}",
        f"split: {record['split_rule']}",
    ]
    lines += [f"warning: {line}" for line in _summed(text for pair in record["pairs"] for text in pair["warnings"])]
    for kind in ("unused", "skipped"):
        lines += [f"{kind}: {line}" for line in _summed(each["reason"] for each in record[kind])]
    if record["skipped"]:
        lines.append(f"all of them, one by one: {out / RECORD}")
    return "\n".join(map(command.shown, lines))


def _summed(sentences: Iterable[str]) -> Iterable[str]:
    """Yield one line for all sentences that differ in names and numbers only: how many there are, and the first."""
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        # "PLACE: expected A, got B; do C", or "PLACE: what happened".
        expected = re.search(r": (expected .*?), got ", sentence)
        kind = expected[1] if expected else sentence.partition(": ")[2]
        alike.setdefault(re.sub(r"\d+", "", kind), []).append(sentence)
    for first, *others in alike.values():
        yield f"{1 + len(others)} files for one reason, such as {first}" if others else first


# ---------------------------------------------------------------- the command line


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("isp.prepare", "Turn folders of RAW + JPEG into training pairs for learned ISPs.")
    add = parser.add_argument
    add("--data", required=True, type=command.folder, help="the folder with RAW files and pictures")
    add("--layout", default="auto", choices=("auto", *LAYOUTS), help="how its files are named (default: auto)")
    add("--out", required=True, type=command.folder, help="the folder for the pairs and their split lists")
    add(
        "--split",
        nargs="+",
        metavar="SPLIT=FILE",
        help="lists of names: train=FILE val=FILE test=FILE (default: by a hash of the name)",
    )
    add("--force", action="store_true", help="make existing pairs again, and move names between split lists")
    add("--json", action="store_true", help="print the record of the run instead of the report")
    return parser


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or command.DONE)
    try:
        if not args.data.is_dir():
            return command.refuse(f"--data: expected a folder, got {args.data}", command.USAGE)
    except OSError as problem:
        return command.refuse(f"--data {args.data}: expected a folder, got: {problem.strerror}", command.USAGE)
    try:
        lists = None if args.split is None else splits.read_lists(args.split)
    except ValueError as problem:
        return command.refuse(str(problem), command.USAGE)
    try:
        return _run(args, lists)
    except KeyboardInterrupt:
        return command.refuse(f"{args.out}: interrupted; run the same command again to continue", command.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())

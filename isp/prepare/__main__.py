"""`python -m isp.prepare`: turns folders of RAW + JPEG into training pairs (`isp.pairs`).

    python -m isp.prepare --data photos --out pairs
    python -m isp.prepare --data RAISE --out pairs --split train=train_ids.txt val=val_ids.txt test=test_ids.txt

A pair has the orientation of the sensor: the picture is turned and cropped to the mosaic, never the other way round, at
even offsets, so the CFA phase stays that of the RAW file. A picture that does not fit to the pixel is skipped and listed.

`isp.prepare.layouts` documents the names and folders that are understood.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp import command
from isp.prepare import splits
from isp.prepare.layouts import LAYOUTS, ShotFiles, Skipped, find_shots

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.prepare.registration import Alignment

Record = dict[str, Any]

RECORD = "prepare.json"

# ---------------------------------------------------------------- one pair


def prepare(shot: ShotFiles, path: Path, source: str) -> Record:
    """Write the pair of a shot, and return its record: how picture and RAW file fit.

    Raises `ValueError` or `OSError` with the reason if they do not fit or cannot be read.
    """
    from isp import pairs
    from isp.files.pictures import read_image, turned_back
    from isp.files.raw import read_embedded_jpeg, read_raw
    from isp.prepare.registration import align

    image = read_raw(shot.raw)
    picture = read_image(shot.picture) if shot.picture else read_embedded_jpeg(shot.raw)
    name = shot.picture or f"{shot.raw} (the embedded JPEG)"
    if picture.dtype != "uint8":
        raise ValueError(f"{name}: expected a picture of 8 bits, got {picture.dtype}; save it with 8 bits")
    try:
        found = align(image.raw, picture, image.camera, image.orientation)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}; use the camera's full-size JPEG of {shot.raw.name}") from problem
    srgb = turned_back(picture, found.orientation)
    top, left, height, width = _common_window(found, image.raw.shape, srgb.shape[:2])
    own_top, own_left = top - found.top, left - found.left
    pairs.write(
        path,
        image.raw[top : top + height, left : left + width],
        srgb[own_top : own_top + height, own_left : own_left + width],
        _with_optics_of(image.camera, shot.picture),
        source,
    )
    return {
        "name": shot.name,
        "source": source,
        "height": height,
        "width": width,
        "raw_top": top,
        "raw_left": left,
        "picture_top": own_top,
        "picture_left": own_left,
        "orientation_undone": found.orientation,
        "correlation": round(found.correlation, 4),
        "blocks": found.blocks,
        "blocks_apart_px": round(found.apart_px, 3),
        "warnings": list(image.warnings),
    }


def _common_window(found: Alignment, raw: Sequence[int], picture: Sequence[int]) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) on the RAW of what both sizes cover.

    Even offsets keep the CFA phase, even sizes keep whole cells.
    """
    starts, sides = [], []
    for place, whole, own in zip((found.top, found.left), raw, picture, strict=True):
        start = max(0, place) + max(0, place) % 2
        starts.append(start)
        sides.append((min(whole, place + own) - start) // 2 * 2)
    return starts[0], starts[1], sides[0], sides[1]


def _with_optics_of(camera: Camera, picture: Path | None) -> Camera:
    """Return the camera with the optical values that its RAW file does not know taken from the picture's EXIF."""
    import torch

    from isp.files.exif import optics_of, read_tags

    if picture is None:
        return camera
    tags, _ = read_tags(picture)
    values = {field: value for field, value in optics_of(tags).items() if value and getattr(camera, field) is None}
    added: dict[str, Any] = {
        field: torch.tensor([value], dtype=torch.float32, device="cpu") for field, value in values.items()
    }
    return dataclasses.replace(camera, **added)


# ---------------------------------------------------------------- all of them


def prepare_all(
    data: Path, out: Path, shots: Sequence[ShotFiles], records: Mapping[str, Record], remake: Iterable[str]
) -> tuple[list[Record], list[Skipped]]:
    """Make the pairs; return (their records, what was skipped). An existing pair is made again only if in `remake`."""
    remake = set(remake)
    prepared, skipped = [], []
    for number, shot in enumerate(shots, 1):
        path = out / f"{shot.name}.h5"
        inside = shot.picture.relative_to(data).as_posix() if shot.picture else "the JPEG inside it"
        source = f"{shot.raw.relative_to(data).as_posix()} + {inside}"
        try:
            if path.exists() and shot.name not in remake:
                prepared.append(_record_of_existing(path, source, records.get(shot.name)))
                result = "exists already"
            else:
                prepared.append(prepare(shot, path, source))
                result = f"{prepared[-1]['height']}x{prepared[-1]['width']}"
        except (OSError, ValueError) as problem:
            skipped.append(Skipped(shot.name, str(problem)))
            result = "skipped"
        command.warn(f"{number}/{len(shots)} {shot.name}: {result}")
    return prepared, skipped


def _record_of_existing(path: Path, source: str, record: Record | None) -> Record:
    """Return the record of a pair that an earlier run made. Raises `ValueError` if it was made of other files."""
    from isp.pairs import Pair

    earlier = Pair(path).source
    if earlier != source:
        raise ValueError(f'{path}: expected a pair of "{source}", got one of "{earlier}"; use --force')
    return record or {"name": path.stem, "source": source, "warnings": []}


# ---------------------------------------------------------------- the run


def _run(args: argparse.Namespace, lists: Mapping[str, str] | None) -> int:
    """Plan the splits, make the pairs, list them, record them; return the exit code."""
    layout, shots, strangers = find_shots(args.data, args.layout)
    earlier, records = splits.read(args.out), _earlier_records(args.out)
    try:
        planned = splits.assigned((shot.name for shot in shots), lists)
        if not args.force:
            splits.check_nothing_moves(planned, earlier, args.out)
    except ValueError as problem:
        return command.refuse(str(problem), command.USAGE)

    args.out.mkdir(parents=True, exist_ok=True)
    remake = [shot.name for shot in shots] if args.force else []
    prepared, misfits = prepare_all(args.data, args.out, shots, records, remake)

    listed = splits.existing(args.out, earlier | {pair["name"]: planned[pair["name"]] for pair in prepared})
    splits.write(args.out, listed)

    skipped = [*misfits, *strangers]
    record: Record = {
        "layout": layout,
        "split_rule": splits.HASH_RULE if lists is None else f"lists {' '.join(args.split)}",
        "splits": listed,
        "pairs": prepared,
        "skipped": [dataclasses.asdict(each) for each in skipped],
    }
    _write_record(args.out, record, records)
    command.say(json.dumps(record) if args.json else _report(record, args.out))
    return command.BAD_DATA if skipped or not prepared else command.DONE


def _earlier_records(out: Path) -> dict[str, Record]:
    """Read what an earlier run recorded; return {name: record of the pair}."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as cause:
        raise ValueError(f"{out / RECORD}: expected the record of an earlier run, got none; remove it") from cause
    return {pair["name"]: pair for pair in record["pairs"]}


def _write_record(out: Path, record: Mapping[str, Any], earlier: Mapping[str, Record]) -> None:
    """Write the record of the run, and of earlier pairs that are still listed."""
    from isp.files.whole import replace_file

    made = {pair["name"] for pair in record["pairs"]}
    listed = {name for names in record["splits"].values() for name in names}
    kept = [pair for name, pair in earlier.items() if name in listed - made]
    whole = {**record, "pairs": sorted([*kept, *record["pairs"]], key=lambda pair: str(pair["name"]))}
    replace_file(out / RECORD, (json.dumps(whole, indent=1) + "\n").encode())


def _report(record: Mapping[str, Any], out: Path) -> str:
    counts = ", ".join(f"{len(record['splits'][split])} {split}" for split in splits.NAMES)
    lines = [f"{out}: {len(record['pairs'])} pairs from this run (layout {record['layout']}); now listed: {counts}"]
    lines += [f"split: {record['split_rule']}"]
    lines += [f"warning: {warning}" for pair in record["pairs"] for warning in pair["warnings"]]
    lines += [f"skipped {each['name']}: {each['reason']}" for each in record["skipped"]]
    return "\n".join(lines)


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
    if not args.data.is_dir():
        return command.refuse(f"--data: expected a folder, got {args.data}", command.USAGE)
    try:
        lists = None if args.split is None else splits.read_lists(args.split)
    except ValueError as problem:
        return command.refuse(str(problem), command.USAGE)
    try:
        return _run(args, lists)
    except (OSError, ValueError) as problem:
        return command.refuse(command.sentence_of(problem), command.BAD_DATA)
    except KeyboardInterrupt:
        return command.refuse(f"{args.out}: interrupted; run the same command again to continue", command.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())

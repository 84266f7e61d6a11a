"""`python -m isp.prepare`: folders of RAW + JPEG become training pairs (`isp.pairs`).

    python -m isp.prepare --data photos --out pairs
    python -m isp.prepare --data RAISE --out pairs --split train=train_ids.txt val=val_ids.txt test=test_ids.txt

A pair lies as the sensor lies: the picture is turned and cropped to the mosaic, never the other way round, at even offsets,
so that the CFA phase is the RAW file's. What does not fit to the pixel is skipped and listed.

Which names and folders are understood, says `isp.prepare.layouts`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp.prepare.layouts import LAYOUTS, ShotFiles, Skipped, find_shots

if TYPE_CHECKING:
    from isp.camera import Camera

DONE, BAD_DATA, USAGE, INTERRUPTED = 0, 1, 2, 130
SPLITS = ("train", "val", "test")
HASH_RULE = "first 8 bytes of the SHA-256 of the name, big-endian, modulo 100: below 90 train, below 95 val, else test"
RECORD = "prepare.json"

# ---------------------------------------------------------------- which split


def hashed_split(name: str) -> str:
    """The split of a shot by `HASH_RULE`: it depends on nothing but its name."""
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100
    return "train" if percent < 90 else "val" if percent < 95 else "test"


def read_lists(arguments: Sequence[str]) -> dict[str, str]:
    """{name: split} of list files with a name a line, given as `train=FILE` and so on.

    Raises `ValueError` for another form, a file that cannot be read, and a name that stands twice.
    """
    splits: dict[str, str] = {}
    for argument in arguments:
        split, _, listing = argument.partition("=")
        if split not in SPLITS or not listing:
            raise ValueError(f'--split: expected train=FILE, val=FILE or test=FILE, got "{argument}"')
        try:
            lines = Path(listing).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as cause:
            raise ValueError(
                f"{listing}: expected a list of names, got {type(cause).__name__}; check --split"
            ) from cause
        for name in filter(None, map(str.strip, lines)):
            if name in splits:
                raise ValueError(f"{listing}: expected every name once, got {name} again (it is in {splits[name]})")
            splits[name] = split
    return splits


def assigned(names: Iterable[str], lists: Mapping[str, str] | None) -> dict[str, str]:
    """{name: split} by the lists, or by `HASH_RULE` without. Raises `ValueError` for names in no list."""
    names = list(names)
    if lists is None:
        return {name: hashed_split(name) for name in names}
    missing = [name for name in names if name not in lists]
    if missing:
        shown = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise ValueError(f"--split: expected every name in a list, got {len(missing)} in none: {shown}; add them")
    return {name: lists[name] for name in names}


def _earlier(out: Path) -> dict[str, str]:
    """{name: split} of the lists that are in `out` already."""
    earlier: dict[str, str] = {}
    for split in SPLITS:
        listing = out / f"{split}.txt"
        if listing.is_file():
            lines = listing.read_text(encoding="utf-8").splitlines()
            earlier |= {line.strip().removesuffix(".h5"): split for line in lines if line.strip()}
    return earlier


# ---------------------------------------------------------------- one pair


def prepare(shot: ShotFiles, path: Path, source: str) -> dict[str, Any]:
    """Writes the pair of a shot, and returns how it fits, for the record.

    Raises `ValueError` or `OSError` with the reason where it does not.
    """
    from isp import pairs
    from isp.files.pictures import read_image, turned_back
    from isp.files.raw import read_embedded_jpeg, read_raw
    from isp.prepare.registration import align

    image = read_raw(shot.raw)
    picture = read_image(shot.picture) if shot.picture else read_embedded_jpeg(shot.raw)
    of = shot.picture or f"{shot.raw} (the JPEG inside)"
    if picture.dtype != "uint8":
        raise ValueError(f"{of}: expected a picture of 8 bits, got {picture.dtype}; save it with 8 bits")
    try:
        found = align(image.raw, picture, image.camera, image.orientation)
    except ValueError as problem:
        raise ValueError(f"{of}: {problem}; use the camera's full-size JPEG of {shot.raw.name}") from problem
    srgb = turned_back(picture, found.orientation)
    # Even offsets keep the CFA phase, even sizes whole cells.
    top, left = (max(0, place) + max(0, place) % 2 for place in (found.top, found.left))
    height, width = (
        (min(side, place + own) - start) // 2 * 2
        for side, place, own, start in zip(
            image.raw.shape, (found.top, found.left), srgb.shape[:2], (top, left), strict=True
        )
    )
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


def _with_optics_of(camera: Camera, picture: Path | None) -> Camera:
    """The camera, with the optical values that its RAW file leaves unknown taken from the picture's EXIF."""
    import torch

    from isp.files.exif import optics_of, read_tags

    if picture is None:
        return camera
    tags, _ = read_tags(picture)
    values = {field: value for field, value in optics_of(tags).items() if value and getattr(camera, field) is None}
    added: dict[str, Any] = {field: torch.tensor([value], dtype=torch.float32) for field, value in values.items()}
    return dataclasses.replace(camera, **added)


# ---------------------------------------------------------------- all of them


def prepare_all(
    data: Path, out: Path, shots: Sequence[ShotFiles], records: Mapping[str, dict[str, Any]], remake: Iterable[str]
) -> tuple[list[dict[str, Any]], list[Skipped]]:
    """(records of the pairs, what was skipped). A pair that is there is made again only if `remake` names it."""
    from isp.pairs import Pair

    remake = set(remake)
    prepared, skipped = [], []
    for number, shot in enumerate(shots, 1):
        path = out / f"{shot.name}.h5"
        inside = shot.picture.relative_to(data).as_posix() if shot.picture else "the JPEG inside it"
        source = f"{shot.raw.relative_to(data).as_posix()} + {inside}"
        try:
            if path.exists() and shot.name not in remake:
                earlier = Pair(path).source
                if earlier != source:
                    raise ValueError(f'{path}: expected a pair of "{source}", got one of "{earlier}"; use --force')
                prepared.append(records.get(shot.name) or {"name": shot.name, "source": source, "warnings": []})
                said = "is there"
            else:
                prepared.append(prepare(shot, path, source))
                said = f"{prepared[-1]['height']}x{prepared[-1]['width']}"
        except (OSError, ValueError) as problem:
            skipped.append(Skipped(shot.name, str(problem)))
            said = "skipped"
        sys.stderr.write(f"{number}/{len(shots)} {shot.name}: {said}\n")
    return prepared, skipped


def _read_record(out: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run wrote of each pair."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as cause:
        raise ValueError(f"{out / RECORD}: expected the record of an earlier run, got none; remove it") from cause
    return {pair["name"]: pair for pair in record["pairs"]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m isp.prepare", description="Turns folders of RAW + JPEG into training pairs of learned ISPs."
    )
    parser.add_argument("--data", required=True, type=Path, help="the folder that holds RAW files and pictures")
    parser.add_argument("--layout", default="auto", choices=("auto", *LAYOUTS), help="how it names them (default auto)")
    parser.add_argument("--out", required=True, type=Path, help="the folder for the pairs and their split lists")
    parser.add_argument(
        "--split",
        nargs="+",
        metavar="SPLIT=FILE",
        help="lists of names: train=FILE val=FILE test=FILE (default: by hash)",
    )
    parser.add_argument("--force", action="store_true", help="make pairs again that are there, and move names of lists")
    parser.add_argument("--json", action="store_true", help="print the record of the run instead of the report")
    return parser


def _report(record: Mapping[str, Any], out: Path) -> str:
    counts = ", ".join(f"{len(record['splits'][split])} {split}" for split in SPLITS)
    lines = [f"{out}: {len(record['pairs'])} pairs of this run (layout {record['layout']}); in the lists {counts}"]
    lines += [f"split: {record['split_rule']}"]
    lines += [f"warning: {warning}" for pair in record["pairs"] for warning in pair["warnings"]]
    lines += [f"skipped {each['name']}: {each['reason']}" for each in record["skipped"]]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    if not args.data.is_dir():
        sys.stderr.write(f"--data: expected a folder, got {args.data}\n")
        return USAGE
    try:
        lists = None if args.split is None else read_lists(args.split)
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return USAGE
    try:
        return _run(args, lists)
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return BAD_DATA
    except KeyboardInterrupt:
        sys.stderr.write(f"{args.out}: interrupted; the same command goes on where it stopped\n")
        return INTERRUPTED


def _run(args: argparse.Namespace, lists: Mapping[str, str] | None) -> int:
    from isp.files.whole import replace_file

    layout, shots, unpaired = find_shots(args.data, args.layout)
    earlier, records = _earlier(args.out), _read_record(args.out)
    try:
        splits = assigned((shot.name for shot in shots), lists)
        moved = [name for name, split in earlier.items() if splits.get(name, split) != split]
        if moved and not args.force:
            raise ValueError(
                f"{args.out}: expected the splits of its lists, got others for {len(moved)} pairs "
                f"({', '.join(moved[:3])}); choose another --out, or move them with --force"
            )
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return USAGE
    args.out.mkdir(parents=True, exist_ok=True)
    remake = [shot.name for shot in shots] if args.force else []
    prepared, misfits = prepare_all(args.data, args.out, shots, records, remake)
    # What an earlier run made of other folders stays in the lists as long as it is there.
    listed = earlier | {pair["name"]: splits[pair["name"]] for pair in prepared}
    listed = {name: split for name, split in listed.items() if (args.out / f"{name}.h5").is_file()}
    skipped = [*misfits, *unpaired]
    record: dict[str, Any] = {
        "layout": layout,
        "split_rule": HASH_RULE if lists is None else f"lists {' '.join(args.split)}",
        "splits": {split: sorted(name for name in listed if listed[name] == split) for split in SPLITS},
        "pairs": prepared,
        "skipped": [dataclasses.asdict(each) for each in skipped],
    }
    if listed:
        for split in SPLITS:
            lines = "".join(f"{name}.h5\n" for name in record["splits"][split])
            replace_file(args.out / f"{split}.txt", lines.encode())
    kept = [pair for name, pair in records.items() if name in listed and name not in {new["name"] for new in prepared}]
    whole = record | {"pairs": sorted([*kept, *prepared], key=lambda pair: str(pair["name"]))}
    replace_file(args.out / RECORD, (json.dumps(whole, indent=1) + "\n").encode())
    sys.stdout.write(json.dumps(record) + "\n" if args.json else _report(record, args.out))
    return BAD_DATA if skipped or not prepared else DONE


if __name__ == "__main__":
    sys.exit(main())

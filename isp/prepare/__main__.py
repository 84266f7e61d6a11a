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
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isp import command
from isp.prepare import splits
from isp.prepare.layouts import LAYOUTS, written
from isp.prepare.shots import ShotFiles, Skipped, find_shots

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.files.pictures import Picture
    from isp.files.raw import RawImage
    from isp.prepare.registration import Alignment

Record = dict[str, Any]

RECORD = "prepare.json"
_MOST_RECORD_BYTES = 2**30
_HEAD_BYTES = 2**20  # of a RAW file, with its metadata and the first pixels

# ---------------------------------------------------------------- one pair


@dataclasses.dataclass(frozen=True)
class _Fit:
    """A picture that was found on the mosaic. `file` is None for the JPEG embedded in the RAW file."""

    file: Path | None
    picture: Picture
    found: Alignment
    warnings: tuple[str, ...]


def prepare(shot: ShotFiles, data: Path, path: Path) -> Record:
    """Write the pair of a shot in the folder `data`, and return its record: how picture and RAW file fit.

    Raises `ValueError` or `OSError` with the reason if they do not fit or cannot be read.
    """
    from isp import pairs
    from isp.files.pictures import turned_back
    from isp.files.raw import read_raw

    image = read_raw(shot.raw)
    fit = _first_fit(shot, image)
    found = fit.found
    srgb = turned_back(fit.picture, found.orientation)
    top, left, height, width = _common_window(found, image.raw.shape, srgb.shape[:2])
    own_top, own_left = top - found.top, left - found.left
    raw, source = written(shot.raw.relative_to(data)), source_of(shot.raw, fit.file, data)
    pairs.write(
        path,
        image.raw[top : top + height, left : left + width],
        srgb[own_top : own_top + height, own_left : own_left + width],
        _with_optics_of(image.camera, fit.file),
        source,
        raw_id(shot.raw),
    )
    return {
        "name": shot.name,
        "source": source,
        "raw": raw,
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
        "warnings": [*image.warnings, *fit.warnings],
    }


def source_of(raw: Path, picture: Path | None, data: Path) -> str:
    """Return the files of a pair as they stand in its record."""
    inside = written(picture.relative_to(data)) if picture else "the JPEG inside it"
    return f"{written(raw.relative_to(data))} + {inside}"


def raw_id(raw: Path) -> str:
    """Return what tells a RAW file from others of its name: a digest of its size and its first MiB.

    The numbers of a camera come again after 9999 shots.
    """
    with raw.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return hashlib.sha256(b"%d " % raw.stat().st_size + head).hexdigest()


def _first_fit(shot: ShotFiles, image: RawImage) -> _Fit:
    """Return the first picture of a shot that fits its mosaic. Raises `ValueError` with the reason of the first otherwise."""
    reasons = []
    for file in shot.pictures:
        try:
            return _fit(shot, image, file)
        except ValueError as problem:
            reasons.append(str(problem))
    first, *others = reasons
    raise ValueError(f"{first}{'; and ' * bool(others)}{'; and '.join(others)}; {shot.remedy}")


def _fit(shot: ShotFiles, image: RawImage, file: Path | None) -> _Fit:
    """Find a picture on the mosaic. Raises `ValueError` if it cannot be read or does not fit."""
    from isp.files.icc import read_srgb
    from isp.files.raw import find_embedded_jpeg
    from isp.prepare.registration import align

    warnings: list[str] = []
    if file is None:
        name = f"{shot.raw} (the embedded JPEG)"
        embedded, reason = find_embedded_jpeg(shot.raw)
        if embedded is None:
            raise ValueError(f"{shot.raw}: expected its picture beside it or inside it, got {reason}")
        picture: Picture = embedded
    else:
        name = str(file)
        picture, on_colours = read_srgb(file)
        if on_colours.severity == "warning":
            warnings.append(f"{file}: {on_colours.text}")
    if picture.dtype != "uint8":
        raise ValueError(f"{name}: expected a picture of 8 bits, got {picture.dtype}; save it with 8 bits")
    try:
        return _Fit(file, picture, align(image.raw, picture, image.camera, image.orientation), tuple(warnings))
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem


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
    except (OSError, ValueError) as problem:
        return command.refuse(command.sentence_of(problem), command.BAD_DATA)
    except KeyboardInterrupt:
        return command.refuse(f"{args.out}: interrupted; run the same command again to continue", command.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())

"""Which shot is for training, which for validation, which for the test: by lists of names, or by a hash of the name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NAMES = ("train", "val", "test")
HASH_RULE = "first 8 bytes of the SHA-256 of the name, big-endian, modulo 100: below 90 train, below 95 val, else test"


def hashed_split(name: str) -> str:
    """Return the split of a shot by `HASH_RULE`: it depends on the name alone."""
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100
    return "train" if percent < 90 else "val" if percent < 95 else "test"


def read_lists(arguments: Sequence[str]) -> dict[str, str]:
    """Read list files with one name per line, given as `train=FILE` and so on; return {name: split}.

    Raises `ValueError` for another form, a file that cannot be read, or a name that is listed twice.
    """
    splits: dict[str, str] = {}
    for argument in arguments:
        split, _, listing = argument.partition("=")
        if split not in NAMES or not listing:
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
    """Return {name: split} by the lists, or by `HASH_RULE` if there are none.

    Raises `ValueError` for names that are in no list.
    """
    names = list(names)
    if lists is None:
        return {name: hashed_split(name) for name in names}
    missing = [name for name in names if name not in lists]
    if missing:
        shown = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise ValueError(f"--split: expected every name in a list, got {len(missing)} in none: {shown}; add them")
    return {name: lists[name] for name in names}


def read(folder: Path) -> dict[str, str]:
    """Read the lists that are already in `folder`; return {name: split}.

    Raises `ValueError` for a list that isp.prepare did not write: it would be replaced.
    """
    from isp.files import places
    from isp.pairs import listed

    earlier: dict[str, str] = {}
    for split in NAMES:
        listing = folder / f"{split}.txt"
        if not listing.exists():
            continue
        for entry in listed(listing):
            if places.inside(folder, entry, listing).suffix != ".h5":
                raise ValueError(
                    f'{listing}: expected names of pairs, such as NAME.h5, got "{entry}"; '
                    "move this list elsewhere, or choose another --out"
                )
            earlier[entry.removesuffix(".h5")] = split
    return earlier


def check_nothing_moves(planned: Mapping[str, str], earlier: Mapping[str, str], folder: Path) -> None:
    """Raise `ValueError` if a pair of an earlier run would change its split."""
    moved = [name for name, split in earlier.items() if planned.get(name, split) != split]
    if moved:
        raise ValueError(
            f"{folder}: expected the splits of its lists, got others for {len(moved)} pairs "
            f"({', '.join(moved[:3])}); choose another --out, or move them with --force"
        )


def existing(folder: Path, assignment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return {split: names} of the pairs that exist: pairs of other folders stay listed until their file is gone."""
    there = {name: split for name, split in assignment.items() if (folder / f"{name}.h5").is_file()}
    return {split: sorted(name for name in there if there[name] == split) for split in NAMES}


def write(folder: Path, listed: Mapping[str, Sequence[str]]) -> None:
    """Write a list for each split, unless there is no pair at all."""
    from isp.files.whole import replace_file

    if any(listed.values()):
        for split, names in listed.items():
            replace_file(folder / f"{split}.txt", "".join(f"{name}.h5\n" for name in names).encode())

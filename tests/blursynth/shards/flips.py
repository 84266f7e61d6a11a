"""Reads a shard after each of many small changes, in a process that may die of it: `python flips.py FOLDER PLACES FIRST`.

PLACES is a JSON list of (position, exclusive or); each is tried alone, from number FIRST on. A letter for each goes to
standard output: "e" for an error, "s" if all that is read is the same as without the change, "w" for anything else.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from blursynth import ShardDataset
from blursynth.shards.reader import open_shard


def content(folder: Path) -> list[Any]:
    """All that readers get of the first shard in `folder`: pixels as in training, arrays, records and attributes."""
    pairs = ShardDataset(folder, crop=40)
    try:
        found: list[Any] = [value.numpy() for i in range(len(pairs)) for value in (pairs[i]["blur"], pairs[i]["sharp"])]
    finally:
        pairs.close()
    with open_shard(folder / "shard-00000.h5") as shard:
        found += [shard.read(name, position) for name in shard.names for position in range(shard.count)]
        found += [shard.records(), shard.identity, shard.recipe, shard.first_index, shard.versions, shard.skipped]
    return found


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return isinstance(found, np.ndarray) and np.array_equal(found, expected)
    return bool(found == expected)


def outcome(folder: Path, expected: list[Any]) -> bytes:
    try:
        found = content(folder)
    except OSError:
        return b"e"
    return b"s" if len(found) == len(expected) and all(map(equal, found, expected)) else b"w"


def main() -> None:
    folder, places, first = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])
    path = folder / "shard-00000.h5"
    whole, expected = path.read_bytes(), content(folder)
    for position, flipped in places[first:]:
        spoilt = bytearray(whole)
        spoilt[position] ^= flipped
        path.write_bytes(spoilt)
        os.write(1, outcome(folder, expected))
    path.write_bytes(whole)


if __name__ == "__main__":
    main()

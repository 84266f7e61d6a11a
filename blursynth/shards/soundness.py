"""Whether a shard is sound: everything in it is read and compared with its sums, its records, its receipt and its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blursynth import digests
from blursynth.shards import arrays
from blursynth.shards.identity import Identity
from blursynth.shards.reader import Shard, open_shard
from blursynth.shards.receipt import Receipt
from isp.files import places


def problems_of(path: Path, receipt: Receipt | None, identity: Identity | None) -> list[str]:
    """Everything that is wrong with the shard at `path`, given its receipt and the identity of its folder, if known."""
    try:
        places.check_regular(path, "a shard")
        if receipt is not None and digests.file_digest(path) != receipt.sha256:
            return ["its bytes differ from those of its receipt"]
        with open_shard(path) as shard:
            return list(_problems_inside(shard, receipt, identity))
    except (OSError, ValueError) as problem:
        return [str(problem).removeprefix(f"{path}: ")]


def weakness_of(path: Path) -> str:
    """What damage the format of the shard at `path` does not protect from, as a sentence; "" for the present format.

    Raises `OSError` if it cannot be opened.
    """
    with open_shard(path) as shard:
        return shard.weakness


def _problems_inside(shard: Shard, receipt: Receipt | None, identity: Identity | None) -> Iterator[str]:
    if identity is not None and shard.identity != identity:
        yield f"belongs to another run: {shard.identity.differences(identity)}"
    if receipt is not None:
        yield from receipt.disagreements(shard)
    stored = [array for array in arrays.ARRAYS if array.name in shard.names]
    for position, record in enumerate(shard.records()):
        for array in stored:
            if fault := array.fault(shard.read(array.name, position), record):
                yield f"sample {record['index']}: /{array.name} {fault}"

"""A sealed folder of shards: what is wrong with it, how it is repaired, and whether its pairs can be made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blursynth import digests, synthesis
from blursynth.executors import locks
from blursynth.recipe import Recipe, RecipeError, bind
from blursynth.shards import arrays, folders, publish
from blursynth.shards.format import number_of
from blursynth.shards.identity import Identity, identity_of
from blursynth.shards.reader import open_shard
from blursynth.shards.receipt import Receipt
from blursynth.shards.record import record_of
from blursynth.shards.soundness import problems_of
from blursynth.sources import Footage
from isp.rng import generator


@dataclass(frozen=True)
class SealedFolder:
    """A folder of shards as its manifest describes it.

    recipe         that made it
    identity       that it belongs to
    expected       the receipt of every shard that should be there, by name
    skipped_files  how many files of each kind the source skipped
    """

    path: Path
    recipe: Recipe
    identity: Identity
    expected: dict[str, Receipt]
    skipped_files: dict[str, int]

    @staticmethod
    def open(path: Path) -> SealedFolder:
        """Read the manifest in `path`. Raises `ValueError` if it is not a finished folder of shards."""
        try:
            manifest = json.loads((path / folders.MANIFEST).read_text(encoding="utf-8"))
            return SealedFolder(
                path,
                bind(manifest["recipe"], str(path)),
                Identity.of_document(manifest["identity"]),
                {receipt.shard: receipt for receipt in map(Receipt.of_document, manifest["shards"])},
                manifest["skipped_files"],
            )
        except RecipeError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ValueError(
                f"{path}: expected a finished folder of shards with a {folders.MANIFEST}, got: {problem}; "
                "run blursynth.make again until it finishes"
            ) from problem

    def problems(self) -> dict[str, list[str]]:
        """What is wrong, by file; sound files do not appear."""
        found = {name: self._problems_of(name) for name in self.expected}
        owner = folders.owner_of(self.path)
        if owner != self.identity:
            found[folders.IDENTITY] = ["differs from the manifest" if owner else "is missing"]
        for stray in folders.shards_in(self.path):
            if stray.name not in self.expected:
                found[stray.name] = [
                    "is not listed in the manifest; it belongs to another run, or its run did not finish"
                ]
        return {name: wrong for name, wrong in found.items() if wrong}

    def _problems_of(self, name: str) -> list[str]:
        path = self.path / name
        if not path.is_file():
            return ["is missing"]
        receipt = Receipt.of(path)
        found = problems_of(path, receipt or self.expected[name], self.identity)
        if receipt != self.expected[name]:
            found.append("has no receipt" if receipt is None else "has a receipt that differs from the manifest")
        return found


def repair(folder: SealedFolder, broken: Sequence[str], footage: Footage, device: str) -> None:
    """Make the shards named in `broken` again, and only them; a shard that only lacks its receipt gets one.

    Raises `ValueError` if the data, the recipe's files or the weights are not those that the folder was made from.
    """
    _check_origin(folder, footage)
    listed = {folder.path / name: receipt for name, receipt in folder.expected.items()}
    with locks.only_run_in(folder.path):
        publish.remove_stale_parts(folder.path)
        if folders.IDENTITY in broken:
            folders.write_identity(folder.path, folder.identity)
        for path, receipt in listed.items():
            if path.name in broken:
                Receipt.path(path).unlink(missing_ok=True)
                if path.is_file() and digests.file_digest(path) != receipt.sha256:
                    path.unlink()
        count = max((receipt.first_index + receipt.tried for receipt in listed.values()), default=0)
        numbers = [number for path in listed if (number := number_of(path.name)) is not None]
        for job in folders.plan(folder.recipe, folder.identity, footage.clips, count, folder.path, device, numbers):
            synthesis.fill(job)
        folders.seal(folder.path, folder.recipe, folder.identity, folder.skipped_files, sorted(listed))


def _check_origin(folder: SealedFolder, footage: Footage) -> None:
    """Raise `ValueError` if the folder was made from something else."""
    now = identity_of(folder.recipe, footage.digest)
    if now != folder.identity:
        raise ValueError(
            f"{folder.path}: was made from other data or settings ({folder.identity.differences(now)}); set --data to "
            "the folder that it was made from"
        )


def resynthesise(folder: SealedFolder, footage: Footage, how_many: int, device: str) -> tuple[int, list[str]]:
    """Make `how_many` random samples again, each alone, and compare them with the shards bit for bit.

    Returns how many were made (at most all of them), and every difference.
    """
    _check_origin(folder, footage)
    entries = [
        (folder.path / name, position)
        for name in sorted(folder.expected)
        if (folder.path / name).is_file()
        for position in range(_length(folder.path / name))
    ]
    rng = generator(folder.recipe.seed, how_many, "verify.resynthesise")
    chosen = rng.choice(len(entries), size=min(how_many, len(entries)), replace=False)
    differing = [problem for at in sorted(chosen) for problem in _differences(folder, footage, entries[at], device)]
    return len(chosen), differing


def _length(path: Path) -> int:
    """How many pairs the shard at `path` holds."""
    with open_shard(path) as shard:
        return shard.count


def _differences(folder: SealedFolder, footage: Footage, entry: tuple[Path, int], device: str) -> list[str]:
    """How the pair at `entry` (shard, position) differs if it is made again."""
    path, position = entry
    with open_shard(path) as shard:
        stored = {name: shard.read(name, position) for name in shard.names}
        record = shard.record_lines()[position]
    index = json.loads(record)["index"]
    clip = footage.clips[index % len(footage.clips)]
    with synthesis.one_thread():
        sample = synthesis.synthesise(clip, folder.recipe, index, device)
    pair = arrays.arrays_of(sample, folder.recipe.bits)
    found = [
        f"{path.name}: sample {index}: /{name} differs in {int((array != stored[name]).sum())} values"
        for name, array in pair.items()
        if not np.array_equal(array, stored[name])
    ]
    if record_of(sample, clip.digest, pair) != record:
        found.append(f"{path.name}: sample {index}: /record differs")
    return found

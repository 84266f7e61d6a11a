"""A sealed folder of shards: what is wrong with it, how it is repaired, and whether its pairs can be made again."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blursynth import synthesis
from blursynth.executors import locks
from blursynth.recipe import Recipe, bind
from blursynth.shards import arrays, folders, publish
from blursynth.shards.format import IDENTITY, MANIFEST
from blursynth.shards.identity import Identity, identity_of, in_words, inputs_of
from blursynth.shards.manifest import Manifest
from blursynth.shards.reader import open_shard
from blursynth.shards.receipt import Receipt
from blursynth.shards.record import record_of
from blursynth.shards.soundness import problems_of, weakness_of
from blursynth.shards.writer import Job
from blursynth.sources import Footage
from isp.files import places
from isp.rng import generator


@dataclass(frozen=True)
class SealedFolder:
    """A folder of shards as its manifest describes it. Its checksums can be compared without its data, kernels or weights."""

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: Path) -> SealedFolder:
        """Read the manifest in `path`. Raises `ValueError` if it is not a finished folder of shards."""
        manifest = Manifest.read(path)
        manifest.check_places(path)
        return SealedFolder(path, manifest)

    def recipe(self) -> Recipe:
        """The recipe that made it. Raises `RecipeError` if this machine lacks what the recipe needs."""
        return bind(self.manifest.recipe, str(self.path))

    def shard(self, name: str) -> Path:
        """The path of a shard that the manifest lists."""
        return places.inside(self.path, name, MANIFEST)

    def problems(self) -> dict[str, list[str]]:
        """What is wrong, by file; sound files do not appear."""
        found = {name: self._problems_of(name) for name in self.manifest.receipts}
        found[IDENTITY] = self._problems_of_identity()
        for stray in folders.shards_in(self.path):
            if stray.name not in self.manifest.receipts:
                found[stray.name] = [
                    "is not listed in the manifest; it belongs to another run, or its run did not finish"
                ]
        return {name: wrong for name, wrong in found.items() if wrong}

    def _problems_of(self, name: str) -> list[str]:
        path, listed = self.shard(name), self.manifest.receipts[name]
        receipt, found = None, list[str]()
        try:
            receipt = Receipt.read(path)
        except FileNotFoundError:
            found.append("has no receipt")
        except ValueError as problem:
            found.append(f"has a receipt that cannot be used: {str(problem).removeprefix(f'{Receipt.path(path)}: ')}")
        if receipt not in (None, listed):
            found.append("has a receipt that differs from the manifest")
        if not path.exists():
            return ["is missing"]
        inside = problems_of(path, receipt or listed, self.manifest.identity)
        if inside:  # what the shard itself tells, which says more than that its bytes differ
            inside += problems_of(path, None, self.manifest.identity)
        return list(dict.fromkeys([*inside, *found]))

    def _problems_of_identity(self) -> list[str]:
        try:
            owner = folders.owner_of(self.path)
        except ValueError as problem:
            return [str(problem).removeprefix(f"{self.path / IDENTITY}: ")]
        if owner is None:
            return ["is missing"]
        return [] if owner == self.manifest.identity else ["differs from the manifest"]

    def notes(self) -> list[str]:
        """What damage the shards are not protected from because they were written in an older format; no error."""
        found: dict[str, int] = {}
        for name in self.manifest.receipts:
            try:
                weakness = weakness_of(self.shard(name))
            except OSError:  # a problem
                continue
            if weakness:
                found[weakness] = found.get(weakness, 0) + 1
        return [f"{count} of {len(self.manifest.receipts)} shards: each {text}" for text, count in found.items()]


def repair(folder: SealedFolder, broken: Collection[str], data: Path | None, device: str) -> list[Path]:
    """Make the shards named in `broken` again from `data`, and only them; a shard that only lacks its receipt gets one.

    A damaged shard stays until the new one takes its place. What this program did not write is not removed, but renamed;
    the new paths are returned.

    Raises `ValueError` if the data, the recipe's files or the weights are not those that the folder was made from.
    """
    manifest = folder.manifest
    listed = {name: folder.shard(name) for name in manifest.receipts}
    sound = {name for name, path in listed.items() if name in broken and _is_sound(path, folder)}
    jobs = _jobs(folder, [name for name in listed if name in broken and name not in sound], data, device)
    with locks.only_run_in(folder.path):
        publish.remove_stale_parts(folder.path)
        aside = folders.set_strangers_aside(folder.path)
        if IDENTITY in broken:
            folders.write_identity(folder.path, manifest.identity)
        for name in sound:
            manifest.receipts[name].write(listed[name])
        for job in jobs:
            synthesis.fill(job)
        if jobs:
            shards = sorted(listed.values())
            folders.seal(folder.path, folder.recipe(), manifest.identity, manifest.skipped_files, shards)
    return aside


def _is_sound(path: Path, folder: SealedFolder) -> bool:
    """Whether a shard is the one that the manifest lists, whatever its own receipt says."""
    return path.is_file() and not problems_of(path, folder.manifest.receipts[path.name], folder.manifest.identity)


def _jobs(folder: SealedFolder, names: Collection[str], data: Path | None, device: str) -> list[Job]:
    """The jobs that make these shards again, each with the samples that its receipt covers."""
    if not names:
        return []
    recipe = folder.recipe()
    footage = recipe.source.open(data)
    _check_origin(folder, recipe, identity_of(recipe, footage.digest))
    text, inputs = json.dumps(recipe.effective(), sort_keys=True), inputs_of(recipe)
    jobs = []
    for name in names:
        receipt = folder.manifest.receipts[name]
        indices = range(receipt.first_index, receipt.first_index + receipt.tried)
        samples = tuple((index, footage.clips[index % len(footage.clips)]) for index in indices)
        on_error = "skip" if receipt.skipped else "stop"
        jobs.append(Job(folder.shard(name), text, folder.manifest.identity, inputs, device, on_error, samples))
    return jobs


def _check_origin(folder: SealedFolder, recipe: Recipe, now: Identity) -> None:
    """Raise `ValueError` if a run of this identity, with `recipe`, could not have made this folder."""
    then = folder.manifest.identity
    if now != then:
        different = in_words(then, now, folder.manifest.recipe, recipe.effective())
        raise ValueError(
            f"{folder.path}: cannot be made again from what is here: it was {different}; set --data to the folder that it "
            "was made from"
        )


def resynthesise(folder: SealedFolder, data: Path | None, how_many: int, device: str) -> tuple[int, list[str]]:
    """Make `how_many` random samples again from `data`, each alone, and compare them with the shards bit for bit.

    Returns how many were made (at most all of them), and every difference.
    """
    recipe = folder.recipe()
    footage = recipe.source.open(data)
    # Pixels are compared here, so that their number may differ.
    _check_origin(folder, recipe, replace(identity_of(recipe, footage.digest), pixels=folder.manifest.identity.pixels))
    entries = [
        (folder.shard(name), position)
        for name, receipt in sorted(folder.manifest.receipts.items())
        for position in range(receipt.count)
    ]
    rng = generator(recipe.seed, how_many, "verify.resynthesise")
    chosen = rng.choice(len(entries), size=min(how_many, len(entries)), replace=False)
    differing = [problem for at in sorted(chosen) for problem in _differences(recipe, footage, entries[at], device)]
    return len(chosen), differing


def _differences(recipe: Recipe, footage: Footage, entry: tuple[Path, int], device: str) -> list[str]:
    """How the pair at `entry` (shard, position) differs if it is made again."""
    path, position = entry
    with open_shard(path) as shard:
        stored = {name: shard.read(name, position) for name in shard.names}
        record, index = shard.record_lines()[position], shard.records()[position]["index"]
    clip = footage.clips[index % len(footage.clips)]
    with synthesis.one_thread():
        sample = synthesis.synthesise(clip, recipe, index, device)
    pair = arrays.arrays_of(sample, recipe.bits)
    found = [
        f"{path.name}: sample {index}: /{name} differs in {int((array != stored[name]).sum())} values"
        for name, array in pair.items()
        if not np.array_equal(array, stored[name])
    ]
    if record_of(sample, clip.digest, pair) != record:
        found.append(f"{path.name}: sample {index}: /record differs")
    return found

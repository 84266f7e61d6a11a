"""`python -m blursynth.verify DIR`: is a folder of shards complete and unchanged? Repairs it if asked."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blursynth import digests
from blursynth.executors import locks
from blursynth.shards import arrays, folders, publish, shard
from blursynth.shards.identity import Identity, identity_of
from blursynth.shards.record import record_of
from blursynth.shards.shard import Receipt
from isp import command
from isp.command import BAD_DATA, DONE, INTERRUPTED, USAGE
from isp.rng import generator

if TYPE_CHECKING:
    from blursynth.recipe import Recipe
    from blursynth.sources import Footage


@dataclass(frozen=True)
class Folder:
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
    def open(path: Path) -> Folder:
        """Read the manifest in `path`. Raises `ValueError` if it is not a finished folder of shards."""
        from blursynth.recipe import RecipeError, bind

        try:
            manifest = json.loads((path / folders.MANIFEST).read_text(encoding="utf-8"))
            return Folder(
                path,
                bind(manifest["recipe"], str(path)),
                Identity(**manifest["identity"]),
                {entry["shard"]: Receipt(**entry) for entry in manifest["shards"]},
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
        found = shard.problems_of(path, receipt or self.expected[name], self.identity)
        if receipt != self.expected[name]:
            found.append("has no receipt" if receipt is None else "has a receipt that differs from the manifest")
        return found


def repair(folder: Folder, broken: Sequence[str], footage: Footage, device: str) -> None:
    """Make the shards named in `broken` again, and only them; a shard that only lacks its receipt gets one.

    Raises `ValueError` if the data, the recipe's files or the weights are not those that the folder was made from.
    """
    from blursynth import synthesis

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
        for job in folders.plan(folder.recipe, folder.identity, footage.clips, count, folder.path, device):
            if job.path in listed:
                synthesis.fill(job)
        folders.seal(folder.path, folder.recipe, folder.identity, folder.skipped_files, sorted(listed))


def _check_origin(folder: Folder, footage: Footage) -> None:
    """Raise `ValueError` if the folder was made from something else."""
    now = identity_of(folder.recipe, footage.digest)
    if now != folder.identity:
        raise ValueError(
            f"{folder.path}: was made from other data or settings ({folder.identity.differences(now)}); set --data to "
            "the folder that it was made from"
        )


def resynthesise(folder: Folder, footage: Footage, how_many: int, device: str) -> tuple[int, list[str]]:
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
    with shard.open_shard(path) as file:
        return len(file["record"])


def _differences(folder: Folder, footage: Footage, entry: tuple[Path, int], device: str) -> list[str]:
    from blursynth import synthesis

    path, position = entry
    with shard.open_shard(path) as file:
        stored = {name: dataset[position] for name, dataset in file.items()}
    record = stored.pop("record").decode()
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


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("blursynth.verify", "Check that a folder of shards is complete and unchanged.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a finished folder of shards")
    parser.add_argument("--repair", action="store_true", help="make what is broken again, and only that")
    parser.add_argument(
        "--resynthesise", type=command.at_least(0), default=0, metavar="K", help="make K random pairs again and compare"
    )
    parser.add_argument(
        "--data",
        type=command.folder,
        metavar="DIR",
        help="what the folder was made from (default: built-in photographs)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    from blursynth.recipe import RecipeError

    try:
        return _verify(args)
    except RecipeError as problem:
        return command.refuse(str(problem), USAGE)
    except (ValueError, ImportError, OSError) as problem:
        return command.refuse(command.sentence_of(problem), BAD_DATA)
    except KeyboardInterrupt:
        return command.refuse("interrupted; run the same command again", INTERRUPTED)


def _verify(args: argparse.Namespace) -> int:
    folder = Folder.open(args.folder)
    found = folder.problems()
    repaired: list[str] = []
    again = 0
    differing: list[str] = []
    if args.repair or args.resynthesise:
        footage = folder.recipe.source.open(args.data)
        if args.repair and found:
            repair(folder, list(found), footage, args.device)
            folder = Folder.open(args.folder)
            left = folder.problems()
            repaired = [name for name in found if name not in left]
            found = left
        if args.resynthesise and not found:
            again, differing = resynthesise(folder, footage, args.resynthesise, args.device)
    result: dict[str, Any] = {
        "shards": len(folder.expected),
        "problems": found,
        "repaired": repaired,
        "resynthesised": again,
        "differing": differing,
    }
    if args.as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, wrong in found.items():
            sys.stdout.write(f"{name}: {'; '.join(wrong)}\n")
        sys.stdout.write("".join(f"{name}: repaired\n" for name in repaired))
        sys.stdout.write("".join(f"{difference}\n" for difference in differing))
        whole = len(folder.expected) - len(set(found) & set(folder.expected))
        compared = f", {again} samples made again, {len(differing)} differences" if args.resynthesise else ""
        sys.stdout.write(f"{whole} of {len(folder.expected)} shards are sound{compared}\n")
    return BAD_DATA if found or differing else DONE


if __name__ == "__main__":
    sys.exit(main())

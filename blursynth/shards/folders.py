"""A folder of shards: whose it is, what is still to be made in it, and the manifest that seals it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blursynth.shards import publish
from blursynth.shards.identity import Identity, identity_in
from blursynth.shards.shard import SCHEMA_VERSION, Job, Receipt, open_shard, problems_of

if TYPE_CHECKING:
    from blursynth.recipe import Recipe

MANIFEST = "manifest.json"
IDENTITY = "identity.json"


def path_of(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.h5"


def shards_in(folder: Path) -> list[Path]:
    """The finished shards in `folder`, in order; none if there is no such folder."""
    return sorted(folder.glob("shard-*.h5"))


def shards_of(place: Path) -> list[Path]:
    """The finished shards in a folder, or the one shard that is named. Raises `ValueError` if there is none."""
    found = shards_in(place) if place.is_dir() else [place]
    if not found or not all(path.is_file() for path in found):
        raise ValueError(
            f"{place}: expected a shard or a folder of shards (shard-00000.h5), got none; run blursynth.make"
        )
    return found


# ---------------------------------------------------------------- whose it is


def owner_of(folder: Path) -> Identity | None:
    """The identity that `folder` was claimed for. Raises `ValueError` if it cannot be read."""
    path = folder / IDENTITY
    if not path.exists():
        return None
    try:
        return Identity(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as problem:
        raise ValueError(f"{path}: expected the identity of a folder of shards, got: {problem}") from problem


def claim(folder: Path, identity: Identity, *, force: bool = False) -> Path | None:
    """Make `folder` belong to `identity`.

    With `force`, shards of another identity are moved into a subfolder, which is returned; else they raise `ValueError`.
    """
    owner = owner_of(folder) or _owner_of_shards(folder)
    moved = None
    if owner is not None and owner != identity:
        if not force:
            raise ValueError(
                f"{folder}: holds shards of another run ({owner.differences(identity)}); choose another --out, or give "
                "--force to move them into a subfolder"
            )
        moved = _move_aside(folder, owner)
    if not (folder / IDENTITY).exists():
        write_identity(folder, identity)
    return moved


def write_identity(folder: Path, identity: Identity) -> None:
    publish.text(folder / IDENTITY, json.dumps(asdict(identity), indent=1, sort_keys=True) + "\n")


def _owner_of_shards(folder: Path) -> Identity | None:
    """The identity of the shards in a folder that has lost its own."""
    return next(filter(None, map(_owner_of_shard, shards_in(folder))), None)


def _owner_of_shard(shard: Path) -> Identity | None:
    """The identity of a shard, `None` if it cannot be read."""
    with suppress(OSError, KeyError, RuntimeError), open_shard(shard) as file:
        return identity_in(file)
    return None


def _move_aside(folder: Path, owner: Identity) -> Path:
    stem = f"replaced-{owner.recipe[:8]}-{owner.seed}"
    attempts = (folder / (f"{stem}-{again}" if again else stem) for again in range(10_000))
    aside = next(place for place in attempts if not place.exists())
    aside.mkdir()
    # The identity goes last: interrupted in between, the folder still says whose shards are left in it.
    for path in [*sorted(folder.glob("shard-*")), folder / MANIFEST, folder / IDENTITY]:
        if path.is_file():
            path.replace(aside / path.name)
    return aside


# ---------------------------------------------------------------- what is to be made


def plan(recipe: Recipe, identity: Identity, clips: Sequence[Any], count: int, folder: Path, device: str) -> list[Job]:
    """The shards that are still to be made so that `folder` holds samples 0 to `count` - 1.

    Sample i uses clip i mod n, so that a larger count only lengthens. A whole shard without a receipt gets one. The
    last shard of a shorter run, which ends early, is made again in full length.
    """
    text = json.dumps(recipe.effective(), sort_keys=True)
    jobs = []
    for number, first in enumerate(range(0, count, recipe.samples_per_shard)):
        indices = range(first, min(first + recipe.samples_per_shard, count))
        path = path_of(folder, number)
        if _samples_covered(path, identity) >= len(indices):
            continue
        samples = tuple((index, clips[index % len(clips)]) for index in indices)
        jobs.append(Job(path, text, identity, device, recipe.on_error, samples))
    return jobs


def _samples_covered(path: Path, identity: Identity) -> int:
    """How many samples the finished shard at `path` covers, skipped ones included; 0 if it is to be made."""
    if not path.exists():
        return 0
    receipt = Receipt.of(path)
    if receipt is not None and _owner_of_shard(path) != identity:
        return 0  # of another run, or damaged: made again, whatever its receipt says
    if receipt is None and not problems_of(path, None, identity):
        receipt = Receipt.from_shard(path)
        receipt.write(path)
    return 0 if receipt is None else receipt.tried


# ---------------------------------------------------------------- sealing


def seal(
    folder: Path,
    recipe: Recipe,
    identity: Identity,
    skipped_files: dict[str, int],
    shards: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Write `manifest.json` from the receipts of `shards` (default: all in `folder`), and return its content."""
    receipts = [receipt for shard in shards or shards_in(folder) if (receipt := Receipt.of(shard)) is not None]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "recipe": recipe.effective(),
        "identity": asdict(identity),
        "count": sum(receipt.count for receipt in receipts),
        "shards": [asdict(receipt) for receipt in receipts],
        "skipped_samples": [skipped for receipt in receipts for skipped in receipt.skipped],
        "skipped_files": dict(sorted(skipped_files.items())),
    }
    publish.text(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest

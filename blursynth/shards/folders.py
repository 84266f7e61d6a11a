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
    return sorted(folder.glob("shard-*.h5"))


# ---------------------------------------------------------------- whose it is


def identity_of(folder: Path) -> Identity | None:
    """The identity that `folder` was claimed for. Raises `ValueError` where it cannot be read."""
    path = folder / IDENTITY
    if not path.exists():
        return None
    try:
        return Identity(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as problem:
        raise ValueError(f"{path}: expected the identity of a folder of shards, got: {problem}") from problem


def claim(folder: Path, identity: Identity, *, force: bool = False) -> Path | None:
    """Makes `folder` belong to `identity`. With `force`, what belongs to another is moved into a subfolder, returned.

    Raises `ValueError` where the folder belongs to another identity and `force` is not set.
    """
    owner = identity_of(folder) or _identity_of_shards(folder)
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


def _identity_of_shards(folder: Path) -> Identity | None:
    """Whose shards lie in a folder that has lost its identity."""
    return next(filter(None, map(_identity_of, shards_in(folder))), None)


def _identity_of(shard: Path) -> Identity | None:
    """Whose a shard is, `None` where it does not say."""
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


def plan(recipe: Recipe, identity: Identity, clips: Any, count: int, folder: Path, device: str) -> list[Job]:
    """The shards that are still to be made so that `folder` holds samples 0 to `count` - 1.

    Sample i uses clip i mod n, so that a larger count only lengthens. A whole shard without a receipt gets one. The
    last shard of a shorter run, which ends early, is made again in full length.
    """
    text = json.dumps(recipe.effective(), sort_keys=True)
    jobs = []
    for number, first in enumerate(range(0, count, recipe.samples_per_shard)):
        indices = range(first, min(first + recipe.samples_per_shard, count))
        path = path_of(folder, number)
        if tried(path, identity) >= len(indices):
            continue
        samples = tuple((index, clips[index % len(clips)]) for index in indices)
        jobs.append(Job(path, text, identity, device, recipe.on_error, samples))
    return jobs


def tried(path: Path, identity: Identity) -> int:
    """How many samples the finished shard at `path` covers, skipped ones included; 0 where it is to be made."""
    receipt = Receipt.of(path)
    if receipt is not None and path.exists() and _identity_of(path) != identity:
        return 0  # of another run, or damaged: made again, whatever its receipt says
    if receipt is None and path.exists() and not problems_of(path, None, identity):
        receipt = Receipt.from_shard(path)
        receipt.write(path)
    return 0 if receipt is None or not path.exists() else receipt.tried


# ---------------------------------------------------------------- sealing


def seal(
    folder: Path,
    recipe: Recipe,
    identity: Identity,
    skipped_files: dict[str, int],
    shards: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Writes `manifest.json` from the receipts of `shards` (all in `folder`), and returns it."""
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

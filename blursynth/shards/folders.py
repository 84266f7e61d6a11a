"""A folder of shards: whose it is, what is still to be made in it, and the manifest that seals it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blursynth import digests
from blursynth.shards import identity as identities
from blursynth.shards import publish
from blursynth.shards.format import (
    IDENTITY,
    MANIFEST,
    MOST_BYTES_OF_MANIFEST,
    SCHEMA_VERSION,
    is_ours,
    name_of,
    number_of,
)
from blursynth.shards.identity import Identity
from blursynth.shards.reader import is_of_another_program, open_shard
from blursynth.shards.receipt import Receipt
from blursynth.shards.soundness import problems_of
from blursynth.shards.writer import Job
from isp.files import places

if TYPE_CHECKING:
    from blursynth.recipe import Recipe

_MOST_BYTES_OF_IDENTITY = 1 << 16


def path_of(folder: Path, number: int) -> Path:
    return folder / name_of(number)


def shards_in(folder: Path) -> list[Path]:
    """The files in `folder` that are named as shards, in the order of their numbers; none if there is no such folder."""
    numbered = [(number, path) for path in folder.glob("shard-*.h5") if (number := number_of(path.name)) is not None]
    return [path for _, path in sorted(numbered)]


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
    try:
        return Identity.of_document(json.loads(places.read_bytes(path, "an identity", _MOST_BYTES_OF_IDENTITY)))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as problem:
        said = str(problem).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: expected the identity of a folder of shards, got: {said}") from problem


def difference(folder: Path, recipe: Recipe, identity: Identity) -> str:
    """How the run that `folder` belongs to differs from this one, in words; "" if it does not, or has no owner.

    Raises `ValueError` if its identity cannot be read.
    """
    owner = owner_of(folder) or _owner_of_shards(folder)
    if owner is None or owner == identity:
        return ""
    return identities.in_words(owner, identity, _recipe_of(folder, owner), recipe.effective())


def claim(folder: Path, recipe: Recipe, identity: Identity, *, force: bool = False) -> Path | None:
    """Make `folder` belong to `identity`, that of a run of `recipe`.

    With `force`, shards of another identity are moved into a subfolder, which is returned; else they raise `ValueError`.
    """
    owner = owner_of(folder) or _owner_of_shards(folder)
    moved = None
    if owner is not None and owner != identity:
        if not force:
            raise ValueError(
                f"{folder}: holds shards of another run ({difference(folder, recipe, identity)}); choose another --out, or "
                "give --force to move them into a subfolder"
            )
        moved = _move_aside(folder, owner)
    if not (folder / IDENTITY).exists():
        write_identity(folder, identity)
    return moved


def write_identity(folder: Path, identity: Identity) -> None:
    publish.text(folder / IDENTITY, json.dumps(asdict(identity), indent=1, sort_keys=True) + "\n")


def _owner_of_shards(folder: Path) -> Identity | None:
    """The identity of the shards in a folder that has lost its own; `None` if none of them can be read."""
    for path in shards_in(folder):
        with suppress(OSError), open_shard(path) as shard:
            return shard.identity
    return None


def _recipe_of(folder: Path, owner: Identity) -> dict[str, Any] | None:
    """The recipe of the run that `folder` belongs to, from its manifest or a shard; `None` if neither can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        content = places.read_bytes(folder / MANIFEST, "a manifest", MOST_BYTES_OF_MANIFEST)
        recipe = json.loads(content)["recipe"]
        if digests.of_recipe(recipe) == owner.recipe:
            return dict(recipe)
    for path in shards_in(folder):
        with suppress(OSError), open_shard(path) as shard:
            if shard.identity.recipe == owner.recipe:
                return dict(shard.recipe)
    return None


def versions_in(folder: Path) -> dict[str, list[str]]:
    """Every version of the code and of each library that the shards in `folder` were made with, by package."""
    found: dict[str, set[str]] = {}
    for path in shards_in(folder):
        with suppress(OSError), open_shard(path) as shard:
            for package, then in shard.versions.items():
                found.setdefault(package, set()).add(then)
    return {package: sorted(found[package]) for package in sorted(found)}


def other_versions(folder: Path) -> list[str]:
    """The packages of which the shards in `folder` were made with other versions than this run has, in words."""
    then, now = versions_in(folder), identities.versions()
    if not then:
        return []
    found = []
    for package in sorted(now.keys() | then.keys()):
        mine = now.get(package, "none")
        if others := [each for each in then.get(package, ["none"]) if each != mine]:
            found.append(f"{package} {', '.join(others)}, now {mine}")
    return found


def _move_aside(folder: Path, owner: Identity) -> Path:
    stem = f"replaced-{owner.recipe[:8]}-{owner.seed}"
    attempts = (folder / (f"{stem}-{again}" if again else stem) for again in range(10_000))
    aside = next(place for place in attempts if not place.exists())
    aside.mkdir()
    shards = [path for path in sorted(folder.glob("shard-*")) if _is_of_shards(path.name)]
    # The identity goes last: interrupted in between, the folder still says whose shards are left in it.
    for path in [*shards, folder / MANIFEST, folder / IDENTITY]:
        if path.is_file():
            path.replace(aside / path.name)
    return aside


def _is_of_shards(name: str) -> bool:
    """Whether a file is named as a shard, a receipt, or a part of one of them."""
    whole = publish.whole_name(name)
    return number_of(whole.removesuffix(".json")) is not None


def set_strangers_aside(folder: Path) -> list[Path]:
    """Rename everything that has the name of a shard, a receipt, the manifest or the identity, but was not written by this
    program, so that writing does not destroy it.

    Returns the new paths.
    """
    moved = []
    for path in sorted(folder.iterdir()):
        if _is_strange(path):
            names = (f"{path.name}.{again}.set-aside" for again in range(10_000))
            aside = next(place for name in names if not (place := path.with_name(name)).exists())
            path.rename(aside)
            moved.append(aside)
    return moved


# A document of ours has these keys; one that is damaged beyond reading may still be ours.
_KEYS_OF = {MANIFEST: {"shards", "identity"}, IDENTITY: {"recipe", "seed", "data", "weights"}}
_KEYS_OF_RECEIPT = {"shard", "sha256"}


def _is_strange(path: Path) -> bool:
    """Whether `path` has a name that this program writes, and holds what it did not write. Links are judged by their goal."""
    is_shard = number_of(path.name) is not None
    keys = _KEYS_OF.get(path.name)
    if number_of(path.name.removesuffix(".json")) is not None and not is_shard:
        keys = _KEYS_OF_RECEIPT
    if not is_shard and keys is None:
        return False
    if not path.is_file():
        return not path.is_symlink()
    if is_shard:
        return not is_ours(path) or is_of_another_program(path)
    content = places.read_bytes(path, "a document", MOST_BYTES_OF_MANIFEST)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content[:1] not in (b"", b"{")
    return not isinstance(document, dict) or not (keys or set()) <= document.keys()


# ---------------------------------------------------------------- what is to be made


def plan(
    recipe: Recipe,
    identity: Identity,
    clips: Sequence[Any],
    count: int,
    folder: Path,
    device: str,
    numbers: Collection[int] | None = None,
) -> list[Job]:
    """The shards that are still to be made so that `folder` holds samples 0 to `count` - 1.

    Sample i uses clip i mod n, so that a larger count only lengthens. A whole shard without a receipt gets one. The
    last shard of a shorter run, which ends early, is made again in full length. With `numbers`, only these shards are
    looked at.

    Raises `ValueError` if a shard beyond `count`, which the manifest would list, is not a sound one of this run.
    """
    text, inputs = json.dumps(recipe.effective(), sort_keys=True), identities.inputs_of(recipe)
    per_shard = recipe.samples_per_shard
    wanted = range(-(-count // per_shard)) if numbers is None else sorted(numbers)
    if numbers is None:
        _check_rest([path for path in shards_in(folder) if number_of(path.name) not in wanted], identity)
    jobs = []
    for number in wanted:
        indices = range(number * per_shard, min((number + 1) * per_shard, count))
        path = path_of(folder, number)
        if _samples_covered(path, identity) >= len(indices):
            continue
        samples = tuple((index, clips[index % len(clips)]) for index in indices)
        jobs.append(Job(path, text, identity, inputs, device, recipe.on_error, samples))
    return jobs


def _check_rest(paths: Sequence[Path], identity: Identity) -> None:
    for path in paths:
        if not _samples_covered(path, identity):
            wrong = problems_of(path, Receipt.of(path), identity)
            raise ValueError(
                f"{path}: expected a sound shard of this run, or none, got one that {'; '.join(wrong)}; make it again with a "
                "larger --count, or move it elsewhere"
            )


def _samples_covered(path: Path, identity: Identity) -> int:
    """How many samples the finished shard at `path` covers, skipped ones included; 0 if it is to be made."""
    if not path.exists():
        return 0
    try:
        with open_shard(path) as shard:
            receipt = Receipt.of(path)
            if shard.identity != identity:
                return 0
            if receipt is not None and not receipt.disagreements(shard):
                return receipt.tried
    except OSError:
        return 0  # damaged: made again, whatever its receipt says
    if problems_of(path, None, identity):
        return 0
    receipt = Receipt.from_shard(path)
    receipt.write(path)
    return receipt.tried


# ---------------------------------------------------------------- sealing


def seal(
    folder: Path,
    recipe: Recipe,
    identity: Identity,
    skipped_files: dict[str, int],
    shards: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Write `manifest.json` from the receipts of `shards` (default: all in `folder`), and return its content.

    Raises `ValueError` or `OSError` if a shard, its receipt and `identity` do not agree.
    """
    receipts = [_agreed(shard, identity) for shard in shards or shards_in(folder)]
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


def _agreed(path: Path, identity: Identity) -> Receipt:
    """The receipt of the shard at `path`, if the two agree with each other and with `identity`."""
    receipt = Receipt.read(path)
    with open_shard(path) as shard:
        wrong = receipt.disagreements(shard)
        if shard.identity != identity:
            wrong.append(f"belongs to another run: {shard.identity.differences(identity)}")
    if wrong:
        raise ValueError(f"{path}: {'; '.join(wrong)}; run blursynth.make again")
    return receipt

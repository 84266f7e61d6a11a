"""What decides the pixels of a folder of shards."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from blursynth import digests
from blursynth.shards.record import is_whole

if TYPE_CHECKING:
    from blursynth.recipe import Recipe

# Raise this number when the same recipe, seed and data give other pixels than before, by more than 1/255. Shards of two
# numbers are never joined in one folder. tests/blursynth/test_pixels.py fails if pixels change and this number does not.
PIXELS = 1

DIGEST = re.compile("[0-9a-f]{64}")
_PACKAGES = ("blursynth", "torch", "numpy", "scipy", "opencv-python", "opencv-python-headless", "pillow", "h5py")


@dataclass(frozen=True)
class Identity:
    """What decides the pixels of a folder of shards. Two runs may share a folder only if all five agree.

    recipe   digest of the effective recipe
    seed     of every draw
    data     digest of the source files, and of the files that the recipe names
    weights  digest of the weights of its ISPs
    pixels   the `PIXELS` of the code that made them; `None` in folders that were made before there was that number
    """

    recipe: str
    seed: int
    data: str
    weights: str
    pixels: int | None = None

    @staticmethod
    def of_document(document: object) -> Identity:
        """The identity in a JSON file, a manifest or a shard; `pixels` may be missing.

        Raises `ValueError` if it has other keys, or values that no run can have.
        """
        keys = ("recipe", "seed", "data", "weights", "pixels")
        if not isinstance(document, dict) or document.keys() | {"pixels"} != set(keys):
            raise ValueError(f"expected an identity with the keys {', '.join(keys)}, got {document!r:.80}")
        for key in ("recipe", "data", "weights"):
            value = document[key]
            if not isinstance(value, str) or not DIGEST.fullmatch(value):
                raise ValueError(f"{key}: expected a digest of 64 hexadecimal digits, got {value!r:.80}")
        for key, least in (("seed", 0), ("pixels", 1)):
            value = document.get(key)
            if not (is_whole(value) and value >= least) and not (key == "pixels" and value is None):
                raise ValueError(f"{key}: expected a whole number, {least} or more, got {value!r:.80}")
        return Identity(**document)

    def differences(self, other: Identity) -> str:
        """Both values of every field that differs."""
        return "; ".join(
            f"{name} {_value(mine)[:12]} here, {_value(asdict(other)[name])[:12]} wanted"
            for name, mine in asdict(self).items()
            if mine != asdict(other)[name]
        )


def identity_of(recipe: Recipe, data_digest: str) -> Identity:
    """The identity of a run of `recipe` over source files with this digest."""
    return Identity(
        recipe=recipe.digest,
        seed=recipe.seed,
        data=digests.digest_of([data_digest, *_files_of(recipe)]),
        weights=digests.digest_of(_weights_of(recipe)),
        pixels=PIXELS,
    )


def inputs_of(recipe: Recipe) -> str:
    """One digest of everything besides the pictures that a run of `recipe` reads: kernels, profiles, weights."""
    return digests.digest_of([*_files_of(recipe), *_weights_of(recipe)])


def _files_of(recipe: Recipe) -> list[str]:
    """The digests of the files that the stages name."""
    return [digests.file_digest(path) for stage in recipe.stages for path in stage.files()]


def _weights_of(recipe: Recipe) -> list[str]:
    """The digests of the weights of its ISPs."""
    from blursynth.stages.isp import opened

    names = {name for stage in recipe.stages for name in stage.isps}
    return [digest for name in sorted(names) for digest in opened(name, "cpu").weights]


def versions() -> dict[str, str]:
    """The versions of the code and of the libraries that decide pixels. They are noted in shards, and may differ."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---------------------------------------------------------------- in the words of a user


def in_words(
    owner: Identity, wanted: Identity, recipe: Mapping[str, Any] | None, wanted_recipe: Mapping[str, Any]
) -> str:
    """How the run of `owner` differs from the one that is wanted, given both recipes as documents.

    `recipe` is `None` if that of the owner cannot be read any more.
    """
    found = []
    if owner.recipe != wanted.recipe:
        found += ["another recipe"] if recipe is None else _differing_keys(recipe, wanted_recipe)
    if owner.data != wanted.data:
        found.append("made from other pictures or kernels")
    if owner.weights != wanted.weights:
        found.append("made with other weights of its ISP")
    if owner.pixels is None:
        found.append("made by a blursynth that did not number its pixels yet")
    elif owner.pixels != wanted.pixels:
        found.append(f"made by a blursynth whose pixels have the number {owner.pixels}, wanted {wanted.pixels}")
    return "; ".join(found)


def _differing_keys(recipe: Mapping[str, Any], wanted: Mapping[str, Any], most: int = 4) -> list[str]:
    """The first keys of two recipes that differ, with both values; a change that shows in several keys is told once."""
    keys, wanted_keys = dict(_leaves(recipe)), dict(_leaves(wanted))
    found: dict[tuple[str, str], str] = {}
    for key in dict.fromkeys([*keys, *wanted_keys]):
        both = _value(keys.get(key)), _value(wanted_keys.get(key))
        if both[0] != both[1]:
            found.setdefault(both, f"{key}: {_brief(both[0])}, wanted {_brief(both[1])}")
    lines = [*found.values()]
    return lines[:most] + [f"and {len(lines) - most} more keys"] * (len(lines) > most)


def _leaves(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a recipe's document as `--set` names them, with their values; the stages' names come as one."""
    stages = recipe.get("stages", [])
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        elif key != "stages":
            yield key, value
    yield "stages", ", ".join(name for stage in stages for name in stage)
    seen: Counter[str] = Counter()
    for stage in stages:
        for name, block in stage.items():
            label = f"{name}.{seen[name]}" if seen[name] else name
            seen[name] += 1
            yield from ((f"{label}.{key}", value) for key, value in (block or {}).items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, sort_keys=True)


def _brief(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."

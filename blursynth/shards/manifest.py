"""The manifest of a finished folder of shards, read as what it is: a file from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blursynth import digests
from blursynth.shards.format import (
    FIRST_SCHEMA,
    MANIFEST,
    MOST_BYTES_OF_MANIFEST,
    MOST_SAMPLES,
    SCHEMA_VERSION,
    number_of,
)
from blursynth.shards.identity import Identity
from blursynth.shards.receipt import Receipt
from blursynth.shards.record import is_whole
from isp.files import places


@dataclass(frozen=True)
class Manifest:
    """What a manifest says, checked as a whole.

    recipe         the effective recipe, as a document; its digest is the one in the identity
    identity       of the folder
    receipts       of every shard that should be there, by name
    skipped_files  how many files of each kind the source skipped
    """

    recipe: Mapping[str, Any]
    identity: Identity
    receipts: dict[str, Receipt]
    skipped_files: dict[str, int]

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read the manifest in `folder`.

        Raises `ValueError` if there is none, or one that no run has written: one that names a file outside the folder or
        that is no shard, or the same shard twice.
        """
        path = folder / MANIFEST
        try:
            content = places.read_bytes(path, "a manifest", MOST_BYTES_OF_MANIFEST)
        except FileNotFoundError as cause:
            raise ValueError(
                f"{folder}: expected a finished folder of shards, got no {MANIFEST} there; run blursynth.make again "
                "until it finishes"
            ) from cause
        try:
            return _checked(folder, json.loads(content))
        except (ValueError, RecursionError) as problem:
            raise ValueError(_foreign(path, problem)) from problem

    def check_places(self, folder: Path) -> None:
        """Raise `ValueError` if a shard is listed with samples that a shard of its name cannot hold."""
        per_shard = self.recipe.get("samples_per_shard")
        if not is_whole(per_shard) or not 1 <= per_shard <= MOST_SAMPLES:
            raise ValueError(_foreign(folder / MANIFEST, f"samples_per_shard {per_shard!r:.40}"))
        for name, receipt in self.receipts.items():
            first = (number_of(name) or 0) * per_shard
            if receipt.first_index != first or receipt.tried > per_shard:
                problem = (
                    f"{name} with {receipt.tried} samples from {receipt.first_index} on, expected at most {per_shard} from "
                    f"{first} on"
                )
                raise ValueError(_foreign(folder / MANIFEST, problem))


def _foreign(path: Path, problem: object) -> str:
    return (
        f"{path}: expected the manifest of a folder of shards, got: {problem}; copy the folder again, or run blursynth.make "
        "again, which writes the manifest anew"
    )


def _checked(folder: Path, document: Any) -> Manifest:
    """The manifest in an opened JSON document. Raises `ValueError` that says what is wrong with it."""
    keys = {"recipe": dict, "identity": dict, "shards": list, "skipped_files": dict}
    if not isinstance(document, dict):
        raise ValueError(f"{type(document).__name__}, expected an object")
    schema = document.get("schema_version")
    if not isinstance(schema, int) or not FIRST_SCHEMA <= schema <= SCHEMA_VERSION:
        raise ValueError(f"schema_version {schema!r:.40}, this blursynth reads {FIRST_SCHEMA} to {SCHEMA_VERSION}")
    for key, kind in keys.items():
        if not isinstance(document.get(key), kind):
            raise ValueError(f"no {kind.__name__} under {key}")
    recipe, identity = document["recipe"], Identity.of_document(document["identity"])
    if identity.recipe not in (digests.digest_of([json.dumps(recipe, sort_keys=True)]), digests.of_recipe(recipe)):
        raise ValueError("a recipe that does not match its digest")
    receipts: dict[str, Receipt] = {}
    for entry in document["shards"]:
        receipt = Receipt.of_document(entry)
        places.inside(folder, receipt.shard, MANIFEST)
        if receipt.shard in receipts:
            raise ValueError(f"{receipt.shard} twice")
        receipts[receipt.shard] = receipt
    if not all(is_whole(number) for number in document["skipped_files"].values()):
        raise ValueError("skipped_files that are not numbers")
    return Manifest(recipe, identity, receipts, document["skipped_files"])

"""The header of a shard, which is the attributes of its file: read and checked before anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5t

from blursynth import digests
from blursynth.shards import arrays
from blursynth.shards.format import (
    ATTRIBUTES,
    FIRST_SCHEMA,
    MOST_SAMPLES,
    SCHEMA_VERSION,
    SINCE_SCHEMA_2,
    sum_of_attributes,
)
from blursynth.shards.identity import Identity
from blursynth.shards.record import is_list_of_skipped

_MOST_BYTES = 64 << 20  # of one attribute
_MOST_NAMES = 64  # more attributes than any schema has


@dataclass(frozen=True)
class Header:
    """What the attributes of a shard say.

    recipe    the effective one, as a document
    versions  of the code and of the libraries, by package
    skipped   index, source and reason of every sample that could not be made
    """

    schema: int
    recipe: Mapping[str, Any]
    identity: Identity
    first_index: int
    device: str
    versions: Mapping[str, str]
    skipped: list[dict[str, Any]]


def header_of(file: h5py.File) -> Header:
    """The checked attributes of an opened file. Raises `ValueError` if they are not those of a finished shard."""
    attributes, variable = _attributes_of(file)
    if attributes.get("complete") != 1:
        raise ValueError("one that was not finished")
    schema = attributes.get("schema_version")
    if not isinstance(schema, int) or not FIRST_SCHEMA <= schema <= SCHEMA_VERSION:
        raise ValueError(f"one of schema {schema}; this version of blursynth reads {FIRST_SCHEMA} to {SCHEMA_VERSION}")
    names = ATTRIBUTES.keys() - (SINCE_SCHEMA_2 if schema == 1 else set())
    if missing := sorted(names - attributes.keys()):
        raise ValueError(f"one without the attributes {', '.join(missing)}")
    if unknown := sorted(attributes.keys() - names):
        raise ValueError(f"attributes that no shard has: {', '.join(unknown)}")
    for name in sorted(names):
        if not isinstance(attributes[name], ATTRIBUTES[name]):
            raise ValueError(f"its attribute {name} is {attributes[name]!r:.40}, expected {ATTRIBUTES[name].__name__}")
    if schema > 1 and variable:
        raise ValueError(f"its attribute {variable[0]} is a text of variable length, expected a fixed one")
    if schema > 1 and attributes["attributes_crc32"] != sum_of_attributes(attributes):
        raise ValueError("its attributes do not match their CRC-32")
    return _header(attributes)


def _attributes_of(file: h5py.File) -> tuple[dict[str, int | str], list[str]]:
    """The attributes of a file, each a whole number or a text; and the names of those that are of variable length."""
    if h5a.get_num_attrs(file.id) > _MOST_NAMES:
        raise ValueError("more attributes than a shard has")
    names: list[bytes] = []
    h5a.iterate(file.id, names.append)
    found: dict[str, int | str] = {}
    variable = []
    for encoded in names:
        name = encoded.decode("utf-8", "backslashreplace")
        attribute = h5a.open(file.id, encoded)
        kind = attribute.get_type()
        what, size = kind.get_class(), kind.get_size()
        is_variable = what == h5t.STRING and kind.is_variable_str()
        if attribute.shape if is_variable else attribute.get_storage_size() != size:
            raise ValueError(f"its attribute {name} is not a single value")
        if is_variable:
            variable.append(name)
            found[name] = str(file.attrs[name])
        elif what == h5t.STRING and size <= _MOST_BYTES:
            text = np.empty((), f"S{size}")
            attribute.read(text, kind)
            found[name] = text.item().decode()
        elif what == h5t.INTEGER and size <= 8:
            number = np.empty((), np.int64)
            attribute.read(number, h5t.NATIVE_INT64)
            found[name] = int(number)
        else:
            raise ValueError(f"its attribute {name} is neither a whole number nor a text of at most 64 MiB")
    return found, variable


def _header(attributes: Mapping[str, Any]) -> Header:
    """The checked meaning of attributes that have the right names and types."""
    recipe = _json(attributes, "recipe")
    if not _is_digest_of(attributes["recipe_digest"], attributes["recipe"], recipe):
        raise ValueError("its recipe does not match its digest")
    fits = (
        isinstance(recipe, dict)
        and isinstance(recipe.get("name"), str)
        and recipe.get("bits") in (8, 16)
        and isinstance(recipe.get("save"), list)
        and all(key in arrays.SAVES for key in recipe["save"])
        and isinstance(recipe.get("samples_per_shard"), int)
        and 1 <= recipe["samples_per_shard"] <= MOST_SAMPLES
    )
    if not fits:
        raise ValueError("its recipe is not one of shards: name, bits, save or samples_per_shard is missing or wrong")
    versions, skipped = _json(attributes, "versions"), _json(attributes, "skipped")
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        raise ValueError("its versions are not those of packages")
    if not is_list_of_skipped(skipped):
        raise ValueError("its skipped samples are not a list with index, source and reason of each")
    first_index = attributes["first_index"]
    if first_index < 0 or first_index % recipe["samples_per_shard"]:
        raise ValueError(
            f"a first sample of {first_index}, with which no shard of {recipe['samples_per_shard']} samples begins"
        )
    return Header(
        schema=attributes["schema_version"],
        recipe=recipe,
        identity=Identity.of_document(
            {
                "recipe": attributes["recipe_digest"],
                "seed": attributes["seed"],
                "data": attributes["data_digest"],
                "weights": attributes["weights_digest"],
                "pixels": attributes.get("pixels"),
            }
        ),
        first_index=first_index,
        device=attributes["device"],
        versions=versions,
        skipped=skipped,
    )


def _json(attributes: Mapping[str, Any], name: str) -> Any:
    try:
        return json.loads(attributes[name])
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"its attribute {name} is not JSON: {problem}") from problem


def _is_digest_of(digest: str, text: str, recipe: object) -> bool:
    """Whether `digest` is that of a recipe. In schema 1 it is that of the text, with paths in it."""
    return digest == digests.digest_of([text]) or (isinstance(recipe, dict) and digest == digests.of_recipe(recipe))

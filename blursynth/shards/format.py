"""The format of shards: HDF5 files of finished pairs, published whole or not at all.

One shard, `shard-00000.h5`, with its receipt `shard-00000.h5.json` beside it. The number in its name times the recipe's
`samples_per_shard` is its first index. n is the number of pairs, h and w their size, k the side of the recipe's largest
kernel, t the number of tiles of a pair, over all of its arrays in the order of this table:

| dataset        | shape   | type          | stored            | content                                                       |
|----------------|---------|---------------|-------------------|---------------------------------------------------------------|
| `/blur`        | n h w 3 | uint8, uint16 | always            | blurred sRGB                                                  |
| `/sharp`       | n h w 3 | uint8, uint16 | always            | ground truth, sRGB                                            |
| `/bayer`       | n h w   | uint16        | save: [raw]       | blurred mosaic with noise, at the camera's levels             |
| `/sharp_bayer` | n h w   | uint16        | save: [raw]       | sharp mosaic without noise, at the camera's levels            |
| `/kernel`      | n k k   | float32       | save: [kernel]    | blur kernel, padded with zeros to the largest of the recipe   |
| `/saturated`   | n h w 3 | uint8         | save: [saturated] | 1 where the light was driven to full scale, else 0            |
| `/record`      | n       | UTF-8 bytes   | always            | JSON: index, source, its digest, camera, dice, statistics     |
| `/crc32`       | n t+1   | uint32        | always            | CRC-32 of every tile, row by row, and of the record           |

The arrays of pairs are the table `arrays.ARRAYS` (a test compares them). A chunk holds one pair, or a tile of at most 256 px
of a larger one (`tile_of`), padded with zeros at the lower and right border; its CRC-32 is that of these bytes. Every
dataset carries Fletcher-32 checksums, which a reader without this package checks. The attributes of the file are the table
`ATTRIBUTES`; `complete` = 1 is written last. Nothing in a shard depends on the host, the time or the number of workers.

Shards hold no links, no external storage, no virtual datasets, no references, nothing of variable length. Their file format
is that of HDF5 1.10, in which every part of the structure carries a checksum.

Schema 1, before: the file format of HDF5 1.8, whose structure carries no checksums; no `/crc32`; texts of variable length in
the attributes, and no `pixels` and no `attributes_crc32` among them.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

SCHEMA_VERSION = 2
FIRST_SCHEMA = 1  # the oldest that is read

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LIBRARY_VERSIONS = ("v110", "v110")  # the oldest and the newest HDF5 whose file format is written
TILE = 256

MANIFEST, IDENTITY = "manifest.json", "identity.json"  # the documents of a folder of shards, beside them
MOST_BYTES_OF_MANIFEST = 1 << 30  # of a million shards

MOST_SAMPLES = 65536  # of one shard: the largest `samples_per_shard` of a recipe
RECORD, SUMS = "record", "crc32"

# The attributes of the file, with their types; texts are UTF-8.
ATTRIBUTES: dict[str, type[int] | type[str]] = {
    "schema_version": int,
    "recipe": str,  # the effective one, as JSON
    "recipe_digest": str,
    "seed": int,
    "first_index": int,
    "data_digest": str,
    "weights_digest": str,
    "pixels": int,  # see `identity.PIXELS`
    "device": str,
    "versions": str,  # JSON: of the code and of the libraries that decide pixels
    "skipped": str,  # JSON: index, source and reason of every sample that could not be made
    "attributes_crc32": int,  # see `sum_of_attributes`
    "complete": int,
}
SINCE_SCHEMA_2 = {"pixels", "attributes_crc32"}

_NAME = re.compile(r"shard-([0-9]{5}|[1-9][0-9]{5,8})\.h5")


def name_of(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.h5"


def number_of(name: str) -> int | None:
    """The number in the file name of a shard; `None` if `name` does not have the form of one."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def is_ours(path: Path) -> bool:
    """Whether the file at `path` is a shard by its name and its first bytes, so that this program may replace it.

    An empty file counts as well: a full disk or a power cut may leave one, and nothing is lost with it.
    """
    if number_of(path.name) is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) in (SIGNATURE, b"")


# ---------------------------------------------------------------- tiles


def tile_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the equal tiles that cover an array of this shape, each side of its picture at most `TILE`.

    >>> tile_of((720, 1280, 3)), tile_of((48, 48))
    ((240, 256, 3), (48, 48))
    """
    return tuple(math.ceil(side / math.ceil(side / TILE)) if axis < 2 else side for axis, side in enumerate(shape))


def grid_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many tiles lie below each other, and beside each other.

    >>> grid_of((720, 1280, 3))
    (3, 5)
    """
    tile = tile_of(shape)
    return -(-shape[0] // tile[0]), -(-shape[1] // tile[1])


# ---------------------------------------------------------------- sums


def sums_of(array: np.ndarray) -> Iterator[int]:
    """The CRC-32 of every tile of an array of a pair, row by row."""
    tile, (rows, columns) = tile_of(array.shape), grid_of(array.shape)
    height, width = rows * tile[0] - array.shape[0], columns * tile[1] - array.shape[1]
    padded = np.pad(array, [(0, height), (0, width), *[(0, 0)] * (array.ndim - 2)])
    for top in range(0, len(padded), tile[0]):
        for left in range(0, padded.shape[1], tile[1]):
            yield zlib.crc32(padded[top : top + tile[0], left : left + tile[1]].tobytes())


def sum_of_attributes(attributes: Mapping[str, int | str]) -> int:
    """The CRC-32 of all other attributes, as JSON with sorted keys."""
    others = {name: value for name, value in attributes.items() if name != "attributes_crc32"}
    return zlib.crc32(json.dumps(others, sort_keys=True).encode())

"""Whether an opened HDF5 file has the structure of a shard, and nothing else: looked at before anything of it is read.

Shards come from disks that fail, from colleagues and from downloads. HDF5 itself follows links and external storage to any
file that the reader may read, allocates whatever shape a file declares, and fills what is missing with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z

from blursynth.shards import arrays
from blursynth.shards.format import RECORD, SUMS, grid_of, tile_of

_MOST_BYTES_OF_RECORD = 1 << 20
_MOST_NAMES = 64  # more objects than any schema has


@dataclass(frozen=True)
class Stored:
    """A dataset of a shard that holds an array of every pair.

    shape      of the array of one pair
    tile       the shape of a chunk without its first axis, which is 1
    first_sum  the column of `/crc32` that belongs to its first tile
    """

    dataset: h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    tile: tuple[int, ...]
    first_sum: int


class Opened(NamedTuple):
    """A dataset that lies in chunks in its own file, with the shape of its chunks."""

    dataset: h5d.DatasetID
    chunks: tuple[int, ...]


def datasets_in(file: h5py.File) -> dict[str, Opened]:
    """The datasets of an opened file, by name.

    Raises `ValueError` if it holds anything else, such as links, or if a dataset lies elsewhere. This is looked at first:
    for a virtual dataset, HDF5 opens other files when it is only asked for the shape.
    """
    if file.id.get_num_objs() > _MOST_NAMES:
        raise ValueError("more objects than a shard has")
    found = {}
    for encoded in file.id:
        name = encoded.decode("utf-8", "backslashreplace")
        link = file.id.links.get_info(encoded).type
        if link != h5l.TYPE_HARD:
            kinds = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
            raise ValueError(f"/{name} is {kinds.get(link, 'a link of an unknown kind')}, expected a dataset")
        dataset = h5o.open(file.id, encoded)
        if not isinstance(dataset, h5d.DatasetID):
            got = "a group" if isinstance(dataset, h5g.GroupID) else "a type"
            raise ValueError(f"/{name} is {got}, expected a dataset")
        storage = dataset.get_create_plist()
        layout = storage.get_layout()
        if layout != h5d.CHUNKED or storage.get_external_count():
            where = "in another file" if storage.get_external_count() else _LAYOUTS.get(layout, "in an unknown way")
            raise ValueError(f"/{name} is stored {where}, expected in chunks in the shard itself")
        if storage.get_nfilters() != 1 or storage.get_filter(0)[0] != h5z.FILTER_FLETCHER32:
            raise ValueError(f"/{name} is not stored as it is with Fletcher-32 checksums, as arrays of shards are")
        if h5a.get_num_attrs(dataset):
            raise ValueError(f"/{name} has attributes, expected none")
        found[name] = Opened(dataset, storage.get_chunk())
    return found


_LAYOUTS = {
    h5d.VIRTUAL: "as a view of other datasets",
    h5d.CONTIGUOUS: "in one piece",
    h5d.COMPACT: "in the header of the file",
}


def count_in(datasets: Mapping[str, Opened], most: int, size: int) -> int:
    """The number of pairs, from the shape of /record, of at most `most`, in a file of `size` bytes.

    Raises `ValueError` if /record is not stored as it should be.
    """
    if RECORD not in datasets:
        raise ValueError(f"/{RECORD} is missing")
    record, chunks = datasets[RECORD]
    shape, kind = record.shape, record.get_type()
    if kind.get_class() != h5t.STRING or kind.is_variable_str() or kind.get_size() > _MOST_BYTES_OF_RECORD:
        raise ValueError(f"/{RECORD} holds {_name_of(kind)}, expected texts of a fixed length, at most 1 MiB")
    if len(shape) != 1 or shape[0] > most:
        raise ValueError(f"/{RECORD} has the shape {_product(shape)}, expected at most {most} records")
    if wrong := [*_misfits(chunks, (max(1, shape[0]),), shape[0] * kind.get_size(), size)]:
        raise ValueError("; ".join(f"/{RECORD} {what}" for what in wrong))
    return int(shape[0])


def stored_in(datasets: Mapping[str, Opened], recipe: Mapping[str, Any], count: int, size: int) -> dict[str, Stored]:
    """The arrays of a shard of `count` pairs and `size` bytes, in the order of the table.

    Raises `ValueError` that names everything that differs from the format.
    """
    expected = {array.name: array for array in arrays.asked_for(recipe["save"])} if count else {}
    wrong = [f"/{name} is missing" for name in expected if name not in datasets]
    wrong += [f"/{name} is not an array of its recipe" for name in datasets if name not in {*expected, RECORD, SUMS}]
    sides: dict[str, int] = {}
    found, first_sum = {}, 0
    for name, array in expected.items():
        if name not in datasets:
            continue
        dataset, chunks = datasets[name]
        shape, dtype = dataset.shape, array.dtype(recipe["bits"])
        if len(shape) != 1 + len(array.axes.split()) or 0 in shape:
            wrong.append(f"/{name} has the shape {_product(shape)}, expected one of pairs of {array.axes}")
            continue
        tile = tile_of(shape[1:])
        problems = [f"has {shape[0]} samples, /{RECORD} has {count}"] if shape[0] != count else []
        problems += array.problems(shape[1:], sides)
        problems += _misfit_of_type(dataset, dtype)
        problems += _misfits(chunks, (1, *tile), math.prod(shape) * dtype.itemsize, size)
        wrong += [f"/{name} {problem}" for problem in problems]
        found[name] = Stored(dataset, shape[1:], dtype, tile, first_sum)
        first_sum += math.prod(grid_of(shape[1:]))
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def sums_in(datasets: Mapping[str, Opened], count: int, stored: Mapping[str, Stored], size: int) -> np.ndarray:
    """The content of /crc32 (count, tiles + 1). Raises `ValueError` if it is not stored as it should be."""
    if SUMS not in datasets:
        raise ValueError(f"/{SUMS} is missing")
    dataset, chunks = datasets[SUMS]
    shape = count, sum(math.prod(grid_of(each.shape)) for each in stored.values()) + 1
    if dataset.shape != shape:
        raise ValueError(f"/{SUMS} has the shape {_product(dataset.shape)}, expected {_product(shape)}")
    wrong = [*_misfits(chunks, (max(1, count), shape[1]), 4 * math.prod(shape), size)]
    wrong += _misfit_of_type(dataset, np.dtype(np.uint32))
    if wrong:
        raise ValueError("; ".join(f"/{SUMS} {what}" for what in wrong))
    sums = np.zeros(shape, np.uint32)
    if count:
        dataset.read(h5s.ALL, h5s.ALL, sums, _type_of(sums.dtype))
    return sums


def _misfits(chunks: tuple[int, ...], expected: tuple[int, ...], content: int, size: int) -> Iterator[str]:
    """How a dataset differs from chunks of the expected shape in a file that is not compressed.

    `content` and `size` are the bytes that the dataset declares and those of the file.
    """
    if chunks != expected:
        yield f"is stored in chunks of {_product(chunks)}, expected {_product(expected)}"
    if content > size:
        yield f"declares {content:,} bytes, more than the {size:,} of the whole file"


def _misfit_of_type(dataset: h5d.DatasetID, expected: np.dtype[Any]) -> Iterator[str]:
    kind = dataset.get_type()
    if not kind.equal(_type_of(expected)):
        yield f"holds {_name_of(kind)}, expected {expected}"


@cache
def _type_of(dtype: np.dtype[Any]) -> h5t.TypeID:
    return h5t.py_create(dtype)


def _name_of(kind: h5t.TypeID) -> str:
    """What a dataset of this type holds, in words."""
    if kind.get_class() == h5t.STRING:
        return "texts of variable length" if kind.is_variable_str() else f"texts of {kind.get_size()} bytes"
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT):
        words = {h5t.VLEN: "lists of variable length", h5t.REFERENCE: "references", h5t.COMPOUND: "several fields"}
        return words.get(kind.get_class(), "something else")
    try:
        return str(kind.dtype)
    except TypeError:  # NumPy has no such number
        return "unusual numbers"


def _product(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths)) or "of a single value"

"""Reading shards: `open_shard` opens one for everybody, after its structure was checked; every read checks a sum."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from h5py import h5s

from blursynth.shards import structure
from blursynth.shards.format import RECORD, SIGNATURE, number_of
from blursynth.shards.header import header_of
from blursynth.shards.record import record_in
from isp.files import places

_WHOLE = slice(None)
_REMEDY = "run python -m blursynth.verify --repair"
# What HDF5, h5py and NumPy raise for damaged files.
_DAMAGED = (OSError, ValueError, KeyError, RuntimeError, TypeError, IndexError, OverflowError, MemoryError)


def open_shard(path: Path) -> Shard:
    """Open a shard for reading. Raises `OSError` that names everything that differs from the format, or its damage.

    Without a lock: network file systems often refuse them, and a published shard never changes. Without HDF5's cache of
    chunks: samples are read in random order, and the cache would take 8 MiB for each open dataset.
    """
    try:
        size = places.check_regular(path, "a shard")
    except ValueError as problem:
        raise OSError(str(problem)) from problem
    with _in_words(f"{path}: expected a whole shard"):
        with path.open("rb") as content:
            if content.read(len(SIGNATURE)) != SIGNATURE:
                raise ValueError("no HDF5 file")
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
        try:
            return Shard(path, file, size)
        except BaseException:
            file.close()
            raise


def is_of_another_program(path: Path) -> bool:
    """Whether the HDF5 file at `path` has attributes, or none, but not those of a shard. A damaged one may be a shard."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "recipe_digest" not in file.attrs
    except _DAMAGED:
        return False


@contextmanager
def _in_words(expected: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into an `OSError` with a sentence."""
    try:
        yield
    except _DAMAGED as problem:
        got = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
        raise OSError(f"{expected}, got: {str(got) or type(problem).__name__}; {_REMEDY}") from problem


class Shard:
    """An opened shard, whose structure, attributes and place fit the format. Used as a context, which closes it.

    path         of the file
    schema       its schema version
    recipe       the effective recipe that made it, as a document
    identity     of the folder that it was made for
    first_index  of the samples that it covers
    count        how many pairs it holds
    skipped      index, source and reason of every sample that could not be made
    versions     of the code and of the libraries that made it, by package

    Threads may share one.
    """

    def __init__(self, path: Path, file: h5py.File, size: int) -> None:
        """Of an opened file of `size` bytes. Raises `ValueError` that names what differs from the format."""
        header = header_of(file)
        per_shard = header.recipe["samples_per_shard"]
        number = number_of(path.name)
        if number is not None and header.first_index != number * per_shard:
            raise ValueError(
                f"the samples from {header.first_index} on, by its name they begin with {number * per_shard}: it lies in the "
                "place of another shard"
            )
        datasets = structure.datasets_in(file)
        self.path = path
        self.schema = header.schema
        self.recipe = header.recipe
        self.identity = header.identity
        self.first_index = header.first_index
        self.skipped = header.skipped
        self.versions = header.versions
        self.count = structure.count_in(datasets, per_shard - len(header.skipped), size)
        self._file = file
        self._record = datasets[RECORD].dataset
        self._arrays = structure.stored_in(datasets, header.recipe, self.count, size)
        self._sums = None if header.schema == 1 else structure.sums_in(datasets, self.count, self._arrays, size)

    @property
    def tried(self) -> int:
        """How many samples it covers, skipped ones included."""
        return self.count + len(self.skipped)

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that its pairs have, in the order of the table `arrays.ARRAYS`; none if it holds no pair."""
        return tuple(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of this array of one pair."""
        return self._arrays[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._arrays[name].dtype

    @property
    def weakness(self) -> str:
        """What damage its format does not protect from, as a sentence; "" for the present format."""
        if self._sums is not None:
            return ""
        return (
            "was written in an older format, whose structure carries no checksums: a bit that flips there can change pixels "
            "without an error; make the folder again to protect it"
        )

    def record_lines(self) -> list[str]:
        """The record of every pair as it is stored. Raises `OSError` if one is damaged."""
        with _in_words(f"{self.path}: expected the records of {self.count} pairs"):
            encoded = self._encoded_records()
            if self._sums is not None:
                wrong = [at for at, line in enumerate(encoded) if zlib.crc32(line) != self._sums[at, -1]]
                if wrong:
                    raise ValueError(f"the record of pair {wrong[0]} does not match its CRC-32")
            return [line.decode() for line in encoded]

    def _encoded_records(self) -> list[bytes]:
        kind = self._record.get_type()
        encoded = np.empty(self.count, f"S{kind.get_size()}")
        if self.count:
            self._record.read(h5s.ALL, h5s.ALL, encoded, kind)
        return encoded.tolist()

    def records(self) -> list[dict[str, Any]]:
        """The record of every pair. Raises `OSError` if one is damaged, or if they are not those of this shard's samples."""
        lines = self.record_lines()
        with _in_words(f"{self.path}: expected the records of {self.count} pairs"):
            records = [record_in(line) for line in lines]
            made = [record["index"] for record in records]
            covered = range(self.first_index, self.first_index + self.tried)
            if sorted([*made, *(skipped["index"] for skipped in self.skipped)]) != [*covered] or made != sorted(made):
                raise ValueError(f"those of samples {made!s:.80}, of {covered.start} to {covered.stop - 1}")
        return records

    def read(self, name: str, position: int, rows: slice = _WHOLE, columns: slice = _WHOLE) -> np.ndarray:
        """A window of an array of the pair at `position`; `name` is one of `names`.

        Only the tiles below the window are read; each is compared with its CRC-32. Raises `OSError` if one is damaged.
        """
        stored = self._arrays[name]
        if not 0 <= position < self.count:
            raise IndexError(f"{self.path}: expected a position below {self.count}, got {position}")
        with _in_words(f"{self.path}: expected /{name} of pair {position}"):
            if self._sums is None:
                return self._read_without_sums(stored, position, rows, columns)
            return self._read(stored, self._sums[position], position, rows, columns)

    def _read(
        self, stored: structure.Stored, sums: np.ndarray, position: int, rows: slice, columns: slice
    ) -> np.ndarray:
        (height, width, *_), (tall, wide, *_) = stored.shape, stored.tile
        top, bottom, _ = rows.indices(height)
        left, right, _ = columns.indices(width)
        window = np.empty((bottom - top, right - left, *stored.shape[2:]), stored.dtype)
        for row in range(top // tall, -(-bottom // tall)):
            for column in range(left // wide, -(-right // wide)):
                tile = _tile(stored, sums, position, row, column)
                y, x = row * tall, column * wide
                inside = slice(max(top, y), min(bottom, y + tall)), slice(max(left, x), min(right, x + wide))
                window[_moved(inside[0], -top), _moved(inside[1], -left)] = tile[
                    _moved(inside[0], -y), _moved(inside[1], -x)
                ]
        return window

    def _read_without_sums(self, stored: structure.Stored, position: int, rows: slice, columns: slice) -> np.ndarray:
        found: np.ndarray = h5py.Dataset(stored.dataset)[position, rows, columns]
        return found

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tile(stored: structure.Stored, sums: np.ndarray, position: int, row: int, column: int) -> np.ndarray:
    """A checked tile of the pair at `position`, whose sums are given, as a view of what was read."""
    (tall, wide, *rest) = stored.tile
    without, chunk = stored.dataset.read_direct_chunk((position, row * tall, column * wide, *[0] * len(rest)))
    size = math.prod(stored.tile) * stored.dtype.itemsize
    content = memoryview(chunk)[:size]  # behind it is Fletcher-32, which detects less than CRC-32
    across = -(-stored.shape[1] // wide)
    if without or len(chunk) != size + 4 or zlib.crc32(content) != sums[stored.first_sum + row * across + column]:
        raise ValueError("pixels that do not match their CRC-32")
    return np.frombuffer(content, stored.dtype).reshape(stored.tile)


def _moved(window: slice, by: int) -> slice:
    return slice(window.start + by, window.stop + by)


def records_of(paths: Sequence[Path]) -> list[tuple[Path, int, dict[str, Any]]]:
    """(shard, position in it, record) of every pair in the shards at `paths`."""
    found = []
    for path in paths:
        with open_shard(path) as shard:
            found += [(path, position, record) for position, record in enumerate(shard.records())]
    return found

"""Writing shards: a job fills one, which appears under its name whole, checked and synced, or not at all."""

from __future__ import annotations

import io
import json
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import string_dtype

from blursynth.executors.processes import uninterrupted
from blursynth.shards import arrays, publish
from blursynth.shards.format import (
    LIBRARY_VERSIONS,
    RECORD,
    SCHEMA_VERSION,
    SUMS,
    is_ours,
    sum_of_attributes,
    sums_of,
    tile_of,
)
from blursynth.shards.identity import Identity, versions
from blursynth.shards.reader import open_shard
from blursynth.shards.receipt import Receipt
from blursynth.shards.record import record_of
from blursynth.shards.soundness import problems_of

if TYPE_CHECKING:
    from blursynth.sample import Sample


@dataclass(frozen=True)
class Job:
    """One shard to fill; small enough to send to any worker.

    path      where the shard goes
    recipe    the effective recipe, as JSON
    identity  of the folder
    inputs    the digest of what the recipe reads besides pictures (`identity.inputs_of`)
    device    that makes the pairs
    on_error  of the recipe, which its effective form leaves out
    samples   (index, clip) of every pair
    """

    path: Path
    recipe: str
    identity: Identity
    inputs: str
    device: str
    on_error: str
    samples: tuple[tuple[int, Any], ...]

    @property
    def first_index(self) -> int:
        return self.samples[0][0]


class _Disk(io.FileIO):
    """A file that reports failures through `check` alone: HDF5 crashes at exit if a write of its own was refused."""

    _problem: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._problem is None:
                rest = rest[super().write(rest) :]
        except OSError as problem:
            self._problem = problem
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self._problem is None else 0
        except OSError as problem:
            self._problem = problem
            return 0

    def check(self, path: Path) -> None:
        """Raises `OSError`, about `path`, if something could not be written."""
        if self._problem is not None:
            raise OSError(self._problem.errno, self._problem.strerror, str(path)) from self._problem


class Writer:
    """Fills one shard. Used as a context: leaving it publishes the shard, leaving it through an error removes the file."""

    def __init__(self, job: Job, bits: int) -> None:
        self._job = job
        self._bits = bits
        self._part = publish.part_name(job.path)
        self._records: list[bytes] = []
        self._sums: list[list[int]] = []
        self._skipped: list[dict[str, Any]] = []
        self.receipt: Receipt | None = None

    def __enter__(self) -> Writer:
        """Raises `OSError` if the shard would take the place of a file that is none."""
        place = self._job.path
        if place.is_symlink() or (place.exists() and not is_ours(place)):
            raise OSError(f"{place}: expected a shard, or nothing, got another file; move it elsewhere")
        with uninterrupted():
            self._disk = _Disk(str(self._part), "w+")
            self._file = h5py.File(self._disk, "w", libver=LIBRARY_VERSIONS, track_order=False)
        return self

    def add(self, sample: Sample, digest: str) -> None:
        """Appends one finished pair."""
        pair = arrays.arrays_of(sample, self._bits)
        record = record_of(sample, digest, pair).encode()
        with uninterrupted():
            for name, array in pair.items():
                if name not in self._file:
                    self._create(name, array)
                self._file[name][len(self._records)] = array
        self._records.append(record)
        self._sums.append([*(found for array in pair.values() for found in sums_of(array)), zlib.crc32(record)])
        self._disk.check(self._job.path)

    def skip(self, index: int, source: str, reason: str) -> None:
        """Notes that sample `index` could not be made."""
        self._skipped.append({"index": index, "source": source, "reason": reason})

    def _create(self, name: str, array: np.ndarray) -> None:
        length = len(self._job.samples)
        self._file.create_dataset(
            name,
            shape=(length, *array.shape),
            maxshape=(length, *array.shape),
            dtype=array.dtype,
            chunks=(1, *tile_of(array.shape)),
            fletcher32=True,
            track_times=False,
        )

    def _finish(self) -> None:
        for dataset in self._file.values():
            dataset.resize(len(self._records), axis=0)
        longest = max(map(len, self._records), default=1)
        self._create_at_once(RECORD, np.array(self._records, dtype=string_dtype("utf-8", longest)))
        columns = max(map(len, self._sums), default=1)
        self._create_at_once(SUMS, np.array(self._sums, dtype=np.uint32).reshape(len(self._sums), columns))
        identity = self._job.identity
        attributes: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "recipe": self._job.recipe,
            "recipe_digest": identity.recipe,
            "seed": identity.seed,
            "first_index": self._job.first_index,
            "data_digest": identity.data,
            "weights_digest": identity.weights,
            "pixels": identity.pixels,
            "device": self._job.device.partition(":")[0],
            "versions": json.dumps(versions(), sort_keys=True),
            "skipped": json.dumps(self._skipped),
            "complete": 1,
        }
        attributes = {"attributes_crc32": sum_of_attributes(attributes), **attributes}
        for name, value in attributes.items():
            if isinstance(value, str):
                encoded = value.encode()
                self._file.attrs.create(name, encoded, dtype=string_dtype("utf-8", len(encoded)))
            else:
                self._file.attrs[name] = value

    def _create_at_once(self, name: str, content: np.ndarray) -> None:
        """Write what is known once all pairs are there, in one chunk."""
        length, *rest = content.shape
        self._file.create_dataset(
            name,
            data=content,
            maxshape=(len(self._job.samples), *rest),
            chunks=(max(1, length), *rest),
            fletcher32=True,
            track_times=False,
        )

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with uninterrupted(), closing(self._disk), self._file:
                if problem is None:
                    self._finish()
            if problem is None:
                self._disk.check(self._job.path)
                found = problems_of(self._part, None, self._job.identity)
                if found:
                    raise OSError(f"{self._job.path}: what was written does not read back: {'; '.join(found)}")
                with open_shard(self._part) as shard:
                    self.receipt = Receipt.from_opened(shard, self._job.path.name)
                # A shorter shard may lie there. Its receipt goes first, so that no receipt ever describes another shard.
                Receipt.path(self._job.path).unlink(missing_ok=True)
                publish.file(self._part, self._job.path)
                self.receipt.write(self._job.path)
        finally:
            self._part.unlink(missing_ok=True)

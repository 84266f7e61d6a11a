"""Shards: HDF5 files of finished pairs, published whole or not at all.

One shard, `shard-00000.h5`, with its receipt `shard-00000.h5.json` beside it. n is the number of pairs, h and w their
size, k the side of the recipe's largest kernel:

| dataset        | shape   | type          | stored            | content                                                       |
|----------------|---------|---------------|-------------------|---------------------------------------------------------------|
| `/blur`        | n h w 3 | uint8, uint16 | always            | blurred sRGB                                                  |
| `/sharp`       | n h w 3 | uint8, uint16 | always            | ground truth, sRGB                                            |
| `/bayer`       | n h w   | uint16        | save: [raw]       | blurred mosaic with noise, at the camera's levels             |
| `/sharp_bayer` | n h w   | uint16        | save: [raw]       | sharp mosaic without noise, at the camera's levels            |
| `/kernel`      | n k k   | float32       | save: [kernel]    | blur kernel, padded with zeros to the largest of the recipe   |
| `/saturated`   | n h w 3 | uint8         | save: [saturated] | 1 where the light was driven to full scale, else 0            |
| `/record`      | n       | UTF-8 bytes   | always            | JSON: index, source, its digest, camera, dice, statistics     |

The table is `arrays.ARRAYS` and the record (a test compares them). Chunks hold one pair, or tiles of at most 256 px of a
larger one; every dataset carries Fletcher-32 checksums. Attributes of the file: schema_version, recipe (JSON),
recipe_digest, seed, first_index, data_digest, weights_digest, device, versions (JSON), skipped (JSON), and complete = 1,
written last. Nothing in a shard depends on the host, the time or the number of workers.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from blursynth import digests
from blursynth.executors.processes import uninterrupted
from blursynth.shards import arrays, publish
from blursynth.shards.identity import Identity, identity_in
from blursynth.shards.record import record_of, records_in

if TYPE_CHECKING:
    import h5py

    from blursynth.sample import Sample

SCHEMA_VERSION = 1
TILE = 256


@dataclass(frozen=True)
class Job:
    """One shard to fill; small enough to send to any worker.

    path      where the shard goes
    recipe    the effective recipe, as JSON
    identity  of the folder
    device    that makes the pairs
    on_error  of the recipe, which its effective form leaves out
    samples   (index, clip) of every pair
    """

    path: Path
    recipe: str
    identity: Identity
    device: str
    on_error: str
    samples: tuple[tuple[int, Any], ...]

    @property
    def first_index(self) -> int:
        return self.samples[0][0]


# ---------------------------------------------------------------- receipts


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds; stored beside it, and all receipts in the manifest.

    sha256           of the shard's bytes
    tried            how many samples the shard covers, skipped ones included
    count            how many pairs it holds
    blur_psnr_db     mean over the pairs; `None` if nothing was blurred
    saturated_share  mean over the pairs
    skipped          index, source and reason of every sample that could not be made
    """

    shard: str
    sha256: str
    first_index: int
    tried: int
    count: int
    blur_psnr_db: float | None
    saturated_share: float
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def path(shard: Path) -> Path:
        """Where the receipt of `shard` lies."""
        return shard.with_name(shard.name + ".json")

    @staticmethod
    def of(shard: Path) -> Receipt | None:
        """The receipt of `shard`, or `None` if there is none that can be read."""
        try:
            return Receipt(**json.loads(Receipt.path(shard).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def from_shard(shard: Path) -> Receipt:
        """A new receipt for a verified shard, from its content."""
        with open_shard(shard) as file:
            records = records_in(file)
            skipped = json.loads(str(file.attrs["skipped"]))
            first_index = int(file.attrs["first_index"])
        ratios = [record["blur_psnr_db"] for record in records if record["blur_psnr_db"] is not None]
        shares = [record["saturated_share"] for record in records]
        return Receipt(
            shard=shard.name,
            sha256=digests.file_digest(shard),
            first_index=first_index,
            tried=len(records) + len(skipped),
            count=len(records),
            blur_psnr_db=round(sum(ratios) / len(ratios), 4) if ratios else None,
            saturated_share=round(sum(shares) / len(shares), 6) if shares else 0.0,
            skipped=skipped,
        )

    def write(self, shard: Path) -> None:
        publish.text(Receipt.path(shard), json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


# ---------------------------------------------------------------- writing


def _versions() -> str:
    """The versions of the code and of the libraries that decide pixels, as JSON."""
    found = {}
    for package in ("blursynth", "torch", "numpy", "scipy", "opencv-python", "opencv-python-headless", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


def _tile(side: int) -> int:
    """The side of equal tiles, at most `TILE` each, that cover `side`."""
    return math.ceil(side / math.ceil(side / TILE))


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
        self._records: list[str] = []
        self._skipped: list[dict[str, Any]] = []
        self.receipt: Receipt | None = None

    def __enter__(self) -> Writer:
        import h5py

        with uninterrupted():
            self._disk = _Disk(str(self._part), "w+")
            self._file = h5py.File(self._disk, "w", track_order=False)
        return self

    def add(self, sample: Sample, digest: str) -> None:
        """Appends one finished pair."""
        pair = arrays.arrays_of(sample, self._bits)
        record = record_of(sample, digest, pair)
        with uninterrupted():
            for name, array in pair.items():
                if name not in self._file:
                    self._create(name, array)
                self._file[name][len(self._records)] = array
        self._records.append(record)
        self._disk.check(self._job.path)

    def skip(self, index: int, source: str, reason: str) -> None:
        """Notes that sample `index` could not be made."""
        self._skipped.append({"index": index, "source": source, "reason": reason})

    def _create(self, name: str, array: np.ndarray) -> None:
        length = len(self._job.samples)
        tiles = tuple(_tile(side) if axis < 2 else side for axis, side in enumerate(array.shape))
        self._file.create_dataset(
            name,
            shape=(length, *array.shape),
            maxshape=(length, *array.shape),
            dtype=array.dtype,
            chunks=(1, *tiles),
            fletcher32=True,
            track_times=False,
        )

    def _finish(self) -> None:
        from h5py import string_dtype

        for dataset in self._file.values():
            dataset.resize(len(self._records), axis=0)
        encoded = [record.encode() for record in self._records]
        longest = max(map(len, encoded), default=1)
        self._file.create_dataset(
            "record",
            data=np.array(encoded, dtype=string_dtype("utf-8", longest)),
            maxshape=(len(self._job.samples),),
            chunks=(max(1, len(encoded)),),
            fletcher32=True,
            track_times=False,
        )
        identity = self._job.identity
        attributes = {
            "schema_version": SCHEMA_VERSION,
            "recipe": self._job.recipe,
            "recipe_digest": identity.recipe,
            "seed": identity.seed,
            "first_index": self._job.first_index,
            "data_digest": identity.data,
            "weights_digest": identity.weights,
            "device": self._job.device.partition(":")[0],
            "versions": _versions(),
            "skipped": json.dumps(self._skipped),
            "complete": 1,
        }
        for name, value in attributes.items():
            self._file.attrs[name] = value

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
                receipt = Receipt.from_shard(self._part)
                self.receipt = Receipt(**(asdict(receipt) | {"shard": self._job.path.name}))
                # A shorter shard may lie there. Its receipt goes first, so that no receipt ever describes another shard.
                Receipt.path(self._job.path).unlink(missing_ok=True)
                publish.file(self._part, self._job.path)
                self.receipt.write(self._job.path)
        finally:
            self._part.unlink(missing_ok=True)


# ---------------------------------------------------------------- reading and checking


def open_shard(path: Path) -> h5py.File:
    """Open a shard for reading. Raises `OSError` if it is damaged.

    Without a lock: network file systems often refuse them, and a published shard never changes. Without HDF5's cache of
    chunks: samples are read in random order, and the cache would take 8 MiB for each open dataset.
    """
    import h5py

    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as problem:
        raise OSError(
            f"{path}: expected a whole shard, got: {problem}; run python -m blursynth.verify --repair"
        ) from problem


def records_of(paths: Sequence[Path]) -> list[tuple[Path, int, dict[str, Any]]]:
    """(shard, position in it, record) of every pair in the shards at `paths`."""
    found = []
    for path in paths:
        with open_shard(path) as file:
            found += [(path, position, record) for position, record in enumerate(records_in(file))]
    return found


def problems_of(path: Path, receipt: Receipt | None, identity: Identity | None) -> list[str]:
    """Everything that is wrong with the shard at `path`. All of it is read, so that HDF5 checks every checksum."""
    if receipt is not None and digests.file_digest(path) != receipt.sha256:
        return ["its bytes differ from those of its receipt"]
    try:
        with open_shard(path) as file:
            return list(_problems_inside(file, identity))
    except (OSError, KeyError, ValueError, RuntimeError) as problem:
        return [f"cannot be read: {problem}"]


def _problems_inside(file: h5py.File, identity: Identity | None) -> Iterator[str]:
    if file.attrs.get("complete") != 1:
        yield "was not finished"
        return
    if identity is not None:
        found = identity_in(file)
        if found != identity:
            yield f"belongs to another run: {found.differences(identity)}"
    recipe = str(file.attrs["recipe"])
    if digests.digest_of([recipe]) != file.attrs["recipe_digest"]:
        yield "its recipe does not match its digest"
    yield from _problems_of_pairs(file, json.loads(recipe))


def _problems_of_pairs(file: h5py.File, recipe: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the arrays of an opened shard, given its recipe as a document."""
    records = records_in(file)
    expected = {array.name: array for array in arrays.asked_for(recipe["save"])} if records else {}
    yield from (f"/{name} is missing" for name in expected if name not in file)
    yield from (f"/{name} is not an array of its recipe" for name in file if name not in {*expected, "record"})
    present = [array for array in expected.values() if array.name in file]
    sides: dict[str, int] = {}
    for array in present:
        dataset = file[array.name]
        if len(dataset) != len(records):
            yield f"/{array.name} has {len(dataset)} samples, /record has {len(records)}"
            return
        problems = array.problems(dataset.shape, dataset.dtype, recipe["bits"], sides)
        yield from (f"/{array.name} {problem}" for problem in problems)
    for position, record in enumerate(records):
        for array in present:
            if fault := array.fault(file[array.name][position], record):
                yield f"sample {record['index']}: /{array.name} {fault}"

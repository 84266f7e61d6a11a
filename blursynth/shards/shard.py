"""Shards: HDF5 files of finished pairs, published whole or not at all.

One shard, `shard-00000.h5`, with its receipt `shard-00000.h5.json` beside it:

| dataset        | shape      | type           | when                | content                                              |
|----------------|------------|----------------|---------------------|------------------------------------------------------|
| `/blur`        | n h w 3    | uint8, uint16  | always              | blurred sRGB                                         |
| `/sharp`       | n h w 3    | as `/blur`     | always              | ground truth, sRGB                                   |
| `/bayer`       | n h w      | uint16         | save: [raw]         | blurred mosaic with noise, at the camera's levels    |
| `/sharp_bayer` | n h w      | uint16         | save: [raw]         | sharp mosaic without noise, at the camera's levels   |
| `/kernel`      | n k k      | float32        | save: [kernel]      | kernel of the convolution, zero-padded               |
| `/saturated`   | n h w 3    | uint8, 0 or 1  | save: [saturated]   | what was driven to full scale                        |
| `/record`      | n          | UTF-8 bytes    | always              | JSON: index, source, digest, camera, dice, statistics|

Chunks hold one sample, or tiles of at most 256 px of a larger one; every dataset carries Fletcher-32 checksums.
Attributes of the file: schema_version, recipe (JSON), recipe_digest, seed, first_index, data_digest, weights_digest,
device, versions (JSON), and complete = 1, written last. Nothing in it depends on host, time or number of workers.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from blursynth import digests
from blursynth.executors.processes import uninterrupted
from blursynth.shards import publish
from blursynth.shards.identity import Identity, identity_in

if TYPE_CHECKING:
    import h5py

    from blursynth.sample import Sample

SCHEMA_VERSION = 1
TILE = 256


@dataclass(frozen=True)
class Job:
    """One shard to fill: which samples, from which clips, into which file. Small enough to send to any worker."""

    path: Path
    recipe: str
    identity: Identity
    device: str
    on_error: str
    samples: tuple[tuple[int, Any], ...]

    @property
    def first_index(self) -> int:
        return self.samples[0][0]


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds. `blur_psnr_db` and `saturated_share` are means over its pairs."""

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
        return shard.with_name(shard.name + ".json")

    @staticmethod
    def of(shard: Path) -> Receipt | None:
        """The receipt of `shard`, or `None` where there is no whole one."""
        try:
            return Receipt(**json.loads(Receipt.path(shard).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def from_shard(shard: Path) -> Receipt:
        """The receipt of a verified shard, from its own content."""
        with open_shard(shard) as file:
            records = [json.loads(record) for record in file["record"][:]]
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


def _versions() -> str:
    found = {}
    for package in ("blursynth", "torch", "numpy", "scipy", "opencv-python", "opencv-python-headless", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


def _tile(side: int) -> int:
    return math.ceil(side / math.ceil(side / TILE))


class _Disk(io.FileIO):
    """A file that keeps its failures until `check` asks: a write refused to HDF5 brings the process down at its exit."""

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
        """Raises `OSError`, about `path`, where something could not be written."""
        if self._problem is not None:
            raise OSError(self._problem.errno, self._problem.strerror, str(path)) from self._problem


class Writer:
    """Fills one shard. Used as a context: leaving it in order publishes the shard, leaving it by an error removes it."""

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
        arrays = arrays_of(sample, self._bits)
        record = record_of(sample, digest, arrays)
        with uninterrupted():
            for name, array in arrays.items():
                if name not in self._file:
                    self._create(name, array)
                self._file[name][len(self._records)] = array
        self._records.append(record)
        self._disk.check(self._job.path)

    def skip(self, index: int, source: str, reason: str) -> None:
        """Notes that no pair could be made."""
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
                # Of a shorter shard, which this one replaces: never may a receipt lie beside what it does not describe.
                Receipt.path(self._job.path).unlink(missing_ok=True)
                publish.file(self._part, self._job.path)
                self.receipt.write(self._job.path)
        finally:
            self._part.unlink(missing_ok=True)


def arrays_of(sample: Sample, bits: int) -> dict[str, np.ndarray]:
    """The finished pair as it is stored: what a shard holds of one sample, by dataset. Raises `ValueError` on NaN."""
    arrays = {
        "blur": _quantised(sample.image[0].permute(1, 2, 0), 0.0, 2.0**bits - 1, f"uint{bits}", "blur"),
        "sharp": _quantised(sample.sharp[0].permute(1, 2, 0), 0.0, 2.0**bits - 1, f"uint{bits}", "sharp"),
    }
    if "raw" in sample.saves and sample.bayer is not None and sample.sharp_bayer is not None:
        if sample.shot.black is None or sample.shot.white is None:
            raise ValueError(f"save raw: the camera {sample.shot.name[0]} has no black and white level")
        black, white = float(sample.shot.black[0, 0]), float(sample.shot.white[0])
        arrays["bayer"] = _quantised(sample.bayer[0, 0], black, white, "uint16", "bayer")
        arrays["sharp_bayer"] = _quantised(sample.sharp_bayer[0, 0], black, white, "uint16", "sharp_bayer")
    if "kernel" in sample.saves and sample.kernel is not None:
        arrays["kernel"] = sample.kernel.cpu().numpy()
    if "saturated" in sample.saves and sample.saturated is not None:
        arrays["saturated"] = sample.saturated[0].permute(1, 2, 0).to("cpu").numpy().astype(np.uint8)
    return arrays


def _quantised(values: Any, black: float, white: float, dtype: str, name: str) -> np.ndarray:
    """`values` with 0 and 1 at `black` and `white`, rounded, clipped to [0, white]."""
    levels = (values * (white - black) + black).round().clamp(0, white).cpu().numpy()
    if np.isnan(levels).any():
        raise ValueError(f"{name}: expected finite values, got NaN; this is a bug of a stage, please report the recipe")
    return np.ascontiguousarray(levels.astype(dtype))


def record_of(sample: Sample, digest: str, arrays: dict[str, np.ndarray]) -> str:
    """One line of JSON: where a pair came from, every number drawn for it, and statistics."""
    blur, sharp = arrays["blur"], arrays["sharp"]
    difference = np.subtract(blur, sharp, dtype=np.float64).ravel()  # sums of whole numbers: exact in any order
    error = float(difference @ difference) / difference.size / np.iinfo(blur.dtype).max ** 2
    saturated = 0.0 if sample.saturated is None else int(sample.saturated.sum()) / sample.saturated.numel()
    return json.dumps(
        {
            "index": sample.index,
            "source": sample.source,
            "source_digest": digest,
            "camera": None if sample.camera is None else json.loads(sample.camera.to_json()),
            "dice": sample.dice,
            "blur_level": round(float(blur.mean()), 4),
            "sharp_level": round(float(sharp.mean()), 4),
            "blur_psnr_db": None if error == 0 else round(-10 * math.log10(error), 4),
            "saturated_share": round(saturated, 6),
        },
        sort_keys=True,
    )


# ---------------------------------------------------------------- reading and checking


def open_shard(path: Path) -> h5py.File:
    """A shard for reading; network file systems often refuse locks, and a published shard never changes.

    Without HDF5's cache of chunks: samples are read in random order, and it would take 8 MiB for each open dataset.
    """
    import h5py

    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as problem:
        raise OSError(
            f"{path}: expected a whole shard, got: {problem}; run python -m blursynth.verify --repair"
        ) from problem


def problems_of(path: Path, receipt: Receipt | None, identity: Identity | None) -> list[str]:
    """Everything that is wrong with the shard at `path`: all of it is read, and so every checksum is checked."""
    if receipt is not None and digests.file_digest(path) != receipt.sha256:
        return ["its bytes differ from those of its receipt"]
    try:
        with open_shard(path) as file:
            return list(_wrong_inside(file, identity))
    except (OSError, KeyError, ValueError, RuntimeError) as problem:
        return [f"cannot be read: {problem}"]


def _wrong_inside(file: h5py.File, identity: Identity | None) -> Iterator[str]:
    if file.attrs.get("complete") != 1:
        yield "was not finished"
        return
    if identity is not None:
        found = identity_in(file)
        if found != identity:
            yield f"belongs to another run: {found.differences(identity)}"
    if digests.digest_of([str(file.attrs["recipe"])]) != file.attrs["recipe_digest"]:
        yield "its recipe is not that of its digest"
    records = file["record"][:]
    for name, dataset in file.items():
        if len(dataset) != len(records):
            yield f"/{name} has {len(dataset)} samples, /record has {len(records)}"
    for position, record in enumerate(records):
        entry = json.loads(record)
        index = entry["index"]
        for name in ("blur", "sharp"):
            level = float(file[name][position].mean())
            if abs(level - entry[f"{name}_level"]) > 1e-3:
                yield f"sample {index}: /{name} is {'black' if level == 0 else 'not that of its record'}"
        if "kernel" in file and not math.isclose(float(file["kernel"][position].sum()), 1, abs_tol=1e-3):
            yield f"sample {index}: /kernel sums to {float(file['kernel'][position].sum()):g}, not 1"
        for name in set(file) & {"bayer", "sharp_bayer", "saturated"}:
            file[name][position]

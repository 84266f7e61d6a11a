"""Every window of every array comes back as it was stored, or not at all."""

import json
import shutil
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blursynth import ShardDataset, inspect, make, verify
from blursynth.shards import folders
from blursynth.shards.format import sums_of, tile_of
from blursynth.shards.identity import PIXELS
from blursynth.shards.reader import open_shard, records_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.soundness import problems_of, weakness_of

SCHEMA_1 = Path(__file__).with_name("schema_1")
DICE = np.random.Generator(np.random.PCG64(17))


@pytest.fixture(scope="module")
def tiled(recipe_file, tmp_path_factory) -> Path:
    """A shard of two pairs of 300 x 520, which are stored in 2 x 3 tiles of 150 x 174."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("tiled")
    assert cv2.imwrite(str(data / "a.png"), DICE.integers(0, 256, (330, 550, 3), dtype=np.uint8))
    command = ["--recipe", recipe_file(), "--set", "crop.size=[316, 536]", "--data", str(data), "--out", str(out)]
    assert make.main([*command, "--count", "2", "--workers", "0"]) == 0
    return out / "shard-00000.h5"


@pytest.fixture(scope="module")
def stored(tiled) -> dict[str, np.ndarray]:
    """What h5py reads, which knows nothing of our sums."""
    with h5py.File(tiled, locking=False) as file:
        return {name: dataset[:] for name, dataset in file.items()}


# ---------------------------------------------------------------- windows


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(0, 1),
    rows=st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted),
    columns=st.tuples(st.integers(0, 520), st.integers(0, 520)).map(sorted),
)
def test_windows(tiled, stored, position, rows, columns):
    window = slice(*rows), slice(*columns)
    with open_shard(tiled) as shard:
        for name in ("blur", "sharp"):
            found = shard.read(name, position, *window)
            assert found.dtype == np.uint8
            assert found.flags.writeable
            assert np.array_equal(found, stored[name][(position, *window)])


def test_whole_arrays(tiled, stored):
    with open_shard(tiled) as shard:
        assert shard.names == ("blur", "sharp", "kernel")
        assert shard.shape("blur") == (300, 520, 3)
        for name in shard.names:
            assert np.array_equal(shard.read(name, 1), stored[name][1])
        for position in (-1, 2):
            with pytest.raises(IndexError, match=f"expected a position below 2, got {position}"):
                shard.read("blur", position)
        assert shard.record_lines() == [line.decode() for line in stored["record"]]
        assert shard.records() == [json.loads(line) for line in stored["record"]]
    with pytest.raises(OSError, match="expected /blur of pair 0"):  # it is closed
        shard.read("blur", 0)


def test_sums_are_those_of_the_chunks(tiled, stored):
    """Anyone can check them with zlib and h5py alone."""
    found = []
    with h5py.File(tiled, locking=False) as file:
        for name in ("blur", "sharp", "kernel"):
            chunks = [file[name].chunks[axis] for axis in (1, 2)]
            for top in range(0, file[name].shape[1], chunks[0]):
                for left in range(0, file[name].shape[2], chunks[1]):
                    _, chunk = file[name].id.read_direct_chunk((1, top, left, *[0] * (file[name].ndim - 3)))
                    found.append(zlib.crc32(chunk[:-4]))
    assert len(found) == 6 + 6 + 1
    assert [*found, zlib.crc32(stored["record"][1])] == stored["crc32"][1].tolist()


@pytest.mark.parametrize("shape", [(1, 1), (256, 256, 3), (257, 256, 3), (300, 520), (9, 9)])
def test_sums_of(shape):
    array = DICE.integers(1, 256, shape, dtype=np.uint8)
    tile = tile_of(shape)
    padded = np.zeros([-(-side // part) * part for side, part in zip(shape, tile, strict=True)], np.uint8)
    padded[tuple(map(slice, shape))] = array
    expected = [
        zlib.crc32(np.ascontiguousarray(padded[top : top + tile[0], left : left + tile[1]]))
        for top in range(0, padded.shape[0], tile[0])
        for left in range(0, padded.shape[1], tile[1])
    ]
    assert [*sums_of(array)] == expected


# ---------------------------------------------------------------- damage that HDF5 does not see


def zeros(file: h5py.File, path: Path) -> None:
    """Zeros pass Fletcher-32, whose sum of zeros is zero."""
    chunk = file["sharp"].id.get_chunk_info_by_coord((1, 150, 174, 0))
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))


def exchange(file: h5py.File, path: Path) -> None:
    """The tiles of two pairs: each is whole, in the place of the other."""
    first, second = (file["sharp"].id.get_chunk_info_by_coord((at, 150, 174, 0)) for at in (0, 1))
    content = bytearray(path.read_bytes())
    one, other = (slice(each.byte_offset, each.byte_offset + each.size) for each in (first, second))
    content[one], content[other] = content[other], content[one]
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [zeros, exchange])
def test_tiles_that_pass_the_checksums_of_hdf5(damage, tiled, stored, tmp_path):
    path = Path(shutil.copy(tiled, tmp_path))
    with h5py.File(path, locking=False) as file:
        damage(file, path)
    with h5py.File(path, locking=False) as file:
        assert not np.array_equal(file["sharp"][1], stored["sharp"][1])  # without an error
    said = (
        "expected /sharp of pair 1, got: pixels that do not match their CRC-32; run python -m blursynth.verify --repair"
    )
    with open_shard(path) as shard:
        with pytest.raises(OSError) as raised:
            shard.read("sharp", 1)
        assert str(raised.value) == f"{path}: {said}"
        with pytest.raises(OSError, match="do not match their CRC-32"):
            shard.read("sharp", 1, slice(149, 151), slice(170, 180))
        # Tiles that nobody asked for are not read.
        untouched = slice(0, 150), slice(0, 520)
        assert np.array_equal(shard.read("sharp", 1, *untouched), stored["sharp"][(1, *untouched)])
        assert np.array_equal(shard.read("blur", 1), stored["blur"][1])
    (found,) = problems_of(path, None, None)
    assert found.startswith("expected /sharp of pair ")
    assert "do not match their CRC-32" in found


def missing_tile(file: h5py.File) -> None:
    """A new dataset, of which only the first pair is written: the other reads as zeros."""
    content = file["blur"][:]
    del file["blur"]
    file.create_dataset("blur", content.shape, content.dtype, chunks=(1, *content.shape[1:]), fletcher32=True)
    file["blur"][0] = content[0]


def other_records(file: h5py.File) -> None:
    lines = file["record"][:]
    lines[0] = lines[1]
    file["record"][:] = lines


def no_objects(file: h5py.File) -> None:
    file["record"][:] = np.array([b"[1]", b"3"], file["record"].dtype)


def not_json(file: h5py.File) -> None:
    file["record"][0] = b"{"


def not_finite(file: h5py.File) -> None:
    file["record"][0] = file["record"][0].replace(b'"saturated_share": 0.0', b'"saturated_share": NaN')


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (missing_tile, "expected /blur of pair 1, got: "),
        (other_records, "expected the records of 2 pairs, got: those of samples [1, 1], of 0 to 1"),
        (no_objects, "got: expected the record of a pair as JSON, got [1]"),
        (not_json, "got: expected the record of a pair as JSON, got: "),
        (not_finite, "saturated_share is missing or wrong"),
    ],
)
def test_content_that_is_none_of_a_shard(edit, expected, copied, resum):
    """The sums are right: whoever made this file meant it."""
    path = copied() / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        edit(file)
        resum(file)
    (found,) = problems_of(path, None, None)
    assert expected in found
    if "records" in found:
        with pytest.raises(OSError, match="expected the records of 2 pairs"):
            records_of([path])


def test_a_changed_record_is_found(copied):
    path = copied() / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file["record"][1] = file["record"][1].replace(b"a7r3", b"a7r4")
    (found,) = problems_of(path, None, None)
    assert "the record of pair 1 does not match its CRC-32" in found
    with open_shard(path) as shard:
        assert shard.read("blur", 1).any()  # pixels do not depend on it


def test_large_lists_of_skipped_samples(recipe_file, tmp_path):
    """They are stored as one attribute, which HDF5 keeps in another way beyond 64 KiB."""
    data, out = tmp_path / ("long" * 50), tmp_path / "out"
    data.mkdir()
    (data / "a.png").write_bytes(b"no picture")
    command = ["--recipe", recipe_file(samples_per_shard=400, on_error="skip"), "--data", str(data), "--out", str(out)]
    assert make.main([*command, "--count", "400", "--workers", "0"]) == 1
    with open_shard(out / "shard-00000.h5") as shard:
        assert (shard.count, shard.tried, shard.names, shard.records()) == (0, 400, (), [])
        assert len(json.dumps(shard.skipped)) > 2**16
        assert [entry["index"] for entry in shard.skipped] == [*range(400)]


# ---------------------------------------------------------------- the older schema


def test_schema_1_is_read_and_verified(tmp_path, capsys):
    """Shards that version 0.1.0 made, from its release."""
    folder = Path(shutil.copytree(SCHEMA_1, tmp_path / "old"))
    path = folder / "shard-00000.h5"
    with h5py.File(path, locking=False) as file:
        pixels = {name: file[name][:] for name in ("blur", "sharp", "kernel")}
    with open_shard(path) as shard:
        assert (shard.schema, shard.count, shard.names) == (1, 2, ("blur", "sharp", "kernel"))
        assert shard.identity.pixels is None
        for name, content in pixels.items():
            assert np.array_equal(shard.read(name, 1), content[1])
        assert np.array_equal(shard.read("blur", 1, slice(3, 9), slice(5, 16)), pixels["blur"][1, 3:9, 5:16])
        assert [record["index"] for record in shard.records()] == [0, 1]
        assert "a bit that flips there can change pixels without an error" in shard.weakness
    assert weakness_of(path).startswith("was written in an older format, whose structure carries no checksums")
    assert Receipt.from_shard(path) == Receipt.of(path)
    assert problems_of(path, Receipt.of(path), folders.owner_of(folder)) == []
    assert verify.main([str(folder)]) == 0
    assert inspect.main([str(folder)]) == 0
    pairs = ShardDataset(folder)
    assert pairs[1]["blur"].shape == (3, 16, 16)
    pairs.close()
    content = bytearray(path.read_bytes())
    with h5py.File(path, locking=False) as file:
        content[file["blur"].id.get_chunk_info(1).byte_offset + 77] ^= 4
    path.write_bytes(content)
    assert "expected /blur of pair 1, got: " in problems_of(path, None, None)[0]


def test_schema_2_has_no_weakness(shards):
    assert weakness_of(shards() / "shard-00000.h5") == ""


def test_schema_1_is_never_extended(recipe_file, small, tmp_path, capsys):
    folder = Path(shutil.copytree(SCHEMA_1, tmp_path / "old"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    document = json.loads((folder / "manifest.json").read_text())["recipe"]
    command = ["--recipe", recipe_file(**document), "--out", str(folder), "--count", "4", "--workers", "0"]
    for lost in ("", folders.IDENTITY):
        if lost:
            (folder / lost).unlink()
            del before[lost]
        assert make.main(command) == 1
        said = capsys.readouterr().err
        assert "holds shards of another run (made by a blursynth that did not number its pixels yet)" in said
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"} == before
    assert make.main([*command, "--force"]) == 0
    owner = folders.owner_of(folder)
    assert owner is not None
    assert owner.pixels == PIXELS
    assert (next(folder.glob("replaced-*")) / "shard-00000.h5").read_bytes() == before["shard-00000.h5"]

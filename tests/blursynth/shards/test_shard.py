"""The format of a shard is the one in the docstring of `blursynth.shards.format`."""

import json
import socket
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from blursynth import digests, make, recipe, synthesis
from blursynth.shards import arrays, folders, publish
from blursynth.shards.format import ATTRIBUTES, SCHEMA_VERSION, tile_of
from blursynth.shards.identity import PIXELS, identity_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.writer import Writer
from isp import profile

DICE = np.random.Generator(np.random.PCG64(3))
NAME = "Größe №1 写真.png"


@pytest.fixture(scope="module")
def everything(recipe_file, tmp_path_factory) -> Path:
    """Three 16-bit pairs of 300 x 520 with all that can be stored, of a picture with an awkward name."""
    data, out = tmp_path_factory.mktemp("private-folder"), tmp_path_factory.mktemp("everything")
    ok, encoded = cv2.imencode(".png", DICE.integers(0, 2**16, (330, 550, 3), dtype=np.uint16))
    assert ok
    (data / NAME).write_bytes(encoded.tobytes())
    overrides = ["--set", "crop.size=[316, 536]", "--set", "save=[raw, kernel, saturated]", "--set", "bits=16"]
    command = ["--recipe", recipe_file(), *overrides, "--data", str(data), "--out", str(out), "--count", "3"]
    assert make.main([*command, "--workers", "0"]) == 0
    return out


def test_datasets(everything):
    with h5py.File(everything / "shard-00000.h5") as file:
        assert {name: (dataset.shape, str(dataset.dtype)) for name, dataset in file.items() if name != "record"} == {
            "blur": ((2, 300, 520, 3), "uint16"),
            "sharp": ((2, 300, 520, 3), "uint16"),
            "bayer": ((2, 300, 520), "uint16"),
            "sharp_bayer": ((2, 300, 520), "uint16"),
            "kernel": ((2, 9, 9), "float32"),
            "saturated": ((2, 300, 520, 3), "uint8"),
            "crc32": ((2, 5 * 6 + 1 + 1), "uint32"),
        }
        assert {name: dataset.chunks for name, dataset in file.items()} == {
            "blur": (1, 150, 174, 3),
            "sharp": (1, 150, 174, 3),
            "bayer": (1, 150, 174),
            "sharp_bayer": (1, 150, 174),
            "kernel": (1, 9, 9),
            "saturated": (1, 150, 174, 3),
            "record": (2,),
            "crc32": (2, 32),
        }
        assert all(dataset.fletcher32 for dataset in file.values())
        assert all(dataset.compression is None for dataset in file.values())
        assert set(np.unique(file["saturated"])) <= {0, 1}
        assert np.allclose(file["kernel"][:].sum((1, 2)), 1, atol=1e-5)


def test_small_pairs_are_one_chunk(shards):
    with h5py.File(shards() / "shard-00000.h5") as file:
        assert {name: dataset.chunks for name, dataset in file.items()} == {
            "blur": (1, 48, 48, 3),
            "sharp": (1, 48, 48, 3),
            "kernel": (1, 9, 9),
            "record": (2,),
            "crc32": (2, 4),
        }
        assert {file[name].dtype for name in ("blur", "sharp")} == {np.dtype("uint8")}
    with h5py.File(shards() / "shard-00002.h5") as file:
        assert {len(dataset) for dataset in file.values()} == {1}


def test_tiles():
    tiles = [tile_of((side, 48))[0] for side in (1, 48, 256, 257, 512, 513, 720, 1280)]
    assert tiles == [1, 48, 256, 129, 256, 171, 240, 256]
    assert tile_of((300, 520, 3)) == (150, 174, 3)


def test_pixels_are_those_of_the_sample(everything):
    """RAW at the camera's levels, sRGB in 16 bits, each rounded once."""
    with h5py.File(everything / "shard-00000.h5") as file:
        bound = recipe.bind(json.loads(file.attrs["recipe"]), "stored")
        stored = {name: dataset[1] for name, dataset in file.items()}
    data = next(everything.parent.glob("private-folder*"))
    clips = bound.source.open(data).clips
    with synthesis.one_thread():
        sample = synthesis.synthesise(clips[0], bound, 1)
    levels = profile.load("a7r3").levels
    black, white = (float(value[0].flatten()[0]) for value in (sample.known_camera.black, sample.known_camera.white))
    assert levels is not None
    assert (black, white) == (512, 16383)
    for name, mosaic in (("bayer", sample.bayer), ("sharp_bayer", sample.sharp_bayer)):
        exact = np.clip(mosaic[0, 0].double().numpy() * (white - black) + black, 0, white)
        assert np.abs(stored[name] - exact).max() < 0.51
        assert 0 < stored[name].min() < 1000
        assert 2000 < stored[name].max() <= white
    for name, srgb in (("blur", sample.image), ("sharp", sample.sharp)):
        exact = srgb[0].permute(1, 2, 0).double().numpy() * 65535
        assert np.abs(stored[name] - exact).max() < 0.51
        assert len(np.unique(stored[name])) > 1000
    assert np.array_equal(stored["saturated"], sample.saturated[0].permute(1, 2, 0).numpy())
    assert np.array_equal(stored["kernel"], sample.kernel.numpy())


def test_record(everything):
    with h5py.File(everything / "shard-00000.h5") as file:
        kind = h5py.check_string_dtype(file["record"].dtype)
        assert kind.encoding == "utf-8"
        assert kind.length == max(map(len, file["record"][:]))
        records = [json.loads(record) for record in file["record"][:]]
    assert [record["index"] for record in records] == [0, 1]
    assert {record["source"] for record in records} == {NAME}
    data = next(everything.parent.glob("private-folder*"))
    assert {record["source_digest"] for record in records} == {digests.file_digest(data / NAME)}
    assert records[0]["dice"] != records[1]["dice"]
    assert records[0]["camera"]["cfa"] in ("RGGB", "BGGR", "GRBG", "GBRG")


def test_attributes(everything):
    identity = folders.owner_of(everything)
    for number, first in enumerate((0, 2)):
        with h5py.File(folders.path_of(everything, number)) as file:
            attributes = dict(file.attrs)
        assert set(attributes) == set(ATTRIBUTES)
        assert attributes["complete"] == 1
        assert attributes["schema_version"] == SCHEMA_VERSION
        assert attributes["first_index"] == first
        assert attributes["seed"] == 7
        assert attributes["device"] == b"cpu"
        assert attributes["skipped"] == b"[]"
        assert attributes["data_digest"].decode() == identity.data
        assert attributes["weights_digest"].decode() == identity.weights
        assert attributes["pixels"] == identity.pixels == PIXELS
        bound = recipe.bind(json.loads(attributes["recipe"]), "stored")
        assert bound.digest == attributes["recipe_digest"].decode() == identity.recipe
        assert bound.bits == 16  # an override
        assert {"torch", "numpy", "h5py"} <= set(json.loads(attributes["versions"]))


def test_nothing_tells_where_and_when_it_was_made(everything):
    for path in everything.iterdir():
        content = path.read_bytes()
        secrets = ["private-folder", str(everything), "pytest-", "/tmp"]
        if path.suffix in (".h5", ".json"):
            assert not any(secret.encode() in content for secret in secrets), path
        host = socket.gethostname().encode()
        assert len(host) < 5 or path.name.endswith(".lock") or host not in content
    assert (everything / ".slice-0-of-1.lock").exists()


def test_receipt_and_manifest(everything):
    manifest = json.loads((everything / folders.MANIFEST).read_text())
    assert manifest["count"] == 3
    assert [entry["shard"] for entry in manifest["shards"]] == ["shard-00000.h5", "shard-00001.h5"]
    for entry in manifest["shards"]:
        path = everything / entry["shard"]
        assert Receipt.of(path) == Receipt(**entry) == Receipt.from_shard(path)
        assert entry["sha256"] == digests.file_digest(path)
    assert manifest["recipe"]["bits"] == 16


def test_nan_is_refused(small):
    bound = recipe.bind(small(), "test")
    with synthesis.one_thread():
        sample = synthesis.synthesise(bound.source.open(None).clips[0], bound, 0)
    image = sample.image.clone()
    image[0, 1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="blur: expected finite values, got NaN"):
        arrays.arrays_of(sample.replace(image=image), 8)
    image[0, 1, 2, 3] = 7.5
    assert arrays.arrays_of(sample.replace(image=image), 8)["blur"][2, 3, 1] == 255
    image[0, 1, 2, 3] = -torch.inf
    assert arrays.arrays_of(sample.replace(image=image), 8)["blur"][2, 3, 1] == 0


def test_publish_text_replaces_whole_files(tmp_path):
    path = tmp_path / "manifest.json"
    publish.text(path, "old")
    publish.text(path, "new")
    assert path.read_text() == "new"
    with pytest.raises(OSError, match=str(tmp_path / "missing")) as problem:
        publish.text(tmp_path / "missing" / "manifest.json", "text")
    assert problem.value.filename == str(tmp_path / "missing" / "manifest.json")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_error_in_a_pair_leaves_nothing(small, tmp_path):
    bound = recipe.bind(small(), "test")
    footage = bound.source.open(None)
    job = folders.plan(bound, identity_of(bound, footage.digest), footage.clips, 2, tmp_path, "cpu")[0]
    with pytest.raises(KeyError, match="a bug"), Writer(job, 8) as out:
        out.add(synthesis.synthesise(footage.clips[0], bound, 0), "0")
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        raise KeyError("a bug")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shard": 1}'])
def test_broken_receipts_are_none(text, tmp_path):
    Receipt.path(tmp_path / "shard-00000.h5").write_text(text)
    assert Receipt.of(tmp_path / "shard-00000.h5") is None

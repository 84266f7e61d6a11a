"""The table of stored arrays: everything works from it, and a new array is one entry."""

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from blursynth import ShardDataset, inspect, make, recipe, synthesis, verify
from blursynth.sample import Sample
from blursynth.shards import arrays, folders, format
from blursynth.shards.arrays import ARRAYS, SAVES, StoredArray
from blursynth.shards.receipt import Receipt
from blursynth.shards.soundness import problems_of
from isp.camera import Camera
from isp.levels import bayer_of_raw


def test_save_keys_say_what_stages_must_bring():
    assert SAVES == {"raw": ("bayer", "levels"), "kernel": ("kernel",), "saturated": ("saturated",)}


def test_the_docstring_of_the_format_shows_the_table():
    lines = [line.strip("|").split("|") for line in format.__doc__.splitlines() if line.startswith("| `/")]
    rows = [[cell.strip() for cell in line] for line in lines]
    expected = [
        [
            f"`/{array.name}`",
            f"n {array.axes}",
            ", ".join(dict.fromkeys(str(array.dtype(bits)) for bits in (8, 16))),
            "always" if array.save is None else f"save: [{array.save}]",
            array.content,
        ]
        for array in ARRAYS
    ]
    assert len(expected) == 6
    assert rows[:-2] == expected
    assert [row[0] for row in rows[-2:]] == ["`/record`", "`/crc32`"]


# ---------------------------------------------------------------- what is stored


BLACK, WHITE = {"R": 100.0, "G": 200.0, "B": 300.0}, 1100.0


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_raw_is_stored_at_the_black_level_of_each_site(pattern):
    """A camera whose black levels differ: with the level of one colour for all sites, the mosaic would not come back."""
    camera = Camera(
        name=("uneven",),
        cfa=(pattern,),
        white_balance=torch.ones(1, 3),
        sensor_to_linear=torch.eye(3)[None],
        black=torch.tensor([list(BLACK.values())]),
        white=torch.tensor([WHITE]),
    )
    bayer = torch.linspace(0, 1, 24).reshape(1, 1, 4, 6)
    image = torch.zeros(1, 3, 4, 6)
    sample = Sample(
        image=image, space="srgb", sharp=image, seed=0, index=0, source="", saves=("raw",),
        camera=camera, bayer=bayer, sharp_bayer=torch.zeros_like(bayer),
    )  # fmt: skip
    stored = arrays.arrays_of(sample, 8)
    black = [[BLACK[pattern[2 * (y % 2) + x % 2]] for x in range(6)] for y in range(4)]
    assert stored["sharp_bayer"].dtype == np.uint16
    assert stored["sharp_bayer"].tolist() == black
    exact = np.array(black) + bayer[0, 0].double().numpy() * (WHITE - np.array(black))
    assert np.abs(stored["bayer"] - exact).max() < 0.51
    assert torch.allclose(bayer_of_raw(torch.from_numpy(stored["bayer"]), camera), bayer, atol=1 / 1600)


@pytest.mark.parametrize(("save", "name"), [("raw", "bayer"), ("kernel", "kernel"), ("saturated", "saturated")])
def test_an_array_that_no_stage_made_is_refused(save, name):
    image = torch.zeros(1, 3, 4, 4)
    sample = Sample(image=image, space="srgb", sharp=image, seed=0, index=0, source="", saves=(save,))
    with pytest.raises(ValueError, match=f"/{name}: expected a stage to make it, got nothing"):
        arrays.arrays_of(sample, 8)


def test_bytes_per_pair():
    bytes_of = {array.name: [array.bytes_per_pair((10, 20), bits) for bits in (8, 16)] for array in ARRAYS}
    pictures = {"blur": [600, 1200], "sharp": [600, 1200], "saturated": [600, 600]}
    assert bytes_of == pictures | {"bayer": [400, 400], "sharp_bayer": [400, 400], "kernel": [0, 0]}


# ---------------------------------------------------------------- what verify says of it


def replace(file: h5py.File, name: str, content: np.ndarray) -> None:
    del file[name]
    file.create_dataset(name, data=content, chunks=(1, *content.shape[1:]), fletcher32=True)


def test_all_arrays_that_do_not_fit_the_table_are_named(copied):
    path = copied() / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        replace(file, "kernel", file["kernel"][:].astype(np.float64))
        replace(file, "sharp", np.concatenate([file["sharp"], file["sharp"]], axis=2))
        file.create_dataset("depth", data=np.zeros((2, 3)), chunks=(1, 3), fletcher32=True)
    (found,) = problems_of(path, None, None)
    assert found.startswith("expected a whole shard, got: /depth is not an array of its recipe; ")
    assert "; /kernel holds float64, expected float32; " in found
    assert "; /sharp has pairs of shape 48 x 96 x 3, expected 48 x 48 x 3; " in found


# ---------------------------------------------------------------- a new array


def lightness(sample: Sample, bits: int) -> np.ndarray:
    return (sample.image[0].mean(0) * 200).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def lightness_fault(stored: np.ndarray, record: dict) -> str:
    return "is lighter than light" if stored.max() > 250 else ""


LIGHTNESS = StoredArray(
    name="lightness",
    axes="h w",
    type="uint8",
    content="the mean of the channels",
    make=lightness,
    fault=lightness_fault,
    read=lambda stored: torch.from_numpy(stored)[None] / 200,
)


@pytest.fixture
def planted(recipe_file, tmp_path, monkeypatch) -> Path:
    """A folder of three pairs with an array that the table has got in addition, stored for every pair."""
    monkeypatch.setattr(arrays, "ARRAYS", (*ARRAYS, LIGHTNESS))
    command = ["--recipe", recipe_file(), "--out", str(tmp_path / "out"), "--count", "3", "--workers", "0"]
    assert make.main(command) == 0
    return tmp_path / "out"


def test_a_new_array_is_written(planted):
    manifest = json.loads((planted / folders.MANIFEST).read_text())
    made = recipe.bind(manifest["recipe"], "stored")
    with synthesis.one_thread():
        sample = synthesis.synthesise(made.source.open(None).clips[1], made, 1)
    with h5py.File(planted / "shard-00000.h5") as file:
        assert file["lightness"].fletcher32
        assert file["lightness"].chunks == (1, 48, 48)
        assert file["lightness"].dtype == np.uint8
        assert np.array_equal(file["lightness"][1], lightness(sample, 8))


def test_a_new_array_is_verified(planted, resum, capsys):
    assert verify.main([str(planted), "--resynthesise", "3"]) == 0
    assert "3 samples made again, 0 differences" in capsys.readouterr().out
    path = planted / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file["lightness"][1, 3, 4] = 251
        resum(file)
    assert problems_of(path, None, None) == ["sample 1: /lightness is lighter than light"]
    with h5py.File(path, "r+") as file:
        file["lightness"][1] = 0
        resum(file)
    Receipt.from_shard(path).write(path)
    assert problems_of(path, None, None) == []
    assert verify.main([str(planted), "--repair"]) == 0  # the receipt differs from the manifest
    assert verify.main([str(planted), "--resynthesise", "3"]) == 0


def test_a_new_array_is_inspected(planted, capsys):
    assert inspect.main([str(planted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["datasets"]["lightness"] == [48, 48, "uint8"]
    assert inspect.main([str(planted)]) == 0
    assert any(line.split() == ["lightness", "48", "x", "48", "uint8"] for line in capsys.readouterr().out.splitlines())


def test_a_new_array_is_counted(recipe_file, monkeypatch, tmp_path, capsys):
    def bytes_of_a_check() -> int:
        out = str(tmp_path / "out")
        assert make.main(["--recipe", recipe_file(), "--out", out, "--count", "3", "--check", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["bytes"]

    before = bytes_of_a_check()
    assert before == 3 * 48 * 48 * 6
    monkeypatch.setattr(arrays, "ARRAYS", (*ARRAYS, LIGHTNESS))
    assert bytes_of_a_check() - before == 3 * 48 * 48


def test_a_new_array_is_read(planted):
    pairs = ShardDataset(planted)
    with h5py.File(planted / "shard-00001.h5") as file:
        stored = file["lightness"][0]
    assert set(pairs[2]) == {"blur", "sharp", "lightness", "index"}
    assert torch.equal(pairs[2]["lightness"], torch.from_numpy(stored)[None] / 200)
    pairs.close()
    # It is cropped and turned along with the pictures.
    crops = ShardDataset(planted, crop=16, augment=True, seed=1)
    for epoch in range(4):
        crops.set_epoch(epoch)
        pair = crops[1]
        assert pair["lightness"].shape == (1, 16, 16)
        assert torch.allclose(pair["lightness"][0], pair["blur"].mean(0), atol=0.01)
    crops.close()


def test_a_new_save_key(recipe_file, small, monkeypatch, tmp_path):
    """The array is stored if the recipe asks for it, and the recipe check asks for the stages that it needs."""
    asked = dataclasses.replace(LIGHTNESS, save="lightness", needs=("saturated",), read=None)
    monkeypatch.setattr(arrays, "ARRAYS", (*ARRAYS, asked))
    monkeypatch.setitem(SAVES, "lightness", ("saturated",))
    for save in (["lightness"], []):
        out = tmp_path / "-".join(["out", *save])
        command = ["--recipe", recipe_file(save=save), "--out", str(out), "--count", "1", "--workers", "0"]
        assert make.main(command) == 0
        with h5py.File(out / "shard-00000.h5") as file:
            assert ("lightness" in file) == bool(save)
        pairs = ShardDataset(out)
        assert set(pairs[0]) == {"blur", "sharp", "index"}  # nothing says how to read it back
        pairs.close()
    document = small(save=["lightness"])
    document["stages"] = [stage for stage in document["stages"] if "saturate" not in str(stage)]
    with pytest.raises(recipe.RecipeError, match=r'save: "lightness" needs .*"saturate"'):
        recipe.bind(document, "without saturation")

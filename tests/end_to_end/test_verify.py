"""`python -m blursynth.verify`: everything that can happen to a folder of shards is found, and repaired to the byte."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from blursynth import digests, make, verify
from blursynth.shards import folders
from blursynth.shards.reader import records_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.soundness import problems_of

DICE = np.random.Generator(np.random.PCG64(2))
FIRST, SECOND, LAST = (f"shard-0000{number}.h5" for number in range(3))


def problems(folder: Path, capsys, code: int = 1) -> dict[str, list[str]]:
    assert verify.main([str(folder), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["shards"] == 3
    return found["problems"]


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folders.shards_in(folder)}


def reseal(folder: Path, name: str) -> None:
    """Receipt and manifest as if the shard had always been what it is now."""
    receipt = replace(Receipt.read(folder / name), sha256=digests.file_digest(folder / name))
    receipt.write(folder / name)
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    manifest["shards"] = [asdict(receipt) if entry["shard"] == name else entry for entry in manifest["shards"]]
    (folder / folders.MANIFEST).write_text(json.dumps(manifest))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << int(DICE.integers(8))
    path.write_bytes(content)


def test_sound(shards, capsys):
    before = {path: path.stat().st_mtime_ns for path in shards().iterdir()}
    assert problems(shards(), capsys, code=0) == {}
    assert verify.main([str(shards())]) == 0
    assert capsys.readouterr().out == "3 of 3 shards are sound\n"
    assert {path: path.stat().st_mtime_ns for path in shards().iterdir()} == before


def test_flipped_bits(copied, capsys):
    folder = copied()
    for name in (FIRST, LAST):
        whole = (folder / name).read_bytes()
        for position in [0, len(whole) - 1, *DICE.integers(len(whole), size=8)]:
            flip(folder / name, int(position))
            assert set(problems(folder, capsys)) == {name}, position
            (folder / name).write_bytes(whole)
    assert problems(folder, capsys, code=0) == {}


def test_flipped_bit_of_a_picture_without_its_receipt(copied, capsys):
    """HDF5's own checksums find it."""
    folder = copied()
    with h5py.File(folder / SECOND) as file:
        position = file["blur"].id.get_chunk_info(1).byte_offset + 1000
    Receipt.path(folder / SECOND).unlink()
    assert problems(folder, capsys) == {SECOND: ["has no receipt"]}
    flip(folder / SECOND, position)
    assert problems_of(folder / SECOND, None, folders.owner_of(folder))[0].startswith("expected /blur of pair 1, got: ")
    assert problems(folder, capsys)[SECOND][-1] == "has no receipt"


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_truncated(kept, copied, capsys):
    folder = copied()
    whole = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    assert set(problems(folder, capsys)) == {SECOND}
    Receipt.path(folder / SECOND).unlink()
    wrong = problems(folder, capsys)[SECOND]
    assert "expected a whole shard, got: " in "; ".join(wrong)
    assert wrong[-1] == "has no receipt"


def test_missing(copied, capsys):
    folder = copied()
    (folder / SECOND).unlink()
    Receipt.path(folder / LAST).unlink()
    (folder / folders.IDENTITY).unlink()
    assert problems(folder, capsys) == {
        SECOND: ["is missing"],
        LAST: ["has no receipt"],
        folders.IDENTITY: ["is missing"],
    }
    assert verify.main([str(folder)]) == 1
    assert "1 of 3 shards are sound" in capsys.readouterr().out
    (folder / folders.MANIFEST).unlink()
    assert verify.main([str(folder)]) == 1
    assert "run blursynth.make again until it finishes" in capsys.readouterr().err


@pytest.fixture(scope="module")
def foreign(recipe_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("foreign")
    command = ["--recipe", recipe_file(), "--out", str(out), "--count", "8", "--workers", "0", "--seed", "8"]
    assert make.main(command) == 0
    return out


def test_foreign_shards(foreign, copied, capsys):
    folder = copied()
    for name in (FIRST, "shard-00003.h5"):
        shutil.copy(foreign / name, folder)
        shutil.copy(Receipt.path(foreign / name), folder)
    shutil.copy(foreign / SECOND, folder)
    found = problems(folder, capsys)
    recipes = [folders.owner_of(place).recipe[:12] for place in (foreign, folder)]
    assert found == {
        FIRST: [
            f"belongs to another run: recipe {recipes[0]} here, {recipes[1]} wanted; seed 8 here, 7 wanted",
            "has a receipt that differs from the manifest",
        ],
        SECOND: [
            "its bytes differ from those of its receipt",
            f"belongs to another run: recipe {recipes[0]} here, {recipes[1]} wanted; seed 8 here, 7 wanted",
        ],
        "shard-00003.h5": ["is not listed in the manifest; it belongs to another run, or its run did not finish"],
    }


def test_shards_that_changed_places(copied, capsys):
    folder = copied()
    shutil.copy(folder / SECOND, folder / FIRST)
    shutil.copy(Receipt.path(folder / SECOND), Receipt.path(folder / FIRST))
    assert problems(folder, capsys) == {
        FIRST: [
            "its bytes differ from those of its receipt",
            "expected a whole shard, got: the samples from 2 on, by its name they begin with 0: it lies in the "
            "place of another shard; run python -m blursynth.verify --repair",
            f"has a receipt that cannot be used: expected the receipt of {FIRST}, got that of {SECOND}",
        ]
    }


# Changes that only the content tells, since the checksums are right.


def blacken(file: h5py.File) -> None:
    file["blur"][1] = 0


def replace_picture(file: h5py.File) -> None:
    file["sharp"][0] = file["sharp"][0] // 2


def swap_records(file: h5py.File) -> None:
    file["record"][:] = file["record"][()][::-1]


def spoil_kernel(file: h5py.File) -> None:
    file["kernel"][0] = file["kernel"][0] / 2


def make_nan(file: h5py.File) -> None:
    kernel = file["kernel"][0]
    kernel[0, 0] = np.nan
    file["kernel"][0] = kernel


def change_seed(file: h5py.File) -> None:
    file.attrs["seed"] = 8


def change_recipe(file: h5py.File) -> None:
    recipe = bytes(file.attrs["recipe"]).replace(b'"seed": 7', b'"seed": 8')
    file.attrs.create("recipe", recipe, dtype=h5py.string_dtype("utf-8", len(recipe)))


def change_digest(file: h5py.File) -> None:
    file.attrs.create("recipe_digest", b"0" * 64, dtype=h5py.string_dtype("utf-8", 64))


def reopen(file: h5py.File) -> None:
    file.attrs["complete"] = 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (blacken, "sample 1: /blur is black"),
        (replace_picture, "sample 0: /sharp does not match its record"),
        (swap_records, "expected the records of 2 pairs, got: those of samples [1, 0], of 0 to 1; run"),
        (spoil_kernel, "sample 0: /kernel sums to 0.5, not 1"),
        (make_nan, "sample 0: /kernel sums to nan, not 1"),
        (change_seed, "belongs to another run: seed 8 here, 7 wanted"),
        (change_recipe, "expected a whole shard, got: its recipe does not match its digest"),
        (change_digest, "expected a whole shard, got: its recipe does not match its digest"),
        (reopen, "expected a whole shard, got: one that was not finished"),
    ],
)
def test_content(change, expected, copied, resum, capsys):
    folder = copied()
    with h5py.File(folder / FIRST, "r+") as file:
        change(file)
        resum(file)
    reseal(folder, FIRST)
    found = problems(folder, capsys)
    assert set(found) == {FIRST}
    assert "; ".join(found[FIRST]).startswith(expected)


def test_a_black_scene_is_not_a_fault(foreign):
    """A crop may be black where its blurred partner is not, through noise and what lies beside it."""
    with h5py.File(foreign / LAST) as file:
        assert not file["sharp"][1].any()
        assert file["blur"][1].any()
    assert verify.main([str(foreign)]) == 0


# ---------------------------------------------------------------- repair


def test_repair_makes_only_what_is_broken(copied, shards, contents, capsys):
    folder = copied()
    flip(folder / LAST, 3000)
    (folder / SECOND).unlink()
    (folder / folders.IDENTITY).unlink()
    (folder / f"{FIRST}.elsewhere.1.part").write_text("not ours")
    before = inodes(folder)
    assert verify.main([str(folder), "--repair", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == {}
    assert sorted(found["repaired"]) == [folders.IDENTITY, SECOND, LAST]
    assert contents(folder) == contents(shards()) | {f"{FIRST}.elsewhere.1.part": b"not ours"}
    assert inodes(folder)[FIRST] == before[FIRST]
    assert problems(folder, capsys, code=0) == {}


def test_repair_gives_receipts_without_making_shards(copied, shards, contents, capsys):
    folder = copied()
    for name in (FIRST, LAST):
        Receipt.path(folder / name).unlink()
    Receipt.path(folder / SECOND).write_text("{")
    before = inodes(folder)
    assert verify.main([str(folder), "--repair"]) == 0
    assert f"{FIRST}: repaired\n" in capsys.readouterr().out
    assert inodes(folder) == before
    assert contents(folder) == contents(shards())


def test_repair_where_every_checksum_is_right(copied, shards, foreign, contents, capsys):
    """A black picture, a shard of another seed, and one in the wrong place."""
    folder = copied()
    with h5py.File(folder / SECOND, "r+") as file:
        blacken(file)
    reseal(folder, SECOND)
    shutil.copy(foreign / FIRST, folder)
    shutil.copy(Receipt.path(foreign / FIRST), folder)
    shutil.copy(folder / FIRST, folder / LAST)
    shutil.copy(Receipt.path(folder / FIRST), Receipt.path(folder / LAST))
    assert set(problems(folder, capsys)) == {FIRST, SECOND, LAST}
    assert verify.main([str(folder), "--repair"]) == 0
    assert contents(folder) == contents(shards())


def test_repair_leaves_strangers_out_of_the_manifest(foreign, copied, shards, contents, capsys):
    folder = copied()
    strangers = ["shard-00003.h5", "shard-00003.h5.json"]
    for name in strangers:
        shutil.copy(foreign / name, folder)
    (folder / FIRST).unlink()
    assert verify.main([str(folder), "--repair"]) == 1
    assert "shard-00003.h5: is not listed in the manifest" in capsys.readouterr().out
    assert contents(folder) == contents(shards()) | {name: (foreign / name).read_bytes() for name in strangers}


def test_repair_of_a_folder_with_a_gap(copied, shards, contents, capsys):
    """A manifest sealed over a gap names shards by their numbers."""
    folder = copied()
    for path in (folder / SECOND, Receipt.path(folder / SECOND)):
        path.unlink()
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    manifest["shards"] = [entry for entry in manifest["shards"] if entry["shard"] != SECOND]
    (folder / folders.MANIFEST).write_text(json.dumps(manifest))
    first = (folder / FIRST).stat().st_ino
    (folder / LAST).unlink()
    assert verify.main([str(folder), "--repair"]) == 0
    assert (folder / LAST).read_bytes() == (shards() / LAST).read_bytes()
    assert sorted(inodes(folder)) == [FIRST, LAST]
    assert inodes(folder)[FIRST] == first


def test_repair_needs_the_same_data(copied, contents, tmp_path, capsys):
    folder = copied()
    (folder / FIRST).unlink()
    before = contents(folder)
    (tmp_path / "data").mkdir()
    assert cv2.imwrite(str(tmp_path / "data" / "a.png"), DICE.integers(0, 256, (80, 80, 3), dtype=np.uint8))
    assert verify.main([str(folder), "--repair", "--data", str(tmp_path / "data")]) == 1
    assert "it was made from other pictures or kernels" in capsys.readouterr().err
    assert contents(folder) == before


# ---------------------------------------------------------------- the same samples once more


def test_resynthesise(copied, resum, tmp_path, capsys):
    folder = copied()
    assert verify.main([str(folder), "--resynthesise", "3"]) == 0
    assert capsys.readouterr().out == "3 of 3 shards are sound, 3 samples made again, 0 differences\n"
    assert verify.main([str(folder), "--resynthesise", "99", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "shards": 3, "problems": {}, "repaired": [], "set_aside": [], "resynthesised": 5, "differing": [], "notes": []
    }  # fmt: skip

    # One value of one pixel, a little: record, checksums, receipt and manifest are right.
    with h5py.File(folder / LAST, "r+") as file:
        file["blur"][0, 20, 30, 1] ^= 1
        resum(file)
    reseal(folder, LAST)
    assert verify.main([str(folder)]) == 0
    capsys.readouterr()
    assert verify.main([str(folder), "--resynthesise", "5"]) == 1
    said = capsys.readouterr().out
    assert f"{LAST}: sample 4: /blur differs in 1 values\n" in said
    assert "5 samples made again, 1 differences" in said or "5 samples made again, 2 differences" in said

    (tmp_path / "data").mkdir()
    assert cv2.imwrite(str(tmp_path / "data" / "a.png"), DICE.integers(0, 256, (80, 80, 3), dtype=np.uint8))
    assert verify.main([str(folder), "--resynthesise", "1", "--data", str(tmp_path / "data")]) == 1
    assert "it was made from other pictures or kernels" in capsys.readouterr().err


def test_resynthesise_of_own_data_with_skipped_files(recipe_file, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in ("a", "b", "c"):
        assert cv2.imwrite(str(data / f"{name}.png"), DICE.integers(0, 2**16, (90, 80, 3), dtype=np.uint16))
    (data / "b.png").write_bytes((data / "b.png").read_bytes()[:5000])
    command = ["--recipe", recipe_file(on_error="skip", bits=16, save=["raw", "kernel", "saturated"])]
    assert make.main([*command, "--data", str(data), "--out", str(out), "--count", "5", "--workers", "0"]) == 1
    capsys.readouterr()
    assert verify.main([str(out), "--resynthesise", "9", "--data", str(data)]) == 0
    assert "3 samples made again, 0 differences" in capsys.readouterr().out
    (out / SECOND).unlink()
    assert verify.main([str(out), "--repair", "--data", str(data)]) == 0
    assert records_of([out / SECOND])[0][2]["index"] == 2


@pytest.mark.parametrize("arguments", [[], ["x", "--resynthesise", "-1"], ["x", "--no-such"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        verify.main(arguments)
    assert left.value.code == 2
    assert "usage: python -m blursynth.verify" in capsys.readouterr().err

"""`python -m blursynth.make` from photographs to a reader: the same bytes however it is run, and clear refusals."""

import json
import re
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from blursynth import ShardDataset, inspect, make, recipe, sources, synthesis
from blursynth.shards import arrays, contact_sheet, folders
from blursynth.shards.identity import identity_of
from blursynth.shards.reader import records_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.record import record_of
from blursynth.shards.soundness import problems_of

DICE = np.random.Generator(np.random.PCG64(1))


def pixels(folder: Path, name: str = "blur") -> np.ndarray:
    """One dataset of all shards, in order."""
    parts = []
    for path in folders.shards_in(folder):
        with h5py.File(path, locking=False) as file:
            parts.append(file[name][:])
    return np.concatenate(parts)


def records(folder: Path) -> list[dict]:
    return [json.loads(record) for record in pixels(folder, "record")] if folders.shards_in(folder) else []


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes when a file is touched: inode, time, size."""
    found = {str(path): path.stat() for path in [folder, *sorted(folder.rglob("*"))]}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found.items()}


def picture(path: Path, bits: int = 8, size: tuple[int, int] = (80, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = DICE.integers(0, 2**bits, (*size, 3), dtype=f"uint{bits}")
    assert cv2.imwrite(str(path), image)
    return path


# ---------------------------------------------------------------- the same bytes, however they are made


def test_photographs_become_pairs_that_a_reader_reads(shards):
    folder = shards()
    pairs = ShardDataset(folder)
    assert len(pairs) == 5
    for i, (blur, sharp) in enumerate(zip(pixels(folder), pixels(folder, "sharp"), strict=True)):
        assert torch.equal(pairs[i]["blur"], torch.from_numpy(blur.astype(np.float32) / 255).permute(2, 0, 1))
        assert torch.equal(pairs[i]["sharp"], torch.from_numpy(sharp.astype(np.float32) / 255).permute(2, 0, 1))
        assert sharp.std() > 5  # a photograph,
        assert 0.5 < np.abs(blur.astype(float) - sharp).mean() < 40  # and the same one, blurred
    names = [record["source"] for record in records(folder)]
    assert names == [f"scikit-image/{name}" for name in sources.BUILT_IN]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_folders_give_equal_bytes(workers, shards, recipe_file, contents, tmp_path):
    out = tmp_path / "elsewhere" / "deep"
    assert make.main(["--recipe", recipe_file(), "--out", str(out), "--count", "5", "--workers", str(workers)]) == 0
    made = contents(out)
    assert made == contents(shards())
    assert [name for name in made if name.endswith(".h5")] == [f"shard-0000{number}.h5" for number in range(3)]


def test_order_does_not_matter(shards, contents, tmp_path):
    bound = recipe.bind(json.loads((shards() / folders.MANIFEST).read_text())["recipe"], "again")
    footage = bound.source.open(None)
    identity = identity_of(bound, footage.digest)
    folders.claim(tmp_path, bound, identity)
    for job in reversed(folders.plan(bound, identity, footage.clips, 5, tmp_path, "cpu")):
        synthesis.fill(job)
    folders.seal(tmp_path, bound, identity, footage.skipped)
    expected = contents(shards())
    del expected[contact_sheet.CONTACT_SHEET]
    assert contents(tmp_path) == expected


def test_count_only_lengthens(shards, copied, recipe_file, contents):
    out = copied(3)
    for name in ("blur", "sharp", "kernel"):
        assert np.array_equal(pixels(out, name), pixels(shards(), name)[:3])
    whole, short = stamps(out)[f"{out}/shard-00000.h5"], stamps(out)[f"{out}/shard-00001.h5"]

    command = ["--recipe", recipe_file(), "--out", str(out), "--workers", "0"]
    assert make.main([*command, "--count", "5"]) == 0
    assert contents(out) == contents(shards())
    after = stamps(out)
    assert after[f"{out}/shard-00000.h5"] == whole
    assert after[f"{out}/shard-00001.h5"] != short

    assert make.main([*command, "--count", "2"]) == 0
    assert contents(out) == contents(shards())
    assert all(stamps(out)[name] == after[name] for name in after if name.endswith((".h5", ".h5.json")))


def test_any_sample_alone_equals_the_stored_one(shards):
    folder = shards()
    bound = recipe.bind(json.loads((folder / folders.MANIFEST).read_text())["recipe"], "again")
    clips = bound.source.open(None).clips
    stored = {name: pixels(folder, name) for name in ("blur", "sharp", "kernel", "record")}
    for index in (3, 0, 4):
        clip = clips[index % len(clips)]
        with synthesis.one_thread():
            sample = synthesis.synthesise(clip, bound, index)
        pair = arrays.arrays_of(sample, bound.bits)
        assert set(pair) == {"blur", "sharp", "kernel"}
        assert all(np.array_equal(array, stored[name][index]) for name, array in pair.items())
        assert record_of(sample, clip.digest, pair).encode() == stored["record"][index]


@pytest.mark.parametrize(
    ("stage", "before"),
    [
        ({"jpeg": {"quality": [60, 90]}}, None),
        ({"sensor_noise": {"profile": "a7r3"}}, "forward_isp"),
        ("dihedral", "camera"),
    ],
)
def test_a_stage_more_leaves_the_dice_of_the_others(stage, before, small):
    document = small()
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in document["stages"]]
    longer = small()
    longer["stages"].insert(len(names) if before is None else names.index(before), stage)
    fewer, more = (recipe.bind(each, "test") for each in (document, longer))
    clips = fewer.source.open(None).clips
    for index in range(3):
        plain, changed = (synthesis.synthesise(clips[index], bound, index) for bound in (fewer, more))
        assert len(plain.draws) >= 8
        assert plain.draws == {name: changed.draws[name] for name in plain.draws}
        added = {name.rpartition(".")[0] for name in set(changed.draws) - set(plain.draws)}
        assert added == {"sensor_noise.1" if before == "forward_isp" else stage if before else "jpeg"}
        assert torch.equal(plain.kernel, changed.kernel)
        assert not torch.equal(plain.image, changed.image)


def test_the_noise_does_not_follow_the_stages_before_it(small):
    document = small()
    document["stages"] = [
        entry for entry in document["stages"] if "saturate" not in entry and entry != "keep_saturated"
    ]
    with_saturation, without = (recipe.bind(each, "test") for each in (small(), document))
    clip = with_saturation.source.open(None).clips[0]
    one, other = (synthesis.synthesise(clip, bound, 0) for bound in (with_saturation, without))
    assert set(one.draws) - set(other.draws) == {"saturate.strength"}
    assert other.draws == {name: one.draws[name] for name in other.draws}
    # `saturate` adds light near clipped places and rounds elsewhere; other noise would differ nearly everywhere.
    differs = (one.bayer - other.bayer).abs() > 1e-6
    assert float(differs.float().mean()) < 0.05


# ---------------------------------------------------------------- folders of one's own


@pytest.fixture
def data(tmp_path) -> Path:
    """Four pictures in three formats and two depths, and what is none."""
    folder = tmp_path / "data"
    picture(folder / "a.png")
    picture(folder / "b.png", 16)
    picture(folder / "c.jpg")
    picture(folder / "sub" / "Fahrräder №1.png")
    picture(folder / ".hidden.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "sub" / "more.txt").write_text("nor this")
    return folder


def test_mixed_folder(data, recipe_file, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["--recipe", recipe_file(source={"use": "photos", "pairs_per_photo": 2}), "--data", str(data)]
    assert make.main([*command, "--out", str(out), "--workers", "0", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["skipped_files"] == {".txt": 2}
    assert summary["pairs"] == 8
    assert summary["shards"] == summary["shards_made_now"] == 4
    assert summary["skipped_samples"] == []
    names = ["a.png", "b.png", "c.jpg", "sub/Fahrräder №1.png"]
    assert [record["source"] for record in records(out)] == names * 2
    assert json.loads((out / folders.MANIFEST).read_text())["skipped_files"] == {".txt": 2}
    assert pixels(out)[1].std() > 5  # 16 bits arrive

    assert make.main([*command, "--out", str(out), "--workers", "0", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["shards_made_now"] == 0
    assert again["blur_psnr_db"] == summary["blur_psnr_db"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_stops_the_run_and_is_named(workers, data, recipe_file, tmp_path, capfd):
    truncate(data / "c.jpg")
    out = tmp_path / "out"
    command = ["--recipe", recipe_file(samples_per_shard=1), "--data", str(data), "--out", str(out), "--count", "4"]
    assert make.main([*command, "--workers", str(workers)]) == 1
    said = capfd.readouterr().err
    assert "sample 2 (c.jpg)" in said
    assert "Traceback" not in said
    kept = folders.shards_in(out)
    assert out / "shard-00002.h5" not in kept
    assert workers == 2 or kept == [out / "shard-00000.h5", out / "shard-00001.h5"]
    assert all(problems_of(path, Receipt.of(path), None) == [] for path in kept)
    assert workers == 2 or not list(out.glob("*.part"))  # of a worker that was stopped, the next run removes it
    assert not (out / folders.MANIFEST).exists()


def test_bad_files_are_skipped_and_listed(data, recipe_file, tmp_path, capsys):
    out = tmp_path / "out"
    truncate(data / "a.png")
    truncate(data / "c.jpg")
    (data / "d.png").write_text("a text")
    picture(data / "e.png", size=(50, 90))  # smaller than the crop
    command = ["--recipe", recipe_file(on_error="skip", samples_per_shard=2), "--data", str(data), "--out", str(out)]
    command += ["--workers", "0", "--count", "12"]
    assert make.main(command) == 1
    said = capsys.readouterr().err
    manifest = json.loads((out / folders.MANIFEST).read_text())
    bad = {0: "a.png", 2: "c.jpg", 3: "d.png", 4: "e.png", 6: "a.png", 8: "c.jpg", 9: "d.png", 10: "e.png"}
    assert {entry["index"]: entry["source"] for entry in manifest["skipped_samples"]} == bad
    assert all(f"{out.parent}/data/{name}" in said or name in said for name in bad.values())
    assert [record["index"] for record in records_of_nonempty(out)] == [1, 5, 7, 11]
    assert [entry["count"] for entry in manifest["shards"]] == [1, 0, 1, 1, 0, 1]
    assert manifest["count"] == 4
    assert [ShardDataset(out)[i]["index"] for i in range(4)] == [0, 1, 2, 3]
    assert make.main(command) == 1  # still, and makes nothing
    assert "skipped: " in capsys.readouterr().err
    assert inspect.main([str(out)]) == 0


def records_of_nonempty(folder: Path) -> list[dict]:
    return [record for _, _, record in records_of(folders.shards_in(folder))]


def test_nothing_but_bad_files(recipe_file, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    truncate(picture(data / "a.png"))
    command = ["--recipe", recipe_file(on_error="skip"), "--data", str(data), "--out", str(out), "--workers", "0"]
    assert make.main([*command, "--count", "3"]) == 1
    assert capsys.readouterr().err.count("skipped: ") == 3
    with pytest.raises(ValueError, match="expected the shards"):
        ShardDataset(out)


# ---------------------------------------------------------------- flags and exit codes


def test_check_touches_nothing(data, recipe_file, shards, tmp_path, capsys):
    before = stamps(tmp_path)
    command = ["--recipe", recipe_file(), "--data", str(data), "--check"]
    assert make.main([*command, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == 4
    assert found["pairs"] == 32
    assert found["size"] == [48, 48]
    assert found["skipped_files"] == {".txt": 2}
    assert make.main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "left out: 2 x .txt" in capsys.readouterr().out
    assert stamps(tmp_path) == before

    before = stamps(shards())
    assert make.main([*command, "--out", str(shards())]) == 1  # belongs to the built-in photographs
    assert "made from other pictures" in capsys.readouterr().err
    assert make.main([*command, "--set", "crop.siz=64", "--out", str(tmp_path / "out")]) == 2
    assert stamps(shards()) == before


def test_list(capsys):
    assert make.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name}\b", said, re.M) for name in ("realblur_j", "naive", "rsblur/a7r3", "upi", "a7r3"))


def test_output_folder_is_named_after_the_recipe(recipe_file, shards, contents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make.main(["--recipe", recipe_file(), "--count", "5", "--workers", "0"]) == 0
    assert contents(tmp_path / "out" / "small") == contents(shards())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--recipe", "realblur_k"], ['did you mean "realblur_j"?']),
        (["--recipe", "no/such.yaml"], ["expected a recipe, got nothing there"]),
        (["--recipe", "naive", "--set", "crop.sise=[8, 8]", "--set", "jpg.quality=1"], ["2 problems", '"size"', '"jpg']),
        (["--recipe", "realblur_j", "--isp", "rsblr"], ["rsblr", "rsblur"]),
        (["--recipe", "naive", "--set", "samples_per_shard=many", "--set", "crop.size=wide"], ["many", "wide"]),
        (["--recipe", "naive", "--set", "crop_border.pixels=3"], ["expected at least 14"]),
        (["--recipe", "naive", "--device", "abacus"], ["abacus"]),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused_with_all_its_problems(arguments, expected, tmp_path, capsys):
    assert make.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert all(text in said for text in expected), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["--recipe", "naive", "--count", "0"], ["--recipe"], ["--seed", "x"]])
def test_bad_usage(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        make.main(arguments)
    assert left.value.code == 2
    assert "usage: python -m blursynth.make" in capsys.readouterr().err


def test_unusable_places(recipe_file, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    command = ["--recipe", recipe_file(), "--workers", "0", "--count", "1"]
    for arguments, said in [
        (["--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out")], "expected images"),
        (["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")], "nothing there"),
        (["--out", str(tmp_path / "file" / "out")], "expected a folder for the shards, got a file"),
        (["--out", str(tmp_path / "file")], "expected a folder for the shards, got a file"),
    ]:
        assert make.main([*command, *arguments]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert str(tmp_path) in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- a folder belongs to one run


def test_another_identity_is_refused_and_named(copied, recipe_file, contents, capsys):
    out = copied()
    before = contents(out)
    command = ["--out", str(out), "--count", "2", "--workers", "0", "--recipe", recipe_file()]
    assert make.main([*command, "--seed", "8"]) == 1
    said = capsys.readouterr().err
    assert "seed: 7, wanted 8" in said
    assert "--force" in said
    assert make.main([*command, "--set", "sensor_noise.scale=[1,1]"]) == 1
    assert "seed" not in capsys.readouterr().err
    assert contents(out) == before


def test_shards_without_an_identity_are_not_adopted(copied, recipe_file, contents, capsys):
    out = copied()
    (out / folders.IDENTITY).unlink()
    before = contents(out)
    command = ["--out", str(out), "--count", "5", "--workers", "0", "--recipe", recipe_file()]
    assert make.main([*command, "--seed", "8"]) == 1
    assert "seed: 7, wanted 8" in capsys.readouterr().err
    assert contents(out) == before
    assert make.main(command) == 0
    assert folders.owner_of(out) is not None


def test_force_moves_the_other_run_aside(copied, shards, recipe_file, contents, tmp_path, capsys):
    out = copied()
    old = contents(out)
    command = ["--recipe", recipe_file(), "--workers", "0", "--seed", "8", "--count", "2"]
    assert make.main([*command, "--out", str(out), "--force"]) == 0
    aside = next(path for path in out.iterdir() if path.is_dir())
    assert str(aside) in capsys.readouterr().err
    moved = contents(aside)
    assert {name: old[name] for name in old if name != contact_sheet.CONTACT_SHEET} == moved
    assert make.main([*command, "--out", str(tmp_path / "direct")]) == 0
    shutil.move(aside, tmp_path / "aside")
    assert contents(out) == contents(tmp_path / "direct")
    # What was moved is a whole set still.
    assert len(ShardDataset(tmp_path / "aside")) == 5


def test_force_interrupted_loses_and_mixes_nothing(copied, recipe_file, contents, monkeypatch, capsys):
    out = copied()
    old = contents(out)
    command = ["--recipe", recipe_file(), "--workers", "0", "--seed", "8", "--count", "2", "--out", str(out)]
    moves = []
    replace = Path.replace

    def third_fails(self: Path, target: Path) -> Path:
        moves.append(target)
        if len(moves) > 3:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", third_fails)
        assert make.main([*command, "--force"]) == 130
    assert make.main(command) == 1
    assert "seed: 7, wanted 8" in capsys.readouterr().err
    assert make.main([*command, "--force"]) == 0
    now = {Path(name).name: data for name, data in contents(out).items() if "/" in name}
    assert now == {name: data for name, data in old.items() if name != contact_sheet.CONTACT_SHEET}


# ---------------------------------------------------------------- what the user sees


def test_table_and_contact_sheet(copied, recipe_file, capsys):
    out = copied()
    sheet = (out / contact_sheet.CONTACT_SHEET).read_bytes()
    with Image.open(out / contact_sheet.CONTACT_SHEET) as image:
        assert image.size[0] >= 2 * 3 * 256
        assert np.asarray(image.convert("L")).std() > 20
    (out / contact_sheet.CONTACT_SHEET).unlink()
    assert make.main(["--recipe", recipe_file(), "--out", str(out), "--count", "5", "--workers", "0"]) == 0
    said = capsys.readouterr().out
    rows = dict(re.split(r"\s{2,}| (?=\S+$)", line.strip(), maxsplit=1) for line in said.splitlines())
    assert rows["pairs"] == "5"
    assert rows["shards"] == "3 (0 made now)"
    ratios = [record["blur_psnr_db"] for record in records(out)]
    assert float(rows["mean blur PSNR"].removesuffix(" dB")) == pytest.approx(np.mean(ratios), abs=0.01)
    assert (out / contact_sheet.CONTACT_SHEET).read_bytes() == sheet


def test_stored_statistics_are_true(shards):
    folder = shards()
    blur, sharp = (pixels(folder, name).astype(float) for name in ("blur", "sharp"))
    for record, one, other in zip(records(folder), blur, sharp, strict=True):
        assert record["blur_psnr_db"] == pytest.approx(10 * np.log10(255**2 / ((one - other) ** 2).mean()), abs=1e-3)
        assert record["blur_level"] == pytest.approx(one.mean(), abs=1e-3)


def test_inspect(shards, tmp_path, capsys):
    assert inspect.main([str(shards()), "--out", str(tmp_path / "sheet.png"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 5
    assert found["datasets"]["blur"] == [48, 48, 3, "uint8"]
    sizes = [record["dice"]["camera_shake.size"] for record in records(shards())]
    assert found["draws"]["camera_shake.size"] == {"least": min(sizes), "mean": np.mean(sizes), "most": max(sizes)}
    assert inspect.main([str(tmp_path)]) == 1
    assert "expected a shard" in capsys.readouterr().err


# ---------------------------------------------------------------- what is replaced while a run goes on


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_picture_that_was_replaced_after_it_was_hashed(on_error, workers, recipe_file, tmp_path, monkeypatch, capsys):
    """One digest never stands for two contents; sizes and times may be equal."""
    data, out = tmp_path / "data", tmp_path / "out"
    paths = [picture(data / name) for name in ("a.png", "b.png")]
    other = picture(tmp_path / "other.png")
    plain = folders.plan

    def replaced_before(*arguments):
        shutil.copy2(other, paths[1])
        return plain(*arguments)

    monkeypatch.setattr(folders, "plan", replaced_before)
    recipe = recipe_file(on_error=on_error, samples_per_shard=1)
    command = ["--recipe", recipe, "--data", str(data), "--out", str(out), "--count", "2", "--workers", workers]
    assert make.main(command) == 1
    assert "b.png: expected the picture that was there when this run began, got another; put it back" in (
        capsys.readouterr().err
    )
    assert {record["source"] for record in records(out)} <= {"a.png"}
    monkeypatch.undo()
    assert make.main(command) == 1
    assert "holds shards of another run (made from other pictures or kernels)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["kernels", "profile"])
def test_kernels_and_profiles_that_were_replaced_after_they_were_hashed(kind, small, tmp_path, monkeypatch, capsys):
    """Nothing is published that was made with them."""
    from isp import profile

    bank, camera = tmp_path / "kernels.npy", tmp_path / "camera.yaml"
    np.save(bank, np.full((3, 3), 1 / 9))
    text = (Path(profile.__file__).parent / "cameras" / "a7r3.yaml").read_text()
    camera.write_text(text)
    document = small()
    document["stages"][1] = {"camera": {"profile": str(camera)}}
    document["stages"][3] = {"kernel_bank": {"path": str(bank)}}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(document))
    plain = synthesis.fill

    def replaced_before(job):
        if kind == "kernels":
            np.save(bank, np.full((5, 5), 1 / 25))
        else:
            camera.write_text(text.replace("8.8915e-5", "8.8916e-5"))
        return plain(job)

    monkeypatch.setattr(synthesis, "fill", replaced_before)
    assert make.main(["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--count", "2", "--workers", "0"]) == 1
    assert "expected the kernels, profiles and weights that were there when this run began" in capsys.readouterr().err
    assert folders.shards_in(tmp_path / "out") == []
    assert not list((tmp_path / "out").glob("*.part"))


# ---------------------------------------------------------------- what made the set


def test_what_made_the_set_is_said(copied, recipe_file, monkeypatch, capsys):
    from blursynth.shards import identity, writer

    out = copied(4)
    now = identity.versions()
    command = ["--recipe", recipe_file(), "--out", str(out), "--workers", "0", "--count"]
    assert make.main([*command, "4"]) == 0
    said = capsys.readouterr()
    assert f"versions         {', '.join(f'{name} {number}' for name, number in sorted(now.items()))}\n" in said.out
    assert said.err == ""

    later = now | {"torch": "99.0"}
    for module in (identity, writer):
        monkeypatch.setattr(module, "versions", lambda: later)
    assert make.main([*command, "4"]) == 0  # nothing is made, so nothing is joined
    assert capsys.readouterr().err == ""
    assert make.main([*command, "6"]) == 0
    said = capsys.readouterr()
    assert said.err == f"the shards here were made with torch {now['torch']}, now 99.0\n"
    assert f"torch {now['torch']} and 99.0" in said.out
    assert make.main([*command, "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["torch"] == [now["torch"], "99.0"]

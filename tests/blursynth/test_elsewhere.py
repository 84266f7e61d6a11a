"""Folders whose recipes name files of their own: verified anywhere, continued wherever the files lie, never with others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from blursynth import digests, make, recipe, verify
from blursynth.recipe import RecipeError
from isp.files.pictures import write_image
from isp.rng import generator

PROFILE = """name: mine
model: Mine
sensor_to_linear: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
shots: [{white_balance: [2, 1.5], iso: 100}]
noise: {shot_gain: 1.0e-4, read_std: 1.0e-3}
"""


def document(folder: str = "") -> dict[str, object]:
    """A recipe that names a kernel bank and a profile below `folder`."""
    return {
        "name": "mine",
        "samples_per_shard": 1,
        "isp": "rsblur/srgb",
        "source": {"use": "photos"},
        "stages": [
            {"crop": {"size": 64}},
            {"camera": {"profile": f"{folder}mine.yaml"}},
            "inverse_isp",
            {"kernel_bank": {"path": f"{folder}bank"}},
            "mosaic",
            {"sensor_noise": {"profile": f"{folder}mine.yaml"}},
            "forward_isp",
            {"crop_border": {"pixels": 10}},
        ],
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, a bank, a profile, and `out`, which has two pairs made of them by relative paths."""
    for name in ("data", "bank"):
        (tmp_path / name).mkdir()
    for at in range(2):
        picture = generator(at, 0, "picture").integers(0, 255, (80, 80, 3), np.uint8)
        write_image(tmp_path / "data" / f"{at}.png", picture)
    np.save(tmp_path / "bank" / "k.npy", np.full((5, 5), 1 / 25))
    (tmp_path / "mine.yaml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    assert made(tmp_path, "", 2) == 0
    return tmp_path


def made(home: Path, folder: str, count: int) -> int:
    (home / "r.yaml").write_text(yaml.safe_dump(document(folder)))
    options = {"recipe": home / "r.yaml", "data": home / "data", "out": home / "out", "workers": 0, "count": count}
    return make.main([part for name, value in options.items() for part in (f"--{name}", str(value))])


def remove_files(home: Path) -> None:
    shutil.rmtree(home / "bank")
    (home / "mine.yaml").unlink()


def test_checksums_are_verified_from_anywhere_and_without_the_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert verify.main([str(home / "out")]) == 0
    remove_files(home)
    monkeypatch.chdir(home)
    assert verify.main([str(home / "out")]) == 0
    assert capsys.readouterr().out.count("2 of 2 shards are sound") == 2
    shard = home / "out" / "shard-00000.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert verify.main([str(home / "out")]) == 1


@pytest.mark.parametrize("option", [["--resynthesise", "1"], ["--repair"]])
def test_what_is_made_again_needs_the_files(home: Path, capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    (home / "out" / "shard-00001.h5").unlink()
    arguments = [str(home / "out"), "--data", str(home / "data"), *option]
    if option == ["--repair"]:
        remove_files(home)
        assert verify.main(arguments) == 2
        assert not (home / "out" / "shard-00001.h5").exists()
    else:
        assert made(home, "", 2) == 0
        assert verify.main(arguments) == 0
        remove_files(home)
        capsys.readouterr()
        assert verify.main(arguments) == 2
    said = capsys.readouterr().err
    assert (
        "stages.3.kernel_bank.path: bank: expected a file of kernels" in said
        and "stages.1.camera.profile: mine.ya" in said
    )


def test_a_run_goes_on_wherever_the_files_lie(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (home / "out" / "shard-00000.h5").read_bytes()
    (home / "elsewhere").mkdir()
    for name in ("bank", "mine.yaml"):
        (home / name).rename(home / "elsewhere" / name)
    assert made(home, "elsewhere/", 3) == 0
    monkeypatch.chdir("/")
    assert made(home, f"{home}/elsewhere/", 4) == 0
    assert verify.main([str(home / "out")]) == 0
    assert (home / "out" / "shard-00000.h5").read_bytes() == before
    assert len(list((home / "out").glob("shard-*.h5"))) == 4


@pytest.mark.parametrize("changed", ["bank", "profile", "one more kernel"])
def test_a_run_never_goes_on_with_other_files(home: Path, capsys: pytest.CaptureFixture[str], changed: str) -> None:
    if changed == "bank":
        np.save(home / "bank" / "k.npy", np.eye(5) / 5)
    elif changed == "profile":
        (home / "mine.yaml").write_text(PROFILE.replace("100", "200"))
    else:
        np.save(home / "bank" / "l.npy", np.eye(5) / 5)
    assert made(home, "", 3) == 1
    assert "holds shards of another run (made from other pictures or kernels)" in capsys.readouterr().err


def test_the_paths_of_files_do_not_count_and_all_else_does() -> None:
    one, other = document(), document("/some/where/")
    assert digests.of_recipe(one) == digests.of_recipe(other)
    changed = [document() | {"seed": 3}, document() | {"source": {"use": "photos", "path": "x"}}]
    changed.append(document() | {"stages": [{"camera": {"profile": "a7r3"}}]})
    changed.append(document() | {"stages": [{"camera": {"profile": "rsblur"}}]})
    changed.append(document() | {"stages": [{"camera": {"profile": "mine.yaml"}}]})
    assert len({digests.of_recipe(each) for each in [one, *changed]}) == 6


def test_half_a_character_is_a_problem_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="expected whole characters, got half of one in a text"):
        recipe.bind(document() | {"save": ["\ud800"]}, "x")

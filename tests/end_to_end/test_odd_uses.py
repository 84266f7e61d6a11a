"""What users do that nobody planned."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from blursynth import ShardDataset, make, recipe
from blursynth.recipe import RecipeError, load_recipe
from blursynth.shards.reader import open_shard
from blursynth.stages import STAGES
from isp import command
from isp.files import pictures

PHOTO = next(clip for clip in load_recipe("naive").source.open(None).clips if "coffee" in clip.name).read().sharp


def made(tmp_path: Path, stages: list, count: int = 2, code: int = command.DONE, **keys) -> Path:
    path = tmp_path / "odd.json.yaml"
    path.write_text(json.dumps({"name": "odd", "source": {"use": "photos"}, "stages": stages, **keys}))
    arguments = ["--recipe", str(path), "--out", str(tmp_path / "out"), "--count", str(count), "--workers", "0"]
    assert make.main(arguments) == code
    return tmp_path / "out"


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pictures.write_image(folder / name, PHOTO[:120, :140])
    return folder


BLUR_FIRST = [
    {"crop": {"size": 96}}, {"camera": {"profile": "a7r3"}}, {"camera_shake": {"sizes": [15]}}, "inverse_isp", "mosaic",
    "forward_isp", {"crop_border": {"pixels": 10}},
]  # fmt: skip


def test_ground_truth_is_sharp_though_blur_came_before_the_isp(tmp_path):
    folder = made(tmp_path, BLUR_FIRST, target="rendered")
    blur, sharp = (ShardDataset(folder)[0][name] for name in ("blur", "sharp"))
    assert float((sharp.diff(dim=2) ** 2).mean()) > 1.3 * float((blur.diff(dim=2) ** 2).mean())


def test_frames_accumulated_before_the_isp(tmp_path):
    (tmp_path / "data" / "clip").mkdir(parents=True)
    for at in range(5):
        pictures.write_image(tmp_path / "data" / "clip" / f"{at}.png", PHOTO[at : 100 + at, :100])
    path = tmp_path / "frames.yaml"
    stages = [
        {"crop": {"size": 64}},
        {"camera": {"profile": "a7r3"}},
        "accumulate",
        "inverse_isp",
        "mosaic",
        "forward_isp",
    ]
    stages.append({"crop_border": {"pixels": 4}})
    document = {"name": "odd", "source": {"use": "frames", "window": 5}, "target": "rendered", "stages": stages}
    path.write_text(json.dumps(document))
    arguments = [
        "--recipe",
        str(path),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "0",
    ]
    assert make.main(arguments) == command.DONE


def test_the_day_of_a_path_is_its_first():
    camera = STAGES["camera"](profile="rsblur", days="source")
    from blursynth.sample import Sample

    image = torch.zeros(1, 3, 8, 8)
    for index in range(20):
        sample = Sample(
            image=image, space="srgb", sharp=image, seed=1, index=index, source="RS/0007/0001/avg65_img/a.png"
        )
        assert camera(sample.replace(stage="camera")).draws["camera.day"] == "0007"


def test_names_that_are_not_utf8(tmp_path, capsys):
    data = photos(tmp_path / "data", "a.png")
    (data / "a.png").rename(data / os.fsdecode(b"\xff\xe9.png"))
    arguments = ["--recipe", "naive", "--set", "crop.size=100", "--data", str(data), "--out", str(tmp_path / "out")]
    assert make.main([*arguments, "--count", "1", "--workers", "0"]) == command.DONE
    from blursynth import inspect

    assert inspect.main([str(tmp_path / "out")]) == 0
    assert "\\xff\\xe9.png" in capsys.readouterr().out


def test_shards_inside_the_data_are_no_source(tmp_path):
    data = photos(tmp_path / "data", "a.png", "b.png")
    arguments = [
        "--recipe",
        "naive",
        "--set",
        "crop.size=100",
        "--data",
        str(data),
        "--out",
        str(data / "out" / "naive"),
    ]
    assert make.main([*arguments, "--count", "2", "--workers", "0"]) == command.DONE
    assert (data / "out" / "naive" / "contact_sheet.png").exists()
    assert make.main([*arguments, "--count", "3", "--workers", "0"]) == command.DONE
    assert len(ShardDataset(data / "out" / "naive")) == 3


def test_a_folder_of_kernels_beside_other_things(tmp_path):
    bank = tmp_path / "kernels"
    (bank / "more").mkdir(parents=True)
    np.save(bank / "one.npy", np.ones((3, 3)))
    (bank / "README.txt").write_text("kernels")
    stages = [{"crop": {"size": 96}}, {"kernel_bank": {"path": str(bank)}}, {"crop_border": {"pixels": 2}}]
    folder = made(tmp_path, stages)
    before = json.loads((folder / "identity.json").read_text())
    (bank / "README.txt").write_text("changed")
    made(tmp_path, stages, count=3)
    assert json.loads((folder / "identity.json").read_text()) == before


def test_a_changed_profile_is_read_again(tmp_path):
    from isp import profile

    text = (Path(profile.__file__).parent / "cameras" / "a7r3.yaml").read_text()
    (tmp_path / "cam.yaml").write_text(text)
    first = profile.load(str(tmp_path / "cam.yaml")).noise.shot_gain
    (tmp_path / "cam.yaml").write_text(text.replace("8.8915e-5", "8.8915e-3"))
    assert profile.load(str(tmp_path / "cam.yaml")).noise.shot_gain == pytest.approx(100 * first)


def test_skipping_goes_on_where_stopping_stopped(tmp_path, capsys):
    data = photos(tmp_path / "data", "a.png", "b.png", "c.png", "d.png")
    whole = (data / "d.png").read_bytes()
    (data / "d.png").write_bytes(whole[: len(whole) // 2])
    arguments = [
        "--recipe",
        "naive",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--count",
        "8",
        "--workers",
        "0",
    ]
    arguments += ["--set", "crop.size=100", "--set", "samples_per_shard=2"]
    assert make.main(arguments) == command.BAD_DATA
    first = (tmp_path / "out" / "shard-00000.h5").stat().st_ino
    assert make.main([*arguments, "--set", "on_error=skip"]) == command.BAD_DATA
    assert (tmp_path / "out" / "shard-00000.h5").stat().st_ino == first
    assert len(ShardDataset(tmp_path / "out")) == 6
    assert "d.png" in capsys.readouterr().err


def test_check_reads_the_pictures(tmp_path, capsys):
    data = photos(tmp_path / "data", "a.png", "b.png")
    arguments = [
        "--recipe",
        "naive",
        "--set",
        "crop.size=100",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "o"),
        "--check",
    ]
    assert make.main(arguments) == command.DONE
    whole = (data / "b.png").read_bytes()
    (data / "b.png").write_bytes(whole[: len(whole) // 2])
    assert make.main(arguments) == command.BAD_DATA
    assert "b.png" in capsys.readouterr().err
    assert make.main([*arguments[:2], "--set", "crop.size=130", *arguments[4:]]) == command.BAD_DATA
    assert "at least 130x130" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "keys", "words"),
    [
        ([{"crop": {"size": 96}}, {"camera": {"profile": "a7r3"}}, {"camera": {"profile": "a7r3"}}], {}, "one camera"),
        (
            [{"crop": {"size": 96}}, *[{"camera_shake": {"sizes": [5]}}] * 2, {"crop_border": {"pixels": 4}}],
            {"save": ["kernel"]},
            "can hold one kernel",
        ),
        ([{"crop": {"size": 96}}], {"isp": "nonsense/x"}, 'got "nonsense"'),
        (
            [
                {"crop": {"size": 96}}, {"camera": {"profile": "d90", "white_balance": [[1.9, 2.0], [1.5, 1.6]]}},
                "inverse_isp", "mosaic", {"sensor_noise": {"profile": "a7r3"}}, "forward_isp", {"crop_border": {"pixels": 2}},
            ],
            {},
            "follows ISO",
        ),
    ],
)  # fmt: skip
def test_recipes_that_would_go_wrong_are_refused(stages, keys, words):
    with pytest.raises(RecipeError, match=words):
        recipe.bind({"name": "odd", "source": {"use": "photos"}, "stages": stages, **keys}, "odd")


def test_a_damaged_or_foreign_shard_is_made_again(tmp_path, recipe_file, contents):
    outs = [tmp_path / "out", tmp_path / "other"]
    for out, seed in zip(outs, ("7", "8"), strict=True):
        arguments = ["--recipe", recipe_file(), "--out", str(out), "--count", "4", "--workers", "0", "--seed", seed]
        assert make.main(arguments) == command.DONE
    before = contents(outs[0])
    for name in ("shard-00001.h5", "shard-00001.h5.json"):
        shutil.copy(outs[1] / name, outs[0] / name)
    (outs[0] / "shard-00000.h5").write_bytes(b"not a shard")
    with pytest.raises(OSError, match=r"shard-00000\.h5: expected a whole shard"):
        open_shard(outs[0] / "shard-00000.h5")
    assert make.main([*arguments[:2], "--out", str(outs[0]), *arguments[4:-1], "7"]) == command.DONE
    assert contents(outs[0]) == before | {"shard-00000.h5.0.set-aside": b"not a shard"}


def test_odd_arguments(tmp_path, capsys, shards):
    from blursynth import inspect

    for arguments in (["--recipe", "naive", "--data", ""],):
        with pytest.raises(SystemExit):
            make.main(arguments)
    assert make.main(["--recipe", "naive", "--device", "meta"]) == command.USAGE
    assert "expected cpu or cuda" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        inspect.main([str(shards()), "--pairs", "0"])
    pairs = ShardDataset(shards())
    with pytest.raises(ValueError, match="expected 0 or more, got -1"):
        pairs.set_epoch(-1)

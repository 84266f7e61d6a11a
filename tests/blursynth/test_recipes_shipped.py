"""Every recipe that ships: it binds, says what it is and how to run it, and comes back from its effective form."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from blursynth import recipe
from blursynth.recipe import load_recipe
from blursynth.stages.blur import CameraShake
from blursynth.stages.geometry import Crop, CropBorder

FILES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_as_many_as_the_package_lists() -> None:
    assert len(FILES) == len(recipe.summaries()) > 8
    assert {path.stem for path in FILES} == recipe.summaries().keys()


@every_file
def test_it_binds_and_its_name_is_its_files(path: Path) -> None:
    bound = load_recipe(path.stem)
    assert bound.name == path.stem
    assert load_recipe(str(path)) == bound
    assert min(bound.size) >= 256
    assert all(stage.__doc__ for stage in bound.stages)


@every_file
def test_it_comes_back_from_its_effective_form(path: Path) -> None:
    """What is written into manifests and sent to workers is the recipe itself."""
    bound = load_recipe(path.stem)
    again = recipe.bind(json.loads(json.dumps(bound.effective())), "again")
    assert again == bound and again.digest == bound.digest
    assert [label for label, _ in again.labelled] == [label for label, _ in bound.labelled]


def test_every_recipe_is_another_one() -> None:
    assert len({load_recipe(path.stem).digest for path in FILES}) == len(FILES)


@every_file
def test_it_opens_with_what_it_is_and_the_command(path: Path) -> None:
    first, second, third, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith(f"# {path.stem}: ") and first.endswith(".")
    assert recipe.summaries()[path.stem] == first.removeprefix(f"# {path.stem}: ")
    words = shlex.split(second.lstrip("# "))
    assert words[:4] == ["python", "-m", "blursynth.make", "--recipe"]
    assert words[4] == path.stem
    flags = dict(zip(words[3::2], words[4::2], strict=True))
    assert flags.keys() == {"--recipe", "--data", "--out"} and flags["--out"] == f"out/{path.stem}"
    assert third.startswith(("# Source: ", "# Sources: "))


def test_realblur_j_is_what_is_documented() -> None:
    bound = load_recipe("realblur_j")
    labels = [label for label, _ in bound.labelled]
    assert labels == [
        "crop", "camera", "inverse_isp", "camera_shake", "saturate", "mosaic", "sensor_noise", "forward_isp",
        "keep_saturated", "crop_border",
    ]  # fmt: skip
    stages = dict(bound.labelled)
    assert stages["crop"] == Crop(size=296)
    assert stages["crop_border"] == CropBorder(pixels=20)
    assert stages["camera_shake"] == CameraShake(sizes=list(range(5, 30, 2)))
    assert stages["saturate"].strength == (0.25, 1.75)
    assert stages["camera"].profile == stages["sensor_noise"].profile == "a7r3"
    assert stages["inverse_isp"].isp == stages["forward_isp"].isp == bound.isp == "paramisp/a7r3-virtual"
    assert (bound.seed, bound.samples_per_shard, bound.bits, bound.save) == (2022, 16, 8, ("kernel",))
    assert bound.size == (256, 256)
    # Kernel radius 14, and what the networks spoil: 2 pixels of the inverse, 4 of the forward one.
    assert sum(stage.halo for stage in bound.stages) == 20


@pytest.mark.parametrize(
    ("name", "isp", "crop", "border"),
    [("gopro_u", "rsblur/published", 264, 4), ("gopro_abme", "rsblur/published", 264, 4),
     ("rsblur", "rsblur/tensorflow", 264, 4), ("realblur_j_frames", "rsblur/a7r3", 272, 8)],
)  # fmt: skip
def test_the_published_settings(name: str, isp: str, crop: int, border: int) -> None:
    bound = load_recipe(name)
    stages = dict(bound.labelled)
    assert (bound.isp, stages["crop"].size, stages["crop_border"].pixels) == (isp, crop, border)
    assert bound.size == (256, 256)


def test_the_ablation_adds_a_row_at_a_time() -> None:
    names = ["naive", "ablation_srgb", "ablation_noise", "ablation_saturation", "ablation_isp"]
    rows = [{label for label, _ in load_recipe(name).labelled} for name in names]
    assert [len(row) for row in rows] == sorted(len(row) for row in rows)
    assert rows[1] - rows[0] == {"decode_srgb", "encode_srgb"}
    assert rows[2] - rows[1] == {"srgb_noise"}
    assert rows[3] - rows[2] == {"saturate", "keep_saturated"}
    assert {"mosaic", "sensor_noise", "forward_isp"} <= rows[4] - rows[3]
    kernels = {dict(load_recipe(name).labelled)["camera_shake"] for name in names}
    assert len(kernels) == 1

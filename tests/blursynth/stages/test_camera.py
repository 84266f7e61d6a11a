"""The camera stage: shots drawn as they were taken, within ranges, one die a number, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from blursynth.sample import Sample
from blursynth.stages.camera import DrawCamera
from isp import profile
from isp.cfa import PATTERNS

COUNT = 1500


def sample_of(index: int = 0, source: str = "a.png") -> Sample:
    image = torch.zeros(1, 3, 8, 8)
    return Sample(image=image, space="srgb", sharp=image, seed=2022, index=index, source=source, stage="camera")


def drawn(stage: DrawCamera, count: int = COUNT) -> list[Sample]:
    return [stage(sample_of(index)) for index in range(count)]


def dice(samples: list[Sample], name: str) -> list:
    return [sample.draws[f"camera.{name}"] for sample in samples]


@pytest.fixture(scope="module")
def a7r3() -> list[Sample]:
    return drawn(DrawCamera(profile="a7r3"))


def test_iso_and_white_balance_come_together_by_frequency(a7r3) -> None:
    shots = profile.load("a7r3").shots
    assert sum(shot.count for shot in shots) == 3640
    rows = [(shot.iso, *shot.white_balance) for shot in shots]
    seen = [(s.draws["camera.iso"], *np.array(s.draws["camera.white_balance"])[[0, 2]]) for s in a7r3]
    assert set(seen) <= set(rows)
    expected = [shot.count * COUNT / 3640 for shot in shots]
    assert scipy.stats.chisquare([seen.count(row) for row in rows], expected).pvalue > 1e-3


def test_every_cfa_phase_is_as_likely(a7r3) -> None:
    patterns = dice(a7r3, "cfa")
    assert scipy.stats.chisquare([patterns.count(pattern) for pattern in PATTERNS]).pvalue > 1e-3
    assert set(dice(drawn(DrawCamera(profile="a7r3", cfa=["GBRG", "RGGB"]), 40), "cfa")) == {"GBRG", "RGGB"}


@pytest.mark.parametrize("field", ["exposure_s", "f_number", "focal_mm"])
def test_optics_are_log_uniform_in_the_profiles_ranges(a7r3, field: str) -> None:
    low, high = getattr(profile.load("a7r3").exif, field)
    values = np.log(np.array(dice(a7r3, field)) / low) / math.log(high / low)
    assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3


def test_draws_of_different_fields_are_independent(a7r3) -> None:
    names = ("iso", "exposure_s", "f_number", "focal_mm")
    correlation = np.corrcoef([dice(a7r3, name) for name in names])
    assert np.abs(correlation - np.eye(4)).max() < 5 / math.sqrt(COUNT)


def test_the_dice_are_the_camera(a7r3) -> None:
    known = profile.load("a7r3")
    for sample in a7r3[:50]:
        camera = sample.known_camera
        said = {name.removeprefix("camera."): value for name, value in sample.draws.items()}
        assert said.keys() == {"iso", "white_balance", "cfa", "exposure_s", "f_number", "focal_mm"}
        assert camera.cfa == (said["cfa"],)
        assert torch.allclose(camera.white_balance, torch.tensor([said["white_balance"]]))
        for field in ("iso", "exposure_s", "f_number", "focal_mm"):
            assert float(getattr(camera, field)) == pytest.approx(said[field], rel=1e-6)
        assert torch.allclose(camera.sensor_to_linear, known.matrix().float())
        assert float(camera.white) == 16383 and camera.black.tolist() == [[512, 512, 512]]


def test_an_iso_range_is_log_uniform_and_leaves_the_other_dice_alone(a7r3) -> None:
    wide = drawn(DrawCamera(profile="a7r3", iso=[100, 6400]))
    isos = np.array(dice(wide, "iso"))
    assert isos.min() >= 100 and isos.max() <= 6400
    assert scipy.stats.kstest(np.log2(isos / 100) / 6, "uniform").pvalue > 1e-3
    for name in ("white_balance", "cfa", "exposure_s", "f_number", "focal_mm"):
        assert dice(wide, name) == dice(a7r3, name)
    assert set(dice(drawn(DrawCamera(profile="a7r3", iso=[400, 400]), 5), "iso")) == {400}


def test_a_white_balance_box_is_uniform_and_independent() -> None:
    gains = np.array(dice(drawn(DrawCamera(profile="a7r3", white_balance=[[1.9, 2.4], [1.5, 1.9]])), "white_balance"))
    assert set(gains[:, 1]) == {1}
    assert scipy.stats.kstest(gains[:, 0], "uniform", args=(1.9, 0.5)).pvalue > 1e-3
    assert scipy.stats.kstest(gains[:, 2], "uniform", args=(1.5, 0.4)).pvalue > 1e-3
    assert abs(np.corrcoef(gains[:, 0], gains[:, 2])[0, 1]) < 5 / math.sqrt(COUNT)


def test_capture_days() -> None:
    rsblur = profile.load("rsblur")
    days = [shot.day for shot in rsblur.shots]
    seen = dice(drawn(DrawCamera(profile="rsblur"), 950), "day")
    assert scipy.stats.chisquare([seen.count(day) for day in days]).pvalue > 1e-3
    some = DrawCamera(profile="rsblur", days=["0003", "0010"])
    assert set(dice(drawn(some, 30), "day")) == {"0003", "0010"}
    by_path = DrawCamera(profile="rsblur", days="source")(sample_of(source="0007/0001/avg65_img/avg_blur.png"))
    assert by_path.draws["camera.day"] == "0007"
    assert by_path.draws["camera.white_balance"][0] == rsblur.shots[6].white_balance[0]
    assert torch.allclose(by_path.known_camera.sensor_to_linear, rsblur.matrix(rsblur.shots[6]).float())
    assert by_path.known_camera.iso is None and "camera.iso" not in by_path.draws
    with pytest.raises(ValueError, match=r'folder named after a capture day .* got "elsewhere/a.png"'):
        DrawCamera(profile="rsblur", days="source")(sample_of(source="elsewhere/a.png"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"profile": "a7r4"}, ['profile: camera profile: expected one of a7r3, ', 'did you mean "a7r3"?']),
        ({"profile": "d40"}, ['white_balance: the profile "d40" has no white balance; give ranges']),
        ({"profile": "a7r3", "days": "source"}, ['days: the profile "a7r3" has no capture days; use "all"']),
        ({"profile": "rsblur", "days": ["0001", "99"]}, ["days: expected days out of 0001, ", "got 99"]),
    ],
)  # fmt: skip
def test_problems_that_only_the_profile_can_tell(keys: dict, words: list[str]) -> None:
    (problem,) = DrawCamera(**keys).problems()
    assert all(word in problem for word in words)


def test_a_profile_that_knows_little_works_with_what_is_given() -> None:
    stage = DrawCamera(profile="d40", white_balance=[[2, 2], [1.5, 1.5]])
    assert stage.problems() == []
    made = stage(sample_of())
    assert made.known_camera.iso is None and made.known_camera.exposure_s is None
    assert made.draws.keys() == {"camera.white_balance", "camera.cfa"}


def test_a_profile_file_is_part_of_the_identity(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    text = "{name: mine, model: M, xyz_to_sensor: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], shots: [{white_balance: [2, 3]}]}"
    path.write_text(text)
    stage = DrawCamera(profile=str(path))
    assert stage.problems() == [] and stage.files() == [path]
    assert stage(sample_of()).draws["camera.white_balance"] == [2, 1, 3]
    assert DrawCamera(profile="a7r3").files() == []

"""Saturated light: what is added where, that white stays white, and what keeps its full scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from blursynth.sample import Sample
from blursynth.stages.isp import ForwardISP, InverseISP, Mosaic
from blursynth.stages.saturate import SATURATED, KeepSaturated, Saturate
from isp import color, profile
from isp.rng import generator

SHAPE = (1, 3, 24, 26)
CAMERA = profile.load("a7r3").camera((2.66, 1.46))


def pixels(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(generator(seed, 0, "pixels").random(SHAPE, dtype=np.float32))


def patchy_light() -> torch.Tensor:
    """Nothing in three quarters of the picture, something in each channel elsewhere."""
    light = pixels(1)
    light[..., :12, :], light[..., :13] = 0, 0
    return light


def sample_of(linear: torch.Tensor, space: str, light: torch.Tensor | None, index: int = 0) -> Sample:
    image = color.linear_to_sensor(linear, CAMERA) if space == "sensor" else linear
    return Sample(
        image=image, space=space, sharp=torch.zeros(SHAPE), saturation=light, camera=CAMERA, seed=1, index=index,
        source="a.png", stage="saturate",
    )  # fmt: skip


def linear_of(sample: Sample) -> torch.Tensor:
    return color.sensor_to_linear(sample.image, CAMERA) if sample.space == "sensor" else sample.image


@pytest.mark.parametrize("space", ["linear", "sensor"])
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 1.75])
def test_it_is_the_clipped_sum_in_linear(space: str, strength: float) -> None:
    linear, light = pixels(), patchy_light()
    made = Saturate(strength=[strength, strength])(sample_of(linear, space, light))
    expected = (linear.double() + strength * light).clamp(0, 1)
    assert float((linear_of(made) - expected).abs().max()) < 2e-6
    assert made.space == space
    assert made.draws == {"saturate.strength": strength}


@pytest.mark.parametrize("space", ["linear", "sensor"])
def test_nothing_happens_where_there_is_no_light(space: str) -> None:
    before = sample_of(pixels(), space, patchy_light())
    after = Saturate()(before)
    dark = (before.saturation == 0).all(1, keepdim=True).expand(SHAPE)
    assert float(dark.float().mean()) > 0.7
    change = (after.image - before.image).abs()
    assert float(change[dark].max()) < 1e-6
    assert float(change[~dark].max()) > 0.1
    assert not after.saturated[dark].any()


def test_exactly_the_pixels_at_full_scale_are_saturated() -> None:
    linear, light = pixels(), patchy_light()
    made = Saturate(strength=[1, 1])(sample_of(linear, "linear", light))
    assert torch.equal(made.saturated, (linear + light).clamp(0, 1) >= SATURATED)
    assert 0.02 < float(made.saturated.float().mean()) < 0.5
    in_sensor = Saturate(strength=[1, 1])(sample_of(linear, "sensor", light))
    edge = ((linear + light) - 1).abs() < 1e-5
    assert torch.equal(in_sensor.saturated & ~edge, made.saturated & ~edge)


def test_white_is_white_in_the_sensor_too() -> None:
    """Linear white is 1 / gain of each colour there: less than full scale for red and blue."""
    made = Saturate(strength=[1, 1])(sample_of(torch.full(SHAPE, 0.9), "sensor", torch.ones(SHAPE)))
    white = torch.tensor([1 / 2.66, 1.0, 1 / 1.46])[None, :, None, None].expand(SHAPE)
    assert float((made.image - white).abs().max()) < 1e-6
    assert made.saturated.all()


@pytest.mark.parametrize("isp", ["rsblur/a7r3", "rsblur/srgb", "upi/pair"])
def test_white_stays_neutral_through_the_whole_camera(isp: str) -> None:
    """A clipped white patch comes out as white, without a tint of magenta, before `keep_saturated` mends anything."""
    scene = torch.full(SHAPE, 0.4)
    scene[..., 6:18, 6:18] = 1
    sample = sample_of(scene, "linear", None).replace(space="srgb", sharp=scene)
    for stage in (InverseISP(isp=isp), Saturate(), Mosaic(), ForwardISP(isp=isp)):
        sample = stage(sample)
    patch = sample.image[0, :, 9:15, 9:15]
    assert float(patch.min()) > 1 - 2e-3
    assert float((patch.amax(0) - patch.amin(0)).max()) < 1e-3
    assert float(KeepSaturated()(sample).image[0, :, 6:18, 6:18].min()) == 1


def test_the_strength_is_uniform_in_its_range_and_one_for_the_image() -> None:
    light = torch.full(SHAPE, 0.1)
    stage = Saturate(strength=[0.25, 1.75])
    strengths = []
    for index in range(200):
        made = stage(sample_of(torch.full(SHAPE, 0.2), "linear", light, index))
        strengths.append(made.draws["saturate.strength"])
        assert float((made.image - (0.2 + 0.1 * strengths[-1])).abs().max()) < 1e-6
    assert 0.25 <= min(strengths) < 0.3 and 1.7 < max(strengths) <= 1.75
    assert np.mean(strengths) == pytest.approx(1, abs=5 * 1.5 / np.sqrt(12 * 200))


def test_colours_beyond_the_sensors_white_are_clipped() -> None:
    """RSBlur's matrices take saturated colours up to 11 % above white: the sensor cannot see more than white."""
    rsblur = profile.load("rsblur")
    shot = next(shot for shot in rsblur.shots if shot.day == "0019")
    camera = rsblur.camera(shot.white_balance, shot=shot)
    corners = torch.tensor([[(colour >> channel) & 1 for colour in range(8)] for channel in range(3)])
    linear = corners.float()[None, :, None, :].expand(1, 3, 8, 8)
    sensor = color.linear_to_sensor(linear, camera)
    before = Sample(
        image=sensor, space="sensor", sharp=torch.zeros(1, 3, 8, 8), saturation=torch.zeros(1, 3, 8, 8),
        camera=camera, seed=1, index=0, source="a.png", stage="saturate",
    )  # fmt: skip
    white = 1 / camera.white_balance[:, :, None, None]
    assert float((sensor / white).max()) > 1.1
    made = Saturate()(before)
    assert torch.allclose(made.image, torch.minimum(sensor, white).clamp(min=0), atol=1e-6)
    assert bool((made.image <= white).all()) and float(made.image.min()) >= 0


def test_keep_saturated_sets_exactly_those_pixels() -> None:
    linear, light = pixels(), patchy_light()
    saturated = Saturate(strength=[1, 1])(sample_of(linear, "linear", light))
    noisy = pixels(2) * 0.9
    kept = KeepSaturated()(saturated.replace(image=noisy, space="srgb"))
    assert bool((kept.image[saturated.saturated] == 1).all())
    assert torch.equal(kept.image[~saturated.saturated], noisy[~saturated.saturated])


def test_inputs_are_left_alone() -> None:
    before = sample_of(pixels(), "linear", patchy_light())
    image, light = before.image.clone(), before.saturation.clone()
    after = Saturate()(before)
    KeepSaturated()(after)
    assert torch.equal(before.image, image) and torch.equal(before.saturation, light)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match='needs saturation light; put "inverse_isp" or "decode_srgb" before it'):
        Saturate()(sample_of(pixels(), "linear", None))
    with pytest.raises(ValueError, match='needs to know what is saturated; put "saturate" before it'):
        KeepSaturated()(sample_of(pixels(), "linear", None))
    with pytest.raises(ValidationError, match=r"expected \[smallest, largest\], got \[2, 1\]"):
        Saturate(strength=[2, 1])

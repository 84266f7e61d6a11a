"""A sample and the whole pipeline: pure stages, no global state, no colour shift, no border, the noise that was drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from blursynth import recipe, synthesis
from blursynth.recipe import load_recipe
from blursynth.sample import Sample
from isp import tone
from isp.light.convolution import convolve
from isp.rng import generator

WINDOW, BORDER = 96, 8
SMALL = ["isp=rsblur/a7r3", f"crop.size={WINDOW}", "camera_shake.sizes=[5,9]", f"crop_border.pixels={BORDER}"]


@pytest.fixture(autouse=True)
def _one_thread():
    with synthesis.one_thread():
        yield


def clip_of(folder: Path, pixels: np.ndarray):
    """A photograph with these pixels, opened as the recipe opens it."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "a.png"), pixels[..., ::-1])
    return load_recipe("realblur_j").source.open(folder).clips[0]


WIDE = ["crop_border.pixels=16", "camera_shake.sizes=[25]"]


def flat_clip(folder: Path, rgb: tuple[int, int, int], side: int = 128):
    return clip_of(folder, np.full((side, side, 3), rgb, np.uint8))


def noise_free(*overrides: str) -> recipe.Recipe:
    document = load_recipe("realblur_j", [*SMALL, *overrides]).effective()
    document["stages"] = [stage for stage in document["stages"] if "sensor_noise" not in stage]
    return recipe.bind(document, "noise_free")


def empty(**fields) -> Sample:
    image = torch.zeros(1, 3, 8, 8)
    return Sample(**{"image": image, "space": "srgb", "sharp": image, "seed": 1, "index": 2, "source": "a"} | fields)


# ---------------------------------------------------------------- the object


def test_a_sample_is_frozen_and_a_copy_is_changed() -> None:
    sample = empty(stage="first")
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.index = 3
    rolled = sample.drawn(iso=100)
    assert sample.draws == {} and rolled.draws == {"first.iso": 100}
    assert rolled.replace(stage="second").drawn(iso=200).draws == {"first.iso": 100, "second.iso": 200}


def test_a_draw_is_addressed_by_seed_index_stage_and_purpose() -> None:
    base = empty(stage="camera")
    assert base.rng("iso").random() == generator(1, 2, "camera.iso").random()
    others = [base.replace(stage="camera.1"), base.replace(seed=2), base.replace(index=3)]
    assert len({sample.rng("iso").random() for sample in [base, *others]} | {base.rng("cfa").random()}) == 5


def test_what_a_camera_is_needed_for_is_said() -> None:
    with pytest.raises(ValueError, match='mosaic: needs a camera; put the stage "camera" before it'):
        _ = empty(stage="mosaic").known_camera


# ---------------------------------------------------------------- state and addresses


def test_no_global_state_is_used_or_changed(tmp_path) -> None:
    """Neither NumPy's nor torch's global generator moves, and what they hold does not matter."""
    pixels = generator(0, 0, "photo").integers(0, 256, (128, 128, 3), dtype=np.uint8)
    clip, bound = clip_of(tmp_path / "p", pixels), load_recipe("realblur_j", SMALL)
    results = []
    for _ in range(2):
        numpys, torchs = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - this is what is watched
        results.append(synthesis.synthesise(clip, bound, 5))
        assert all(np.array_equal(a, b) for a, b in zip(numpys, np.random.get_state(), strict=True))  # noqa: NPY002
        assert torch.equal(torchs, torch.get_rng_state())
        np.random.random_sample(7)  # noqa: NPY002
        torch.empty(7).uniform_()
    assert torch.equal(results[0].image, results[1].image)
    assert results[0].draws == results[1].draws


def test_changing_or_adding_a_stage_leaves_the_others_dice_alone(tmp_path) -> None:
    pixels = generator(0, 0, "photo").integers(0, 256, (128, 128, 3), dtype=np.uint8)
    clip, bound = clip_of(tmp_path / "p", pixels), load_recipe("realblur_j", SMALL)
    document = bound.effective()
    document["stages"].insert(1, {"dihedral": {}})
    document["stages"].append({"jpeg": {}})
    more = synthesis.synthesise(clip, recipe.bind(document, "more"), 3).draws
    base = synthesis.synthesise(clip, bound, 3).draws
    assert more.keys() - base.keys() == {"dihedral.element", "jpeg.quality"}
    assert {name: more[name] for name in base} == base
    fewer = synthesis.synthesise(clip, noise_free(), 3).draws
    assert fewer == {name: value for name, value in base.items() if not name.startswith("sensor_noise")}


def test_the_largest_seed(tmp_path) -> None:
    clip = flat_clip(tmp_path / "p", (90, 90, 90))
    first, last = (load_recipe("realblur_j", SMALL, seed=seed) for seed in (2**63 - 1, 2**63 - 2))
    one, same, other = (synthesis.synthesise(clip, bound, 0).image for bound in (first, first, last))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_dice_hold_every_number_drawn(tmp_path) -> None:
    made = synthesis.synthesise(flat_clip(tmp_path / "p", (90, 90, 90)), load_recipe("realblur_j", SMALL), 0)
    assert made.draws.keys() == {
        "crop.top", "crop.left", "camera.iso", "camera.white_balance", "camera.cfa", "camera.exposure_s",
        "camera.f_number", "camera.focal_mm", "camera_shake.family", "camera_shake.size", "saturate.strength",
        "sensor_noise.shot_gain", "sensor_noise.read_std",
    }  # fmt: skip


# ---------------------------------------------------------------- the picture


COLOURS = [(30, 30, 30), (128, 128, 128), (210, 210, 210), (60, 130, 180), (180, 90, 60)]


@pytest.mark.parametrize("rgb", COLOURS)
def test_a_flat_colour_survives_without_noise_borders_included(tmp_path, rgb) -> None:
    """Inverse ISP, blur, mosaic, demosaicing, ISP: back to the same level, at the border as well as within."""
    clip = flat_clip(tmp_path / "p", rgb)
    made = synthesis.synthesise(clip, noise_free(), 1)
    assert made.image.shape == (1, 3, WINDOW - 2 * BORDER, WINDOW - 2 * BORDER)
    assert float((made.image - made.sharp).abs().max()) < 2e-4


@pytest.mark.parametrize("rgb", COLOURS)
def test_no_colour_shift_and_no_border_under_noise(tmp_path, rgb) -> None:
    """Means per channel, per row and per column agree with the sharp picture within the noise of the mean."""
    clip, bound = flat_clip(tmp_path / "p", rgb), load_recipe("realblur_j", SMALL)
    errors = torch.cat([(made := synthesis.synthesise(clip, bound, i)).image - made.sharp for i in range(8)])
    errors = errors.double()
    std = errors.std(dim=(0, 2, 3))
    side = errors.shape[-1]
    # Demosaicing correlates neighbours: about a tenth of the pixels count as independent.
    of_all = std / np.sqrt(8 * side * side / 10)
    # The curve is bent: where it is steep the noise itself moves the mean, by far less than a level.
    assert bool((errors.mean((0, 2, 3)).abs() < 5 * of_all + 0.3 / 255).all())
    of_line = std[:, None] / np.sqrt(8 * side / 10)
    for lines in (errors.mean((0, 3)), errors.mean((0, 2))):
        assert bool(((lines - lines.mean(1, keepdim=True)).abs() < 5 * of_line).all())
    outer, inner = errors[..., [0, 1, -2, -1], :], errors[..., side // 2 - 2 : side // 2 + 2, :]
    spread = outer.std(dim=(0, 2, 3)) / inner.std(dim=(0, 2, 3))
    assert bool(((spread - 1).abs() < 0.2).all())


@pytest.mark.parametrize("level", [40, 128, 220])
def test_the_noise_in_raw_is_what_the_dice_say(tmp_path, level: int) -> None:
    """Mean and variance of every colour of the mosaic: shot_gain * x + read_std^2, each within its standard error."""
    clip = flat_clip(tmp_path / "p", (level,) * 3)
    bound = load_recipe("realblur_j", [*SMALL, "save=[raw]", "camera.iso=[3200,3200]"])
    for index in range(4):
        made = synthesis.synthesise(clip, bound, index)
        gain, read = made.draws["sensor_noise.shot_gain"], made.draws["sensor_noise.read_std"]
        pattern = made.known_camera.cfa[0]
        for site, letter in enumerate(pattern):
            row, column = divmod(site, 2)
            noisy = made.bayer[0, 0, row::2, column::2].double().flatten()
            clean = float(made.sharp_bayer[0, 0, row::2, column::2].mean())
            variance = gain * clean + read**2
            assert abs(float(noisy.mean()) - clean) < 5 * np.sqrt(variance / len(noisy)), letter
            fourth = 3 * variance**2 + gain**3 * clean
            error = np.sqrt((fourth - variance**2) / len(noisy))
            assert abs(float(noisy.var()) - variance) < 5 * error, letter


def test_clipped_light_comes_out_white_and_wider(tmp_path) -> None:
    """A clipped lamp on a dark wall: a white, blurred spot without colour, and black stays black around it."""
    pixels = np.full((128, 128, 3), 20, np.uint8)
    pixels[56:72, 56:72] = 255
    bound = load_recipe("realblur_j", [*SMALL, "crop.at=[16,16]", "save=[saturated]"])
    made = synthesis.synthesise(clip_of(tmp_path / "p", pixels), bound, 0)
    lamp = made.image[0, :, 36:44, 36:44]
    assert float(lamp.min()) == 1
    assert int(made.saturated[0].all(0).sum()) >= 64
    tint = made.image[0].amax(0) - made.image[0].amin(0)
    assert float(tint[made.saturated[0].all(0)].max()) == 0
    far = made.image[0, :, :20].double()
    assert float(far.mean()) == pytest.approx(20 / 255, abs=1 / 255)


def test_blur_acts_on_light_not_on_srgb(tmp_path) -> None:
    """The finished picture is the scene's light convolved, rendered; convolving sRGB values gives another one."""
    wave = np.sin(np.arange(128) * 2 * np.pi / 20)  # long enough for demosaicing, short enough to be blurred
    pixels = (130 + 100 * wave[:, None, None] * wave[None, :, None]).round().astype(np.uint8).repeat(3, axis=2)
    made = synthesis.synthesise(clip_of(tmp_path / "p", pixels), noise_free("crop.at=[16,16]", *WIDE), 2)
    scene = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    inside = slice(32, WINDOW)
    light = tone.a7r3_response(convolve(tone.inverse_a7r3_response(scene), made.kernel))[..., inside, inside]
    display = convolve(scene, made.kernel)[..., inside, inside]
    assert torch.equal(made.sharp, scene[..., inside, inside])
    assert float((made.image - light).abs().mean()) < 0.004
    assert float((made.image - display).abs().mean()) > 0.03

"""Blur: convolution against SciPy's, its algebra, how far borders reach, and where kernels come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blursynth import synthesis
from blursynth.recipe import bind, load_recipe
from blursynth.sample import Sample
from blursynth.stages.blur import Accumulate, CameraShake, KernelBank
from isp import color, profile
from isp.light import raster
from isp.light.convolution import convolve
from isp.light.trajectories import FAMILIES
from isp.rng import generator

SIZES = tuple(range(5, 30, 2))


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(generator(seed, 0, "pixels").random(shape, dtype=np.float32))


def kernel_of(size: int, seed: int = 0) -> torch.Tensor:
    """Positive, lopsided, of sum 1."""
    values = generator(seed, size, "kernel").random((size, size)) ** 3 * np.arange(1, size + 1)
    return torch.from_numpy((values / values.sum()).astype(np.float32))


def scipys(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """In float64 with mirrored borders, the edge not repeated, plane by plane."""
    radius = len(kernel) // 2
    planes = image.double().numpy().reshape(-1, *image.shape[-2:])
    blurred = [
        scipy.signal.convolve2d(np.pad(plane, radius, mode="reflect"), kernel.double().numpy(), mode="valid")
        for plane in planes
    ]
    return torch.from_numpy(np.stack(blurred)).reshape(image.shape)


def sample_of(image: torch.Tensor, space: str = "srgb", stage: str = "camera_shake", **others) -> Sample:
    sharp = torch.zeros(1, 3, *image.shape[-2:])
    return Sample(image=image, space=space, sharp=sharp, seed=1, index=0, source="a.png", stage=stage, **others)


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


# ---------------------------------------------------------------- convolution


@pytest.mark.parametrize("size", SIZES)
def test_it_is_scipys_convolution_borders_included(size: int) -> None:
    image, kernel = pixels(2, 3, 31, 46), kernel_of(size)
    assert largest(convolve(image, kernel) - scipys(image, kernel)) < 1e-6


@given(st.integers(16, 40), st.integers(16, 40), st.integers(1, 15), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_size_of_picture_and_kernel(height: int, width: int, radius: int, seed: int) -> None:
    image, kernel = pixels(1, 1, height, width, seed=seed), kernel_of(2 * radius + 1, seed)
    assert largest(convolve(image, kernel) - scipys(image, kernel)) < 1e-6


def test_a_point_becomes_the_kernel_not_its_mirror_image() -> None:
    """Convolution: light from q goes to q + offset. Correlation would turn the kernel by half a turn."""
    kernel = kernel_of(7)
    point = torch.zeros(1, 1, 21, 25)
    point[..., 10, 12] = 1
    assert largest(kernel - kernel.flip(0, 1)) > 0.01
    assert largest(convolve(point, kernel)[0, 0, 7:14, 9:16] - kernel) < 1e-7


def test_a_delta_changes_nothing() -> None:
    delta = torch.zeros(9, 9)
    delta[4, 4] = 1
    image = pixels(1, 3, 40, 33)
    assert largest(convolve(image, delta) - image) < 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_a_flat_picture_stays_flat_to_its_borders(size: int) -> None:
    flat = torch.tensor([0.9, 0.5, 0.01])[None, :, None, None].expand(1, 3, 45, 64).contiguous()
    assert largest(convolve(flat, kernel_of(size)) - flat) < 1e-6


def test_linear_in_image_and_kernel() -> None:
    one, other, kernel, second = pixels(1, 1, 40, 40), pixels(1, 1, 40, 40, seed=1), kernel_of(9), kernel_of(9, 1)
    mixed = convolve(2 * one - 3 * other, kernel)
    assert largest(mixed - (2 * convolve(one, kernel) - 3 * convolve(other, kernel))) < 3e-6
    mixed = convolve(one, 0.25 * kernel + 0.75 * second)
    assert largest(mixed - (0.25 * convolve(one, kernel) + 0.75 * convolve(one, second))) < 1e-6


@pytest.mark.parametrize("size", [5, 17, 29])
def test_adjoint_and_energy_for_light_inside(size: int) -> None:
    """<A x, y> = <x, A' y>, A' being the convolution with the kernel turned by half a turn; no light is lost."""
    kernel = kernel_of(size)
    x, y = torch.zeros(2, 1, 1, 90, 80)
    x[..., 30:60, 30:50], y[..., 30:60, 30:50] = pixels(1, 1, 30, 20), pixels(1, 1, 30, 20, seed=1)
    forth = (convolve(x, kernel).double() * y).sum()
    back = (x.double() * convolve(y, kernel.flip(0, 1))).sum()
    assert float(forth) == pytest.approx(float(back), rel=1e-6)
    assert float(convolve(x, kernel).double().sum()) == pytest.approx(float(x.double().sum()), rel=1e-6)


def test_shifting_before_is_shifting_after() -> None:
    kernel = kernel_of(11)
    scene = pixels(1, 1, 70, 70)
    here, there = scene[..., :60, :60], scene[..., 7:67, 4:64]
    inside = slice(12, 40)
    shifted = convolve(here, kernel)[..., 19:47, 16:44]
    assert largest(convolve(there, kernel)[..., inside, inside] - shifted) < 1e-6


def test_each_frame_and_channel_for_itself() -> None:
    frames, kernel = pixels(3, 3, 32, 40), kernel_of(9)
    together = convolve(frames, kernel)
    for at, frame in enumerate(frames):
        assert largest(together[at] - convolve(frame[None], kernel)[0]) < 1e-6


def test_blur_in_sensor_is_blur_in_linear() -> None:
    """The colour matrix mixes channels, the kernel pixels: their order does not matter."""
    camera = profile.load("a7r3").camera((2.1, 1.6))
    linear, kernel = pixels(1, 3, 48, 48), kernel_of(15)
    through_sensor = color.sensor_to_linear(convolve(color.linear_to_sensor(linear, camera), kernel), camera)
    assert largest(through_sensor - convolve(linear, kernel)) < 3e-6


@pytest.mark.parametrize(("height", "width"), [(14, 40), (40, 14), (5, 5)])
def test_a_kernel_too_large_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"larger than the kernel's radius 14, got {height}x{width}"):
        convolve(pixels(1, 1, height, width), kernel_of(29))
    assert convolve(pixels(1, 1, 15, 15), kernel_of(29)).shape == (1, 1, 15, 15)


# ---------------------------------------------------------------- camera shake


def corner_kernel(size: int) -> np.ndarray:
    """All light to opposite corners: the farthest that a kernel of this size can carry it."""
    kernel = np.zeros((size, size), np.float32)
    kernel[0, 0] = kernel[-1, -1] = 0.5
    return kernel


def test_the_halo_is_true_and_tight(monkeypatch) -> None:
    """What lies around a crop changes its `halo` border pixels and nothing within; with one pixel less it would."""
    stage = CameraShake(sizes=[5, 13])
    assert stage.halo == 6
    scene = pixels(1, 3, 60, 70)
    other = scene.clone()
    other[..., :10, :], other[..., -10:, :], other[..., :10], other[..., -10:] = 0, 0, 0, 0
    monkeypatch.setattr(raster, "camera_shake", lambda rng, family, size: corner_kernel(13))
    one, two = (stage(sample_of(image)).image for image in (scene, other))
    cut = stage(sample_of(scene[..., 10:-10, 10:-10])).image
    inside = one[..., 10:-10, 10:-10]
    spoiled = (two[..., 10:-10, 10:-10] - inside).abs().amax((0, 1)) > 1e-6
    assert not spoiled[6:-6, 6:-6].any() and spoiled[5].any() and spoiled[:, 5].any()
    assert spoiled[-6].any() and spoiled[:, -6].any()
    invented = (cut - inside).abs().amax((0, 1)) > 1e-6
    assert not invented[6:-6, 6:-6].any() and invented[5].any() and invented[-6].any()


def test_family_and_size_are_drawn_uniformly(monkeypatch) -> None:
    monkeypatch.setattr(raster, "camera_shake", lambda rng, family, size: corner_kernel(size))
    stage, image = CameraShake(), pixels(1, 1, 15, 15)
    made = [stage(sample_of(image).replace(index=index)) for index in range(390)]
    for die, choices in (("size", stage.sizes), ("family", stage.families)):
        drawn = [each.draws[f"camera_shake.{die}"] for each in made]
        assert scipy.stats.chisquare([drawn.count(choice) for choice in choices]).pvalue > 1e-3


def test_the_kernel_kept_is_the_kernel_used() -> None:
    stage, image = CameraShake(), pixels(1, 1, 31, 31)
    assert stage.sizes == SIZES and stage.halo == 14
    for index in range(20):
        each = stage(sample_of(image).replace(index=index))
        assert each.kernel.shape == (29, 29)
        assert float(each.kernel.sum()) == pytest.approx(1, abs=1e-6)
        rim = (29 - each.draws["camera_shake.size"]) // 2
        occupied = torch.nonzero(each.kernel)
        assert int(occupied.min()) >= rim and int(occupied.max()) <= 28 - rim
        kept = each.kernel[rim : 29 - rim, rim : 29 - rim]
        assert largest(each.image - scipys(image, kept)) < 1e-6


def test_saturation_light_is_blurred_alike_and_stays_light() -> None:
    mask = (pixels(1, 3, 48, 48) > 0.97).float()
    made = CameraShake(sizes=[9])(sample_of(mask.clone(), saturation=mask))
    assert largest(made.saturation - made.image.clamp(min=0)) < 1e-7
    assert float(made.saturation.min()) >= 0
    dark = CameraShake(sizes=[9])(sample_of(mask, saturation=torch.zeros_like(mask)))
    assert not dark.saturation.any()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sizes": [5, 8]}, "expected an odd kernel size, got 8"),
        ({"sizes": []}, "at least 1 item"),
        ({"sizes": [1]}, "greater than or equal to 3"),
        ({"sizes": [257]}, "less than or equal to 255"),
        ({"families": []}, "at least 1 item"),
        ({"families": ["schmid"]}, "'schmid'; did you mean \"schmidt\""),
    ],
)
def test_settings_that_make_no_sense(keys: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CameraShake(**keys)


# ---------------------------------------------------------------- measured kernels


def write_bank(folder: Path) -> list[np.ndarray]:
    """Three kernels that are centred already, of sizes 3, 7 and 11."""
    written = []
    for at, size in enumerate((3, 7, 11)):
        half = generator(5, size, "bank").random((size, size))
        whole = ((half + half[::-1, ::-1]) / half.sum() / 2).astype(np.float32)
        np.save(folder / f"{at}.npy", whole)
        written.append(whole)
    return written


def test_a_bank_of_files_of_different_sizes(tmp_path) -> None:
    written = write_bank(tmp_path)
    stage = KernelBank(path=tmp_path)
    assert stage.problems() == []
    assert (stage.largest, stage.halo) == (11, 5)
    assert stage.files() == [tmp_path / f"{at}.npy" for at in range(3)]
    image = pixels(1, 3, 30, 28)
    chosen = []
    for index in range(150):
        made = stage(sample_of(image, stage="kernel_bank").replace(index=index))
        choice = made.draws["kernel_bank.choice"]
        chosen.append(choice)
        if index < 20:
            kernel = torch.from_numpy(written[choice])
            rim = (11 - len(kernel)) // 2
            assert largest(made.kernel - torch.nn.functional.pad(kernel, (rim,) * 4)) < 1e-6
            assert largest(made.image - scipys(image, kernel)) < 2e-6
    assert scipy.stats.chisquare(np.bincount(chosen, minlength=3)).pvalue > 1e-3


def test_one_file_of_several_kernels(tmp_path) -> None:
    stack = np.stack([np.pad(kernel, (11 - len(kernel)) // 2) for kernel in write_bank(tmp_path)])
    np.save(tmp_path / "all.npy", stack)
    stage = KernelBank(path=tmp_path / "all.npy")
    assert stage.largest == 11 and stage.files() == [tmp_path / "all.npy"]
    assert stage(sample_of(pixels(1, 1, 20, 20), stage="kernel_bank")).kernel.shape == (11, 11)


def test_a_bank_without_kernels_is_a_problem(tmp_path) -> None:
    (problem,) = KernelBank(path=tmp_path / "none").problems()
    assert problem.startswith("path: ") and "expected a file of kernels" in problem
    (tmp_path / "a.npy").write_bytes(b"not numpy")
    (problem,) = KernelBank(path=tmp_path).problems()
    assert "a.npy: expected a readable .npy file" in problem


# ---------------------------------------------------------------- frames


def test_accumulate_is_the_mean_of_frames_and_light() -> None:
    frames, light = pixels(7, 3, 12, 10), (pixels(7, 3, 12, 10, seed=1) > 0.8).float()
    made = Accumulate()(sample_of(frames, "sensor", "accumulate", saturation=light, sharp_frame=3))
    assert largest(made.image[0] - frames.double().mean(0)) < 1e-6
    assert largest(made.saturation[0] - light.double().mean(0)) < 1e-6
    assert made.image.shape == made.saturation.shape == (1, 3, 12, 10)
    assert Accumulate()(sample_of(frames)).saturation is None


def test_recipes_accept_every_family_and_name_their_own_by_default() -> None:
    """A new family is one entry in `FAMILIES`; recipes that do not name it must keep their pixels."""
    for family in FAMILIES:
        assert CameraShake(families=(family,)).families == (family,)
    assert CameraShake().families == ("boracchi_foi", "schmidt", "gaussian_process")
    with pytest.raises(
        ValueError, match=r"expected some of boracchi_foi, .*, got 'schmid'; did you mean \"schmidt\"\?"
    ):
        CameraShake(families=("schmid",))


def test_a_new_family_changes_no_recipe_that_does_not_name_it(monkeypatch) -> None:
    def pair(*overrides: str) -> tuple[str, Sample]:
        recipe = load_recipe("realblur_j", ["isp=rsblur/a7r3", "crop.size=128", *overrides])
        return recipe.digest, synthesis.synthesise(recipe.source.open(None).clips[0], recipe, 1)

    digest, before = pair()
    names_none = load_recipe("realblur_j").effective()
    shake = next(stage["camera_shake"] for stage in names_none["stages"] if "camera_shake" in stage)
    del shake["families"]
    with pytest.raises(ValueError, match="got 'straight'"):
        pair("camera_shake.families=[straight]")
    straight = np.stack([np.zeros(50), np.linspace(0, 1, 50)], 1)
    monkeypatch.setitem(FAMILIES, "straight", lambda rng: straight)
    again, after = pair()
    assert again == digest
    assert torch.equal(before.image, after.image) and before.draws == after.draws
    assert bind(names_none, "names none").digest == load_recipe("realblur_j").digest
    named, made = pair("camera_shake.families=[straight]")
    assert named != digest
    assert made.draws["camera_shake.family"] == "straight"
    middle = len(made.kernel) // 2
    assert float(made.kernel[middle - 1 : middle + 2].sum()) == pytest.approx(1, abs=1e-6)

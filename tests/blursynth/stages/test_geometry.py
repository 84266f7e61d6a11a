"""Crop, symmetries, borders: where pixels go, how uniformly it is drawn, and that everything in a sample goes along."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from pydantic import ValidationError

from blursynth.sample import Sample
from blursynth.stages.geometry import DIHEDRAL, Crop, CropBorder, Dihedral, turn
from isp import cfa, profile
from isp.light.convolution import convolve
from isp.rng import generator


def sample_of(height: int, width: int, stage: str = "crop", index: int = 0, **others) -> Sample:
    """Every pixel of the image tells where it was: 1000 times its row plus its column."""
    where = (1000.0 * torch.arange(height)[:, None] + torch.arange(width)).expand(1, 3, height, width)
    fields = {"image": where, "space": "srgb", "sharp": where + 0.25} | others
    return Sample(seed=3, index=index, source="folder/a.png", stage=stage, **fields)


def loaded(height: int, width: int, stage: str, pattern: str = "GRBG") -> Sample:
    """A sample that carries everything a sample can."""
    sensor = torch.from_numpy(generator(1, 0, "sensor").random((1, 3, height, width), dtype=np.float32))
    kernel = torch.from_numpy(generator(1, 0, "kernel").random((5, 5), dtype=np.float32))
    bayer = cfa.mosaic(sensor, (pattern,))
    return sample_of(
        height, width, stage,
        image=sensor, saturation=sensor + 1, saturated=sensor > 0.5, sharp_sensor=sensor + 2, bayer=bayer,
        sharp_bayer=bayer + 1, kernel=kernel, camera=profile.load("a7r3").camera((2.0, 1.5), pattern),
    )  # fmt: skip


# ---------------------------------------------------------------- crop


@pytest.mark.parametrize("size", [8, 9, [8, 13], [11, 8]])
def test_crop_cuts_where_its_dice_say(size) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    stage = Crop(size=size)
    assert stage.size_after(None) == stage.size_after((99, 99)) == (height, width)
    for index in range(20):
        made = stage(sample_of(20, 17, index=index))
        top, left = made.draws["crop.top"], made.draws["crop.left"]
        assert made.image.shape == (1, 3, height, width)
        assert made.image[0, 1, 0, 0] == 1000 * top + left
        assert made.image[0, 1, -1, -1] == 1000 * (top + height - 1) + left + width - 1
        assert torch.equal(made.sharp, made.image + 0.25)


def test_crop_at_a_place() -> None:
    made = Crop(size=[8, 9], at=[12, 8])(sample_of(20, 17))
    assert made.draws == {"crop.top": 12, "crop.left": 8}
    assert made.image[0, 0, 0, 0] == 12008 and made.image[0, 0, -1, -1] == 19016
    with pytest.raises(ValueError, match=r"at least 21x17 .* got 20x17"):
        Crop(size=[8, 9], at=[13, 8])(sample_of(20, 17))


def test_the_origin_is_uniform_over_all_places() -> None:
    drawn = [Crop(size=8)(sample_of(11, 12, index=index)).draws for index in range(2000)]
    places = [5 * each["crop.top"] + each["crop.left"] for each in drawn]
    assert scipy.stats.chisquare(np.bincount(places, minlength=20)).pvalue > 1e-3
    assert len(np.bincount(places)) == 20


def test_a_picture_of_just_the_size_is_taken_whole_and_a_smaller_refused() -> None:
    assert Crop(size=[9, 8])(sample_of(9, 8)).draws == {"crop.top": 0, "crop.left": 0}
    for height, width in ((8, 9), (9, 7)):
        with pytest.raises(ValueError) as refused:
            Crop(size=[9, 8])(sample_of(height, width))
        assert str(refused.value) == (
            f"crop: expected a picture of at least 9x8 (height x width), got {height}x{width} (folder/a.png); lower "
            "crop.size, exclude the picture with source.pattern, or set on_error: skip"
        )


@pytest.mark.parametrize(("top", "left"), [(0, 2), (0, 3), (1, 2), (1, 3)])
@pytest.mark.parametrize("stage", [Crop, CropBorder])
def test_a_crop_takes_everything_along_and_shifts_the_cfa(stage, top: int, left: int) -> None:
    before = loaded(16, 18, "crop")
    cut = Crop(size=[9, 10], at=[top, left]) if stage is Crop else CropBorder(pixels=top)
    after = cut(before)
    assert torch.equal(after.bayer, cfa.mosaic(after.image, after.known_camera.cfa))
    assert torch.equal(after.sharp_bayer, after.bayer + 1)
    assert torch.equal(after.saturation, after.image + 1)
    assert torch.equal(after.saturated, after.image > 0.5)
    assert torch.equal(after.sharp_sensor, after.image + 2)
    assert torch.equal(after.kernel, before.kernel)
    assert after.sharp.shape == after.image.shape


@pytest.mark.parametrize("keys", [{"size": 7}, {"size": [8, 7]}, {"size": [8, 8, 8]}, {"size": 8, "at": [-1, 0]}])
def test_crops_that_make_no_sense(keys: dict) -> None:
    with pytest.raises(ValidationError):
        Crop(**keys)


# ---------------------------------------------------------------- border


@pytest.mark.parametrize("pixels", [0, 1, 4])
def test_crop_border_cuts_every_side(pixels: int) -> None:
    stage = CropBorder(pixels=pixels)
    made = stage(sample_of(11, 14, "crop_border"))
    assert stage.size_after((11, 14)) == tuple(made.image.shape[-2:]) == (11 - 2 * pixels, 14 - 2 * pixels)
    assert stage.size_after(None) is None
    assert made.image[0, 0, 0, 0] == 1001 * pixels
    assert made.image[0, 0, -1, -1] == 1000 * (10 - pixels) + 13 - pixels


def test_a_border_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 pixels off every side leave nothing of \(10, 14\) \(folder/a.png\)"):
        CropBorder(pixels=5)(sample_of(10, 14, "crop_border"))


# ---------------------------------------------------------------- the dihedral group


def test_the_elements_form_the_group_of_the_square() -> None:
    square = torch.arange(9).view(3, 3)
    moved = {element: turn(square, element) for element in DIHEDRAL}
    as_tuples = {element: tuple(image.flatten().tolist()) for element, image in moved.items()}
    assert len(set(as_tuples.values())) == len(DIHEDRAL) == 8
    for one, other in itertools.product(DIHEDRAL, repeat=2):  # closed
        assert tuple(turn(moved[one], other).flatten().tolist()) in as_tuples.values()
    for element in DIHEDRAL:  # invertible
        assert sum(torch.equal(turn(moved[element], back), square) for back in DIHEDRAL) == 1


def test_the_elements_do_what_their_names_say() -> None:
    image = torch.arange(6).view(2, 3)
    expected = {
        "identity": image, "flip_rows": image.flip(0), "flip_columns": image.flip(1),
        "turn_90": torch.tensor([[2, 5], [1, 4], [0, 3]]), "turn_180": image.flip(0, 1),
        "turn_270": torch.tensor([[3, 0], [4, 1], [5, 2]]), "transpose": image.T, "anti_transpose": image.T.flip(0, 1),
    }  # fmt: skip
    assert expected.keys() == set(DIHEDRAL)
    for element, image_there in expected.items():
        assert torch.equal(turn(image, element), image_there), element
    with pytest.raises(ValueError, match=r"expected one of identity, .* got 'turn_45'"):
        turn(image, "turn_45")


def test_every_element_is_drawn_equally_often() -> None:
    stage = Dihedral()
    drawn = [stage(sample_of(8, 8, "dihedral", index)).draws["dihedral.element"] for index in range(1200)]
    assert scipy.stats.chisquare([drawn.count(element) for element in DIHEDRAL]).pvalue > 1e-3


def test_an_element_that_stands_twice_is_drawn_twice_as_often() -> None:
    stage = Dihedral(choose=["identity", "flip_rows", "identity"])
    drawn = [stage(sample_of(8, 8, "dihedral", index)).draws["dihedral.element"] for index in range(900)]
    assert scipy.stats.chisquare([drawn.count("identity"), drawn.count("flip_rows")], [600, 300]).pvalue > 1e-3


@pytest.mark.parametrize("element", DIHEDRAL)
@pytest.mark.parametrize(("height", "width"), [(12, 12), (11, 14), (9, 9)])
def test_everything_is_moved_alike(element: str, height: int, width: int) -> None:
    """Also at the end of a recipe: masks, the RAW pair with its CFA, and the kernel."""
    before = loaded(height, width, "dihedral")
    after = Dihedral(choose=[element])(before)
    assert torch.equal(after.image, turn(before.image, element))
    assert torch.equal(after.sharp, turn(before.sharp, element))
    assert torch.equal(after.saturation, after.image + 1)
    assert torch.equal(after.saturated, after.image > 0.5)
    assert torch.equal(after.sharp_sensor, after.image + 2)
    assert torch.equal(after.bayer, cfa.mosaic(after.image, after.known_camera.cfa))
    assert torch.equal(after.sharp_bayer, after.bayer + 1)
    blurred_then_moved = turn(convolve(before.image, before.kernel), element)
    assert torch.allclose(blurred_then_moved, convolve(after.image, after.kernel), atol=1e-5)


def test_the_size_after_a_quarter_turn_is_known_for_squares_only() -> None:
    assert Dihedral().size_after((8, 8)) == (8, 8)
    assert Dihedral().size_after((8, 9)) is None
    assert Dihedral().size_after(None) is None
    assert Dihedral(choose=["identity", "flip_rows", "turn_180"]).size_after((8, 9)) == (8, 9)


def test_elements_that_are_none() -> None:
    (problem,) = Dihedral(choose=["identity", "rot90", "spin"]).problems()
    assert problem.startswith("choose: expected elements out of identity, ") and problem.endswith("got rot90, spin")
    assert Dihedral().problems() == []
    with pytest.raises(ValidationError, match="at least 1 item"):
        Dihedral(choose=[])

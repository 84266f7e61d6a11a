"""Data sets with a blurred and a sharp side: the sharp one is taken, in every known layout."""

from itertools import chain
from pathlib import Path
from time import perf_counter

import pytest

from blursynth.sources import Frames, Photos
from blursynth.sources.sides import _beside_sharp

# {data set: (its sharp files, what is left out by kind and file)}, in the trees of the published archives
LAYOUTS = {
    "GOPRO_Large": (
        ["train/GOPR0372_07_00/sharp/000047.png", "test/GOPR0384_11_00/sharp/000001.png"],
        {
            "blurred image in blur": ["train/GOPR0372_07_00/blur/000047.png", "test/GOPR0384_11_00/blur/000001.png"],
            "blurred image in blur_gamma": ["train/GOPR0372_07_00/blur_gamma/000047.png"],
        },
    ),
    "GOPRO_Large, a clip without its sharp side": (
        ["train/A/sharp/1.png"],
        {"blurred image in blur": ["train/A/blur/1.png", "train/B/blur/1.png"]},
    ),
    "GOPRO_Large_all": (["train/GOPR0372_07_00/000001.png", "test/GOPR0384_11_00/000001.png"], {}),
    "RealBlur": (
        ["RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/gt/gt_1.png"],
        {
            "blurred image in blur": ["RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/blur/blur_1.png"],
            "image in Anaglyph beside its sharp side": [
                "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/Anaglyph/Anaglyph_1.jpg"
            ],
            "image in kernel beside its sharp side": [
                "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/kernel/kernel_1.png"
            ],
        },
    ),
    "RealBlur-Tele": (
        ["scene01/gt/gt_1.png"],
        {
            "blurred image in blur": ["scene01/blur/blur_1.png"],
            "blurred image in avg": ["scene01/avg/avg_1.png"],
            "image in ref beside its sharp side": ["scene01/ref/ref_1.png"],
        },
    ),
    "REDS": (
        ["train_sharp/000/00000000.png", "val_sharp/000/00000000.png"],
        {
            "blurred image in train_blur": ["train_blur/000/00000000.png"],
            "blurred image in train_blur_jpeg": ["train_blur_jpeg/000/00000000.jpg"],
            "blurred image in train_blur_comp": ["train_blur_comp/000/00000000.png"],
            "blurred image in train_blur_bicubic": ["train_blur_bicubic/X4/000/00000000.png"],
            "image in train_sharp_bicubic beside its sharp side": ["train_sharp_bicubic/X4/000/00000000.png"],
            "blurred image in val_blur": ["val_blur/000/00000000.png"],
            "blurred image in test_blur": ["test_blur/000/00000000.png"],
        },
    ),
    "BSD": (
        ["BSD_3ms24ms/train/000/Sharp/RGB/00000000.png"],
        {
            "blurred image in Blur": ["BSD_3ms24ms/train/000/Blur/RGB/00000000.png"],
            "image in RAW beside its RGB": [
                "BSD_3ms24ms/train/000/Blur/RAW/00000000.tiff",
                "BSD_3ms24ms/train/000/Sharp/RAW/00000000.tiff",
            ],
        },
    ),
    "RSBlur": (
        ["0001/000001/gt/gt_sharp.png"],
        {
            "blurred image in real_blur": ["0001/000001/real_blur/real_blur.png"],
            "blurred image in avg65_img": ["0001/000001/avg65_img/avg_blur.png"],
            "image in avg65_mask_100 beside its sharp side": ["0001/000001/avg65_mask_100/avg_blur.png"],
        },
    ),
    "GoPro_U": (
        ["target_img/7_GOPR_gt.png"],
        {
            "blurred image in centroid_blurred_img": ["centroid_blurred_img/7_GOPR_blurred.png"],
            "blurred image in centroid_blurred_mask_100": ["centroid_blurred_mask_100/7_GOPR_blurred.png"],
        },
    ),
    "HIDE": (
        ["GT/1fromGOPR0950.png", "GT/2.png", "GT/3.png"],
        {
            "blurred image in train": ["train/1fromGOPR0950.png"],
            "blurred image in test": ["test/test-close-ups/2.png", "test/test-long-shot/3.png"],
        },
    ),
    "input and target": (
        ["test/HIDE/target/1.png", "train/GoPro/target_crops/1-1.png", "DVD/720p_240fps_1/GT/00000.jpg"],
        {
            "blurred image in input": ["test/HIDE/input/1.png", "DVD/720p_240fps_1/input/00000.jpg"],
            "blurred image in input_crops": ["train/GoPro/input_crops/1-1.png"],
        },
    ),
    "each side of another clip": (["A/sharp/1.png"], {"blurred image in blur": ["B/blur/1.png"]}),
    "clips inside a folder that is named as a side": (
        ["blur/clip/sharp/1.png"],
        {"blurred image in blur": ["blur/clip/blur/1.png", "blur/2.png"]},
    ),
    "two folders above the clips": (
        ["GoPro_sharp/clip/1.png", "my_blurry_cat/1.png"],
        {"blurred image in GoPro_blur": ["GoPro_blur/clip/1.png"]},
    ),
    "other spellings": (
        ["a/Ground_Truth/1.png", "b/SharpImages/1.png", "c/HQ/1.png", "d/blurry_scenes/x/sharp/1.png"],
        {
            "blurred image in Blurred": ["a/Blurred/1.png"],
            "blurred image in BlurryImages": ["b/BlurryImages/1.png"],
            "blurred image in LQ": ["c/LQ/1.png"],
            "blurred image in motion_blurred": ["d/blurry_scenes/x/motion_blurred/1.png"],
        },
    ),
    "one folder": (
        ["gopro0_sharp.png", "gt_1.png", "lake.png", "x-target.jpg"],
        {
            "blurred image beside its sharp one": ["gopro0_blur.png", "blur_1.png", "lake_blurry.jpg", "x-input.jpg"],
        },
    ),
}


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("above", ["", "data sets/GoPro_blur/"])
def test_photographs_are_the_sharp_side(tmp_path, layout, above):
    sharp, others = LAYOUTS[layout]
    lay(tmp_path, *(f"{above}{name}" for name in (*sharp, *chain(*others.values()))))
    footage = Photos().open(tmp_path)
    assert [clip.name for clip in footage.clips] == sorted(f"{above}{name}" for name in sharp)
    assert footage.skipped == {kind: len(names) for kind, names in sorted(others.items())}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pattern_of_the_users_own_wins_and_is_told_what_it_takes(tmp_path, layout):
    sharp, others = LAYOUTS[layout]
    everything = [*sharp, *chain(*others.values())]
    footage = Photos(pattern="**/*.*").open(lay(tmp_path, *everything))
    assert [clip.name for clip in footage.clips] == sorted(everything)
    assert footage.skipped == {}
    note = ", ".join(f"{len(names)} {kind}" for kind, names in sorted(others.items()))
    assert footage.notes == ((f"source.pattern also takes as sharp pictures: {note}",) if others else ())


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "test/1.png"],
        ["input/1.png", "output/1.png"],
        ["GT/1.png", "train/2.png"],
        ["cars/GT/1.png", "cars/SUV/1.png"],
        ["RAW/1.tif", "jpg/1.jpg"],
        ["kernel/1.png", "gt/1.png"],
        ["store/target/1.png", "store/other/1.png"],
        ["sharp/1.png", "blurb/1.png", "sunblurred/1.png"],
        ["unsharp.png", "blur.png", "blurry night.png"],
        ["sharp_knives/1.png", "my_blurry_cat/1.png"],
    ],
)
def test_names_that_are_no_sides_stay(tmp_path, names):
    footage = Photos().open(lay(tmp_path, *names))
    assert [clip.name for clip in footage.clips] == sorted(names)
    assert footage.skipped == {}


def test_pictures_that_are_blurred_by_name_and_have_no_sharp_side_are_told(tmp_path):
    footage = Photos().open(lay(tmp_path, "A/blur/1.png", "A/blur/2.png", "B/blur_gamma/1.png"))
    assert len(footage.clips) == 3
    assert footage.notes == ("folders whose names say that their pictures are blurred: 2 blur, 1 blur_gamma",)


def test_frames_are_the_sharp_side_and_the_user_is_told_that_they_are_of_pairs(tmp_path):
    for role in ("blur", "blur_gamma", "sharp"):
        lay(tmp_path, *(f"train/CLIP/{role}/{number:06}.png" for number in range(5)))
    footage = Frames(window=5).open(tmp_path)
    assert [clip.name for clip in footage.clips] == ["train/CLIP/sharp/000002.png"]
    assert footage.skipped == {"blurred image in blur": 5, "blurred image in blur_gamma": 5}
    assert any("GOPRO_Large_all" in note for note in footage.notes)
    assert Frames(window=5).open(tmp_path / "train/CLIP/sharp").notes == ()


def test_many_clips_are_sorted_in_linear_time(tmp_path):
    """If each clip looked through all folders, this would take minutes."""
    names = [f"{clip}/{role}/1.png" for clip in range(10_000) for role in ("source", "target")]
    began = perf_counter()
    assert len(_beside_sharp(names)) == 10_000
    assert perf_counter() - began < 10

"""The same recipe, seed and data give the same pixels as before, or `identity.PIXELS` has been raised.

If a change alters pixels on purpose: raise `PIXELS` by one, run `python tests/blursynth/test_pixels.py`, which records an
excerpt of every shipped recipe and prints the lines for `RECORDED`, add them, and name the recipes in CHANGELOG.md. For a
new recipe, run it as well: only the excerpts that are missing are recorded. Never replace a line: shards of that number exist.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from blursynth import synthesis
from blursynth.recipe import Recipe, load_recipe, summaries
from blursynth.shards import arrays
from blursynth.shards.identity import PIXELS
from isp.files import pictures

# By the number of the pixels and the recipe: SHA-256 of the recorded excerpts.
RECORDED: dict[int, dict[str, str]] = {
    1: {
        "ablation_isp": "0b5a829bd729bd83c0102718271de0801abac6f0581d6431844fbec34a99edfa",
        "ablation_noise": "16276a08aa59da4d5795c8d0108370448e6272e825d301df578929989ef3c9df",
        "ablation_saturation": "bf870e702a9f03cb3bf9203e0160a8459984831eb931e67fe297ffbf7ce8326c",
        "ablation_srgb": "380497d085c0db86952d54ae20ee941926046720e16db4c4b8e3fd0b62f78af6",
        "gopro_abme": "7f5d8d6a67197d58a22204a78e57e0f924f1263426d5220f361004ca1502169c",
        "gopro_u": "7f5d8d6a67197d58a22204a78e57e0f924f1263426d5220f361004ca1502169c",
        "naive": "7cea601e2227fb5a06467a5ba95a2458d4ce80b5ca02d3e0379eb7ff5344f257",
        "realblur_j": "b32e45aaa3436308649afb5dd5e98027109ed5504a55ae315eb11e1ca9d39d11",
        "realblur_j_frames": "398d624c2fac4a63ae349840c04b02c5ce30e96cc8f6a186038d0b038a4935fc",
        "rsblur": "f01a789a3c404e8c4949e8157962e77cd10a633618600c735eacee873dfba41c",
    },
}

EXCERPTS = Path(__file__).parents[1] / "golden" / "small" / f"pixels_{PIXELS}.npz"
TOLERANCE = 65535 // 255  # what another type of CPU or another version of a library may change
COUNT = 3  # pairs of each recipe


def footage(recipe: Recipe, folder: Path):
    """The built-in photographs; for other sources, clips that are cut from one of them."""
    if recipe.source.use == "photos":
        return recipe.source.open(None)
    clips = load_recipe("naive").source.open(None).clips
    photograph = next(clip for clip in clips if clip.name.endswith("coffee.png")).read().sharp
    if recipe.source.use == "frames":
        files = {f"clip/{at:04d}.png": photograph[20:320, 20 + at : 340 + at] for at in range(11)}
    else:
        light, clipped = photograph.astype(float), (photograph == 255) * 255.0
        blurred, mask = (uniform_filter1d(each, 9, axis=1).round().astype(np.uint8) for each in (light, clipped))
        names = {
            "gopro_u": ("centroid_blurred_img/1_blurred", "centroid_blurred_mask_100/1_blurred", "target_img/1_gt"),
            "gopro_abme": ("avg_inter_img/avg_blur", "avg_inter_mask_100/avg_blur", "gt/gt_sharp"),
            "rsblur": ("avg65_img/avg_blur", "avg65_mask_100/avg_blur", "gt/gt_sharp"),
        }[recipe.source.layout]
        place = {"gopro_u": "", "gopro_abme": "seq/000001/", "rsblur": "RSBlur/0007/0001/"}[recipe.source.layout]
        files = {f"{place}{name}.png": each for name, each in zip(names, (blurred, mask, photograph), strict=True)}
    for name, pixels in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.write_image(folder / name, pixels)
    return recipe.source.open(folder)


def excerpts(name: str) -> dict[str, np.ndarray]:
    """Scattered pixels of the first pairs of a shipped recipe, as 16-bit values."""
    recipe = load_recipe(name)
    with tempfile.TemporaryDirectory() as folder, synthesis.one_thread():
        clips = footage(recipe, Path(folder)).clips
        samples = [synthesis.synthesise(clips[index % len(clips)], recipe, index) for index in range(COUNT)]
    pairs = [arrays.arrays_of(sample, 16) for sample in samples]
    return {array: np.stack([pair[array][5::23, 7::23] for pair in pairs]) for array in ("blur", "sharp")}


def digest_of(recorded: dict[str, np.ndarray], name: str) -> str:
    content = (recorded[f"{name}/{array}"] for array in ("blur", "sharp"))
    return hashlib.sha256(b"".join(pixels.astype("<u2").tobytes() for pixels in content)).hexdigest()


def read() -> dict[str, np.ndarray]:
    with np.load(EXCERPTS, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    return read()


@pytest.mark.parametrize("name", sorted(summaries()))
def test_pixels_are_those_of_this_number(name, recorded):
    for array, now in excerpts(name).items():
        assert f"{name}/{array}" in recorded, f"{name} is a new recipe: record it, in a commit that changes no pixel"
        then = recorded[f"{name}/{array}"]
        change = np.abs(now.astype(int) - then).max() / TOLERANCE
        assert change <= 1, (
            f"/{array} of {name} changed by {change:.1f}/255: raise PIXELS in blursynth/shards/identity.py"
        )


def test_every_number_has_its_recording(recorded):
    """A new recording under an old number would hide a change of pixels."""
    assert [*RECORDED] == [*range(1, PIXELS + 1)]
    found = {name: digest_of(recorded, name) for name in summaries()}
    assert found == RECORDED[PIXELS], "another recording: raise PIXELS, as the head of this file says"


def test_excerpts_show_what_is_drawn(recorded):
    """They would not tell of a change if they were flat, or if blur were not seen in them."""
    for name in summaries():
        blur, sharp = (recorded[f"{name}/{array}"].astype(float) for array in ("blur", "sharp"))
        assert blur.shape == (COUNT, 11, 11, 3)
        assert sharp.std() > 20 * TOLERANCE
        assert np.abs(blur - sharp).mean() > TOLERANCE


if __name__ == "__main__":
    found = read() if EXCERPTS.exists() else {}
    for recipe in sorted(summaries()):
        if f"{recipe}/blur" not in found:
            found |= {f"{recipe}/{array}": pixels for array, pixels in excerpts(recipe).items()}
            sys.stdout.write(f'        "{recipe}": "{digest_of(found, recipe)}",\n')
    np.savez_compressed(EXCERPTS, **found)

"""Recipes: what binds, what is refused in which words, overrides, and that junk is never more than an error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from blursynth import joins, recipe
from blursynth.recipe import RecipeError, load_recipe
from blursynth.stages import STAGES, Stage
from blursynth.stages.isp import opened
from blursynth.stages.stage import Problem, State
from isp import Limits
from isp.space import Space

GOOD: dict[str, Any] = {
    "name": "good",
    "seed": 1,
    "isp": "rsblur/a7r3",
    "source": {"use": "photos", "pairs_per_photo": 2},
    "save": ["kernel"],
    "stages": [
        {"crop": {"size": 64}},
        {"camera": {"profile": "a7r3"}},
        "inverse_isp",
        {"camera_shake": {"sizes": [5, 7]}},
        {"saturate": {"strength": [0.25, 1.75]}},
        "mosaic",
        {"sensor_noise": {"profile": "a7r3"}},
        "forward_isp",
        "keep_saturated",
        {"crop_border": {"pixels": 6}},
    ],
}
FRAMES = {"source": {"use": "frames", "window": 5}, "save": []}


def good(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(GOOD) | copy.deepcopy(changes)


def stages(*entries: Any, **changes: Any) -> dict[str, Any]:
    """Plain recipe of these stages, without kernels to save."""
    return good(stages=list(entries), save=[], **changes)


def with_stage(name: str, keys: Any, **changes: Any) -> dict[str, Any]:
    """The good recipe with the keys of one stage replaced."""
    document = good(**changes)
    names = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in document["stages"]]
    document["stages"][names.index(name)] = {name: keys}
    return document


def without(*names: str, **changes: Any) -> dict[str, Any]:
    document = good(**changes)
    left = [e for e in document["stages"] if (next(iter(e)) if isinstance(e, dict) else e) not in names]
    return document | {"stages": left}


def inserted(at: int, entry: Any, **changes: Any) -> dict[str, Any]:
    document = good(**changes)
    document["stages"].insert(at, entry)
    return document


def problems_of(document: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as refused:
        recipe.bind(document, "test")
    return refused.value.problems


def problems_of_text(folder: Path, text: str | bytes, *overrides: str) -> tuple[str, ...]:
    path = folder / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as refused:
        load_recipe(str(path), overrides)
    return refused.value.problems


# ---------------------------------------------------------------- what binds


def test_the_good_recipe_binds() -> None:
    bound = recipe.bind(good(), "good")
    assert bound.size == (52, 52)
    assert [label for label, _ in bound.labelled][:3] == ["crop", "camera", "inverse_isp"]
    assert recipe.bind(bound.effective(), "again").digest == bound.digest


def test_later_stages_of_a_name_are_numbered() -> None:
    bound = recipe.bind(inserted(7, {"sensor_noise": {"profile": "a7r3"}}), "two")
    assert [label for label, _ in bound.labelled if "noise" in label] == ["sensor_noise", "sensor_noise.1"]


@pytest.mark.parametrize("change", [{"seed": 2}, {"bits": 16}, {"save": []}, {"isp": "rsblur/srgb"}])
def test_the_digest_tells_recipes_apart(change: dict) -> None:
    assert recipe.bind(good(**change), "a").digest != recipe.bind(good(), "b").digest


def test_the_digest_does_not_depend_on_how_it_is_written() -> None:
    short = good()
    long = with_stage("camera_shake", {"sizes": [5, 7], "families": ["boracchi_foi", "schmidt", "gaussian_process"]})
    backwards = dict(reversed(list(long.items())))
    assert recipe.bind(short, "a").digest == recipe.bind(backwards, "b").digest


def test_the_binding_leaves_the_document_alone() -> None:
    document = good()
    recipe.bind(document, "a")
    assert document == GOOD


def test_numbers_that_yaml_takes_for_text() -> None:
    """YAML 1.1 reads 1e-4 as a string and 1.0e-4 as a number; both mean the same here."""
    keys = yaml.safe_load("{shot_gain: 1e-4, read_std: 2.943e-5, scale: [1, 1]}")
    assert keys["shot_gain"] == "1e-4"
    noise = dict(recipe.bind(with_stage("sensor_noise", keys), "a").labelled)["sensor_noise"]
    assert (noise.shot_gain, noise.read_std, noise.scale) == (1e-4, 2.943e-5, (1.0, 1.0))


def test_tone_curve_after_an_isp_that_ends_in_srgb() -> None:
    for at in (8, 9, 10):
        assert recipe.bind(inserted(at, "tone_curve", isp="rsblur/srgb"), "a").size == (52, 52)


def test_frames_that_are_accumulated() -> None:
    document = without("camera_shake", **FRAMES)
    document["stages"].insert(3, "accumulate")
    assert recipe.bind(document, "frames").size == (52, 52)


def test_symmetries_that_keep_the_sides_keep_a_rectangle() -> None:
    keys = {"choose": ["identity", "flip_columns", "turn_180"]}
    bound = recipe.bind(stages({"crop": {"size": [64, 80]}}, {"dihedral": keys}), "a")
    assert bound.size == (64, 80)


# ---------------------------------------------------------------- one mistake, its words

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown stage": (
        stages({"crop": {"size": 64}}, {"forwrad_isp": {}}),
        'stages.1: expected a stage, got "forwrad_isp"; did you mean "forward_isp"?',
    ),
    "stage like none": (stages({"crop": {"size": 64}}, "zzz"), 'stages.1: expected a stage, got "zzz"'),
    "unknown key of a stage": (
        with_stage("camera", {"profile": "a7r3", "isso": [100, 200]}),
        'stages.1.camera.isso: unknown key; did you mean "iso"?',
    ),
    "unknown key of the source": (
        good(source={"use": "photos", "patern": "*.png"}),
        'source.patern: unknown key; did you mean "pattern"?',
    ),
    "unknown key of the recipe": (good(sead=3), 'sead: unknown key; did you mean "seed"?'),
    "unknown source": (good(source={"use": "photo"}), 'did you mean "photos"?'),
    "source without use": (good(source={}), "source.use: missing; give it a value"),
    "source is nothing": (good(source=None), "source: "),
    "missing key": (with_stage("crop", {}), "stages.0.crop.size: missing; give it a value"),
    "missing source": ({k: v for k, v in GOOD.items() if k != "source"}, "source: missing; give it a value"),
    "wrong type": (
        good(seed="many"),
        "seed: Input should be a valid integer, unable to parse string as an integer, got 'many'",
    ),
    "wrong type in a union": (
        with_stage("crop", {"size": "big"}),
        "stages.0.crop.size: Input should be a valid integer, unable to parse string as an integer; "
        "or: Input should be a valid tuple, got 'big'",
    ),
    "range reversed": (
        with_stage("saturate", {"strength": [1.75, 0.25]}),
        "stages.4.saturate.strength: expected [smallest, largest], got [1.75, 0.25]",
    ),
    "iso range reversed": (
        with_stage("camera", {"profile": "a7r3", "iso": [400, 100]}),
        "stages.1.camera.iso: expected [smallest, largest]; or: Input should be 'profile', got [400, 100]",
    ),
    "even kernel": (
        with_stage("camera_shake", {"sizes": [5, 8]}),
        "stages.3.camera_shake.sizes.1: expected an odd kernel size, got 8",
    ),
    "misspelt choice": (
        with_stage("camera_shake", {"sizes": [5], "families": ["schmid"]}),
        "got 'schmid'; did you mean \"schmidt\"?",
    ),
    "keys that are none": (with_stage("crop", 64), "stages.0.crop: expected keys in braces or on their own lines, got 64"),
    "spaces do not join": (
        without("mosaic"),
        'stages.5.sensor_noise: takes bayer, but "saturate" gives sensor',
    ),
    "ends in the wrong space": (
        stages({"crop": {"size": 64}}, "decode_srgb"),
        'stages: expected the last stage to give srgb, but "decode_srgb" gives linear',
    ),
    "camera missing": (without("camera"), 'stages.1.inverse_isp: needs a camera; put "camera" before it'),
    "frames not accumulated": (
        without("camera_shake", **FRAMES),
        'stages.3.saturate: needs one image, but the source gives frames; put "accumulate" before it',
    ),
    "saturated unknown": (
        without("saturate"),
        'stages.7.keep_saturated: needs to know what is saturated; put "saturate" before it',
    ),
    "border too small": (
        with_stage("crop_border", {"pixels": 4}),
        "stages.9.crop_border.pixels: expected at least 5, the border that the stages before it spoil, got 4; raise it, "
        "and the crop by twice as much",
    ),
    "no border cut": (
        without("crop_border"),
        "stages: the border of 5 pixels is spoiled at the end; add crop_border: {pixels: 5}",
    ),
    "spoiled again after the cut": (
        inserted(10, {"camera_shake": {"sizes": [3]}}),
        "stages: the border of 1 pixels is spoiled at the end; add crop_border: {pixels: 1}",
    ),
    "nothing left": (
        with_stage("crop_border", {"pixels": 32}),
        "stages.9.crop_border: nothing is left of the picture, its size would be 0x0",
    ),
    "no size": (
        stages("decode_srgb", "encode_srgb"),
        "stages: the pairs of a shard must have one size; add crop: {size: 256} (or [height, width])",
    ),
    "rectangle turned": (
        stages({"crop": {"size": [64, 80]}}, "dihedral"),
        "stages: the pairs of a shard must have one size",
    ),
    "tone twice": (
        inserted(9, "tone_curve"),
        "stages.9.tone_curve: rsblur/a7r3 already renders camera JPEGs, and a response must not be applied twice; remove "
        "tone_curve, or choose rsblur/srgb",
    ),
    "jpeg before the border is cut": (
        inserted(9, "jpeg"),
        "stages.9.jpeg: its blocks carry spoiled border pixels inwards; put it after crop_border",
    ),
    "jpeg quality reversed": (
        inserted(10, {"jpeg": {"quality": [98, 90]}}),
        "stages.10.jpeg.quality: expected [lowest, highest], got [98, 90]",
    ),
    "unknown isp": (
        good(isp="rsblr/a7r3"),
        'stages.2.inverse_isp.isp: expected a backend out of rsblur, upi, paramisp, got "rsblr"; did you mean "rsblur"?',
    ),
    "unknown variant": (good(isp="rsblur/a7r4"), 'got "rsblur/a7r4"; did you mean "rsblur/a7r3"?'),
    "isp is a number": (good(isp=3), "isp: Input should be a valid string, got 3"),
    "unknown profile": (with_stage("camera", {"profile": "a7r"}), 'got "a7r"; did you mean "a7r3"?'),
    "two origins of noise": (
        with_stage("sensor_noise", {"profile": "a7r3", "shot_gain": 1e-4}),
        "stages.6.sensor_noise: expected either profile, or both shot_gain and read_std, got profile and shot_gain",
    ),
    "cfa that the isp does not know": (
        good(isp="upi/published"),
        "stages.7.forward_isp: upi/published needs the CFA pattern RGGB, got BGGR, GRBG, GBRG; set "
        "camera.cfa to [RGGB] or choose another ISP",
    ),
    "size that the isp does not take": (
        with_stage(
            "camera", {"profile": "a7r3", "cfa": ["RGGB"]},
            isp="upi/published", stages=[{"crop": {"size": 65}}, *GOOD["stages"][1:]],
        ),
        "upi/published needs height and width to be multiples of 2, got 65x65; change the crop before it",
    ),
    "raw without levels": (
        with_stage("camera", {"profile": "d40", "white_balance": [[2, 2], [2, 2]], "iso": [160, 160]}, save=["raw"]),
        'save: "raw" needs black and white levels, which the camera profile "d40" does not give; leave it out',
    ),
    "raw without an isp": (
        stages({"crop": {"size": 64}}) | {"save": ["raw"]},
        'save: "raw" needs a RAW image; add "forward_isp", or leave it out',
    ),
    "kernel of none": (
        stages({"crop": {"size": 64}}) | {"save": ["kernel"]},
        'save: "kernel" needs a blur kernel; add "camera_shake" or "kernel_bank", or leave it out',
    ),
    "two kernels": (
        inserted(4, {"camera_shake": {"sizes": [3]}}),
        'save: "kernel" can hold one kernel, but several stages blur by one; leave it out',
    ),
    "frames to the end": (
        stages({"crop": {"size": 64}}, **{"source": FRAMES["source"]}),
        'stages: a pair needs one image, but the source gives frames; add "accumulate"',
    ),
    "two cameras": (
        inserted(2, {"camera": {"profile": "a7r3"}}),
        "stages.2.camera.1: a pair has one camera; remove this stage or the camera before it",
    ),
    "noise that follows an unknown iso": (
        with_stage("camera", {"profile": "d40", "white_balance": [[2, 2], [2, 2]]}),
        'stages.6.sensor_noise: the noise of profile "a7r3" follows ISO, which camera "d40" does not give; set camera.iso '
        "to a range",
    ),
    "mask of none": (
        stages({"crop": {"size": 64}}) | {"save": ["saturated"]},
        'save: "saturated" needs to know what is saturated; add "saturate", or leave it out',
    ),
    "rendered by none": (
        stages({"crop": {"size": 64}}, target="rendered"),
        'target: "rendered" needs a forward_isp; use "source"',
    ),
    "target unknown": (good(target="render"), 'did you mean "rendered"?'),
    "no bank": (inserted(3, {"kernel_bank": {"path": "/nowhere"}}), "stages.3.kernel_bank.path: /nowhere: expected"),
    "symmetry unknown": (inserted(1, {"dihedral": {"choose": ["flip"]}}), "stages.1.dihedral.choose: expected elements"),
    "symmetry of none": (inserted(1, {"dihedral": {"choose": []}}), "stages.1.dihedral.choose: Tuple should have at least"),
    "name with a space": (good(name="a b"), "name: String should match pattern"),
    "seed negative": (good(seed=-1), "seed: Input should be greater than or equal to 0, got -1"),
    "seed too large": (good(seed=2**63), "seed: Input should be less than 9223372036854775808, got 9223372036854775808"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str) -> None:
    document, words = MISTAKES[mistake]
    problems = problems_of(document)
    assert any(words in problem for problem in problems), problems
    # Those about the end of a recipe follow from an open space; all others stand alone, or once for each direction.
    assert len(problems) <= 2, problems


def test_all_problems_come_at_once_in_one_error() -> None:
    document = with_stage("camera", {"profile": "a7r4", "isso": 3}, seed=-1, bits=12, sead=1)
    document["stages"] += [{"crop": {}}, "jpg", None, {"crop_border": {"pixels": -1}}, {"tone_curve": {"curve": "x"}}]
    with pytest.raises(RecipeError) as refused:
        recipe.bind(document, "mine.yaml", ["--set x: earlier"])
    problems = refused.value.problems
    paths = [problem.partition(": ")[0] for problem in problems]
    assert paths == [
        "--set x", "seed", "bits", "sead", "stages.1.camera.isso", "stages.10.crop.size", "stages.11", "stages.12",
        "stages.13.crop_border.pixels", "stages.14.tone_curve.curve",
    ]  # fmt: skip
    text = str(refused.value)
    assert text.startswith("recipe mine.yaml: 10 problems\n  - --set x: earlier\n  - seed: ")
    assert text.splitlines()[1:] == [f"  - {problem}" for problem in problems]


def test_all_that_does_not_join_comes_at_once() -> None:
    """Camera, response, JPEG and border, in one go; the missing camera is said once, not for every stage."""
    document = without("camera", "crop_border", target="source", save=["kernel", "raw"])
    document["stages"] += ["tone_curve", "jpeg", {"crop_border": {"pixels": 1}}]
    places = [problem.split(":")[0] for problem in problems_of(document)]
    assert places == ["stages.1.inverse_isp", "stages.8.tone_curve", "stages.9.jpeg", "stages.10.crop_border.pixels"]


def test_limits_that_no_backend_has_yet(monkeypatch) -> None:
    """A learned ISP may need exposure data or multiples of 4: a recipe that lacks them is refused by name."""
    isp = opened("rsblur/a7r3", "cpu")
    monkeypatch.setattr(isp, "limits", Limits(multiple_of=4, needs=("iso", "f_number")))
    keys = {"profile": "d40", "white_balance": [[2, 2], [2, 2]]}
    document = with_stage("camera", keys)
    document["stages"][0] = {"crop": {"size": [64, 66]}}
    problems = problems_of(document)
    for words in (
        "rsblur/a7r3 needs height and width to be multiples of 4, got 64x66; change the crop before it",
        'rsblur/a7r3 needs iso, f_number, which the camera profile "d40" does not give',
    ):
        assert any(words in problem for problem in problems), problems


# ---------------------------------------------------------------- stages of others


class Bleach(Stage):
    """A stage that no module of ours knows: it fits itself in."""

    name: ClassVar[str] = "bleach"
    takes: ClassVar[tuple[Space, ...]] = ("linear", "sensor")
    needs: ClassVar[tuple[str, ...]] = ("dye",)

    strength: float = 1.0

    @property
    def halo(self) -> int:
        return 3

    def misfits(self, before: State) -> list[Problem]:
        dark = [Problem("bleaches nothing in the dark", key="strength")] if self.strength == 0 else []
        return super().misfits(before) + dark


class Dye(Stage):
    name: ClassVar[str] = "dye"
    takes: ClassVar[tuple[Space, ...]] = ("srgb", "sensor")
    brings: ClassVar[tuple[str, ...]] = ("dye",)


def test_a_stage_of_others_joins_by_what_it_says(monkeypatch) -> None:
    for stage in (Bleach, Dye):
        monkeypatch.setitem(STAGES, stage.name, stage)
    document = inserted(4, "bleach")
    document["stages"].insert(4, "dye")
    assert problems_of(document) == (
        "stages.11.crop_border.pixels: expected at least 8, the border that the stages before it spoil, got 6; raise it, "
        "and the crop by twice as much",
    )
    document["stages"][-1] = {"crop_border": {"pixels": 8}}
    assert recipe.bind(document, "dyed").size == (48, 48)
    assert problems_of(
        inserted(1, {"bleach": {"strength": 0}}, stages=[*GOOD["stages"][:-1], {"crop_border": {"pixels": 8}}])
    ) == (
        'stages.1.bleach: takes linear or sensor, but "crop" gives srgb',
        'stages.1.bleach: needs dye; put "dye" before it',
        "stages.1.bleach.strength: bleaches nothing in the dark",
    )


def test_the_walk_knows_no_stage() -> None:
    """A stage checks its own joining: `joins` names no class of a stage."""
    source = Path(joins.__file__).read_text(encoding="utf-8")
    assert "isinstance" not in source
    assert not [stage.__name__ for stage in STAGES.values() if stage.__name__ in source]


# ---------------------------------------------------------------- files


def test_a_recipe_by_path_and_by_name(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(good()))
    assert load_recipe(str(path)) == recipe.bind(good(), "x")
    assert load_recipe("realblur_j").name == "realblur_j"
    assert load_recipe("realblur_j", seed=None, isp="rsblur/srgb").isp == "rsblur/srgb"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("realblur_i", 'expected one of ablation_isp, .* or a .yaml file; did you mean "realblur_j"\\?'),
        ("nowhere/mine.yaml", "expected a recipe, got nothing there; check the path"),
        (".", "expected one of "),
        ("./", "expected a recipe, a regular file, got a folder"),
    ],
)
def test_a_recipe_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(name)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1", "a: b: c", "seed: 2022-13-45", "a: !!int x", "a: !!python/object:os.system x", "? [1]\n: 2", "<<: 3",
        "a: " + "[" * 3000, "a: " + "9" * 5000, "a: \x00", "a: *b", "a: &b {c: *b}", "\t- a",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_is_not_yaml(tmp_path, text: str) -> None:
    (problem,) = problems_of_text(tmp_path, text)
    assert problem.startswith("expected YAML, got: ") and len(problem) > len("expected YAML, got: ") + 2


@pytest.mark.parametrize("text", ["", "3", "- a", "stages: 3", "stages: {crop: {size: 3}}", "name: x", "stages:"])
def test_what_is_not_a_recipe(tmp_path, text: str) -> None:
    assert problems_of_text(tmp_path, text) == (
        'expected a mapping with a list "stages"; recipes/realblur_j.yaml is an example',
    )


def test_what_is_not_text(tmp_path) -> None:
    (problem,) = problems_of_text(tmp_path, b"\xff\xfe\x00\xd8")
    assert problem == "expected a recipe in UTF-8, got the byte 0xff"


def test_a_key_given_twice(tmp_path) -> None:
    text = yaml.safe_dump(good(), sort_keys=False)
    (problem,) = problems_of_text(tmp_path, text + "seed: 3\n")
    assert problem == 'expected YAML, got: the key "seed" appears twice in the block that begins in line 1; keep one'
    twice = text.replace("size: 64", "size: 64\n    size: 65")
    line = text.splitlines().index("- crop:") + 2
    (problem,) = problems_of_text(tmp_path, twice)
    assert problem == (
        f'expected YAML, got: the key "size" appears twice in the block that begins in line {line}; keep one'
    )


def test_aliases_are_refused(tmp_path) -> None:
    """A recipe has no variables; and thirty lines of them would stand for a billion entries."""
    nests = [f"&a{level + 1} [*a{level}, *a{level}]" for level in range(30)]
    text = f"name: x\nsource: {{use: *a30}}\nsave: [&a0 [1, 1], {', '.join(nests)}]\nstages: [*a30, crop: *a30]\n"
    (problem,) = problems_of_text(tmp_path, text)
    assert problem == 'expected YAML, got: expected no alias, got "*a30" in line 2; repeat it'
    (problem,) = problems_of_text(tmp_path, yaml.safe_dump(good()), "camera.iso=[&a 1, *a]")
    assert problem.endswith('expected no alias, got "*a" in line 1; repeat it')


def test_large_values_are_shown_in_brief() -> None:
    for document in (good(isp=[0] * 10_000), good(stages=["x" * 200, ["y" * 10_000] * 50]), good(target="z" * 10_000)):
        assert max(map(len, problems_of(document))) < 1000


# ---------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("seed=7", lambda bound, _: bound.seed == 7),
        (" seed = 7", lambda bound, _: bound.seed == 7),
        ("save=[kernel, saturated]", lambda bound, _: bound.save == ("kernel", "saturated")),
        ("source.pairs_per_photo=5", lambda bound, _: bound.source.pairs_per_photo == 5),
        ("source.pattern=a=*.png", lambda bound, _: bound.source.pattern == "a=*.png"),
        ("bits=16", lambda bound, _: bound.bits == 16),
        ("camera.iso=[100,6400]", lambda _, stages: stages["camera"].iso == (100, 6400)),
        ("camera.white_balance=[[1,2],[3,4]]", lambda _, stages: stages["camera"].white_balance == ((1, 2), (3, 4))),
        ("inverse_isp.clipped_at=0.9", lambda _, stages: stages["inverse_isp"].clipped_at == 0.9),
        ("forward_isp.isp=rsblur/srgb", lambda _, stages: stages["forward_isp"].isp == "rsblur/srgb"),
        ("sensor_noise.scale=[1e-1, 1]", lambda _, stages: stages["sensor_noise"].scale == (0.1, 1.0)),
        ("sensor_noise.1.clip=white", lambda _, stages: stages["sensor_noise.1"].clip == "white"),
        ("sensor_noise.0.clip=white", lambda _, stages: stages["sensor_noise"].clip == "white"),
    ],
)  # fmt: skip
def test_an_override_reaches_its_place(tmp_path, override: str, where: Callable[..., bool]) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(inserted(7, {"sensor_noise": {"profile": "a7r3"}})))
    plain, changed = load_recipe(str(path)), load_recipe(str(path), [override])
    assert not where(plain, dict(plain.labelled))
    assert where(changed, dict(changed.labelled))
    differing = [one for one, other in zip(plain.stages, changed.stages, strict=True) if one != other]
    assert len(differing) <= 1


def test_the_last_override_of_a_key_holds() -> None:
    assert load_recipe("realblur_j", ["seed=1", "seed=2", "camera.iso=[1,2]", "camera.cfa=[RGGB]"]).seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "--set seed: expected a dotted path and a value, as in camera.iso=[100,6400]"),
        ("=3", "--set =3: expected a dotted path and a value"),
        ("camera..iso=3", "--set camera..iso=3: expected a dotted path"),
        ("camera=3", "--set camera=3: expected a dotted path"),
        ("camra.iso=3", '--set camra.iso=3: the recipe has no "camra.iso"; did you mean "camera"?'),
        ("sede=3", '--set sede=3: the recipe has no "sede"; did you mean "seed"?'),
        ("camera.1.iso=3", '--set camera.1.iso=3: the recipe has no "camera.1.iso"; did you mean "camera"?'),
        ("stages.0=3", '--set stages.0=3: the recipe has no "stages.0"'),
        ("seed.x=3", '--set seed.x=3: "seed" is a value, not a block of keys'),
        ("camera.profile.x=3", '--set camera.profile.x=3: "profile" is a value, not a block of keys'),
        ("seed=[1", "--set seed=[1: expected a YAML value, got: "),
        ("seed=2022-13-45", "--set seed=2022-13-45: expected a YAML value, got: expected a number or a text"),
        ("seed=many", "seed: Input should be a valid integer"),
        ("camera.isso=3", 'stages.1.camera.isso: unknown key; did you mean "iso"?'),
        ("source.patern=3", 'source.patern: unknown key; did you mean "pattern"?'),
        ("camera.²=3", "stages.1.camera.²: unknown key"),
        ("camera.²=3", "stages.1.camera.²: unknown key"),
        ("camera.²" + ".x=3", "stages.1.camera.²: unknown key"),
    ],
)
def test_an_override_that_makes_no_sense(override: str, words: str) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe("realblur_j", [override])
    (problem,) = refused.value.problems
    assert problem.startswith(words)


def test_an_override_of_junk_does_not_hide_it(tmp_path) -> None:
    document = stages({"crop": {"size": 64}, "jpeg": {}}, {"camera": 3}, {"saturate": "x"}, {1: 2}, None)
    problems = problems_of_text(
        tmp_path, yaml.safe_dump(document), "crop.size=32", "camera.iso=3", "saturate.a.b=1", "1.x=2"
    )
    assert problems[:3] == (
        '--set camera.iso=3: "camera" is a value, not a block of keys',
        '--set saturate.a.b=1: "saturate" is a value, not a block of keys',
        '--set 1.x=2: the recipe has no "1.x"',
    )
    assert problems[3] == "stages.0: expected a name, or a name with its keys, got {'crop': {'size': 32}, 'jpeg': {}}"
    assert len(problems) == 8


# ---------------------------------------------------------------- junk

keys = st.one_of(st.text(max_size=6), st.integers(), st.none())
junk = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8),
        st.sampled_from([*GOOD, "crop", "mosaic", "a7r3", "RGGB", "photos", "frames", "pairs", "rsblur", "upi/", "[]"]),
        st.sampled_from([b"bytes", [0] * 10_000, "x" * 10_000, {1, 2}, (1, 2), float("inf")]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def places_in(value: Any, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, inner in entries for place in places_in(inner, (*path, key))]


def mutate(document: Any, place: tuple, how: str, value: Any) -> None:
    *way, last = place
    for key in way:
        document = document[key]
    if how == "replace":
        document[last] = value
    elif how == "drop":
        del document[last]
    elif how == "rename" and isinstance(document, dict):
        document[value if isinstance(value, str | int) else "renamed"] = document.pop(last)
    elif isinstance(document, list):
        document.insert(last, copy.deepcopy(document[last]))
    else:
        document[f"{last}x"] = copy.deepcopy(document[last])


@given(st.data())
@settings(max_examples=400, deadline=2000)
def test_mutated_recipes_bind_or_are_refused(data: st.DataObject) -> None:
    """One to four changes anywhere: a recipe that binds comes back from its effective form, any other is a RecipeError."""
    document = copy.deepcopy(data.draw(st.sampled_from([GOOD, load_recipe("rsblur").effective()])))
    for _ in range(data.draw(st.integers(1, 4))):
        places = places_in(document)
        if not places:
            break
        how = data.draw(st.sampled_from(["replace", "drop", "rename", "repeat"]))
        mutate(document, data.draw(st.sampled_from(places)), how, copy.deepcopy(data.draw(junk)))
    try:
        bound = recipe.bind(document, "mutated")
    except RecipeError as refused:
        assert refused.problems
    else:
        assert recipe.bind(bound.effective(), "again").digest == bound.digest


@given(junk)
@settings(max_examples=100, deadline=2000)
def test_junk_is_refused(document: Any) -> None:
    for whole in (document, {"stages": document}, good(stages=[document, document]), good(source=document)):
        with pytest.raises(RecipeError):
            recipe.bind(whole, "junk")


@given(
    st.lists(st.sampled_from(["seed", "camera", "crop", "1", "0", "iso", "stages", "source", "", "²", "99999"]), max_size=4),
    st.text(max_size=10),
)  # fmt: skip
@settings(max_examples=200, deadline=2000)
def test_any_override_is_taken_or_refused(keys: list[str], value: str) -> None:
    try:
        bound = load_recipe("realblur_j", [f"{'.'.join(keys)}={value}"])
    except RecipeError:
        return
    assert bound.stages


def test_a_pattern_of_file_names_needs_no_quotes():
    assert load_recipe("realblur_j", ["source.pattern=*_sharp.png"]).source.pattern == "*_sharp.png"
    assert load_recipe("realblur_j", ["source.pattern=**/*.jpg"]).source.pattern == "**/*.jpg"

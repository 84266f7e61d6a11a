"""Recipe files: training recipes get the same messages as those of `make`, all at once; shipped ones are found."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from isp import recipe_files
from isp.files.document import Part, Positive
from isp.recipe_files import RecipeError, explained
from isp.train import plan

ROOT = Path(__file__).resolve().parents[2]


def problems_of(*overrides: str, name: str = "train/paramisp_small") -> tuple[str, ...]:
    with pytest.raises(RecipeError) as refused:
        plan.load(name, overrides)
    return refused.value.problems


# ---------------------------------------------------------------- training recipes


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("desing.stages=2", 'desing: unknown key; did you mean "design"?'),
        ("epocs=3", 'epocs: unknown key; did you mean "epochs"?'),
        ("design.stagse=2", 'got stagse; did you mean "stages"?'),
        ("loss.forward_wieght=1", 'got forward_wieght; did you mean "forward_weight"?'),
        ("direction=inversed", 'did you mean "inverse"?'),
        ("backend=paramips", 'got "paramips"; did you mean "paramisp"?'),
        ("backend=rsblur", "backend: expected a backend that can be trained"),
        ("backend=3", "backend: Input should be a valid string, got 3"),
        ("lr=-1", "lr: Input should be greater than 0, got -1"),
        ("lr=.inf", "lr: Input should be a finite number, got inf"),
        ("lr", "--set lr: expected a dotted path and a value, as in design.dropout=0.1"),
        ("lr.x=1", '--set lr.x=1: "lr" is a value, not a block of keys'),
        ("lr=[1", "--set lr=[1: expected a YAML value, got: "),
        ("preset=papers", "preset: expected one of paper, official, got papers"),
        ("design.stages=0", "expected 1 to 64, got 0"),
        ("start_from=[a, b]", "start_from: expected 1 weight files, got 2"),
        ("phase=third", "phase: expected one of inverse, got third"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_training_recipe_is_named(override: str, words: str) -> None:
    (problem,) = problems_of(override)
    assert words in problem


def test_all_mistakes_come_at_once() -> None:
    problems = problems_of("epocs=3", "patch=90", "design.stagse=2", "design.tnoe=A", "lr")
    assert [problem.partition(":")[0] for problem in problems] == [
        "--set lr", "patch", "epocs", "design.stagse", "design.tnoe",
    ]  # fmt: skip


def test_a_training_recipe_that_is_not_there(tmp_path) -> None:
    (problem,) = problems_of(name="train/paramisp_smal")
    assert problem.startswith("expected one of train/a7r3_virtual, ")
    assert problem.endswith('or a .yaml file; did you mean "train/paramisp_small"?')
    (problem,) = problems_of(name=str(tmp_path / "mine.yaml"))
    assert problem == "expected a recipe, got nothing there; check the path"
    (tmp_path / "mine.yaml").write_text("name: a\nname: b\n")
    (problem,) = problems_of(name=str(tmp_path / "mine.yaml"))
    assert problem == ('expected YAML, got: the key "name" appears twice in the block that begins in line 1; keep one')
    (tmp_path / "mine.yaml").write_text("- name\n")
    (problem,) = problems_of(name=str(tmp_path / "mine.yaml"))
    assert problem == "expected a mapping of keys; recipes/train/paramisp_pretrain.yaml is an example"


LARGE_OR_ODD = {
    "keys.yaml": ("".join(f"k{at}: 1\n" for at in range(9000)), "k0: unknown key"),
    "many.yaml": (
        "".join(f"k{at}: 1\n" for at in range(100_000)),
        "expected YAML, got: expected at most 20,000 values",
    ),
    "long.yaml": (
        "name: " + "x" * 10**7,
        "expected a recipe of at most 1,048,576 bytes, got 10,000,006; check the path",
    ),
    "key.yaml": ("x" * 900 + ": 1", "x" * 900 + ": unknown key"),
    "deep.yaml": ("name: " + "[" * 10**5, "expected YAML, got: expected a few levels of blocks in blocks"),
    "time.yaml": ("name: x\nepochs: 12:30", 'expected YAML, got: expected a whole number .*, got "12:30" in line 2'),
    "yes.yaml": ("name: x\nepochs: yes", 'expected YAML, got: expected true or false, got "yes" in line 2'),
    "true.yaml": ("name: x\nepochs: true", "epochs: expected no truth value, got true"),
    "octal.yaml": ("name: x\nbatch: 010", 'expected YAML, got: .*, got "010" in line 2'),
}


@pytest.mark.parametrize("name", LARGE_OR_ODD)
def test_a_recipe_from_elsewhere_ends_in_a_short_message(tmp_path, name: str) -> None:
    text, words = LARGE_OR_ODD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=words) as refused:
        plan.load(str(tmp_path / name))
    assert len(str(refused.value)) < 32_000


def test_a_message_has_the_first_problems() -> None:
    refusal = RecipeError("x", [*(f"{at}: wrong" for at in range(100)), "y" * 10**6])
    assert len(refusal.problems) == 101
    lines = str(refusal).splitlines()
    assert lines[0] == "recipe x: 101 problems" and lines[30:] == ["  - 29: wrong", "  - 71 more"]
    assert len(str(RecipeError("x", ["y" * 10**6]))) < 1100


def test_what_is_no_regular_file_is_no_recipe(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (problem,) = problems_of(name=str(tmp_path / "pipe.yaml"))
    assert problem == "expected a recipe, a regular file, got a named pipe; check the path"


# ---------------------------------------------------------------- where they lie


def test_every_training_recipe_is_found() -> None:
    files = sorted((ROOT / "recipes" / "train").glob("*.yaml"))
    assert plan.shipped() == {f"train/{path.stem}": path for path in files}
    assert len(files) > 4


def test_those_of_a_wheel_come_before_those_beside_it(tmp_path) -> None:
    package = tmp_path / "isp"
    for folder in (package / "recipes", tmp_path / "recipes" / "train"):
        folder.mkdir(parents=True)
        (folder / "one.yaml").write_text("name: one\n")
    found = recipe_files.shipped(package, "recipes/train", prefix="train/")
    assert found == {"train/one": package / "recipes" / "one.yaml"}


# ---------------------------------------------------------------- explanations


class Inner(Part):
    width: Positive = 1.0


class Outer(Part):
    inner: Inner = Inner()
    rows: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"iner": {}}, 'iner: unknown key; did you mean "inner"?'),
        ({"inner": {"widht": 1}}, 'inner.widht: unknown key; did you mean "width"?'),
        ({"rows": [{}, {"inner": 1}]}, "rows.1.inner: unknown key"),
        ({"rows": [{}, {"width": 0}]}, "rows.1.width: Input should be greater than 0, got 0"),
    ],
)
def test_a_suggestion_is_a_key_of_the_same_block(document, sentence: str) -> None:
    with pytest.raises(ValidationError) as failure:
        Outer.model_validate(document)
    assert explained(failure.value, Outer, document) == [sentence]
    assert explained(failure.value, Outer, document, "stages.3") == [f"stages.3.{sentence}"]

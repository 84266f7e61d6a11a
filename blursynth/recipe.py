"""A recipe: one YAML list of stages, top to bottom, checked as a whole before any pixel is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from blursynth import digests, joins
from blursynth.sample import Target
from blursynth.shards.arrays import SAVES
from blursynth.sources import Source
from blursynth.stages import STAGES, Stage
from isp import recipe_files
from isp.command import did_you_mean
from isp.files.document import Part
from isp.recipe_files import RecipeError, brief, explained

__all__ = ["Recipe", "RecipeError", "bind", "load_recipe", "shipped", "summaries"]


def _known_save(key: str) -> str:
    if key not in SAVES:
        raise ValueError(f'expected some of {", ".join(SAVES)}, got "{key}"{did_you_mean(key, SAVES)}')
    return key


class Recipe(Part):
    """A checked recipe. The docstrings of `blursynth.stages` and `blursynth.sources` document the keys of their blocks.

    seed               of every draw; with the sample's index and the purpose it addresses one
    samples_per_shard  pairs in one HDF5 file
    isp                the ISP of every stage that does not name its own
    target             ground truth: the source picture, or the clean sensor image rendered by the same ISP
    save               what to store besides the sRGB pair: the RAW pair, the kernel, the saturation mask
    bits               of the stored sRGB pair
    on_error           what happens if a source file cannot be used: stop the run, or skip the file and list it
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples_per_shard: Annotated[int, Field(ge=1, le=65536)] = 16
    isp: str = "rsblur/a7r3"
    source: Annotated[Source, Field(discriminator="use")]
    target: Target = "source"
    save: tuple[Annotated[str, AfterValidator(_known_save)], ...] = ()
    bits: Literal[8, 16] = 8
    on_error: Literal["stop", "skip"] = "stop"
    stages: tuple[Any, ...]  # bound one by one, so that the problems of all come together

    @property
    def labelled(self) -> Iterator[tuple[str, Stage]]:
        """Yield the stages with their labels: the name, and name.1, name.2 for later stages of the same name."""
        seen: dict[str, int] = {}
        for stage in self.stages:
            count = seen.get(stage.name, 0)
            seen[stage.name] = count + 1
            yield (f"{stage.name}.{count}" if count else stage.name), stage

    def effective(self) -> dict[str, Any]:
        """Return what decides the pixels as a document again: overrides applied, defaults written out.

        It binds to an equal recipe, except for `on_error`, which may change in the middle of a run.
        """
        document = self.model_dump(mode="json", exclude={"stages", "on_error"})
        return document | {"stages": [{stage.name: stage.model_dump(mode="json")} for stage in self.stages]}

    @property
    def digest(self) -> str:
        """SHA-256 of the effective recipe, wherever the files that it names lie."""
        return digests.of_recipe(self.effective())

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every finished pair."""
        size: tuple[int, int] | None = None
        for stage in self.stages:
            size = stage.size_after(size)
        if size is None:
            raise ValueError(f"recipe {self.name}: the size of its pairs is unknown; the recipe check asks for a crop")
        return size


# ---------------------------------------------------------------- reading

_FORM = 'a mapping with a list "stages"; recipes/realblur_j.yaml is an example'


def shipped() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    return recipe_files.shipped(Path(__file__).parent, "recipes")


def summaries() -> dict[str, str]:
    """Return the first comment line of every shipped recipe."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped().items()}
    return {name: text.splitlines()[0].lstrip("# ").partition(": ")[2] for name, text in texts.items()}


def load_recipe(name: str, overrides: Sequence[str] = (), **replaced: Any) -> Recipe:
    """Return the shipped recipe `name`, or that in a .yaml file, with overrides such as "camera.iso=[100, 6400]".

    `replaced` holds top-level keys from command-line flags; `None` keeps the recipe's own.
    Raises `RecipeError` with all problems at once.
    """
    document = recipe_files.read(name, shipped(), _FORM)
    _check_form(document, name)
    document |= {key: value for key, value in replaced.items() if value is not None}
    problems = [problem for override in overrides for problem in _override(document, override)]
    return bind(document, name, problems)


def _check_form(document: Any, name: str) -> None:
    if not isinstance(document, dict) or not isinstance(document.get("stages"), list):
        raise RecipeError(name, [f"expected {_FORM}"])


def _override(document: dict[str, Any], override: str) -> list[str]:
    """Apply one "path=value" to `document`; the path begins with a top-level key or a stage's name."""
    example = "camera.iso=[100,6400]"

    def find(keys: list[str]) -> recipe_files.Place | str:
        stage_names = [_stage_name(entry) for entry in document["stages"]]
        if keys[0] in Recipe.model_fields and keys[0] != "stages":
            return document, keys
        occurrence = int(keys[1]) if len(keys) > 2 and re.fullmatch("[0-9]{1,4}", keys[1]) else None
        rest = keys[1:] if occurrence is None else keys[2:]
        named = [at for at, name in enumerate(stage_names) if name == keys[0]]
        if (occurrence or 0) >= len(named):
            known = [*stage_names, *(Recipe.model_fields.keys() - {"stages"})]
            return f'the recipe has no "{".".join(keys)}"{did_you_mean(keys[0], known)}'
        if not rest:
            return f"expected a dotted path and a value, as in {example}"
        at = named[occurrence or 0]
        entry = document["stages"][at] if isinstance(document["stages"][at], dict) else {keys[0]: None}
        if not isinstance(entry[keys[0]], dict | None):
            return f'"{keys[0]}" is a value, not a block of keys'
        block = dict(entry[keys[0]] or {})
        document["stages"][at] = entry | {keys[0]: block}
        return block, rest

    return recipe_files.override(document, override, find, example)


def _stage_name(entry: Any) -> str:
    """Return the name of a stage's entry, "" if it does not begin with a word."""
    name = next(iter(entry), "") if isinstance(entry, dict) else entry
    return name if isinstance(name, str) else ""


# ---------------------------------------------------------------- binding


def bind(document: Any, name: str, problems: Sequence[str] = ()) -> Recipe:
    """Return the recipe of an opened document, with the files that it names at hand.

    Raises `RecipeError` with `problems` and all that it finds itself, in the recipe and in its files.
    """
    _check_form(document, name)
    recipe, wrong = _bound_fields(document)
    found = [*problems, *wrong]
    stages = []
    for at, (stage, wrong) in enumerate(_bound_stages(document)):
        stages.append(stage)
        found += wrong
        found += [f"stages.{at}.{stage.name}.{problem}" for problem in stage.problems()] if stage else []
    if recipe is not None and not found:
        recipe = recipe.model_copy(update={"stages": tuple(stages)})
        found += joins.problems(recipe)
    if recipe is None or found:
        raise RecipeError(name, found)
    return recipe


def _bound_fields(document: dict[str, Any]) -> tuple[Recipe | None, list[str]]:
    try:
        return Recipe.model_validate(document), []
    except ValidationError as failure:
        return None, explained(failure, Recipe, document)
    except UnicodeEncodeError:  # pydantic cannot say what is wrong with such a text
        return None, ["expected whole characters, got half of one in a text"]


def _bound_stages(document: dict[str, Any]) -> list[tuple[Stage | None, list[str]]]:
    default_isp = document.get("isp")
    if not isinstance(default_isp, str):  # missing, or a problem already
        default_isp = Recipe.model_fields["isp"].default
    return [_bind_stage(at, entry, default_isp) for at, entry in enumerate(document["stages"])]


def _bind_stage(at: int, entry: Any, default_isp: str) -> tuple[Stage | None, list[str]]:
    name = _stage_name(entry)
    if not name or (isinstance(entry, dict) and len(entry) > 1):
        return None, [f"stages.{at}: expected a name, or a name with its keys, got {brief(entry)}"]
    keys = entry[name] if isinstance(entry, dict) else None
    if name not in STAGES:
        return None, [f'stages.{at}: expected a stage, got "{name}"{did_you_mean(name, STAGES)}']
    if not isinstance(keys, dict | None):
        return None, [f"stages.{at}.{name}: expected keys in braces or on their own lines, got {brief(keys)}"]
    values = dict(keys or {})
    if "isp" in STAGES[name].model_fields and not values.get("isp"):
        values["isp"] = default_isp
    try:
        stage = STAGES[name].model_validate(values)
    except ValidationError as failure:
        return None, explained(failure, STAGES[name], values, f"stages.{at}.{name}")
    return stage, []

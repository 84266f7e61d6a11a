"""A recipe: one YAML list of stages, top to bottom, checked as a whole before any pixel is read."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blursynth import joins
from blursynth.sample import Target
from blursynth.sources import Frames, Pairs, Photos, Source
from blursynth.stages import STAGES, Stage
from isp.files.document import parsed as document_of
from isp.files.document import shelves

Save = Literal["raw", "kernel", "saturated"]


class RecipeError(ValueError):
    """A recipe that cannot be made, with all its problems at once."""

    def __init__(self, recipe: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"recipe {recipe}: {count}", *(f"  - {problem}" for problem in self.problems)]))


class Recipe(BaseModel):
    """A checked recipe. The docstrings of `blursynth.stages` and `blursynth.sources` say what their keys mean.

    seed               of every draw; with the sample's index and the purpose it addresses one
    samples_per_shard  pairs in one HDF5 file
    isp                the ISP of every stage that does not name its own
    target             ground truth: the source image, or the clean sensor image rendered by the same ISP
    save               what is stored besides the sRGB pair: the RAW pair, the kernel, the saturation mask
    bits               of the stored sRGB pair
    on_error           what a source file that cannot be used does: stop the run, or be skipped and listed
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples_per_shard: Annotated[int, Field(ge=1, le=65536)] = 16
    isp: str = "rsblur/a7r3"
    source: Annotated[Source, Field(discriminator="use")]
    target: Target = "source"
    save: tuple[Save, ...] = ()
    bits: Literal[8, 16] = 8
    on_error: Literal["stop", "skip"] = "stop"
    stages: tuple[Any, ...]  # bound one by one, so that the problems of all come together

    @property
    def labelled(self) -> Iterator[tuple[str, Stage]]:
        """Stages with their labels: the name, and name.1, name.2 for later stages of the same name."""
        seen: dict[str, int] = {}
        for stage in self.stages:
            count = seen.get(stage.name, 0)
            seen[stage.name] = count + 1
            yield (f"{stage.name}.{count}" if count else stage.name), stage

    def effective(self) -> dict[str, Any]:
        """What decides the pixels, as a document again: overrides applied, defaults written out.

        It binds to an equal recipe, but for `on_error`, which may be changed in the middle of a run.
        """
        document = self.model_dump(mode="json", exclude={"stages", "on_error"})
        return document | {"stages": [{stage.name: stage.model_dump(mode="json")} for stage in self.stages]}

    @property
    def digest(self) -> str:
        """SHA-256 of the effective recipe."""
        return hashlib.sha256(json.dumps(self.effective(), sort_keys=True).encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every finished pair."""
        size: tuple[int, int] | None = None
        for stage in self.stages:
            size = stage.size_after(size)
        if size is None:
            raise ValueError(
                f"recipe {self.name}: the size of its pairs is not known; the recipe check asks for a crop"
            )
        return size


# ---------------------------------------------------------------- reading


def _shipped() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for shelf in reversed(shelves()):
        found |= {entry.name[:-5]: entry for entry in shelf.iterdir() if entry.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def summaries() -> dict[str, str]:
    """The first comment line of every shipped recipe."""
    texts = {name: entry.read_text(encoding="utf-8") for name, entry in _shipped().items()}
    return {name: text.splitlines()[0].lstrip("# ").partition(": ")[2] for name, text in texts.items()}


def _text(name: str) -> str:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise RecipeError(name, [f"expected a readable YAML file, got: {problem}"]) from problem
    shipped = _shipped()
    if name not in shipped:
        raise RecipeError(name, [f"expected one of {', '.join(shipped)} or a .yaml file{_did_you_mean(name, shipped)}"])
    return shipped[name].read_text(encoding="utf-8")


def load(name: str, overrides: Sequence[str] = (), **replaced: Any) -> Recipe:
    """The shipped recipe `name`, or that in a .yaml file, with dotted overrides such as "camera.iso=[100, 6400]".

    `replaced` are top-level keys given by command-line flags; `None` leaves the recipe's own.
    Raises `RecipeError` with all problems at once.
    """
    try:
        document = document_of(_text(name))
    except yaml.YAMLError as problem:
        raise RecipeError(name, [f"expected YAML, got: {problem}"]) from problem
    _check_form(document, name)
    document |= {key: value for key, value in replaced.items() if value is not None}
    problems = [problem for override in overrides for problem in _override(document, override)]
    return bind(document, name, problems)


def _check_form(document: Any, name: str) -> None:
    if not isinstance(document, dict) or not isinstance(document.get("stages"), list):
        raise RecipeError(name, ['expected a mapping with a list "stages"; recipes/realblur_j.yaml is an example'])


def _override(document: dict[str, Any], override: str) -> list[str]:
    """Applies one "path=value" to `document`; returns the problems it met."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    stage_names = [_stage_name(entry) for entry in document["stages"]]
    if not equals or not all(keys) or (len(keys) == 1 and keys[0] in stage_names):
        return [f"--set {override}: expected a dotted path and a value, as in camera.iso=[100,6400]"]
    try:
        # There are no aliases, so a value that begins with a star is a pattern of file names.
        value = text.strip() if text.lstrip().startswith("*") else document_of(text)
    except yaml.YAMLError as problem:
        return [f"--set {override}: expected a YAML value, got: {problem}"]
    if keys[0] in Recipe.model_fields and keys[0] != "stages":
        place, rest = document, keys
    else:
        occurrence = int(keys.pop(1)) if len(keys) > 2 and re.fullmatch("[0-9]{1,4}", keys[1]) else 0
        named = [at for at, name in enumerate(stage_names) if name == keys[0]]
        if occurrence >= len(named):
            known = [*stage_names, *(Recipe.model_fields.keys() - {"stages"})]
            return [f'--set {override}: the recipe has no "{path.strip()}"{_did_you_mean(keys[0], known)}']
        at = named[occurrence]
        entry = document["stages"][at] if isinstance(document["stages"][at], dict) else {keys[0]: None}
        if not isinstance(entry[keys[0]], dict | None):
            return [f'--set {override}: "{keys[0]}" is a value, not a block of keys']
        place, rest = dict(entry[keys[0]] or {}), keys[1:]
        document["stages"][at] = entry | {keys[0]: place}
    for key in rest[:-1]:
        if not isinstance(place.setdefault(key, {}), dict):
            return [f'--set {override}: "{key}" is a value, not a block of keys']
        place = place[key]
    place[rest[-1]] = value
    return []


def _stage_name(entry: Any) -> str:
    """The name of a stage's entry, "" where it has none: whatever does not begin with a word is no stage."""
    name = next(iter(entry), "") if isinstance(entry, dict) else entry
    return name if isinstance(name, str) else ""


def _did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


# A message shows the beginning of a value.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxother = 120


# ---------------------------------------------------------------- binding


def bind(document: Any, name: str, problems: Sequence[str] = ()) -> Recipe:
    """A recipe from an opened document. Raises `RecipeError` with `problems` and all that it finds itself."""
    _check_form(document, name)
    found = list(problems)
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as failure:
        found += _explained(failure, Recipe, document, "")
    default_isp = document.get("isp")
    if not isinstance(default_isp, str):  # left out, or complained of already
        default_isp = Recipe.model_fields["isp"].default
    stages = []
    for at, entry in enumerate(document["stages"]):
        stage, wrong = _bind_stage(at, entry, default_isp)
        stages.append(stage)
        found += wrong
    if recipe is not None and not found:
        recipe = recipe.model_copy(update={"stages": tuple(stages)})
        found += joins.problems(recipe)
    if recipe is None or found:
        raise RecipeError(name, found)
    return recipe


def _bind_stage(at: int, entry: Any, default_isp: str) -> tuple[Stage | None, list[str]]:
    name = _stage_name(entry)
    if not name or (isinstance(entry, dict) and len(entry) > 1):
        return None, [f"stages.{at}: expected a name, or a name with its keys, got {_BRIEF.repr(entry)}"]
    keys = entry[name] if isinstance(entry, dict) else None
    if name not in STAGES:
        return None, [f'stages.{at}: expected a stage, got "{name}"{_did_you_mean(name, STAGES)}']
    if not isinstance(keys, dict | None):
        return None, [f"stages.{at}.{name}: expected keys in braces or on their own lines, got {_BRIEF.repr(keys)}"]
    values = dict(keys or {})
    if "isp" in STAGES[name].model_fields and not values.get("isp"):
        values["isp"] = default_isp
    try:
        stage = STAGES[name].model_validate(values)
    except ValidationError as failure:
        return None, _explained(failure, STAGES[name], values, f"stages.{at}.{name}")
    return stage, [f"stages.{at}.{name}.{problem}" for problem in stage.problems()]


def _explained(failure: ValidationError, model: type[BaseModel], given: dict[Any, Any], prefix: str) -> list[str]:
    """Pydantic's findings on the keys `given`, in our words: path, what is wrong, a suggestion for a misspelt name."""
    errors = failure.errors()
    sentences: dict[str, str] = {}
    for error in errors:
        if error["type"] == "too_short" and any(other["loc"][:-1] == error["loc"] for other in errors):
            continue  # only because its wrong elements do not count
        path = _path(error["loc"], given, prefix)
        if error["type"] == "extra_forbidden":
            of_source = [field for source in (Photos, Frames, Pairs) for field in source.model_fields]
            known = model.model_fields if len(error["loc"]) == 1 else of_source
            sentences[path] = f"unknown key{_did_you_mean(str(error['loc'][-1]), known)}"
        elif error["type"] == "missing":
            sentences[path] = "missing; give it a value"
        elif error["type"] == "union_tag_not_found":
            sentences[f"{path}.use"] = "missing; give it a value"
        else:
            sentence = error["msg"].removeprefix("Value error, ")
            if path in sentences:  # another branch of a union
                sentence = f"{sentences[path].partition(', got ')[0]}; or: {sentence}"
            got = "" if error["type"] == "value_error" else f", got {_BRIEF.repr(error['input'])}"
            names = error.get("ctx", {})
            near = re.findall("'([^']+)'", str(names.get("expected") or names.get("expected_tags") or ""))
            name = names.get("tag", error["input"])
            sentences[path] = sentence + got + (_did_you_mean(name, near) if isinstance(name, str) else "")
    return [f"{path}: {sentence}" for path, sentence in sentences.items()]


def _path(location: Sequence[int | str], given: Any, prefix: str) -> str:
    """The dotted path of a pydantic location, without the names of union branches, which stand in no document."""
    parts = [prefix] if prefix else []
    for part in location:
        places = given if isinstance(given, dict) else range(len(given)) if isinstance(given, list | tuple) else ()
        if part in places:
            given = given[part]
        elif part != location[-1] or not isinstance(given, dict):
            continue
        parts.append(str(part))
    return ".".join(parts)

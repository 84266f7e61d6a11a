"""Recipe files, for synthesis and for training: found by name, read strictly, overridden, and explained if they are wrong.

    document = read("train/paramisp_small", shipped)     a mapping; the shipped file or a .yaml file
    override(document, "design.stages=2", ...)           one --set of the command line
    explained(failure, Model, document)                  pydantic's findings as sentences

Everything wrong with a recipe comes in one `RecipeError`.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from isp.command import UsageError, did_you_mean
from isp.files import document

MOST_SHOWN = 30  # problems in a message
LONGEST = 1000  # characters of one


class RecipeError(UsageError):
    """A recipe that cannot be used, with all its problems at once; the message has the first `MOST_SHOWN`."""

    def __init__(self, recipe: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        shown = [
            problem if len(problem) <= LONGEST else f"{problem[:LONGEST]}..." for problem in self.problems[:MOST_SHOWN]
        ]
        shown += [f"{len(self.problems) - MOST_SHOWN} more"] if len(self.problems) > MOST_SHOWN else []
        super().__init__("\n".join([f"recipe {recipe}: {count}", *(f"  - {problem}" for problem in shown)]))


# ---------------------------------------------------------------- finding and reading


def shipped(package: str | Path, checkout: str, prefix: str = "") -> dict[str, Path]:
    """Return the recipes that come with the code, by name.

    An installed wheel keeps them in the folder `recipes` of `package`; otherwise they lie in `checkout` beside it.
    """
    home = Path(package)
    folder = home / "recipes"
    if not folder.is_dir():
        folder = home.parent / checkout
    return {f"{prefix}{path.stem}": path for path in sorted(folder.glob("*.yaml"))}


def read(name: str, known: Mapping[str, Path], form: str) -> dict[str, Any]:
    """Return the recipe `name` out of `known`, or that in a .yaml file, as a mapping.

    `form` says what a recipe looks like. Raises `RecipeError` if there is none, or if it is not a YAML mapping.
    """
    folders = {key.rpartition("/")[:2] for key in known}  # of shipped names: "train/" for training recipes
    if name in known:
        path = known[name]
    elif name.endswith((".yaml", ".yml")) or ("/" in name and name.rpartition("/")[:2] not in folders):
        path = Path(name)
    else:
        raise RecipeError(name, [f"expected one of {', '.join(known)} or a .yaml file{did_you_mean(name, known)}"])
    try:
        content = document.parsed(document.text_of(path, "a recipe"))
    except (OSError, ValueError) as problem:
        raise RecipeError(name, [str(problem).removeprefix(f"{path}: ")]) from problem
    except yaml.YAMLError as problem:
        raise RecipeError(name, [f"expected YAML, got: {problem}"]) from problem
    if not isinstance(content, dict):
        raise RecipeError(name, [f"expected {form}"])
    return content


# ---------------------------------------------------------------- overrides

Place = tuple[dict[Any, Any], list[str]]  # a block of the recipe, and the keys that lead on from it


def override(recipe: dict[str, Any], text: str, find: Callable[[list[str]], Place | str], example: str) -> list[str]:
    """Apply one "path=value" to `recipe`; return the problems that it meets.

    `find` takes the keys of the path and returns the block to change, or says what is wrong.
    """
    path, equals, value_text = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        return [f"--set {text}: expected a dotted path and a value, as in {example}"]
    try:
        # There are no aliases, so a value that begins with a star is a pattern of file names.
        starred = value_text.lstrip().startswith("*")
        value = value_text.strip() if starred else document.parsed(value_text)
    except yaml.YAMLError as problem:
        return [f"--set {text}: expected a YAML value, got: {problem}"]
    found = find(keys)
    if isinstance(found, str):
        return [f"--set {text}: {found}"]
    block, (*inner, last) = found
    for key in inner:
        if not isinstance(block.setdefault(key, {}), dict):
            return [f'--set {text}: "{key}" is a value, not a block of keys']
        block = block[key]
    block[last] = value
    return []


# ---------------------------------------------------------------- explanations

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxother = 120


def brief(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    return _BRIEF.repr(value)


def explained(
    failure: ValidationError, model: type[BaseModel], given: Mapping[Any, Any], prefix: str = ""
) -> list[str]:
    """Return pydantic's findings as sentences: path, what is wrong, and a suggestion for a misspelt name.

    `given` is what `model` was made from; `prefix` is the path that leads to it.
    """
    errors = failure.errors()
    sentences: dict[str, str] = {}
    for error in errors:
        if error["type"] == "too_short" and any(other["loc"][:-1] == error["loc"] for other in errors):
            continue  # only because its wrong elements do not count
        path = _path(error["loc"], given, prefix)
        if error["type"] == "extra_forbidden":
            sentences[path] = f"unknown key{did_you_mean(str(error['loc'][-1]), _keys_at(model, error['loc']))}"
        elif error["type"] == "missing":
            sentences[path] = "missing; give it a value"
        elif error["type"] == "union_tag_not_found":
            key = error["ctx"]["discriminator"].strip("'")
            sentences[f"{path}.{key}"] = "missing; give it a value"
        else:
            sentence = error["msg"].removeprefix("Value error, ")
            if path in sentences:  # another branch of a union
                sentence = f"{sentences[path].partition(', got ')[0]}; or: {sentence}"
            got = "" if error["type"] == "value_error" else f", got {brief(error['input'])}"
            names = error.get("ctx", {})
            near = re.findall("'([^']+)'", str(names.get("expected") or names.get("expected_tags") or ""))
            name = names.get("tag", error["input"])
            sentences[path] = sentence + got + (did_you_mean(name, near) if isinstance(name, str) else "")
    return [f"{path}: {sentence}" if path else sentence for path, sentence in sentences.items()]


def _path(location: Sequence[int | str], given: Any, prefix: str) -> str:
    """Return the dotted path of a pydantic location without the names of union branches, which no document holds."""
    parts = [prefix] if prefix else []
    for part in location:
        places = given if isinstance(given, dict) else range(len(given)) if isinstance(given, list | tuple) else ()
        if part in places:
            given = given[part]
        elif part != location[-1] or not isinstance(given, dict):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys that the block of the last part of `location` may have."""
    models = [model]
    for part in location[:-1]:
        inside = [
            found for each in models if part in each.model_fields for found in _models_in(each.model_fields[part])
        ]
        models = inside or models
    return [key for each in models for key in each.model_fields]


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    annotation = getattr(annotation, "annotation", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)

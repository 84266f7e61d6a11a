"""YAML documents without surprises, and the kinds of values in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from isp.files import places

# Of a recipe, a camera profile or a sidecar. The largest that ships has 6 kB and 800 values.
MOST_BYTES = 2**20
_MOST_VALUES = 20_000  # in YAML, which takes a millisecond for two of them
_MOST_DIGITS = 19  # of a whole number, as 64 bits have
_SHOWN = 60  # characters of a value in a message

# YAML 1.1 reads 12:30:45 as 45045, 010 as 8, 1_000 as 1000, yes as true, and 2024-01-31 as a date.
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE)
_TRUTH = re.compile("true|false", re.IGNORECASE)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_TAG = "tag:yaml.org,2002:"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases, tags and merges, in which a duplicate key is an error; YAML itself keeps the last one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):  # a few of them make a short file a value of any size
            raise yaml.YAMLError(f'expected no alias, got "*{event.anchor:.{_SHOWN}}" in line {line}; repeat it')
        if event.tag is not None:
            raise yaml.YAMLError(f'expected no tag, got "{event.tag:.{_SHOWN}}" in line {line}; leave it out')
        self.values += 1
        if self.values > _MOST_VALUES:
            raise yaml.YAMLError(f"expected at most {_MOST_VALUES:,} values, got more in line {line}; shorten the file")
        return super().compose_node(parent, index)


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == f"{_TAG}merge":
            got = "a merge (<<)" if isinstance(key_node, yaml.ScalarNode) else "a block"
            raise yaml.YAMLError(f"expected a name as the key in line {line}, got {got}")
        key = loader.construct_object(key_node)
        if key in found:
            first = node.start_mark.line + 1
            raise yaml.YAMLError(
                f'the key "{key!s:.{_SHOWN}}" appears twice in the block that begins in line {first}; keep one'
            )
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _unclear(node: yaml.ScalarNode, expected: str) -> yaml.YAMLError:
    got = f'"{node.value:.{_SHOWN}}" in line {node.start_mark.line + 1}'
    return yaml.YAMLError(f"expected {expected}, got {got}; put it in quotes if it is a text")


def _whole_number(_loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    if not _WHOLE.fullmatch(node.value) or len(node.value.lstrip("+-")) > _MOST_DIGITS:
        raise _unclear(node, f"a whole number in decimal digits, at most {_MOST_DIGITS}")
    return int(node.value)


def _number(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    if not _DECIMAL.fullmatch(node.value):
        raise _unclear(node, "a number in decimal digits")
    return float(loader.construct_yaml_float(node))


def _truth(_loader: _StrictLoader, node: yaml.ScalarNode) -> bool:
    if not _TRUTH.fullmatch(node.value):
        raise _unclear(node, "true or false")
    return bool(node.value.lower() == "true")


def _date(_loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    raise _unclear(node, "a number or a text")


def _text(_loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    if node.style is None and _LEADING_ZERO.fullmatch(node.value):
        raise _unclear(node, "a whole number without leading zeros")
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise yaml.YAMLError(f"expected whole characters, got half of one in line {node.start_mark.line + 1}")
    return str(node.value)


for _kind, _constructor in (
    (f"{_TAG}map", _mapping_without_duplicates),
    (f"{_TAG}int", _whole_number),
    (f"{_TAG}float", _number),
    (f"{_TAG}bool", _truth),
    (f"{_TAG}timestamp", _date),
    (f"{_TAG}str", _text),
):
    _StrictLoader.add_constructor(_kind, _constructor)


def parsed(text: str) -> Any:
    """Return the YAML document in `text`. Numbers are decimal, and truth values are true and false.

    Raises `yaml.YAMLError`, with a message on one line, for anything wrong with it; also for a value that YAML 1.1 takes for
    a number, a truth value or a date in another form, such as 12:30, 010, 1_000 and yes.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except RecursionError as problem:
        raise yaml.YAMLError("expected a few levels of blocks in blocks, got hundreds; flatten it") from problem
    except Exception as problem:
        message = " ".join(str(problem).split()) or type(problem).__name__
        raise yaml.YAMLError(f"{message:.300}") from problem


def text_of(path: Path, expected: str) -> str:
    """Return the text of the document at `path`, which should be `expected`.

    Raises `FileNotFoundError` if there is none, and `ValueError` for what is no regular file, has more than `MOST_BYTES`, is
    not encoded in UTF-8, or cannot be read.
    """
    content = places.read_bytes(path, expected, MOST_BYTES)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise ValueError(f"{path}: expected {expected} in UTF-8, got the byte {content[cause.start]:#04x}") from cause


# ---------------------------------------------------------------- kinds of values


class Part(BaseModel):
    """A block of a document: frozen, and an unknown key is an error. Numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: Any) -> Any:
        # pydantic takes true for 1.
        annotation = cls.model_fields[info.field_name or ""].annotation
        for each in _scalars(value):
            if isinstance(each, bool) and not _mentions(annotation, bool):
                raise ValueError(f"expected no truth value, got {str(each).lower()}")
        return value


def _scalars(value: Any) -> Iterator[Any]:
    """Yield what is in lists in lists; dictionaries belong to blocks of their own."""
    if not isinstance(value, list | tuple):
        yield value
        return
    for each in value:
        yield from _scalars(each)


def _mentions(annotation: Any, kind: type) -> bool:
    return annotation in (kind, Any) or any(_mentions(each, kind) for each in get_args(annotation))


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [smallest, largest], got [{bounds[0]:g}, {bounds[1]:g}]")
    return bounds


# The bounds keep every number within float32.
Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Range = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Row3 = tuple[Number, Number, Number]
Matrix3 = tuple[Row3, Row3, Row3]

"""YAML documents without surprises, and the kinds of values in them."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases, in which a duplicate key is an error; YAML itself silently keeps the last one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a few of them make a short file a value of any size
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(
                f'expected no alias, got "*{event.anchor}" in line {event.start_mark.line + 1}; repeat it'
            )
        return super().compose_node(parent, index)


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f'the key "{twice[0]}" appears twice in the block that begins in line {line}; keep one')
    return dict(loader.construct_pairs(node, deep=True))


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def parsed(text: str) -> Any:
    """Return the YAML document in `text`. Raises `yaml.YAMLError` for anything wrong with it."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        raise
    except Exception as problem:  # such as ValueError for the 30th of February, RecursionError for deep nests
        raise yaml.YAMLError(str(problem) or type(problem).__name__) from problem


# ---------------------------------------------------------------- kinds of values


class Part(BaseModel):
    """A block of a document: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [smallest, largest], got [{bounds[0]:g}, {bounds[1]:g}]")
    return bounds


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Row3 = tuple[float, float, float]
Matrix3 = tuple[Row3, Row3, Row3]

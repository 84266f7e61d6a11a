"""YAML documents without surprises, and where the shipped ones lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases, in which a key given twice is an error; YAML itself keeps the last in silence."""

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
        raise yaml.YAMLError(f'the key "{twice[0]}" stands twice in the block that begins in line {line}; keep one')
    return dict(loader.construct_pairs(node, deep=True))


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def parsed(text: str) -> Any:
    """The YAML document in `text`. Raises `yaml.YAMLError` whatever is wrong with it."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        raise
    except Exception as problem:  # such as ValueError for the 30th of February, RecursionError for deep nests
        raise yaml.YAMLError(str(problem) or type(problem).__name__) from problem


def shelves() -> list[Path]:
    """Folders of shipped recipes: inside an installed wheel, then beside a checkout."""
    home = Path(__file__).resolve().parents[2]
    found = [home / "blursynth" / "recipes"]
    if (home / "pyproject.toml").is_file():
        found.append(home / "recipes")
    return [shelf for shelf in found if shelf.is_dir()]

"""Where every formula comes from: `python docs/equations.py` writes docs/equations.md from the `Source:` lines.

A line reads `Source: key, where; key, where`: the key stands in docs/references.bib, `where` is an equation, section,
figure or file@commit. In code a source stands in the docstring of what computes the formula, or in a comment above a
constant; in camera profiles, in a comment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "equations.md"


class Source(NamedTuple):
    """One cited place: who is cited, where in it, and what here cites it."""

    key: str
    where: str
    file: str
    name: str


def keys() -> set[str]:
    """Citation keys of docs/references.bib."""
    return set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    )


def cited(text: str) -> Iterator[tuple[str, str]]:
    """(key, where) of every `Source:` line in `text`; a source may run over several lines of prose."""
    for line in re.findall(r"Source: (.+)", text):
        for entry in line.rstrip(".").split(";"):
            key, _, where = entry.strip().partition(", ")
            yield key, where


def _definitions(text: str) -> Iterator[tuple[str, str]]:
    """(name, docstring) of a module and of everything defined in it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield getattr(node, "name", "(module)"), ast.get_docstring(node) or ""


def sources() -> list[Source]:
    """Every citation in the two packages, sorted by paper."""
    found = []
    for path in sorted([*(ROOT / "isp").rglob("*"), *(ROOT / "blursynth").rglob("*.py")]):
        if path.suffix not in (".py", ".yaml"):
            continue
        text = path.read_text(encoding="utf-8")
        file = path.relative_to(ROOT).as_posix()
        places = [(name, docstring) for name, docstring in _definitions(text)] if path.suffix == ".py" else []
        comments = "\n".join(line.partition("#")[2] for line in text.splitlines() if "#" in line)
        for name, prose in [*places, ("(constants)", comments)]:
            found += [Source(key, where, file, name) for key, where in cited(prose)]
    return sorted(set(found))


def table() -> str:
    """docs/equations.md as it should be."""
    rows = [f"| {s.key} | {s.where} | `{s.file}` | `{s.name}` |" for s in sources()]
    head = (
        "# Where every formula comes from\n\nWritten by `python docs/equations.py`; the keys are in `references.bib`.\n"
    )
    return "\n".join([head, "| source | where in it | file | what |", "|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")

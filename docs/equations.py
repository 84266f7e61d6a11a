"""Where every formula comes from: `python docs/equations.py` writes docs/equations.md from the `Source:` lines.

A line reads `Source: key, where; key, where`. The key stands in docs/references.bib; `where` is an equation, section,
figure or file@commit. In code, the line stands in the docstring of the function or class that computes the formula, or in
a comment at a constant. In camera profiles, it stands in a comment above a key.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "equations.md"


class Source(NamedTuple):
    """One citation: key and place in the cited work, the file and name that cite it, and what that name is."""

    key: str
    where: str
    file: str
    name: str
    what: str


class Prose(NamedTuple):
    """A docstring or a comment, with the name it belongs to and the words that describe that name."""

    name: str
    text: str
    what: str


def keys() -> set[str]:
    """Return the citation keys of docs/references.bib."""
    return set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    )


def cited(text: str) -> Iterator[tuple[str, str]]:
    """Find (key, where) of every `Source:` line in `text`."""
    for line in re.findall(r"Source: (.+)", text):
        for entry in line.rstrip(".").split(";"):
            key, _, where = entry.strip().partition(", ")
            yield key, where


def without_sources(text: str) -> str:
    """Return the text on one line, without its `Source:` lines."""
    return " ".join(re.sub(r"Source: .+", "", text).split())


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, without the formula that may follow it."""
    paragraph = without_sources(docstring.partition("\n\n")[0])
    return re.split(r"(?<!eq\.)(?<!Fig\.)(?<!e\.g\.)(?<!i\.e\.)(?<=\.)\s", paragraph, maxsplit=1)[0].rstrip(":.")


# ---------------------------------------------------------------- Python


class Statement(NamedTuple):
    """A statement with its lines, decorators included, and the name that a comment at it belongs to."""

    first: int
    last: int
    name: str
    is_simple: bool


def _statements(node: ast.AST, scope: str, is_function: bool = False) -> Iterator[Statement]:
    """List the statements of a module. `scope` is the qualified name of what encloses `node`."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield from _statements(child, scope, is_function)
            continue
        name, inside_function = scope, is_function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{scope}.{child.name}".lstrip(".")
            inside_function = not isinstance(child, ast.ClassDef)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and not is_function:
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            name = ", ".join(f"{scope}.{ast.unparse(target)}".lstrip(".") for target in targets)
        first = min([child.lineno, *(each.lineno for each in getattr(child, "decorator_list", []))])
        is_simple = not hasattr(child, "body")
        yield Statement(first, child.end_lineno or first, name, is_simple)
        yield from _statements(child, name if hasattr(child, "name") else scope, inside_function)


def _comments(text: str) -> Iterator[tuple[int, bool, str]]:
    """Find (last line, whether it trails code, text) of every comment; comments on consecutive lines are one."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        comment = token.string.lstrip("#").strip()
        if token.line[:column].strip():
            yield line, True, comment
            continue
        if block and line != last + 1:
            yield last, False, "\n".join(block)
            block = []
        block.append(comment)
        last = line
    if block:
        yield last, False, "\n".join(block)


def prose_of_python(text: str, module: str) -> Iterator[Prose]:
    """Find the docstrings and comments of a module; names are qualified by their class or outer function."""
    tree = ast.parse(text)

    def docstrings(node: ast.AST, scope: str) -> Iterator[Prose]:
        for child in ast.iter_child_nodes(node):
            name = scope
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{scope}.{child.name}".lstrip(".")
                docstring = ast.get_docstring(child) or ""
                yield Prose(name, docstring, first_sentence(docstring))
            yield from docstrings(child, name)

    docstring = ast.get_docstring(tree) or ""
    yield Prose(module, docstring, first_sentence(docstring))
    yield from docstrings(tree, "")
    statements = sorted(_statements(tree, ""))
    for line, trails, comment in _comments(text):
        around = [each for each in statements if each.first <= line <= each.last]
        below = [each for each in statements if each.first > line]
        at_code = trails or (around and around[-1].is_simple)
        owner = around[-1] if at_code and around else below[0] if below else None
        yield Prose((owner.name if owner else "") or module, comment, without_sources(comment).rstrip("."))


# ---------------------------------------------------------------- camera profiles


def prose_of_profile(text: str, profile: str) -> Iterator[Prose]:
    """Find the comments of a YAML profile; each belongs to the top-level key of its line or of the next."""
    block: list[str] = []
    current = profile
    for line in text.splitlines():
        code, mark, comment = line.partition("#")
        if key := re.match(r"(\w+):", code):
            current = key[1]
        if mark and not code.strip():
            block.append(comment.strip())
            continue
        if block and code.strip():
            whole = "\n".join(block)
            yield Prose(current, whole, without_sources(whole).rstrip("."))
            block = []
        if mark:
            yield Prose(current, comment.strip(), without_sources(comment).rstrip("."))


# ---------------------------------------------------------------- the table


def sources() -> list[Source]:
    """Return every citation in the two packages, sorted by paper."""
    found = set()
    for path in [*(ROOT / "isp").rglob("*.py"), *(ROOT / "isp").rglob("*.yaml"), *(ROOT / "blursynth").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        file = path.relative_to(ROOT).as_posix()
        read = prose_of_python if path.suffix == ".py" else prose_of_profile
        for name, prose, what in read(text, path.stem):
            found |= {Source(key, where, file, name, what) for key, where in cited(prose)}
    return sorted(found)


def table() -> str:
    """Return the text of docs/equations.md."""
    head = (
        "# Where every formula comes from\n\n"
        "Written by `python docs/equations.py` from the `Source:` lines in the code; the keys are in `references.bib`.\n"
    )
    rows = [
        f"| {s.key} | {s.where} | `{s.file}` | `{s.name}` | {s.what.replace('|', chr(92) + '|')} |" for s in sources()
    ]
    return "\n".join([head, "| source | where in it | file | name | what |", "|---|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")

"""What the command lines share: exit codes, kinds of arguments, sentences for problems, progress.

Every door (`python -m isp.X`, `python -m blursynth.X`) builds its parser with `parser`, and reports through `refuse`.
This module loads nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

# Exit codes. BAD_DATA: bad data, disk or worker, or finished with failed items; USAGE: the command line or a recipe.
DONE, BAD_DATA, USAGE, INTERRUPTED = 0, 1, 2, 130

SECONDS_A_LINE = 5.0  # between two lines of progress, if stderr is not a terminal

# ---------------------------------------------------------------- parsers


def version() -> str:
    """The version of the code that runs: that of the installed package, or "checkout" if it is not installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("blursynth")
    except PackageNotFoundError:
        return "checkout"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        sys.stdout.write(f"blursynth {version()}\n")
        parser.exit()


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The parser of `python -m module`, which answers `--version`."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    return made


def dispatch(package: str, doors: Mapping[str, str], argv: Sequence[str] | None = None) -> int:
    """The console command `package DOOR ...`: runs the door's `main`; `doors` gives the purpose of each.

    A door is the module `package.DOOR`, or its `__main__` if it is a folder.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, doors)) + 2
        lines = "".join(f"  {door:{width}}{purpose}\n" for door, purpose in doors.items())
        sys.stdout.write(f"usage: {package} COMMAND ...\n\n{lines}\n{package} COMMAND --help says more.\n")
        return DONE if arguments else USAGE
    door, *rest = arguments
    if door == "--version":
        sys.stdout.write(f"blursynth {version()}\n")
        return DONE
    if door not in doors:
        return refuse(f'{package}: expected one of {", ".join(doors)}, got "{door}"{did_you_mean(door, doors)}', USAGE)
    module = import_module(f"{package}.{door}")
    if hasattr(module, "__path__"):
        module = import_module(f"{package}.{door}.__main__")
    code: int = module.main(rest)
    return code


# ---------------------------------------------------------------- kinds of arguments


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f'expected a whole number of at least {least}, got "{text}"')
        return value

    return whole_number


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 1e9:
        raise argparse.ArgumentTypeError(f'expected a number, got "{text}"')
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = number(text)
    if value < 1e-9:
        raise argparse.ArgumentTypeError(f'expected a number above 0, got "{text}"')
    return value


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def byte_count(text: str) -> int:
    """Bytes: a number, alone or with K, M or G."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    count = positive(text[: len(text) - len(unit)]) * _UNITS.get(unit, math.nan)
    if not count >= 1:
        raise argparse.ArgumentTypeError(f'expected bytes, or a number with K, M or G, got "{text}"')
    return int(count)


def folder(text: str) -> Path:
    """The path of a folder, which need not exist."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got an empty text (an unset variable?)")
    return Path(text)


# ---------------------------------------------------------------- sentences


def refuse(sentence: str, code: int) -> int:
    """Writes one line on stderr; returns `code`."""
    sys.stderr.write(f"{sentence}\n")
    return code


def sentence_of(problem: BaseException, remedy: str = "fix that and run the same command again") -> str:
    """What went wrong, where, and what to do. What the operating system refuses gets its path and `remedy`."""
    if isinstance(problem, OSError) and problem.errno is not None:
        where = problem.filename or "writing"
        return f"{where}: {problem.strerror}; what was finished is kept, so {remedy}"
    return str(problem)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion to end a sentence with, empty if no known name is close.

    >>> did_you_mean("camara", ["camera", "crop"])
    '; did you mean "camera"?'
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


# ---------------------------------------------------------------- progress


@dataclass(frozen=True)
class Pace:
    """How far the work is; `done` and `total` in any unit."""

    done: float
    total: float
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.done / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float:
        return max(0.0, self.total - self.done) / max(self.rate, 1e-9)


@contextmanager
def progress(total: float, line: Callable[[Pace], str]) -> Iterator[Callable[[float], None]]:
    """Gives a meter to be told of every step; says `line` of the pace: in a bar on a terminal, else every few seconds."""
    from tqdm import tqdm

    done, began = 0.0, time.monotonic()
    said = began
    on_terminal = sys.stderr.isatty()
    with tqdm(total=total, bar_format="{percentage:3.0f} %|{bar}| {desc}", leave=False, disable=not on_terminal) as bar:

        def meter(step: float) -> None:
            nonlocal done, said
            done, now = done + step, time.monotonic()
            pace = Pace(done, total, now - began)
            if on_terminal:
                bar.set_description_str(line(pace), refresh=False)
                bar.update(step)
            elif now - said > SECONDS_A_LINE:
                sys.stderr.write(f"{line(pace)}\n")
                said = now

        yield meter

"""What the command lines share: exit codes, parsers, types of arguments, output, sentences for problems, progress.

Every command (`python -m isp.X`, `python -m blursynth.X`) is a `door`, builds its parser with `parser`, and writes through
`say`, `warn` and `refuse`.
This module loads nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import functools
import io
import json
import math
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# Exit codes. BAD_DATA: bad data, a disk or worker that failed, or items that failed in a run that reached its end;
# USAGE: a mistake in the command line or in a recipe; INTERRUPTED: the same command continues.
DONE, BAD_DATA, USAGE, INTERRUPTED = 0, 1, 2, 130

SECONDS_A_LINE = 5.0  # between two lines of progress, if stderr is not a terminal

# ---------------------------------------------------------------- doors and streams


Main = Callable[..., int]  # takes the arguments (default: those of the process), returns the exit code

_REMEDY = "what was finished is kept, so fix that and run the same command again"


class UsageError(ValueError):
    """A mistake in the command line or in a recipe, which ends a command with the exit code `USAGE`."""


def door(
    interrupted: str = "interrupted; run the same command again to continue", remedy: str = _REMEDY
) -> Callable[[Main], Main]:
    """Return a decorator for the `main` of a command, which makes it end in order on any machine.

    Closed streams are opened on the null device, so that no file of ours gets their numbers. Ctrl-C ends with the sentence
    `interrupted` and `INTERRUPTED`. What `main` raises ends with a sentence: `UsageError` with `USAGE`; `ValueError`,
    `ImportError`, `OSError` and a lack of memory with `BAD_DATA`. Errors of the operating system get `remedy`. Anything else
    is a bug, and passes.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def guarded(argv: Sequence[str] | None = None) -> int:
            _open_streams()
            try:
                return main(argv)
            except KeyboardInterrupt:
                return refuse(interrupted, INTERRUPTED)
            except UsageError as problem:
                return refuse(str(problem), USAGE)
            except Exception as problem:
                if lacks_memory(problem):
                    return refuse(memory_sentence(problem), BAD_DATA)
                if isinstance(problem, ValueError | ImportError | OSError):
                    return refuse(sentence_of(problem, remedy), BAD_DATA)
                raise

        return guarded

    return decorate


def _open_streams() -> None:
    """Open closed standard streams on the null device; let both outputs escape what their encoding lacks."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)  # or it would be closed again in every process that this one starts
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # its number may be that of a file by now
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Write lines on stdout, with every character `shown`. If nobody reads any more (`| head`), they are dropped.

    Ends the command with `BAD_DATA` if they cannot be written for another reason, such as a full disk.
    """
    _write("stdout", text)


def warn(text: str) -> None:
    """Write lines on stderr, with every character `shown`. If they cannot be written, they are dropped."""
    _write("stderr", text)


def _write(name: str, text: str) -> None:
    lines = "\n".join(map(shown, text.split("\n")))
    stream = getattr(sys, name)
    try:
        stream.write(f"{lines}\n")
        stream.flush()
    except OSError as problem:
        # The interpreter flushes the stream again when it ends, and what is still to come goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if name == "stdout" and not isinstance(problem, ConnectionError):  # such as a full disk behind `> report.txt`
            warn(f"stdout: {problem.strerror}; what was written there is not whole, run the command again elsewhere")
            raise SystemExit(BAD_DATA) from problem


_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # reorder text on a screen


def shown(text: str) -> str:
    r"""Return `text` on one line, with visible escapes for control characters and for bytes of a name that are not UTF-8.

    >>> shown("a\x1b[2Jb"), shown("\udcff.png")
    ('a\\x1b[2Jb', '\\xff.png')
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    hidden = character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if hidden else character


def json_of(value: Any, indent: int | None = None) -> str:
    r"""Return JSON that every parser takes: texts with escapes for bytes that are not UTF-8, null for NaN and infinity.

    >>> json_of({"path": "\udcff.png", "psnr": math.inf})
    '{"path": "\\\\xff.png", "psnr": null}'
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return "".join(_shown(letter) if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------- parsers


def version() -> str:
    """The version of the installed package, "checkout" if it is not installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("blursynth")
    except PackageNotFoundError:
        return "checkout"


class _Version(argparse.Action):
    """Looks the version up when it is asked for, which argparse's own action would do on every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        say(f"blursynth {version()}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Writes through `say` and `warn`, so that no argument, terminal or closed pipe disturbs it."""

    def print_help(self, file: Any = None) -> None:
        say(self.format_help().rstrip("\n"))

    def print_usage(self, file: Any = None) -> None:
        warn(self.format_usage().rstrip("\n"))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            warn(message.rstrip("\n"))
        sys.exit(status)


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m module` with the option `--version`."""
    arguments = _Parser(prog=f"python -m {module}", description=description)
    arguments.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    return arguments


def dispatch(package: str, purposes: Mapping[str, str], argv: Sequence[str] | None = None) -> int:
    """Run the console command `package NAME ...` and return its exit code. `purposes` has the names that exist.

    NAME is the module `package.NAME`, or its `__main__` if it is a folder; its `main` gets the rest of the arguments.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    width = max(map(len, purposes)) + 2
    lines = "".join(f"  {name:{width}}{purpose}\n" for name, purpose in purposes.items())
    usage = f"usage: {package} [--version] COMMAND ...\n\n{lines}\n{package} COMMAND --help lists the options."
    if not arguments:
        return refuse(usage, USAGE)
    name, *rest = arguments
    if name in ("-h", "--help"):
        say(usage)
        return DONE
    if name == "--version":
        say(f"blursynth {version()}")
        return DONE
    if name not in purposes:
        expected = ", ".join(purposes)
        return refuse(f'{package}: expected one of {expected}, got "{name}"{did_you_mean(name, purposes)}', USAGE)
    module = import_module(f"{package}.{name}")
    if hasattr(module, "__path__"):
        module = import_module(f"{package}.{name}.__main__")
    code: int = module.main(rest)
    return code


# ---------------------------------------------------------------- types of arguments


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number of at least `least`."""

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
    """A number of at most 1e9 in size, so that arithmetic with it stays finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f'expected a number, got "{text}"')
    if abs(value) > 1e9:
        raise argparse.ArgumentTypeError(f'expected a number from -1e9 to 1e9, got "{text}"')
    return value


def positive(text: str) -> float:
    """A number above 0, at least 1e-9."""
    value = number(text)
    if value < 1e-9:
        raise argparse.ArgumentTypeError(f'expected a number above 0, got "{text}"')
    return value


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def byte_count(text: str) -> int:
    """A number of bytes, alone or with K, M or G; at least 1."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        count = float(text[: len(text) - len(unit)]) * _UNITS[unit]
    except (ValueError, KeyError):
        count = math.nan
    if not 1 <= count < math.inf:
        raise argparse.ArgumentTypeError(f'expected bytes, or a number with K, M or G, got "{text}"')
    return int(count)


def folder(text: str) -> Path:
    """The path of a folder, which need not exist."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got an empty text (an unset variable?)")
    return Path(text)


def device_problem(device: str) -> str:
    """Why torch cannot work on `device`, "" if it can."""
    import torch

    if device.partition(":")[0] not in ("cpu", "cuda"):
        return f'expected cpu or cuda, got "{device}"'
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        return f'expected a device that works here, got "{device}" ({str(problem).splitlines()[0]}); choose cpu'
    return ""


def check_device(device: str) -> None:
    """Raise `UsageError` if torch cannot work on `device`."""
    if problem := device_problem(device):
        raise UsageError(f"--device: {problem}")


# ---------------------------------------------------------------- sentences


def refuse(sentence: str, code: int) -> int:
    """Write a sentence on stderr and return `code`."""
    warn(sentence)
    return code


def sentence_of(problem: BaseException, remedy: str = _REMEDY) -> str:
    """What went wrong, where, and what to do: an error of the operating system gets its path and `remedy`."""
    if isinstance(problem, OSError) and problem.errno is not None:
        return f"{problem.filename or 'writing'}: {problem.strerror}; {remedy}"
    return str(problem)


# What libraries say if they get no memory; only Python and NumPy raise `MemoryError`.
_NO_MEMORY = (
    "allocate memory", "out of memory", "insufficient memory", "memory allocation failed", "bad_alloc",
    "start new thread", "failed to map segment",
)  # fmt: skip


def lacks_memory(problem: BaseException) -> bool:
    """Whether `problem` says that the machine, or a limit of this process, did not give memory that was asked for."""
    if isinstance(problem, OSError) and problem.errno is not None:
        return problem.errno == errno.ENOMEM
    if isinstance(problem, ValueError):  # a sentence of ours, which may quote such words; its cause tells
        return isinstance(problem.__cause__, MemoryError)
    return isinstance(problem, MemoryError) or any(words in str(problem).lower() for words in _NO_MEMORY)


def memory_sentence(problem: BaseException) -> str:
    """What to say of a `problem` that `lacks_memory`."""
    detail = f" ({str(problem).splitlines()[0]})" if str(problem) else ""
    return f"expected enough memory, got none{detail}; use smaller pictures or fewer --workers"


def located(place: object, sentence: str) -> str:
    """`sentence` with `place` before it, unless it begins with that place or a path inside it.

    >>> located("a.png", "expected a picture"), located("a.png", "a.png: expected a picture")
    ('a.png: expected a picture', 'a.png: expected a picture')
    """
    names_it = sentence.startswith((f"{place}:", f"{place}{os.sep}"))
    return sentence if names_it else f"{place}: {sentence}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that suggests the closest known name; empty if none is close.

    >>> did_you_mean("camara", ["camera", "crop"])
    '; did you mean "camera"?'
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


# ---------------------------------------------------------------- progress


@dataclass(frozen=True)
class Pace:
    """How far the work is: `done` and `total` in any unit, and the seconds that it took so far."""

    done: float
    total: int | float
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.done / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float:
        """The seconds left at this rate."""
        return max(0.0, self.total - self.done) / max(self.rate, 1e-9)


@contextmanager
def progress(total: int | float, line: Callable[[Pace], str]) -> Iterator[Callable[[float], None]]:
    """Give a function to call with the size of every step that is done; `line` puts the pace into words.

    On a terminal, the line stands beside a bar; elsewhere it is written every few seconds, so that short work says
    nothing. Both go to stderr.
    """
    from tqdm import tqdm

    done, began = 0.0, time.monotonic()
    last_line = began
    on_terminal = sys.stderr.isatty()
    hidden = not on_terminal or not total
    with tqdm(total=total, bar_format="{percentage:3.0f} %|{bar}| {desc}", leave=False, disable=hidden) as bar:

        def advance(step: int | float) -> None:
            nonlocal done, last_line
            done, now = done + step, time.monotonic()
            pace = Pace(done, total, now - began)
            if on_terminal:
                bar.set_description_str(line(pace), refresh=False)
                bar.update(step)
            elif now - last_line > SECONDS_A_LINE:
                warn(line(pace))
                last_line = now

        yield advance

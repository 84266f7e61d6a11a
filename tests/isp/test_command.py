"""What every command line does alike: --version, arguments, refusals, progress, console commands."""

import argparse
import importlib
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isp import command

# ---------------------------------------------------------------- types of arguments


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (command.at_least(0), "0", 0),
        (command.at_least(3), "17", 17),
        (command.number, "-1.5e3", -1500.0),
        (command.number, "1e9", 1e9),
        (command.positive, "1e-9", 1e-9),
        (command.byte_count, "4096", 4096),
        (command.byte_count, "3000000000", 3 * 10**9),
        (command.byte_count, "1.5G", 1_500_000_000),
        (command.byte_count, "2k", 2000),
        (command.byte_count, "64 M", 64 * 10**6),
    ],
)
def test_arguments(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (command.at_least(1), "0", 'expected a whole number of at least 1, got "0"'),
        (command.at_least(1), "1.0", 'expected a whole number of at least 1, got "1.0"'),
        (command.at_least(-5), "x", 'expected a whole number of at least -5, got "x"'),
        (command.number, "", 'expected a number, got ""'),
        (command.number, "nan", 'expected a number, got "nan"'),
        (command.number, "inf", 'expected a number from -1e9 to 1e9, got "inf"'),
        (command.positive, "0", 'expected a number above 0, got "0"'),
        (command.positive, "-2", 'expected a number above 0, got "-2"'),
        (command.byte_count, "", 'expected bytes, or a number with K, M or G, got ""'),
        (command.byte_count, "2T", 'expected bytes, or a number with K, M or G, got "2T"'),
        (command.byte_count, "0.1", 'expected bytes, or a number with K, M or G, got "0.1"'),
        (command.byte_count, "nanG", 'expected bytes, or a number with K, M or G, got "nanG"'),
        (command.byte_count, "1e999", 'expected bytes, or a number with K, M or G, got "1e999"'),
        (command.folder, "", r"expected a folder, got an empty text \(an unset variable\?\)"),
    ],
)
def test_refused_arguments(kind, text, expected):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{expected}$"):
        kind(text)


def test_parser(capsys):
    parser = command.parser("isp.nothing", "Does nothing.")
    with pytest.raises(SystemExit) as left:
        parser.parse_args(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"blursynth {command.version()}\n"
    with pytest.raises(SystemExit) as left:
        parser.parse_args(["--no-such"])
    assert left.value.code == command.USAGE
    assert "usage: python -m isp.nothing" in capsys.readouterr().err


def test_version_without_an_installation(monkeypatch):
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert command.version() == "checkout"


@pytest.mark.parametrize("device", ["abacus", "meta", "cpu:9:9"])
def test_devices(device):
    assert command.device_problem("cpu") == ""
    assert f'got "{device}"' in command.device_problem(device)


# ---------------------------------------------------------------- sentences


def test_sentences():
    problem = OSError(28, "No space left on device", "out/a.h5")
    assert command.sentence_of(problem) == (
        "out/a.h5: No space left on device; what was finished is kept, so fix that and run the same command again"
    )
    assert command.sentence_of(problem, "try another disk") == "out/a.h5: No space left on device; try another disk"
    assert command.sentence_of(OSError(28, "No space left on device"), "x") == "writing: No space left on device; x"
    assert command.sentence_of(OSError("a.h5: expected a shard")) == "a.h5: expected a shard"
    assert command.sentence_of(ValueError("a: b")) == "a: b"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("expected a shard", "out: expected a shard"),
        ("out: expected a shard", "out: expected a shard"),
        ("out/a.h5: expected a shard", "out/a.h5: expected a shard"),
        ("output: expected a shard", "out: output: expected a shard"),
    ],
)
def test_a_place_is_named_once(sentence, expected):
    assert command.located("out", sentence) == expected


def test_refuse(capsys):
    assert command.refuse("no", command.BAD_DATA) == 1
    assert capsys.readouterr() == ("", "no\n")


def test_did_you_mean():
    assert command.did_you_mean("camara", ["crop", "camera"]) == '; did you mean "camera"?'
    assert command.did_you_mean("xyz", ["crop", "camera"]) == ""
    assert command.did_you_mean("xyz", []) == ""


# ---------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def line(pace: command.Pace) -> str:
    return f"{pace.done:.0f} of {pace.total:.0f}, {pace.rate:.1f} a second, {pace.left_s:.0f} s left"


def test_pace():
    pace = command.Pace(30.0, 120, 10.0)
    assert (pace.rate, pace.left_s) == (3, 30)
    assert command.Pace(0.0, 120, 0.0).rate == 0
    assert command.Pace(130.0, 120, 10.0).left_s == 0


def test_progress_in_lines(monkeypatch, capsys):
    """A line every few seconds."""
    clock = [100.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
    with command.progress(100, line) as advance:
        for _ in range(8):
            clock[0] += 2
            advance(10)
    assert capsys.readouterr().err == ("30 of 100, 5.0 a second, 14 s left\n60 of 100, 5.0 a second, 8 s left\n")


def test_short_work_says_nothing(capsys):
    with command.progress(3, line) as advance:
        for _ in range(3):
            advance(1)
    with command.progress(0, line):
        pass
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with command.progress(4, line) as advance:
        for _ in range(4):
            command.time.sleep(0.15)  # tqdm draws ten times a second at most
            advance(1)
    drawn = terminal.getvalue()
    assert " 75 %|" in drawn
    assert "3 of 4, " in drawn
    assert drawn.endswith("\r")  # the bar is gone, results stand alone
    assert "\n" not in drawn


def test_no_bar_if_there_is_nothing_to_do(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with command.progress(0, line):
        pass
    assert terminal.getvalue() == ""


# ---------------------------------------------------------------- console commands


PACKAGES = ["isp", "blursynth"]


def main_of(package: str):
    return importlib.import_module(f"{package}.__main__")


@pytest.mark.parametrize("package", PACKAGES)
def test_console_commands(package, capsys):
    main = main_of(package).main
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"blursynth {command.version()}\n"
    for arguments, code in ([], command.USAGE), (["--help"], 0), (["-h"], 0):
        assert main(arguments) == code
        out, err = capsys.readouterr()
        said = err if code else out
        assert said.startswith(f"usage: {package} ")
        assert all(f"\n  {name} " in said for name in main_of(package).COMMANDS)
        assert (out if code else err) == ""
    assert main(["mak"]) == command.USAGE
    assert f"{package}: expected one of " in capsys.readouterr().err


def test_a_misspelt_command(capsys):
    assert main_of("blursynth").main(["inspct", "x"]) == command.USAGE
    assert capsys.readouterr().err == (
        'blursynth: expected one of make, inspect, verify, got "inspct"; did you mean "inspect"?\n'
    )


COMMANDS = [(package, name) for package in PACKAGES for name in main_of(package).COMMANDS]


@pytest.mark.parametrize(("package", "name"), COMMANDS)
def test_every_command_answers_version_and_help(package, name, capsys):
    for option, expected in (
        ("--version", f"blursynth {command.version()}\n"),
        ("--help", f"usage: python -m {package}.{name}"),
    ):
        try:
            assert main_of(package).main([name, option]) == 0
        except SystemExit as end:
            assert end.code == 0
        assert capsys.readouterr().out.startswith(expected)


def test_codes_and_arguments_are_passed_on(tmp_path, capsys):
    assert main_of("blursynth").main(["inspect", str(tmp_path / "nowhere")]) == command.BAD_DATA
    place = tmp_path / "nowhere"
    assert capsys.readouterr().err == (
        f"{place}: expected a shard or a folder of shards (shard-00000.h5), got none; run blursynth.make\n"
    )


def test_every_door_is_a_console_command():
    """A module with a `main` in either package is found by its console command."""
    from pathlib import Path

    root = Path(command.__file__).parents[1]
    doors = set()
    for package in PACKAGES:
        for path in (root / package).glob("*.py"):
            if path.stem != "__main__" and "\ndef main(" in path.read_text(encoding="utf-8"):
                doors.add((package, path.stem))
        doors |= {(package, path.parent.name) for path in (root / package).glob("*/__main__.py")}
    assert doors == set(COMMANDS)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain.png", "plain.png"), ("Höhe 写真", "Höhe 写真"), ("a\x1b[2Jb", r"a\x1b[2Jb"), ("two\nlines", r"two\nlines"),
        ("\udcff.png", r"\xff.png"), ("\ud800", r"\ud800"), ("\u202egnp.exe", r"\u202egnp.exe"), ("\x9b2J", r"\x9b2J"),
    ],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    assert command.shown(text) == expected


DOOR = """
import os, sys
from isp import command

@command.door("stopped; go on")
def main(argv=None):
    first = os.open("/dev/null", os.O_RDONLY)
    {body}
    command.say(f"Höhe \\x1b {{first}}")
    return 7

sys.exit(main())
"""


def run_door(body: str, *, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-c", DOOR.format(body=body)]
    command_line = ["bash", "-c", f'"$@" {shell}', "bash", *script] if shell else script
    return subprocess.run(
        command_line, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ("pass", 7, ""), ("raise KeyboardInterrupt", 130, "stopped; go on\n"),
        ("raise MemoryError('of 4 TB')", 1, "expected enough memory, got none (of 4 TB); use smaller pictures"),
        ("raise MemoryError", 1, "expected enough memory, got none; use smaller pictures or fewer --workers\n"),
        ("raise RuntimeError('[enforce fail] can\\'t allocate memory: 5 bytes\\nframe 1')", 1,
         "expected enough memory, got none ([enforce fail] can't allocate memory: 5 bytes); use"),
        ("raise ImportError('x.so: failed to map segment from shared object')", 1, "expected enough memory, got none (x.so"),
        ("raise OSError(12, 'Cannot allocate memory')", 1, "expected enough memory, got none ([Errno 12]"),
        ("raise ValueError('a.png: got an error (Cannot allocate memory)')", 1, "a.png: got an error (Cannot"),
        ("raise OSError(28, 'No space left on device', 'a.h5')", 1,
         "a.h5: No space left on device; what was finished is kept, so fix that and run the same command again\n"),
        ("raise ValueError('a.png: expected a picture')", 1, "a.png: expected a picture\n"),
        ("raise ImportError('install it')", 1, "install it\n"),
        ("raise command.UsageError('--out: no')", 2, "--out: no\n"),
        ("command.check_device('abacus')", 2, "--device: expected cpu or cuda, got \"abacus\"\n"),
        ("raise ValueError('a\\x1b[2J.png\\udcff')", 1, "a\\x1b[2J.png\\xff\n"),
    ],
)  # fmt: skip
def test_a_door_ends_with_a_sentence_and_its_exit_code(body: str, code: int, sentence: str) -> None:
    ended = run_door(body)
    assert ended.returncode == code
    assert ended.stderr.startswith(sentence)
    assert "Traceback" not in ended.stderr


def test_a_door_hides_no_bug() -> None:
    ended = run_door("raise KeyError('bug')")
    assert ended.returncode == 1
    assert ended.stderr.endswith("KeyError: 'bug'\n")


def test_the_remedy_of_a_door(capsys) -> None:
    @command.door(remedy="try another")
    def main(argv=None):
        raise OSError(28, "No space left on device", "a.h5")

    assert main() == command.BAD_DATA
    assert capsys.readouterr().err == "a.h5: No space left on device; try another\n"


@pytest.mark.parametrize(
    "problem",
    [
        OSError(2, "No such file", "out of memory.png"),
        ValueError("cannot allocate memory"),
        KeyError("memory"),
        OSError("x"),
    ],
)
def test_what_is_no_lack_of_memory(problem) -> None:
    assert not command.lacks_memory(problem)


def test_a_sentence_about_a_lack_of_memory_is_one() -> None:
    """Or a recipe that skips bad pictures would skip one for which this machine is too small."""
    sentence = ValueError("a.png: expected a picture that fits into memory, got 6500x6500 pixels")
    sentence.__cause__ = MemoryError()
    assert command.lacks_memory(sentence)
    assert command.memory_sentence(sentence).startswith("expected enough memory, got none (a.png: expected a picture")


def test_every_stream_is_inherited() -> None:
    """Or a file of a process that this one starts would get its number."""
    body = "assert all(map(os.get_inheritable, range(3)))"
    assert run_door(body, shell="<&- >&- 2>&-").returncode == 7


def test_a_number_that_was_closed_may_be_that_of_a_file_by_now(tmp_path) -> None:
    """Of a module that was loaded before the door opened: what is said must not go there."""
    path = tmp_path / "theirs"
    script = f"import os; os.open({str(path)!r}, os.O_CREAT | os.O_WRONLY)\n" + DOOR.format(body="command.warn('x')")
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 7
    assert path.read_bytes() == b""


def test_arguments_are_shown(capsys) -> None:
    parser = command.parser("isp.nothing", "Does nothing.")
    with pytest.raises(SystemExit):
        parser.parse_args(["--no\x1b[2J"])
    said = capsys.readouterr().err
    assert r"unrecognized arguments: --no\x1b[2J" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("body", "code"), [("command.parser('x', 'y').parse_args(['--help'])", 0), ("command.say('x')", 7)]
)
def test_help_that_nobody_reads(body: str, code: int, unbuffered: str) -> None:
    ended = run_door(body, shell="| true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=unbuffered)
    assert ended.stderr == ""
    assert ended.returncode == code


def test_output_that_cannot_be_written() -> None:
    ended = run_door("command.say('x')", shell="> /dev/full")
    assert ended.returncode == 1
    assert ended.stderr.startswith("stdout: No space left on device; what was written there is not whole")
    assert ended.stderr.count("\n") == 1
    assert run_door("command.warn('x')", shell="2> /dev/full").returncode == 7


def test_an_ascii_terminal_gets_escapes() -> None:
    ended = run_door("pass", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout.split()[:2]) == (7, [r"H\xf6he", r"\x1b"])


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_no_file_of_ours_gets_the_number_of_a_closed_stream(closed: str) -> None:
    body = "assert first > 2, first"
    assert run_door(body, shell=closed).returncode == 7


def test_the_work_goes_on_if_nobody_reads_its_output() -> None:
    ended = run_door("[command.say('x' * 1000) for _ in range(1000)]; command.warn('all done')", shell="| head -1")
    assert ended.stderr == "all done\n"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_full_disk_behind_a_stream_is_no_traceback(stream):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code = (
        "from isp import command; import sys; "
        "sys.exit(command.door()(lambda argv: command.say('a') or command.refuse('b', 3))())"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$@" {stream}>/dev/full', "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if stream == "1":
        assert done.returncode == command.BAD_DATA
        assert (
            done.stderr
            == "stdout: No space left on device; what was written there is not whole, run the command again elsewhere\n"
        )
    else:
        assert (done.returncode, done.stdout, done.stderr) == (3, "a\n", "")


def test_json_is_json():
    """Strict readers refuse Infinity, NaN and halves of surrogate pairs."""
    value = {"\udcff": [math.inf, -math.inf, math.nan, 1.5, "\ud800", "a\nb", "\U0001f600", ("H\u00f6he", None, True)]}
    expected = {"\\xff": [None, None, None, 1.5, "\\ud800", "a\nb", "\U0001f600", ["H\u00f6he", None, True]]}
    text = command.json_of(value)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == expected
    json.loads(text)["\\xff"][4].encode()

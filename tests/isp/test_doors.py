"""Every command beside odd files: a bad one is named in a sentence, the good ones beside it are used."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from isp import command, doctor, evaluate, pairs
from isp.apply import __main__ as apply
from isp.files import places
from isp.files.pictures import encode_jpeg, write_image
from isp.files.raw import read_raw
from isp.prepare import __main__ as prepare

SECONDS = 20  # for one run; a command that waits on a named pipe would never end

# ---------------------------------------------------------------- odd files

Make = Callable[
    [Path, bytes], Path
]  # takes the path it may take and the bytes of a good file, returns the path it took


def named(name: bytes) -> Make:
    """A good file of an odd name."""

    def make(path: Path, good: bytes) -> Path:
        odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + name + os.fsencode(path.suffix)))
        odd.write_bytes(good)
        return odd

    return make


def content(change: Callable[[bytes], bytes]) -> Make:
    def make(path: Path, good: bytes) -> Path:
        path.write_bytes(change(good))
        return path

    return make


def placed(put: Callable[[Path], object]) -> Make:
    def make(path: Path, good: bytes) -> Path:
        put(path)
        return path

    return make


BAD: dict[str, Make] = {
    "empty": content(lambda good: b""),
    "truncated": content(lambda good: good[: len(good) // 2]),
    "head": content(lambda good: good[:40]),
    "text": content(lambda good: b"hello\n" * 9),
    "HTML": content(lambda good: b"<html>404 not found</html>"),
    "BigTIFF": content(lambda good: b"II+\0\x08\0\0\0" + b"\xff" * 7 + b"\x80"),
    "folder": placed(lambda path: path.mkdir()),
    "pipe": placed(os.mkfifo),
    "null": placed(lambda path: path.symlink_to(os.devnull)),
    "loop": placed(lambda path: path.symlink_to(path.name)),
    "broken link": placed(lambda path: path.symlink_to("nowhere")),
}
NAMES: dict[str, Make] = {
    "not UTF-8": named(b"\xff\xfe"),
    "escapes": named(b"a\x1b[2Jb\nc\r"),
    "spaces": named(b" a b "),
    "options": named(b"--force"),
    "long": named(b"n" * 250),
}


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"not done within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(capsys: pytest.CaptureFixture[str], door: types.ModuleType, *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr), whose lines hold nothing but what can be shown."""
    capsys.readouterr()
    with in_time():
        code = door.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    for line in (out + err).split("\n"):
        assert command.shown(line) == line
    (out + err).encode()
    return code, out, err


# ---------------------------------------------------------------- good files


@pytest.fixture(scope="module")
def picture(scene) -> np.ndarray:
    return (scene(72, 96, seed=3) ** (1 / 2.2) * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def photo(picture) -> bytes:
    return encode_jpeg(picture, 92)


@pytest.fixture(scope="module")
def raw(dng, picture) -> bytes:
    return dng(200 + 8 * picture[..., 1].astype(np.uint16), black=(100,) * 4)


@pytest.fixture(scope="module")
def pair(raw, picture, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "a.dng").write_bytes(raw)
    image = read_raw(folder / "a.dng")
    pairs.write(folder / "a.h5", image.raw, picture, image.camera, "a.dng + a.jpg")
    return (folder / "a.h5").read_bytes()


APPLY = {
    "inverse": ("inverse", "--isp", "rsblur/a7r3"),
    "transfer": ("transfer", "--from", "rsblur/a7r3", "--to", "rsblur/srgb"),
    "hdr": ("hdr", "--isp", "rsblur/a7r3", "--gains", "1,2"),
    "forward": ("forward", "--isp", "rsblur/a7r3"),
}


@pytest.fixture
def files(photo, raw, tmp_path) -> Callable[[str, Make], tuple[Path, Path, Path]]:
    """(a good file, an odd one, another good one) for a command of isp.apply."""

    def write(name: str, make: Make) -> tuple[Path, Path, Path]:
        good, suffix = (raw, ".dng") if name == "forward" else (photo, ".jpg")
        first, last = tmp_path / f"first{suffix}", tmp_path / f"last{suffix}"
        first.write_bytes(good)
        last.write_bytes(good)
        return first, make(tmp_path / f"odd{suffix}", good), last

    return write


# ---------------------------------------------------------------- isp.apply


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", APPLY)
def test_apply_names_a_bad_file_and_goes_on(files, tmp_path, capsys, name, kind):
    first, odd, last = files(name, BAD[kind])
    code, out, err = run(capsys, apply, *APPLY[name], first, odd, last, "--out", tmp_path / "out")
    assert code == command.BAD_DATA
    made = [Path(line).name for line in out.splitlines()]
    assert made and {name[:4] for name in made} == {"firs", "last"}
    assert f"{odd}: expected" in err
    assert err.splitlines()[-1] == f"1 of 3 files could not be used: {odd}"
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(made)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", APPLY)
def test_apply_writes_results_under_names_that_can_be_written(files, tmp_path, capsys, name, kind):
    (*paths,) = files(name, NAMES[kind])
    code, out, err = run(capsys, apply, *APPLY[name], "--out", tmp_path / "out", "--", *paths)
    assert code == command.DONE, err
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(names) == len(out.splitlines()) == 3 * (3 if name == "inverse" else 1 if name == "forward" else 2)
    for each in names:
        each.encode()
        assert command.shown(each) == each
    if name == "inverse":
        mosaic = next(path for path in (tmp_path / "out").glob("*.tif") if path.stem not in ("first", "last"))
        json.loads(mosaic.with_suffix(".json").read_text(encoding="utf-8"))["source"].encode()
        assert run(capsys, apply, *APPLY["forward"], mosaic, "--out", tmp_path / "again")[0] == command.DONE


@pytest.mark.parametrize("kind", [*BAD, "gone"])
def test_a_mosaic_with_a_bad_sidecar_is_named(photo, tmp_path, capsys, kind):
    """The sidecar is a second input: a pipe in its place must not hold the command up."""
    (tmp_path / "photo.jpg").write_bytes(photo)
    assert run(capsys, apply, *APPLY["inverse"], tmp_path / "photo.jpg", "--out", tmp_path)[0] == command.DONE
    good = (tmp_path / "photo.json").read_bytes()
    (tmp_path / "photo.json").unlink()
    if kind != "gone":
        BAD[kind](tmp_path / "photo.json", good)
    code, out, err = run(capsys, apply, *APPLY["forward"], tmp_path / "photo.tif", "--out", tmp_path / "out")
    assert (code, out) == (command.BAD_DATA, "")
    assert f"{tmp_path / 'photo.json'}: expected" in err or f"{tmp_path / 'photo.tif'}: expected" in err


def test_the_smallest_pictures(dng, tmp_path, capsys):
    write_image(tmp_path / "one.png", np.full((1, 1, 3), 99, np.uint8))
    (tmp_path / "one.dng").write_bytes(dng(np.full((1, 1), 999, np.uint16)))
    for name, arguments in APPLY.items():
        path = tmp_path / ("one.dng" if name == "forward" else "one.png")
        code, _, err = run(capsys, apply, *arguments, path, "--out", tmp_path / "out")
        assert code == command.BAD_DATA
        assert f"{path}: expected" in err


# ---------------------------------------------------------------- isp.doctor


@pytest.mark.parametrize("kind", [*BAD, *NAMES])
@pytest.mark.parametrize("suffix", [".jpg", ".dng", ".tif"])
def test_doctor_reports_every_file(photo, raw, tmp_path, capsys, suffix, kind):
    good = raw if suffix == ".dng" else photo
    (tmp_path / "good.jpg").write_bytes(photo)
    odd = {**BAD, **NAMES}[kind](tmp_path / f"odd{suffix}", good)
    paths = tmp_path / "good.jpg", odd, tmp_path / "good.jpg"
    expected = command.BAD_DATA if kind in BAD else command.DONE
    code, out, _ = run(capsys, doctor, "--", *paths)
    assert code == expected
    assert out.count("verdict:") == 3
    assert command.shown(str(odd)) in out.splitlines()
    code, out, _ = run(capsys, doctor, "--json", "--", *paths)
    assert code == expected
    first, found, last = json.loads(out)
    assert first["usable"] and last["usable"] and found["usable"] == (kind in NAMES)
    found["path"].encode()


# ---------------------------------------------------------------- isp.prepare


@pytest.fixture
def shots(raw, photo, tmp_path) -> Path:
    """A folder with two good pairs."""
    (tmp_path / "data").mkdir()
    for name in ("first", "last"):
        (tmp_path / "data" / f"{name}.dng").write_bytes(raw)
        (tmp_path / "data" / f"{name}.jpg").write_bytes(photo)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("suffix", [".dng", ".jpg"])
def test_prepare_names_a_bad_file_and_goes_on(shots, raw, photo, tmp_path, capsys, suffix, kind):
    good, other = (raw, ".jpg") if suffix == ".dng" else (photo, ".dng")
    BAD[kind](shots / f"odd{suffix}", good)
    (shots / f"odd{other}").write_bytes(photo if other == ".jpg" else raw)
    code, out, _ = run(capsys, prepare, "--data", shots, "--out", tmp_path / "out", "--json")
    assert code == command.BAD_DATA
    record = json.loads(out)
    assert {"first", "last"} == {pair["name"] for pair in record["pairs"]}
    assert any("odd" in each["reason"] for each in record["skipped"])
    code, out, _ = run(capsys, prepare, "--data", shots, "--out", tmp_path / "out")
    assert code == command.BAD_DATA and "odd" in out


@pytest.mark.parametrize("kind", NAMES)
def test_prepare_makes_pairs_under_names_that_can_be_listed(shots, raw, photo, tmp_path, capsys, kind):
    for suffix, good in ((".dng", raw), (".jpg", photo)):
        NAMES[kind](shots / f"odd{suffix}", good)
    for _ in range(2):  # made, then recognised
        code, out, err = run(capsys, prepare, "--data", shots, "--out", tmp_path / "out", "--json")
        assert code == command.DONE, out + err
        record = json.loads(out)
        json.dumps(record, ensure_ascii=False).encode()
        assert len(record["pairs"]) == 3
    listed = [pair for split in ("train", "val", "test") for pair in pairs.split(tmp_path / "out", split)]
    assert len(listed) == 3
    for each in listed:
        assert each.size[0] > 60
        (each.path.name + each.source).encode()


# ---------------------------------------------------------------- isp.evaluate


@pytest.mark.parametrize("kind", [*BAD, *NAMES])
def test_evaluate_names_a_bad_pair_and_goes_on(pair, tmp_path, capsys, kind):
    (tmp_path / "a.h5").write_bytes(pair)
    odd = {**BAD, **NAMES}[kind](tmp_path / "odd.h5", pair)
    if kind in NAMES:  # as isp.prepare writes them
        odd = odd.rename(odd.with_name(places.writable_name(odd.stem) + odd.suffix))
    (tmp_path / "test.txt").write_text(f"a.h5\n{odd.name}\n", encoding="utf-8")
    arguments = ("--isp", "rsblur/a7r3", "--data", tmp_path, "--json")
    code, out, err = run(capsys, evaluate, *arguments)
    if kind in ("folder", "pipe", "null", "loop", "broken link"):
        assert code == command.BAD_DATA and f"{odd.name}" in err
    elif kind in BAD:
        assert code == command.BAD_DATA
        assert f"{odd}: expected" in err
        assert json.loads(out)["true"]
    else:
        assert code == command.DONE, err


# ---------------------------------------------------------------- the machine


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write into a folder, not even the superuser, who tests often are."""
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    if os.access(folder, os.W_OK) and subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("this user may write everywhere")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder], capture_output=True)
        folder.chmod(0o755)


def test_folders_that_nobody_may_write_into(shots, photo, tmp_path, capsys):
    out = tmp_path / "closed" / "out"
    with read_only(out):
        for door, arguments in (
            (apply, (*APPLY["inverse"], shots / "first.jpg")),
            (prepare, ("--data", shots)),
        ):
            code, said, err = run(capsys, door, *arguments, "--out", out)
            assert (code, said) == (command.BAD_DATA, "")
            assert str(out) in err.splitlines()[-1] and "; " in err.splitlines()[-1]
            code, said, err = run(capsys, door, *arguments, "--out", out / "new")
            assert (code, said) == (command.USAGE, "")
            assert "expected a folder to write into" in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "| true"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_streams_that_are_closed_or_ascii(shots, photo, tmp_path, closed, encoding):
    odd = NAMES["escapes"](shots / "x.jpg", photo)
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])}
    for module, arguments in (
        ("isp.doctor", [odd]),
        ("isp.prepare", ["--data", shots, "--out", tmp_path / "out"]),
        ("isp.apply", [*APPLY["inverse"], odd, shots / "höhe.jpg", "--out", tmp_path / "raw", "--force"]),
    ):
        (shots / "höhe.jpg").write_bytes(photo)
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True, env=environment, timeout=SECONDS,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert (tmp_path / "out" / "first.h5").is_file()
    assert (tmp_path / "raw" / "höhe.tif").is_file()

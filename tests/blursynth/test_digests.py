"""Digests of files, and what is remembered of them between runs."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blursynth import digests
from blursynth.digests import digests_of

LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache of this test alone; the file in it. Files count as settled at once."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    return folder / "blursynth" / "digests.json"


def write(path: Path, content: bytes = b"picture") -> Path:
    """A file that says of itself that it was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_joined():
    one, two = "0" * 64, "1" * 64
    assert digests.joined([one]) == one
    assert digests.joined([one, two]) == hashlib.sha256((one + two).encode()).hexdigest()


def test_a_file_is_hashed_once(tmp_path, hashed):
    paths = [write(tmp_path / name, name.encode()) for name in ("a.png", "b.png")]
    first = digests_of(paths)
    assert first == {path: sha256(path) for path in paths}
    assert hashed == ["a.png", "b.png"]
    assert digests_of(paths) == first
    assert hashed == ["a.png", "b.png"]


# ---------------------------------------------------------------- another content at the same path


def later(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO + 1))


def longer(path: Path) -> None:
    write(path, b"pictures")


def overwritten(path: Path) -> None:
    """As `cp -p` does: the same file, size and time."""
    write(path, b"PICTURE")


def replaced(path: Path) -> None:
    """As `rsync -t` and unpacking archives do."""
    write(path.with_name("new"), b"PICTURE").replace(path)


def exchanged(path: Path) -> None:
    """Both files were there before, and neither is written now."""
    path.rename(path.with_name("old"))
    path.with_name("other").rename(path)


def relinked(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("other"))


def folder_relinked(path: Path) -> None:
    """The path goes through a link to a folder, as `current/a.png`."""
    shutil.move(path.parent, path.parent.with_name("v1"))
    write(path.parent.with_name("v2") / path.name, b"PICTURE")
    path.parent.symlink_to(path.parent.with_name("v2"))


@pytest.mark.parametrize("change", [later, longer, overwritten, replaced, exchanged, relinked, folder_relinked])
def test_another_content_at_the_same_path_is_hashed(change: Callable[[Path], None], tmp_path, hashed):
    path = write(tmp_path / "data" / "a.png")
    write(tmp_path / "data" / "other", b"PICTURE")
    before = digests_of([path])
    change(path)
    assert digests_of([path]) == {path: sha256(path)}
    assert hashed == ["a.png"] * 2
    assert (digests_of([path]) == before) == (change is later)  # remembered anew
    assert hashed == ["a.png"] * 2


def test_a_file_on_another_device_is_another_file(tmp_path, hashed, cache):
    """Two mounts may number their files alike."""
    path = write(tmp_path / "a.png")
    digests_of([path])
    entries = json.loads(cache.read_text())
    assert entries[str(path)][0] == path.stat().st_dev
    entries[str(path)][0] += 1
    cache.write_text(json.dumps(entries))
    digests_of([path])
    assert hashed == ["a.png"] * 2


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, monkeypatch, hashed, cache):
    """It may change again within a tick of its clock; a program may set back the time of the content."""
    monkeypatch.setattr(digests, "_SETTLED_NS", 3600 * 10**9)
    path = write(tmp_path / "a.png")
    for _ in range(2):
        digests_of([path])
    assert hashed == ["a.png"] * 2
    assert not cache.exists()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: expected a readable file, got an error \(No such file"):
        digests_of([tmp_path / "a.png"])


# ---------------------------------------------------------------- the file that remembers

CORRUPT = {
    "empty": b"",
    "cut": b'{"/a": [1, 2',
    "list": b"[1]",
    "number": b"7",
    "entry": b'{"/a": 7}',
    "empty entry": b'{"/a": []}',
    "short entry": b'{"/a": [1, 2]}',
    "digest": b'{"/a": [1, 2, 3, 4, 5, "zz"]}',
    "digest kind": b'{"/a": [1, 2, 3, 4, 5, 6]}',
    "NaN": b'{"/a": [NaN, 2, 3, 4, 5, "%s"]}' % (b"0" * 64),
    "infinity": b'{"/a": [1e999, 2, 3, 4, 5, "%s"]}' % (b"0" * 64),
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("case", CORRUPT)
def test_a_corrupt_cache_is_ignored_and_rewritten(tmp_path, cache, case):
    path = write(tmp_path / "a.png")
    cache.parent.mkdir()
    cache.write_bytes(CORRUPT[case])
    assert digests_of([path]) == {path: sha256(path)}
    found = path.stat()
    stamp = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    assert json.loads(cache.read_text()) == {str(path): [*stamp, sha256(path)]}


def test_entries_of_older_versions_are_not_believed(tmp_path, cache):
    """They hold size and time alone."""
    path = write(tmp_path / "a.png")
    cache.parent.mkdir()
    cache.write_text(json.dumps({str(path): [path.stat().st_size, path.stat().st_mtime_ns, "0" * 64]}))
    assert digests_of([path]) == {path: sha256(path)}


def test_a_cache_that_is_no_file_is_no_error(tmp_path, cache):
    path = write(tmp_path / "a.png")
    cache.parent.mkdir()
    os.mkfifo(cache)  # opening it would wait for ever
    assert digests_of([path]) == {path: sha256(path)}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    path = write(tmp_path / "photos" / "a.png")
    (tmp_path / "file").write_text("x")
    for base in (tmp_path / "file", Path(os.devnull), Path("/proc")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(base))
        assert digests_of([path]) == {path: sha256(path)}


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert digests._cache_file() == tmp_path / ".cache" / "blursynth" / "digests.json"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert len(digests_of([write(tmp_path / "a.png")])) == 1


def test_entries_of_other_files_stay_until_there_are_too_many(tmp_path, cache, monkeypatch):
    one, two, three = (write(tmp_path / name) for name in ("one", "two", "three"))
    for path in (one, two):
        digests_of([path])
    one.unlink()
    assert set(json.loads(cache.read_text())) == {str(one), str(two)}
    monkeypatch.setattr(digests, "_MOST_ENTRIES", 2)
    digests_of([three])
    assert set(json.loads(cache.read_text())) == {str(two), str(three)}


def test_runs_at_the_same_time_leave_a_sound_cache(tmp_path, cache):
    paths = [write(tmp_path / str(run), bytes([run])) for run in range(12)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda path: digests_of([path])[path], paths))
    assert found == [sha256(path) for path in paths]
    entries = json.loads(cache.read_text())
    assert entries
    assert all(entry[-1] == sha256(Path(path)) for path, entry in entries.items())
    assert [path.name for path in cache.parent.iterdir()] == ["digests.json"]

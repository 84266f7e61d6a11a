"""Names from outside stay in their folder, and only regular files are read."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isp.files.places import check_folder, check_regular, inside, read_bytes, writable_name


@pytest.mark.parametrize("name", ["a.png", "scene 1/a.png", "..a", "a..b/c", "Höhe/ü.h5", "~", "-rf", "shard-00000.h5"])
def test_a_name_inside_is_joined(name: str) -> None:
    assert inside(Path("/data/set"), name, "manifest.json") == Path("/data/set") / name


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "..", "../thesis.pdf", "a/../../b", "a/..", "\\\\host\\share", "C:\\a", "C:a", "..\\a", "a\0b",
     3, None, ["a"]],
)  # fmt: skip
def test_a_name_that_leads_out_is_refused(name: object) -> None:
    with pytest.raises(
        ValueError, match=r"^manifest\.json: expected (a name inside|the name of a file in) /data/set, got"
    ):
        inside(Path("/data/set"), name, "manifest.json")


@given(st.text(alphabet="ab./\\:", max_size=12))
def test_nothing_that_is_accepted_leads_out(name: str) -> None:
    try:
        path = inside(Path("/data/set"), name, "list")
    except ValueError:
        return
    assert Path(os.path.normpath(path)).is_relative_to("/data/set")


def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the full path may be longer than the name of a socket may be
        server.bind("socket")
    for name, kind in {
        "pipe": "a named pipe", "folder": "a folder", "socket": "a socket", "/dev/null": "a device",
    }.items():  # fmt: skip
        path = tmp_path / name
        for read in (check_regular, read_bytes):
            with pytest.raises(ValueError, match=f"expected a picture, a regular file, got {kind}; check the path"):
                read(path, "a picture")


@pytest.mark.parametrize("name", ["missing", "file/below", "long" * 100, "nul\0"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((FileNotFoundError, ValueError), match="expected a picture, got"):
        read_bytes(tmp_path / name, "a picture")


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert check_regular(tmp_path / "link") == 5
    assert read_bytes(tmp_path / "link", most=5) == read_bytes(path) == b"12345"
    assert read_bytes(path, most=1 << 60) == b"12345"  # no limit is memory that is asked for
    with pytest.raises(ValueError, match=r"expected a list of at most 4 bytes, got 5; check the path"):
        read_bytes(path, "a list", most=4)


def test_a_folder_or_a_place_for_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "new", "new/below/it", "link", "link/new"):
        check_folder(tmp_path / name)
    for name, got in {
        "file": "a file", "file/below": "a file", "file/below/it": "a file", "pipe": "a named pipe",
        "pipe/below": "a named pipe", "dangling": "a link that leads nowhere", "dangling/below": "a link that leads nowhere",
    }.items():  # fmt: skip
        with pytest.raises(
            ValueError, match=f"{name.split('/')[0]}: expected a place for shards, got {got}; check the path"
        ):
            check_folder(tmp_path / name, "a place for shards")
    with pytest.raises(ValueError, match="expected a folder, got an error"):
        check_folder(tmp_path / ("long" * 100))


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_a_writable_name_can_be_written_and_listed(name: bytes) -> None:
    found = writable_name(os.fsdecode(name))
    assert len(found.encode()) <= 200
    assert found.splitlines() in ([found], []) and found.strip(" ") == found
    assert writable_name(found) == found


@pytest.mark.parametrize("name", ["DSC_0001", "a b.c", "H\u00f6he", "\u65e5\u672c", "100 % (1)", "a\u200db"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert writable_name(name) == name


def test_long_names_stay_apart() -> None:
    assert writable_name("n" * 250 + "a") != writable_name("n" * 250 + "b")

"""Which files of a data folder are found, and that nothing that is left out goes missing without a word."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blursynth.shards import folders
from blursynth.sources import Frames, Pairs, Photos, walk
from blursynth.sources.walk import find


def put(folder: Path, *names: str) -> Path:
    """Make empty files; what is found does not depend on their content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


# ---------------------------------------------------------------- patterns

TREE = ("a.png", "b.jpg", "c/a.png", "c/d/a.png", "c/d/e/b.png", "f/d/a.png", "f/x[1].png", "c.png/d/a.png")
PARTS = st.sampled_from(["**", "*", "c", "d", "f", "a.png", "*.png", "?", "[cf]", "*.jpg", "x[[]1].png"])


@given(parts=st.lists(PARTS, min_size=1, max_size=5))
def test_a_pattern_finds_what_pathlib_finds(tmp_path_factory, parts):
    folder = tmp_path_factory.getbasetemp() / "tree"
    put(folder, *TREE)
    # A pattern that ends with ** means everything below, as in pathlib from Python 3.13 on.
    pattern = "/".join([*parts, "*"] if parts[-1] == "**" else parts)
    expected = sorted({p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file()})
    if expected:
        assert find(folder, "/".join(parts)).names == expected
    else:
        with pytest.raises(ValueError, match="got none"):
            find(folder, "/".join(parts))


@pytest.mark.parametrize(
    ("pattern", "names", "linked"),
    [
        ("**/*", ["in/a.png"], 3),
        ("**/*.png", ["in/a.png"], 3),
        ("*/*.png", ["in/a.png", "to-in/a.png"], 2),
        ("to-*/**/*.png", ["to-in/a.png"], 2),
        ("in/*", ["in/a.png"], 0),
        ("to-in/*", ["to-in/a.png"], 0),
    ],
)
def test_a_pattern_never_leads_out_of_the_folder(tmp_path, pattern, names, linked):
    put(tmp_path, "data/in/a.png", "elsewhere/secret.png", "data2/near.png")
    (tmp_path / "data/to-in").symlink_to("in")
    (tmp_path / "data/to-out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/to-near").symlink_to("../data2")
    found = find(tmp_path / "data", pattern)
    assert found.names == names
    assert found.skipped["linked folder"] == linked


def test_a_pattern_that_names_only_links_to_other_places_is_refused_with_their_number(tmp_path):
    put(tmp_path, "elsewhere/a.png").joinpath("data").mkdir()
    (tmp_path / "data/out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"got none \(skipped: 1 linked folder\)"):
        find(tmp_path / "data", "out/*.png")


def test_loops_of_links_end(tmp_path):
    put(tmp_path, "a/b/1.png")
    (tmp_path / "a/b/loop").symlink_to(tmp_path)
    assert find(tmp_path, "**/*").names == ["a/b/1.png"]
    assert find(tmp_path, "a/b/loop/**/*.png").names == ["a/b/loop/a/b/1.png"]


def test_the_data_folder_itself_may_be_a_link(tmp_path):
    put(tmp_path, "v1/a.png", "v1/b/c.png")
    (tmp_path / "v1/link").symlink_to("b")
    (tmp_path / "current").symlink_to("v1")
    assert find(tmp_path / "current", "**/*").names == ["a.png", "b/c.png"]
    assert find(tmp_path / "current", "link/*").names == ["link/c.png"]


# ---------------------------------------------------------------- folders of systems

SERVICE = [
    *(
        "@eaDir",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "RECYCLER",
        ".Trash-1000",
        ".Trashes",
        ".Trash",
    ),
    *(
        "__MACOSX",
        "System Volume Information",
        "lost+found",
        ".thumbnails",
        "@Recycle",
        ".@__thumb",
        "FOUND.000",
        ".snapshot",
    ),
]


@pytest.mark.parametrize("service", SERVICE)
@pytest.mark.parametrize("place", ["", "album/"])
def test_folders_that_systems_make_are_left_out_and_counted(tmp_path, service, place):
    put(tmp_path, "a.png", "album/b.jpg")
    put(tmp_path, f"{place}{service}/a.png/SYNOPHOTO_THUMB_M.jpg", f"{place}{service}/b.jpg", f"{place}{service}/c.txt")
    found = find(tmp_path, "**/*")
    assert found.names == ["a.png", "album/b.jpg"]
    assert found.skipped == {f"image in {service}": 2}


@pytest.mark.parametrize(
    "name", ["recycle", "eaDir", "Trash", "snapshots", "thumbnails", "lost", "My #recycle", "found.1"]
)
def test_names_that_people_give_are_no_service_folders(tmp_path, name):
    assert find(put(tmp_path, f"{name}/a.png"), "**/*").names == [f"{name}/a.png"]


def test_thumbnails_that_were_copied_out_of_a_service_folder(tmp_path):
    found = find(put(tmp_path, "a.png", "SYNOPHOTO_THUMB_M.jpg", "b/SYNOFILE_THUMB_XL.png", "Thumbs.db"), "**/*")
    assert found.names == ["a.png"]
    assert found.skipped == {".db": 1, "thumbnail of a NAS": 2}


def test_hidden_files_and_folders_are_ignored(tmp_path):
    found = find(put(tmp_path, "a.png", ".b.png", ".git/c.png", "d/.e/f.png", "d/._a.png"), "**/*")
    assert (found.names, found.skipped) == (["a.png"], {})


# ---------------------------------------------------------------- folders that cannot be read


def as_nobody_special(code: str) -> str:
    """Run Python code without the right to read everything, and return what it prints."""
    drop = [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
        "--inh-caps",
        "-dac_override,-dac_read_search",
    ]
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and setpriv is not there")
    command = [*(drop if os.geteuid() == 0 else []), sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])  # of which names can be read, and files not opened; the reverse
def test_folders_without_permission_are_named_and_counted(tmp_path, mode):
    put(tmp_path, "open/a.png", "closed/b.png", "deep/closed/c.png", "lost+found/d.png")
    closed = [tmp_path / name for name in ("closed", "deep/closed", "lost+found")]
    for folder in closed:
        folder.chmod(mode)
    try:
        printed = as_nobody_special(
            "import json; from pathlib import Path; from blursynth.sources.walk import find; "
            f"found = find(Path({str(tmp_path)!r}), '**/*'); print(json.dumps([found.names, found.skipped, found.notes]))"
        )
    finally:
        for folder in closed:
            folder.chmod(0o700)
    names, skipped, notes = json.loads(printed)
    assert names == ["open/a.png"]
    assert skipped == {"unreadable folder": 2}
    assert notes == ["folders that cannot be read: closed, deep/closed"]


def test_a_path_that_is_too_long_to_open_is_counted(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # 20 x 251 letters: more than the 4096 that a path may have
        Path("f" * 250).mkdir()
        os.chdir("f" * 250)
    try:
        found = find(tmp_path, "**/*")
    finally:
        shutil.rmtree(tmp_path / ("f" * 250))
    assert found.names == ["a.png"]
    assert found.skipped == {"unreadable folder": 1}


def test_a_long_list_is_named_in_part():
    assert walk.listed("bad", []) == []
    assert walk.listed("bad", ["b", "a"]) == ["bad: a, b"]
    assert walk.listed("bad", "edcba") == ["bad: a, b, c and 2 more"]


# ---------------------------------------------------------------- what is no regular file


@pytest.mark.parametrize("source", [Photos(), Pairs(layout="rsblur"), Frames(window=3)], ids=lambda each: each.use)
def test_what_is_no_regular_file_is_counted_and_never_opened(tmp_path, source, monkeypatch):
    put(tmp_path, *(f"clip/{number:02}.png" for number in range(1, 6)))
    put(tmp_path, "1/2/avg65_img/avg_blur.png", "1/2/avg65_mask_100/avg_blur.png", "1/2/gt/gt_sharp.png")
    os.mkfifo(tmp_path / "clip/06.png")  # to open it would wait for ever
    (tmp_path / "clip/07.jpg").symlink_to("06.png")
    (tmp_path / "clip/zero.tif").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("clip/socket.png")
    footage = source.open(tmp_path)
    assert footage.skipped["not a regular file"] == 4
    names = {name for clip in footage.clips for name in (*clip.files.frames, clip.files.sharp)}
    assert names.isdisjoint({"06.png", "07.jpg", "zero.tif", "socket.png"})


def test_a_folder_with_the_name_of_a_picture_is_a_folder(tmp_path):
    found = find(put(tmp_path, "a.png/b.png"), "**/*")
    assert (found.names, found.skipped) == (["a.png/b.png"], {})


# ---------------------------------------------------------------- folders of finished shards

OURS = {"recipe": "0" * 64, "seed": 1, "data": "1" * 64, "weights": "2" * 64}


@pytest.mark.parametrize(
    "content",
    ['{"person": 17}', "[]", "null", "17", "", "{", '"text"', json.dumps(OURS | {"person": 17}), "\udcff"],
)
def test_an_identity_of_someone_else_leaves_nothing_out(tmp_path, content):
    put(tmp_path, "two/a.png", "two/shard-00000.h5")
    (tmp_path / "two/identity.json").write_text(content, errors="surrogateescape")
    found = find(tmp_path, "**/*.png")
    assert (found.names, found.skipped) == (["two/a.png"], {})


@pytest.mark.parametrize(
    "beside", ["shards-00000.h5", "shard-0.h5", "shard-00000.h5.part", "shard-00000.h5.json", "b.png"]
)
def test_our_identity_without_shards_leaves_nothing_out(tmp_path, beside):
    put(tmp_path, "two/a.png", f"two/{beside}")
    (tmp_path / "two/identity.json").write_text(json.dumps(OURS))
    assert "two/a.png" in find(tmp_path, "**/*").names


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_an_identity_that_is_no_file_leaves_nothing_out(tmp_path, kind):
    put(tmp_path, "two/a.png", "two/shard-00000.h5")
    (tmp_path / "two/identity.json").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "two/identity.json")
    assert find(tmp_path, "**/*.png").names == ["two/a.png"]


def test_folders_of_finished_shards_are_left_out_counted_and_named(tmp_path):
    put(tmp_path, "a.png", "out/contact_sheet.png", "out/replaced/b.png")
    folders.path_of(tmp_path / "out", 0).touch()
    (tmp_path / "out" / folders.IDENTITY).write_text(json.dumps(OURS))
    found = find(tmp_path, "**/*")
    assert found.names == ["a.png"]
    assert found.skipped == {"folder of finished shards": 1}
    assert found.notes == ["folders of finished shards, whose pictures are left out: out"]
    with pytest.raises(ValueError, match=r"got none \(skipped: 1 folder of finished shards\)"):
        find(tmp_path / "out", "**/*")


# ---------------------------------------------------------------- names that are not UTF-8


def test_names_that_are_not_utf8_work_in_every_source(tmp_path):
    odd = [os.fsdecode(name) for name in (b"caf\xe9", b"\xff\xfe", b"\x1b[31m")]
    for at, folder in enumerate(odd):
        put(tmp_path / "photos", f"{folder}/{folder}.png")
        put(tmp_path / "frames", *(f"{folder}/{folder}{number}.png" for number in range(3)))
        roles = (f"avg65_img/{'avg_blur.png'}", "avg65_mask_100/avg_blur.png", "gt/gt_sharp.png")
        put(tmp_path / "pairs", *(f"{folder}/{at}/{role}" for role in roles))
    assert sorted(clip.name for clip in Photos().open(tmp_path / "photos").clips) == sorted(f"{n}/{n}.png" for n in odd)
    assert sorted(clip.name for clip in Frames(window=3).open(tmp_path / "frames").clips) == sorted(
        f"{name}/{name}1.png" for name in odd
    )
    pairs = Pairs(layout="rsblur").open(tmp_path / "pairs")
    assert {clip.name.split("/")[0] for clip in pairs.clips} == {*odd}
    # what a record, a receipt or --json does with it
    assert [json.loads(json.dumps(clip.name)) for clip in pairs.clips] == [clip.name for clip in pairs.clips]


def test_kinds_are_counted(tmp_path):
    found = find(put(tmp_path, "a.png", "b.txt", "c/d.TXT", "e", "f.mp4"), "**/*")
    assert found.skipped == Counter({".txt": 2, "no suffix": 1, ".mp4": 1})

"""Folders of shards from elsewhere: whatever their files say, nothing outside is touched and nothing foreign is lost."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

from blursynth import ShardDataset, inspect, make, verify
from blursynth.shards import folders
from blursynth.shards.manifest import Manifest
from blursynth.shards.receipt import Receipt

FIRST, SECOND, LAST = (f"shard-0000{number}.h5" for number in range(3))
OLD = Path(__file__).parents[1] / "blursynth" / "shards" / "schema_1"


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Ends what waits for ever, as opening a named pipe does."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its content; links with their goal."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / folders.MANIFEST).read_text())


# ---------------------------------------------------------------- manifests that no run has written

OUTSIDE = [
    "../thesis.pdf", "thesis.pdf", "../out/shard-00000.h5", "./shard-00000.h5", "a/shard-00000.h5", "..", ".", "", "/",
    "{}/thesis.pdf", "shard-00000.h5/..", "shard-00000.h5\0", "shard-00000.h5\n", "..\\thesis.pdf", "C:\\thesis.pdf",
    "shard-0.h5", "shard-000000.h5", "shard-00000.H5", "shard-00000.h5.json", "manifest.json", "SHARD-00000.h5",
    "shard-\u0660\u0660\u0660\u0660\u0660.h5", 7, None, ["shard-00000.h5"], {"name": "shard-00000.h5"},
]  # fmt: skip


@pytest.mark.parametrize("option", [[], ["--repair"], ["--resynthesise", "2"], ["--repair", "--json"]])
@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_a_manifest_that_names_anything_but_shards_is_refused_as_a_whole(name, option, copied, tmp_path, capsys):
    folder = copied()
    for thesis in (tmp_path / "thesis.pdf", tmp_path / "thesis.pdf.json", folder / "thesis.pdf"):
        thesis.write_text("years of work")
    manifest = manifest_of(folder)
    named = name.format(tmp_path) if isinstance(name, str) else name
    manifest["shards"].insert(1, manifest["shards"][0] | {"shard": named, "first_index": 4})
    (folder / folders.MANIFEST).write_text(json.dumps(manifest))
    (folder / SECOND).unlink()  # so that there is something to repair
    before = everything(tmp_path)
    assert verify.main([str(folder), *option]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{folder / folders.MANIFEST}: expected the manifest of a folder of shards, got: ")
    assert everything(tmp_path) == before


def changed(**keys: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | keys


def entry(**keys: Any) -> Callable[[dict[str, Any]], Any]:
    """A manifest whose second entry differs in some keys."""

    def change(manifest: dict[str, Any]) -> dict[str, Any]:
        manifest["shards"][1] |= keys
        return manifest

    return change


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: {name: value for name, value in manifest.items() if name != key}


def twice(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest | {"shards": [*manifest["shards"], manifest["shards"][0]]}


def other_recipe(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest | {"recipe": manifest["recipe"] | {"seed": 8}}


IMPOSSIBLE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "number": lambda manifest: 3,
    "list": lambda manifest: [manifest],
    "text": lambda manifest: "manifest",
    "null": lambda manifest: None,
    "empty": lambda manifest: {},
    "shards is a number": changed(shards=3),
    "shards is an object": changed(shards={"shard": FIRST}),
    "shards of numbers": changed(shards=[3]),
    "shards of empty objects": changed(shards=[{}]),
    "no shards": without("shards"),
    "no recipe": without("recipe"),
    "no identity": without("identity"),
    "no schema": without("schema_version"),
    "of tomorrow": changed(schema_version=99),
    "schema is a text": changed(schema_version="2"),
    "recipe is a list": changed(recipe=[1]),
    "another recipe": other_recipe,
    "identity is a list": changed(identity=[1]),
    "identity with more": lambda manifest: manifest | {"identity": manifest["identity"] | {"more": 1}},
    "identity with NaN": lambda manifest: manifest | {"identity": manifest["identity"] | {"seed": float("nan")}},
    "skipped files": changed(skipped_files={"kind": "many"}),
    "skipped files is a list": changed(skipped_files=[]),
    "twice": twice,
    "NaN": entry(blur_psnr_db=float("nan")),
    "infinity": entry(saturated_share=float("inf")),
    "more than a float holds": entry(blur_psnr_db=10**400),
    "negative": entry(first_index=-2),
    "far": entry(first_index=10**18),
    "of another place": entry(first_index=4),
    "more samples than a shard has": entry(tried=3, count=3),
    "more pairs than samples": entry(count=3),
    "nothing": entry(tried=0, count=0),
    "a number as a text": entry(count="2"),
    "true": entry(tried=True, count=True),
    "no digest": entry(sha256="../../etc/passwd"),
    "skipped is a number": entry(skipped=3),
    "skipped of texts": entry(skipped=["x"]),
    "another key": entry(more=1),
}


# Where a shard lies is compared with the shard itself by whoever reads it; verify compares the manifest alone as well.
SEEN_IN_SHARDS = {"of another place", "more samples than a shard has"}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_manifest_is_refused_by_every_reader(case, copied, capsys):
    folder = copied()
    (folder / folders.MANIFEST).write_text(json.dumps(IMPOSSIBLE[case](manifest_of(folder))))
    before = everything(folder)
    for option in ([], ["--repair"], ["--json"]):
        assert verify.main([str(folder), *option]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"{folder / folders.MANIFEST}: expected the manifest of a folder of shards, got: ")
        assert len(err) < 1500
    if case not in SEEN_IN_SHARDS:
        with pytest.raises(ValueError, match="expected the manifest of a folder of shards, got: "):
            ShardDataset(folder)
    assert everything(folder) == before


@pytest.mark.parametrize("pairs", [1, 3])
def test_a_shard_of_another_length_than_listed_is_not_read(pairs, copied):
    folder = copied()
    (folder / folders.MANIFEST).write_text(json.dumps(entry(tried=pairs, count=pairs)(manifest_of(folder))))
    dataset = ShardDataset(folder)
    with pytest.raises(
        OSError, match=f"{SECOND}: expected the shard of {pairs} pairs that the manifest lists, got one of 2"
    ):
        dataset[2]


TEXTS = {
    "empty": b"",
    "cut": b'{"shards": [',
    "deep list": b"[" * 200_000,
    "deep object": b'{"shards":' * 100_000,
    "bytes": bytes(range(256)),
    "digits": b"9" * 100_000,
    "large": b'{"shards": [' + b"{}," * 2_000_000 + b"{}]}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_manifest_that_is_no_json(text, copied, capsys):
    folder = copied()
    (folder / folders.MANIFEST).write_bytes(text)
    with at_most(20):
        assert verify.main([str(folder), "--repair"]) == 1
    assert "manifest.json: expected the manifest of a folder of shards, got: " in capsys.readouterr().err


def test_a_manifest_that_is_too_large_is_not_read(copied, capsys):
    folder = copied()
    with (folder / folders.MANIFEST).open("r+b") as file:
        file.truncate(2 << 30)
    assert verify.main([str(folder)]) == 1
    assert "expected a manifest of at most 1,073,741,824 bytes, got 2,147,483,648" in capsys.readouterr().err


def test_every_manifest_of_ours_is_read(shards):
    for folder in (shards(), shards(3), OLD):
        manifest = Manifest.read(folder)
        assert list(manifest.receipts) == [path.name for path in folders.shards_in(folder)]


# ---------------------------------------------------------------- other files than were expected


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder_there(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("kept")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")  # endless


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def circle(path: Path) -> None:
    path.symlink_to(path)


KINDS = [fifo, folder_there, device, nowhere, circle]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [folders.MANIFEST, folders.IDENTITY, SECOND, f"{SECOND}.json"])
def test_what_is_no_file_is_said_and_never_waited_for(name, kind, copied, capsys):
    folder = copied()
    (folder / name).unlink()
    kind(folder / name)
    for main in (verify.main, inspect.main):
        with at_most(20):
            code = main([str(folder)])
        said = "".join(capsys.readouterr())
        assert "Traceback" not in said
        if main is verify.main:
            assert code == 1
            assert name.removesuffix(".json") in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [folders.IDENTITY, SECOND, f"{SECOND}.json"])
def test_repair_of_what_is_no_file(name, kind, copied, shards, capsys):
    """Either the folder is whole afterwards, or a sentence says what is in the way; what lay in a folder is kept."""
    folder = copied()
    (folder / name).unlink()
    kind(folder / name)
    with at_most(60):
        code = verify.main([str(folder), "--repair"])
    out, err = capsys.readouterr()
    if code == 0:
        assert (folder / name).read_bytes() == (shards() / name).read_bytes()
        assert verify.main([str(folder)]) == 0
    else:
        assert name.removesuffix(".json") in out + err
        assert "Traceback" not in out + err
    if kind is folder_there:
        assert [path.read_text() for path in folder.rglob("inside")] == ["kept"]


# ---------------------------------------------------------------- what this program did not write

FOREIGN: dict[str, bytes] = {
    SECOND: b"my thesis",
    f"{SECOND}.json": b'{"my": "notes"}',
    f"{LAST}.json": b"notes",
    folders.IDENTITY: b'{"name": "passport"}',
}


def foreign_shard(path: Path) -> bytes:
    """A sound HDF5 file of another program, which numbers its files alike."""
    with h5py.File(path, "w") as file:
        file["years"] = [1, 2, 3]
        file.attrs["author"] = "me"
    return path.read_bytes()


@pytest.mark.parametrize("name", [*FOREIGN, "HDF5"])
@pytest.mark.parametrize("link", ["file", "link"])
def test_repair_removes_nothing_that_is_not_ours(name, link, copied, shards, contents, tmp_path, capsys):
    folder = copied()
    place = folder / (SECOND if name == "HDF5" else name)
    place.unlink()
    written = tmp_path / "outside" if link == "link" else place
    content = foreign_shard(written) if name == "HDF5" else FOREIGN[name]
    written.write_bytes(content)
    if link == "link":
        place.symlink_to(written)
    assert verify.main([str(folder), "--repair"]) == 0
    aside = f"{place.name}.0.set-aside"
    assert f"{folder / aside}: was not written by blursynth, so it was renamed" in capsys.readouterr().out
    assert contents(folder) == contents(shards()) | {aside: content}
    assert written.read_bytes() == content if link == "link" else True
    assert verify.main([str(folder)]) == 0


@pytest.mark.parametrize("name", [SECOND, f"{SECOND}.json", "HDF5"])
def test_make_removes_nothing_that_is_not_ours(name, copied, recipe_file, shards, contents, capsys):
    folder = copied()
    place = folder / (SECOND if name == "HDF5" else name)
    place.unlink()
    content = FOREIGN.get(name) or foreign_shard(place)
    place.write_bytes(content)
    assert make.main(["--recipe", recipe_file(), "--out", str(folder), "--count", "5", "--workers", "0"]) == 0
    aside = f"{place.name}.0.set-aside"
    assert f"{folder / aside}: was not written by blursynth, so it was renamed" in capsys.readouterr().err
    assert contents(folder) == contents(shards()) | {aside: content}


def test_the_manifest_of_a_web_page_is_kept(recipe_file, tmp_path, capsys):
    page = b'{"name": "my page", "icons": []}'
    (tmp_path / folders.MANIFEST).write_bytes(page)
    assert make.main(["--recipe", recipe_file(), "--out", str(tmp_path), "--count", "2", "--workers", "0"]) == 0
    assert (tmp_path / f"{folders.MANIFEST}.0.set-aside").read_bytes() == page
    assert verify.main([str(tmp_path)]) == 0


def test_a_damaged_file_of_ours_is_replaced(copied, shards, contents, recipe_file):
    folder = copied()
    for name in (SECOND, f"{LAST}.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / f"{FIRST}.json").write_bytes(b"")
    assert verify.main([str(folder), "--repair"]) == 0
    assert contents(folder) == contents(shards())


def test_a_lock_that_leads_elsewhere_is_not_written_to(copied, recipe_file, tmp_path, capsys):
    folder, thesis = copied(), tmp_path / "thesis.txt"
    thesis.write_text("years")
    lock = folder / ".slice-0-of-1.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(thesis)
    (folder / FIRST).unlink()
    command = ["--recipe", recipe_file(), "--out", str(folder), "--count", "5", "--workers", "0"]
    for main, arguments in ((verify.main, [str(folder), "--repair"]), (make.main, command)):
        assert main(arguments) == 1
        assert f"{lock}: expected the lock of a folder of shards, got something else" in capsys.readouterr().err
    assert thesis.read_text() == "years"


# ---------------------------------------------------------------- receipts, places, names, older formats


@pytest.mark.parametrize("change", ["tried", "count", "first_index", "other shard", "NaN", "list", "deep"])
def test_an_impossible_receipt_is_said_and_repaired(change, copied, shards, contents, capsys):
    folder = copied()
    path = Receipt.path(folder / SECOND)
    receipt = json.loads(path.read_text())
    texts = {
        "tried": json.dumps(receipt | {"tried": 10**12}),
        "count": json.dumps(receipt | {"count": -1}),
        "first_index": json.dumps(receipt | {"first_index": 3}),
        "other shard": json.dumps(receipt | {"shard": FIRST}),
        "NaN": json.dumps(receipt | {"saturated_share": float("nan")}),
        "list": "[]",
        "deep": '{"shard":' * 100_000,
    }
    path.write_text(texts[change])
    assert verify.main([str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["problems"]
    assert list(found) == [SECOND]
    assert "receipt" in found[SECOND][0]
    assert verify.main([str(folder), "--repair"]) == 0
    kept = {name: content for name, content in contents(folder).items() if not name.endswith(".set-aside")}
    assert kept == contents(shards())


def test_repair_of_receipts_and_identity_needs_neither_pictures_nor_kernels(copied, shards, contents, monkeypatch):
    folder = copied()
    Receipt.path(folder / FIRST).unlink()
    (folder / folders.IDENTITY).unlink()
    monkeypatch.setattr("blursynth.sealed.bind", None)
    assert verify.main([str(folder), "--repair"]) == 0
    assert contents(folder) == contents(shards())


def test_shards_that_changed_places_are_named_and_repaired(copied, shards, contents, capsys):
    folder = copied()
    swapped = {FIRST: SECOND, SECOND: FIRST}
    content = {name: (folder / name).read_bytes() for name in swapped}
    for name, other in swapped.items():
        (folder / name).write_bytes(content[other])
    for without_receipts in (False, True):
        if without_receipts:
            for name in swapped:
                Receipt.path(folder / name).unlink()
        assert verify.main([str(folder)]) == 1
        assert capsys.readouterr().out.count("lies in the place of another shard") == 2
        with pytest.raises(OSError, match="lies in the place of another shard"):
            [ShardDataset(folder)[i] for i in range(4)]
    assert verify.main([str(folder), "--repair"]) == 0
    assert contents(folder) == contents(shards())


def test_names_that_a_terminal_would_obey_are_shown(copied, recipe_file, tmp_path, capsys):
    folder = copied().rename(tmp_path / "a\x1b[2J\nb\x9bc")
    (folder / FIRST).write_text("my thesis")
    for main, arguments in (
        (verify.main, [str(folder)]),
        (verify.main, [str(folder / "no")]),
        (inspect.main, [str(folder)]),
        (inspect.main, [str(folder / "no")]),
        (verify.main, [str(folder), "--repair"]),
        (make.main, ["--recipe", recipe_file(), "--out", str(folder), "--count", "5", "--workers", "0"]),
        (make.main, ["--recipe", recipe_file(), "--out", str(folder), "--count", "5", "--check"]),
        (inspect.main, [str(folder)]),
    ):
        code = main(arguments)
        out, err = capsys.readouterr()
        assert all(character == "\n" or character.isprintable() for character in out + err)
        if code == 0:  # what is said of a name stays on its line
            assert r"a\x1b[2J\nb\x9bc" in out
            assert not any(line.startswith(r"b\x9bc") for line in out.splitlines())


def test_an_older_format_is_noted_and_no_error(tmp_path, capsys):
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    assert verify.main([str(folder)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "note: 1 of 1 shards: each was written in an older format, whose structure carries no checksums"
    )
    assert last == "1 of 1 shards are sound"
    assert verify.main([str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["problems"], len(found["notes"])) == ({}, 1)


def test_the_present_format_needs_no_note(shards, capsys):
    assert verify.main([str(shards()), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []

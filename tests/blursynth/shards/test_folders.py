"""A folder belongs to one run, its shards lie in their places, and nothing is destroyed that this program did not write."""

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import pytest

from blursynth import make, verify
from blursynth.recipe import bind
from blursynth.shards import folders, identity, publish
from blursynth.shards.format import is_ours, name_of, number_of
from blursynth.shards.identity import PIXELS, Identity, identity_of
from blursynth.shards.receipt import Receipt

FIRST, SECOND, LAST = (name_of(number) for number in range(3))


@pytest.fixture
def again(recipe_file, capsys) -> Callable[..., tuple[int, str]]:
    """Makes six pairs in a folder; gives the exit code and what was said on standard error."""

    def run(folder: Path, *more: str) -> tuple[int, str]:
        code = make.main(["--recipe", recipe_file(), "--out", str(folder), "--count", "6", "--workers", "0", *more])
        return code, capsys.readouterr().err

    return run


def unsealed(folder: Path) -> Path:
    (folder / folders.MANIFEST).unlink()
    return folder


# ---------------------------------------------------------------- shards in wrong places


def exchange(folder: Path, one: str, other: str) -> None:
    spare = folder / "spare"
    (folder / one).rename(spare)
    (folder / other).rename(folder / one)
    spare.rename(folder / other)


def copied_over(folder: Path) -> None:
    shutil.copy(folder / FIRST, folder / SECOND)


def copied_over_without_receipt(folder: Path) -> None:
    copied_over(folder)
    (folder / f"{SECOND}.json").unlink()


def copied_over_with_receipt(folder: Path) -> None:
    copied_over(folder)
    shutil.copy(folder / f"{FIRST}.json", folder / f"{SECOND}.json")


def copied_over_with_changed_receipt(folder: Path) -> None:
    copied_over(folder)
    receipt = json.loads((folder / f"{FIRST}.json").read_text())
    (folder / f"{SECOND}.json").write_text(json.dumps(receipt | {"shard": SECOND, "first_index": 2}))


def exchanged_with_receipts(folder: Path) -> None:
    exchange(folder, FIRST, LAST)
    exchange(folder, f"{FIRST}.json", f"{LAST}.json")


def exchanged_without_receipts(folder: Path) -> None:
    exchange(folder, FIRST, LAST)
    for name in (FIRST, LAST):
        (folder / f"{name}.json").unlink()


def exchanged_receipts(folder: Path) -> None:
    exchange(folder, f"{FIRST}.json", f"{LAST}.json")


def shorter_than_its_receipt(folder: Path) -> None:
    """The last shard of a run of five pairs, with the receipt of one of six."""
    whole = (folder / f"{LAST}.json").read_text()
    short = folder.parent / "short"
    arguments = ["--recipe", str(folder.parent / "recipe.yaml"), "--out", str(short), "--count", "5", "--workers", "0"]
    assert make.main(arguments) == 0
    shutil.copy(short / LAST, folder)
    (folder / f"{LAST}.json").write_text(whole)


def receipt_of_more(folder: Path) -> None:
    receipt = Receipt.read(folder / SECOND)
    skipped = [{"index": 4, "source": "a", "reason": "b"}]
    replace(receipt, tried=3, skipped=skipped).write(folder / SECOND)


@pytest.mark.parametrize(
    "mix_up",
    [
        copied_over, copied_over_without_receipt, copied_over_with_receipt, copied_over_with_changed_receipt,
        exchanged_with_receipts, exchanged_without_receipts, exchanged_receipts, shorter_than_its_receipt, receipt_of_more,
    ],
)  # fmt: skip
def test_mixed_up_shards_are_made_again(mix_up, copied, shards, contents, recipe_file, again, tmp_path):
    """No manifest is left that would say so; the folder ends as an uninterrupted run leaves it."""
    shutil.copy(recipe_file(), tmp_path / "recipe.yaml")
    folder = unsealed(copied(6))
    mix_up(folder)
    assert again(folder) == (0, "")
    assert contents(folder) == contents(shards(6))


@pytest.mark.parametrize("mix_up", [exchanged_with_receipts, copied_over_with_changed_receipt])
def test_verify_finds_them_too(mix_up, copied, capsys):
    """Receipts and manifest agree with each other, and with the bytes of the shards."""
    folder = copied(6)
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    mix_up(folder)
    for number, name in enumerate((FIRST, SECOND, LAST)):
        path = folder / f"{name}.json"
        manifest["shards"][number] = json.loads(path.read_text()) | {"shard": name, "first_index": 2 * number}
        path.write_text(json.dumps(manifest["shards"][number]))
    (folder / folders.MANIFEST).write_text(json.dumps(manifest))
    assert verify.main([str(folder)]) == 1
    assert "it lies in the place of another shard" in capsys.readouterr().out


# ---------------------------------------------------------------- shards beyond the count


def test_sound_shards_beyond_the_count_stay_in_the_manifest(copied, shards, contents, recipe_file):
    folder = unsealed(copied(6))
    (folder / f"{LAST}.json").unlink()
    arguments = ["--recipe", recipe_file(), "--out", str(folder), "--count", "2", "--workers", "0"]
    assert make.main(arguments) == 0
    assert contents(folder) == contents(shards(6))


@pytest.mark.parametrize("kind", ["damaged", "foreign", "in another place"])
def test_others_are_refused_before_work_begins(kind, copied, recipe_file, tmp_path, again, capsys):
    folder = copied(6)
    stray = folder / "shard-00003.h5"
    shutil.copy(folder / LAST, stray)
    expected = "the samples from 4 on, by its name they begin with 6"
    if kind == "damaged":
        stray.write_bytes(stray.read_bytes()[:10_000])
        expected = "expected a whole shard, got: "
    elif kind == "foreign":
        arguments = ["--recipe", recipe_file(), "--out", str(tmp_path / "b"), "--count", "8", "--workers", "0"]
        assert make.main([*arguments, "--seed", "8"]) == 0
        shutil.copy(tmp_path / "b" / stray.name, stray)
        expected = "belongs to another run: recipe "
    capsys.readouterr()
    (folder / FIRST).unlink()
    code, said = again(folder)
    assert code == 1
    assert f"{stray}: expected a sound shard of this run, or none, got one that " in said
    assert expected in said
    assert not (folder / FIRST).exists()


# ---------------------------------------------------------------- whose a folder is


CHANGES: list[tuple[dict, str]] = [
    ({"isp": "upi/pair"}, "isp: rsblur/a7r3, wanted upi/pair"),
    ({"seed": 9}, "seed: 7, wanted 9"),
    ({"bits": 16}, "bits: 8, wanted 16"),
    ({"save": []}, 'save: ["kernel"], wanted []'),
    ({"source": {"use": "photos", "pairs_per_photo": 3}}, "source.pairs_per_photo: 8, wanted 3"),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[expected for _, expected in CHANGES])
@pytest.mark.parametrize("lost", [(), (folders.MANIFEST,), (folders.MANIFEST, folders.IDENTITY)])
def test_a_refusal_names_the_keys(change, expected, lost, copied, recipe_file, capsys):
    folder = copied()
    for name in lost:
        (folder / name).unlink()
    for more in ([], ["--check"]):
        arguments = ["--recipe", recipe_file(**change), "--out", str(folder), "--count", "5", "--workers", "0", *more]
        assert make.main(arguments) == 1
        assert f"{folder}: holds shards of another run ({expected})" in capsys.readouterr().err


def test_a_refusal_names_stages(copied, small, recipe_file, capsys):
    document = small()
    document["stages"] = [stage for stage in document["stages"] if stage != "keep_saturated"]
    document["stages"][0] = {"crop": {"size": 80}}
    assert make.main(["--recipe", recipe_file(**document), "--out", str(copied()), "--workers", "0"]) == 1
    said = capsys.readouterr().err
    assert "forward_isp, keep_saturated, crop_border, wanted crop, camera, inverse_isp, " in said
    assert "; crop.size: 64, wanted 80)" in said


DIGESTS = ("1" * 64, "2" * 64)


def test_what_else_may_differ():
    one, other = (Identity(digest, 7, digest, digest, number) for number, digest in zip((1, 2), DIGESTS, strict=True))
    recipe = {"name": "a", "seed": 7, "stages": [{"crop": {"size": 3}}, {"crop": None}]}
    told = identity.in_words(one, other, None, recipe)
    assert told == (
        "another recipe; made from other pictures or kernels; made with other weights of its ISP; "
        "made by a blursynth whose pixels have the number 1, wanted 2"
    )
    assert identity.in_words(replace(one, pixels=None), one, recipe, recipe) == (
        "made by a blursynth that did not number its pixels yet"
    )
    many = {f"key{number}": number for number in range(9)}
    told = identity.in_words(one, replace(one, recipe=DIGESTS[1]), recipe, recipe | many)
    assert told == (
        "key0: none, wanted 0; key1: none, wanted 1; key2: none, wanted 2; key3: none, wanted 3; and 5 more keys"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "x"}, {"recipe": None}, {"recipe": "A" * 64}, {"seed": -1}, {"seed": "7"}, {"seed": 1.0}, {"seed": True},
        {"seed": 2**63}, {"data": ""}, {"weights": 3}, {"pixels": 0}, {"pixels": "1"}, {"more": 1}, [], None,
    ],
)  # fmt: skip
def test_impossible_identities(change, copied):
    folder = copied()
    document = json.loads((folder / folders.IDENTITY).read_text())
    wrong = document | change if isinstance(change, dict) else change
    (folder / folders.IDENTITY).write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=r"identity\.json: expected the identity of a folder of shards, got: "):
        folders.owner_of(folder)


def test_another_number_of_pixels_is_refused(copied, again, monkeypatch):
    folder = copied(6)
    monkeypatch.setattr(identity, "PIXELS", PIXELS + 1)
    code, said = again(folder)
    assert code == 1
    assert f"made by a blursynth whose pixels have the number {PIXELS}, wanted {PIXELS + 1}" in said


def test_other_versions(copied, again, monkeypatch):
    folder = copied(6)
    assert folders.other_versions(folder) == []
    plain = identity.version
    monkeypatch.setattr(identity, "version", lambda name: "9.0.0" if name == "blursynth" else plain(name))
    then = plain("blursynth")
    assert folders.other_versions(folder) == [f"blursynth {then}, now 9.0.0"]
    (folder / LAST).unlink()
    assert again(folder)[0] == 0
    monkeypatch.undo()
    assert folders.other_versions(folder) == [f"blursynth 9.0.0, now {then}"]


# ---------------------------------------------------------------- names


def test_names():
    assert [number_of(name_of(number)) for number in (0, 7, 99_999, 100_000, 10**8)] == [0, 7, 99_999, 100_000, 10**8]
    for name in (
        "shard-0.h5", "shard-000000.h5", "shard-012345.h5", "shard-00000.h5.json", "shard-00000.H5", "xshard-00000.h5",
        "shard-00000.h5\n", "shard-\u0661\u0661\u0661\u0661\u0661.h5", "shard--0001.h5", "shard-1234567890.h5",
        "../shard-00000.h5", "",
    ):  # fmt: skip
        assert number_of(name) is None, name


def test_shards_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("shard-100000.h5", "shard-99999.h5", "shard-00002.h5", "shard-notes.h5", "shard-1.h5", "a.h5"):
        (tmp_path / name).touch()
    assert [path.name for path in folders.shards_in(tmp_path)] == [
        "shard-00002.h5",
        "shard-99999.h5",
        "shard-100000.h5",
    ]
    assert folders.shards_in(tmp_path / "missing") == []


# ---------------------------------------------------------------- what is not ours


def test_is_ours(shards, tmp_path):
    whole = (shards() / FIRST).read_bytes()
    for name, content, expected in (
        (FIRST, whole, True), (FIRST, whole[:9], True), (FIRST, b"", True), (FIRST, b"thesis", False),
        (FIRST, b"\0" * 99, False), ("mine.h5", whole, False), ("shard-0.h5", whole, False),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        assert is_ours(path) is expected, (name, content[:9])
        path.unlink()
    assert not is_ours(tmp_path / FIRST)
    (tmp_path / FIRST).mkdir()
    assert not is_ours(tmp_path / FIRST)


def test_a_stranger_with_the_name_of_a_shard_is_kept(copied, shards, contents, again):
    folder = copied(6)
    (folder / SECOND).write_text("my thesis")
    (folder / f"{SECOND}.0.set-aside").write_text("there is one already")
    code, said = again(folder)
    assert code == 0
    assert f"{SECOND}.1.set-aside: was not written by blursynth, so it was renamed" in said
    strangers = {f"{SECOND}.0.set-aside": b"there is one already", f"{SECOND}.1.set-aside": b"my thesis"}
    assert contents(folder) == contents(shards(6)) | strangers


def test_the_writer_itself_replaces_no_stranger(small, tmp_path):
    bound = bind(small(), "test")
    footage = bound.source.open(None)
    (job,) = folders.plan(bound, identity_of(bound, footage.digest), footage.clips, 2, tmp_path, "cpu")
    from blursynth.shards.writer import Writer

    job.path.write_text("my thesis")
    with (
        pytest.raises(OSError, match=r"shard-00000\.h5: expected a shard, or nothing, got another file"),
        Writer(job, 8),
    ):
        pass
    job.path.unlink()
    job.path.symlink_to(tmp_path / "elsewhere.h5")
    with (
        pytest.raises(OSError, match=r"shard-00000\.h5: expected a shard, or nothing, got another file"),
        Writer(job, 8),
    ):
        pass
    assert job.path.is_symlink()


def test_force_moves_shards_alone(copied, recipe_file):
    folder = copied()
    (folder / "shard-notes.txt").write_text("mine")
    (folder / f"{FIRST}.elsewhere.1.part").write_text("of another host")
    arguments = ["--recipe", recipe_file(), "--out", str(folder), "--count", "2", "--workers", "0", "--seed", "8"]
    assert make.main([*arguments, "--force"]) == 0
    (moved,) = folder.glob("replaced-*")
    receipts = [f"{name}.json" for name in (FIRST, SECOND, LAST)]
    expected = [FIRST, SECOND, LAST, *receipts, f"{FIRST}.elsewhere.1.part", folders.MANIFEST, folders.IDENTITY]
    assert sorted(path.name for path in moved.iterdir()) == sorted(expected)
    assert (folder / "shard-notes.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_stale_parts(tmp_path, dead, shards):
    host = socket.gethostname()
    shard = (shards() / FIRST).read_bytes()
    ours = {
        f"{FIRST}.{host}.{dead}.part": shard[:5000],
        f"{SECOND}.{host}.{dead}.part": b"",
        f"{LAST}.{host}.{dead}.part": b"\0" * 5000,  # HDF5 signs a file when it closes it
        f"{FIRST}.json.{host}.{dead}.part": b'{"count": 3',
        f"manifest.json.{host}.{dead}.part": b"{",
        f"identity.json.{host}.{dead}.part": b"",
    }
    others = {
        f"{name_of(3)}.{host}.{os.getpid()}.part": shard,
        f"{FIRST}.elsewhere.{dead}.part": shard,
        f"{name_of(4)}.{host}.{dead}.part": b"my thesis",
        f"{name_of(5)}.json.{host}.{dead}.part": b"my thesis",
        f"thesis.h5.{host}.{dead}.part": shard,
        f"thesis.json.{host}.{dead}.part": b"{}",
        f"thesis.{host}.{dead}.part": b"",
        "thesis.part": b"",
        f"{FIRST}.{host}.-1.part": shard,
        f"{FIRST}.{host}.x.part": shard,
    }
    for name, content in (ours | others).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name_of(6)}.{host}.{dead}.part").symlink_to(tmp_path / "thesis.part")
    (tmp_path / f"{name_of(7)}.{host}.{dead}.part").mkdir()
    removed = publish.remove_stale_parts(tmp_path)
    assert sorted(path.name for path in removed) == sorted(ours)
    assert {path.name for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink()} == set(others)
    assert len(list(tmp_path.iterdir())) == len(others) + 2


# ---------------------------------------------------------------- syncing


@pytest.mark.parametrize("refusal", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EACCES", "EPERM", "EBADF", "ENOTTY"])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_folders_that_cannot_be_synced(refusal, call, tmp_path, monkeypatch):
    fail_for_folders(call, getattr(errno, refusal), monkeypatch)
    publish.text(tmp_path / "manifest.json", "text")
    assert (tmp_path / "manifest.json").read_text() == "text"


@pytest.mark.parametrize("failure", ["EIO", "ENOSPC", "EDQUOT"])
def test_disks_that_fail(failure, tmp_path, monkeypatch):
    """These mean that the file may be lost."""
    fail_for_folders("fsync", getattr(errno, failure), monkeypatch)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, failure))):
        publish.text(tmp_path / "manifest.json", "text")


def test_files_must_be_synced(tmp_path, monkeypatch):
    def refuse(opened: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Invalid argument"):
        publish.text(tmp_path / "manifest.json", "text")
    assert list(tmp_path.iterdir()) == []


def fail_for_folders(call: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `os.fsync` or `os.open` fail with this error number if it is about a folder."""
    plain = getattr(os, call)

    def failing(what, *more):
        mode = os.fstat(what).st_mode if isinstance(what, int) else Path(what).stat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(number, os.strerror(number))
        return plain(what, *more)

    monkeypatch.setattr(os, call, failing)


# ---------------------------------------------------------------- sealing


def test_a_manifest_is_not_sealed_over_disagreement(copied):
    folder = copied(6)
    owner = folders.owner_of(folder)
    recipe = bind(json.loads((folder / folders.MANIFEST).read_text())["recipe"], "stored")
    before = (folder / folders.MANIFEST).read_bytes()
    receipt = Receipt.read(folder / SECOND)
    wrong = replace(receipt, count=1, skipped=[{"index": 3, "source": "a", "reason": "b"}])
    wrong.write(folder / SECOND)
    with pytest.raises(ValueError, match=r"shard-00001\.h5: its receipt says count 1, itself 2"):
        folders.seal(folder, recipe, owner, {})
    receipt.write(folder / SECOND)
    with pytest.raises(ValueError, match=r"shard-00000\.h5: belongs to another run: data "):
        folders.seal(folder, recipe, replace(owner, data="0" * 64), {})
    Receipt.path(folder / LAST).unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-00002\.h5\.json: expected the receipt of a shard"):
        folders.seal(folder, recipe, owner, {})
    assert (folder / folders.MANIFEST).read_bytes() == before
    Receipt.from_shard(folder / LAST).write(folder / LAST)
    folders.seal(folder, recipe, owner, {})
    assert (folder / folders.MANIFEST).read_bytes() == before
    assert json.loads(before)["identity"] == asdict(owner)
    with h5py.File(folder / FIRST, locking=False) as file:
        assert file.attrs["pixels"] == owner.pixels == PIXELS

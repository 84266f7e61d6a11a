"""Killed, interrupted, out of disk, two at once: every run ends in order, and a resumed one equals an undisturbed one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blursynth import make
from blursynth.executors.processes import is_alive
from blursynth.shards import contact_sheet, folders
from blursynth.shards.format import SIGNATURE
from blursynth.shards.receipt import Receipt
from blursynth.shards.soundness import problems_of

ROOT = Path(__file__).parents[2]
ENDLESS = 2000  # pairs; no run gets there before it is stopped


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Polls until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.002)


@contextlib.contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A run of its own, at the head of its own process group, as in a terminal; whatever is left of it is killed."""
    command = [sys.executable, "-m", "blursynth.make", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = [Path(f"/proc/{path.name}") for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = []
    for child in children:
        with contextlib.suppress(OSError):
            parent = int((child / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and "LokyProcess" in (child / "cmdline").read_text():
                found.append(int(child.name))
    return found


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folders.shards_in(folder)}


def assert_only_whole_shards_and_parts(folder: Path) -> None:
    allowed = {folders.IDENTITY, folders.MANIFEST, contact_sheet.CONTACT_SHEET, ".slice-0-of-1.lock"}
    for path in folder.iterdir():
        if path.suffix == ".h5":
            assert problems_of(path, Receipt.of(path), folders.owner_of(folder)) == []
        else:
            assert path.name in allowed or path.name.endswith((".part", ".h5.json"))


def assert_resumes(out: Path, expected: dict[str, bytes], recipe: str, contents, count: int) -> None:
    """The resumed run keeps every finished shard, clears up, and ends as an undisturbed one does."""
    kept = stamps(out)
    assert make.main(["--recipe", recipe, "--out", str(out), "--count", str(count), "--workers", "0"]) == 0
    assert contents(out) == expected
    assert {name: stamp for name, stamp in stamps(out).items() if name in kept} == kept


def assert_resumes_as_if_nothing_had_happened(out: Path, recipe: str, contents) -> None:
    """A few pairs more, so that there is something to do."""
    assert_only_whole_shards_and_parts(out)
    made = folders.shards_in(out)
    count = 2 * (int(made[-1].name[6:11]) + 2) if made else 4
    direct = out.with_name("direct")
    assert make.main(["--recipe", recipe, "--out", str(direct), "--count", str(count), "--workers", "0"]) == 0
    assert_resumes(out, contents(direct), recipe, contents, count)


# ---------------------------------------------------------------- killed


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes through /proc")
@pytest.mark.parametrize("finished", [0, 5])
def test_parent_killed(finished, recipe_file, contents, tmp_path):
    out = tmp_path / "out"
    with running("--recipe", recipe_file(), "--out", out, "--count", ENDLESS, "--workers", 2) as process:
        until(
            lambda: len(folders.shards_in(out)) >= finished and list(out.glob("*.h5.*.part")), "a shard in the making"
        )
        workers = workers_of(process)
        assert len(workers) == 2
        process.kill()
        assert process.wait() == -signal.SIGKILL
        until(lambda: not any(map(is_alive, workers)), "workers to leave after their parent", 15)
    assert len(folders.shards_in(out)) >= finished
    assert_resumes_as_if_nothing_had_happened(out, recipe_file(), contents)


def test_resumed_at_once_after_the_parent_was_killed(recipe_file, contents, tmp_path):
    """The new run meets workers that have not left yet, and waits for them."""
    out = tmp_path / "out"
    with running("--recipe", recipe_file(), "--out", out, "--count", ENDLESS, "--workers", 2) as process:
        until(lambda: folders.shards_in(out) and list(out.glob("*.h5.*.part")), "a shard in the making")
        process.kill()
        process.wait()
        assert make.main(["--recipe", recipe_file(), "--out", str(out), "--count", "4", "--workers", "0"]) == 0
    assert not list(out.glob("*.part"))
    assert_resumes_as_if_nothing_had_happened(out, recipe_file(), contents)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds child processes through /proc")
def test_worker_killed(recipe_file, contents, tmp_path):
    out = tmp_path / "out"
    with running("--recipe", recipe_file(), "--out", out, "--count", ENDLESS, "--workers", 2) as process:
        until(lambda: folders.shards_in(out) and list(out.glob("*.h5.*.part")), "a shard in the making")
        os.kill(workers_of(process)[0], signal.SIGKILL)
        said, error = process.communicate(timeout=60)
    assert process.returncode == 1, error
    assert said == ""
    assert [line for line in error.splitlines() if "pairs/s" not in line] == [
        "a worker process was killed, probably because memory ran out; what was finished is kept, so run the same "
        "command again with fewer --workers"
    ]
    assert_resumes_as_if_nothing_had_happened(out, recipe_file(), contents)


# ---------------------------------------------------------------- interrupted, and two at once


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_while_a_second_run_is_refused(workers, recipe_file, contents, tmp_path, capsys):
    out, recipe = tmp_path / "out", recipe_file()
    with running("--recipe", recipe, "--out", out, "--count", ENDLESS, "--workers", workers) as process:
        until(lambda: len(folders.shards_in(out)) >= 2, "two shards")

        for other in ([], ["--seed", "8", "--force"]):
            assert make.main(["--recipe", recipe, "--out", str(out), "--count", "2", "--workers", "0", *other]) == 1
            assert (
                f"another run (process {process.pid} on {socket.gethostname()}) is writing here"
                in capsys.readouterr().err
            )
        made = len(folders.shards_in(out))
        assert made >= 2  # nothing was moved
        until(lambda: len(folders.shards_in(out)) > made, "the first run to go on")

        os.killpg(process.pid, signal.SIGINT)
        said, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "interrupted; every finished shard is kept, run the same command again to continue"
    assert said == ""
    assert_resumes_as_if_nothing_had_happened(out, recipe, contents)


def test_interrupted_at_once(recipe_file, tmp_path):
    """While torch is still being imported."""
    with running("--recipe", recipe_file(), "--out", tmp_path / "out") as process:
        until(lambda: "torch" in Path(f"/proc/{process.pid}/maps").read_text(), "the import of torch")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == "interrupted; every finished shard is kept, run the same command again to continue\n"


# ---------------------------------------------------------------- what dead, live and distant writers leave


def test_only_what_dead_writers_of_this_host_left_is_removed(recipe_file, shards, contents, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    with subprocess.Popen(["sleep", "1000"]) as live:
        try:
            left = [f"shard-00000.h5.{host}.{dead.pid}.part", f"manifest.json.{host}.{dead.pid}.part"]
            kept = [f"shard-00000.h5.elsewhere.{dead.pid}.part", f"shard-00000.h5.{host}.{live.pid}.part", "mine.part"]
            for name in [*left, *kept]:
                (tmp_path / name).write_bytes(b"{" if name.startswith("manifest") else SIGNATURE)
            command = ["--recipe", recipe_file(), "--out", str(tmp_path), "--count", "5", "--workers", "0"]
            assert make.main(command) == 0
        finally:
            live.kill()
    assert contents(tmp_path) == contents(shards()) | dict.fromkeys(kept, SIGNATURE)


# ---------------------------------------------------------------- killed while publishing, and full disks


@pytest.fixture
def suffer(recipe_file, tmp_path) -> Callable[..., list[tuple[Path, int, str]]]:
    """Runs scenarios of `victim.py`; gives of each its folder, exit code, and what it said."""

    def run(scenarios: list[dict], outs: list[Path] | None = None) -> list[tuple[Path, int, str]]:
        outs = outs or [tmp_path / f"out-{number}" for number in range(len(scenarios))]
        arguments = [["--recipe", recipe_file(), "--out", str(out), "--count", "5"] for out in outs]
        plan = tmp_path / "scenarios.json"
        plan.write_text(
            json.dumps([{"arguments": each} | more for each, more in zip(arguments, scenarios, strict=True)])
        )
        victims = subprocess.run(
            [sys.executable, str(ROOT / "tests/end_to_end/victim.py"), str(plan)],
            capture_output=True, text=True, check=False, timeout=120,
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert victims.returncode == 0, victims.stderr
        return [(out, *outcome) for out, outcome in zip(outs, json.loads(victims.stdout), strict=True)]

    return run


def test_killed_while_publishing(suffer, shards, recipe_file, contents):
    # (where it dies, finished shards, which of them have receipts)
    moments = {
        ("file", "before", ".h5"): ([], []),
        ("file", "after", ".h5"): (["shard-00000.h5"], []),
        ("file", "before", "00.h5.json"): (["shard-00000.h5"], []),
        ("file", "after", "00.h5.json"): (["shard-00000.h5"], ["shard-00000.h5"]),
        ("file", "after", "02.h5"): (
            [f"shard-0000{n}.h5" for n in range(3)],
            [f"shard-0000{n}.h5" for n in range(2)],
        ),
        ("file", "before", folders.MANIFEST): ([f"shard-0000{n}.h5" for n in range(3)],) * 2,
        ("file", "after", folders.MANIFEST): ([f"shard-0000{n}.h5" for n in range(3)],) * 2,
        ("file", "before", folders.IDENTITY): ([], []),
        ("file", "after", folders.IDENTITY): ([], []),
    }
    outcomes = suffer([{"dies": list(moment)} for moment in moments])
    for (out, code, said), (finished, receipts) in zip(outcomes, moments.values(), strict=True):
        assert code == -signal.SIGKILL, said
        assert sorted(stamps(out)) == finished
        assert [name for name in finished if Receipt.of(out / name)] == receipts
        assert_resumes(out, contents(shards()), recipe_file(), contents, 5)


def test_killed_while_a_short_shard_is_replaced(suffer, copied, shards, recipe_file, contents, tmp_path):
    """Whatever number of pairs is asked for next, no receipt may speak of the shard that was there before."""
    three = copied(3)
    outs = [tmp_path / "lengthened", tmp_path / "shrunk"]
    for out in outs:
        subprocess.run(["cp", "-r", str(three), str(out)], check=True)
    for out, code, said in suffer([{"dies": ["file", "after", "01.h5"]}] * 2, outs):
        assert code == -signal.SIGKILL, said
        assert sorted(stamps(out)) == ["shard-00000.h5", "shard-00001.h5"]
    lengthened, shrunk = outs
    assert_resumes(lengthened, contents(shards()), recipe_file(), contents, 5)
    # Of the shrunk one the longer shard stays, with a receipt that is its own.
    assert_resumes(shrunk, contents(shards(4)), recipe_file(), contents, 3)


def assert_one_clear_sentence(said: str, reason: str) -> None:
    sentences = [line for line in said.splitlines() if "pairs/s" not in line]
    assert len(sentences) == 1, said
    assert reason in sentences[0]
    assert sentences[0].endswith("what was finished is kept, so fix that and run the same command again")


def test_files_that_may_not_grow(suffer, shards, recipe_file, contents):
    """In the lock, the identity, at the head of a shard, among its pairs, at its close, at the contact sheet."""
    expected = contents(shards())
    whole = len(expected["shard-00000.h5"])
    limits = [3, 200, 1000, whole // 2, whole - 4000, whole - 1, whole + 1000]
    assert whole + 1000 < len(expected[contact_sheet.CONTACT_SHEET])
    outcomes = suffer([{"limit": limit} for limit in limits])
    for limit, (out, code, said) in zip(limits, outcomes, strict=True):
        assert code == 1, said
        assert_one_clear_sentence(said, "File too large")
        assert not list(out.glob("*.part"))
        assert len(folders.shards_in(out)) == (3 if limit > whole else 0)
        assert_resumes(out, expected, recipe_file(), contents, 5)


@pytest.fixture
def little_disks(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Mounts disks of so many pages."""
    mounted = []

    def mount(pages: int) -> Path:
        disk = tmp_path / f"disk-{pages}"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={pages * 4096}", "tmpfs", str(disk)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root may mount a little disk, and not in every container")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(little_disks, suffer, shards, recipe_file, contents):
    """However much is free: from next to nothing to enough for the shards but not for the contact sheet."""
    expected = contents(shards())
    whole = -(-len(expected["shard-00000.h5"]) // 4096)
    sizes = [2, 5, whole - 1, *range(whole + 1, whole + 5), 2 * whole + 5, 3 * whole + 7]
    disks = [little_disks(pages) for pages in sizes]
    seen = set()
    for out, code, said in suffer([{}] * len(disks), [disk / "out" for disk in disks]):
        assert code == 1, said
        assert_one_clear_sentence(said, "No space left on device")
        assert not list(out.glob("*.part"))
        kept = contents(out)
        assert all(kept[name] == expected[name] for name in kept if name.endswith((".h5", ".h5.json")))
        seen.add((len(folders.shards_in(out)), len(list(out.glob("*.h5.json")))))
        subprocess.run(["mount", "-o", "remount,size=1m", str(out.parent)], check=True)
        assert_resumes(out, expected, recipe_file(), contents, 5)
    assert {(0, 0), (1, 0), (1, 1), (2, 2), (3, 3)} <= seen

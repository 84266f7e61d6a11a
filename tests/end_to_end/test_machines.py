"""Unusual machines and terminals: every command of blursynth does its work there, or ends with a sentence."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from isp.files import pictures

ROOT = Path(__file__).parents[2]
SECOND = "shard-00001.h5"


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"

    @property
    def in_order(self) -> bool:
        return "Traceback" not in self.err and "Exception ignored" not in self.err and 0 <= self.code < 128


def ended(arguments: list[object], shell: str = "", environment: Mapping[str, str] = {}, cwd: Path = ROOT) -> Ended:
    """Run `python -m ARGUMENTS`; `shell` is what follows the command in bash, such as a redirection or a pipe."""
    command = [
        "bash",
        "-c",
        f'"$@" {shell}; exit ${{PIPESTATUS[0]}}',
        "bash",
        sys.executable,
        "-m",
        *map(str, arguments),
    ]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""} | environment,
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    return Ended(done.returncode, *(text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr)))


@pytest.fixture
def commands(shards, recipe_file, tmp_path) -> Callable[[str], dict[str, list[object]]]:
    """Every command of blursynth, each with something to do in a folder of this name."""

    def build(name: str = "place") -> dict[str, list[object]]:
        place = tmp_path / name
        place.mkdir()
        whole, broken = (Path(shutil.copytree(shards(), place / each)) for each in ("whole", "broken"))
        (broken / SECOND).unlink()
        recipe = ["blursynth.make", "--recipe", recipe_file(), "--count", "5"]
        return {
            "make": [*recipe, "--workers", "0", "--out", place / "alone"],
            "make with workers": [*recipe, "--workers", "2", "--out", place / "workers"],
            "check": [*recipe, "--check", "--out", place / "new"],
            "list": ["blursynth.make", "--list"],
            "help": ["blursynth.make", "--help"],
            "inspect": ["blursynth.inspect", whole],
            "verify": ["blursynth.verify", whole],
            "repair": ["blursynth.verify", broken, "--repair"],
            "resynthesise": ["blursynth.verify", whole, "--resynthesise", "2"],
        }

    return build


EVERY = pytest.param(None, marks=pytest.mark.slow, id="every command")
FEW = pytest.param(("make with workers", "inspect", "repair"), id="few")


@pytest.fixture(params=[EVERY, FEW])
def all_ended(request, commands, shards, contents, tmp_path) -> Callable[..., dict[str, Ended]]:
    """Runs them; asserts that each ended in order with 0, and that the folders that were made are whole."""

    def run(shell: str = "", environment: Mapping[str, str] = {}, name: str = "place") -> dict[str, Ended]:
        table = {each: command for each, command in commands(name).items() if each in (request.param or [each])}
        with ThreadPoolExecutor(2) as pool:
            found = dict(
                zip(table, pool.map(lambda each: ended(each, shell, environment), table.values()), strict=True)
            )
        assert {each: end for each, end in found.items() if end.code != 0 or not end.in_order} == {}
        for made in ("workers", "broken"):
            assert contents(tmp_path / name / made) == contents(shards())
        return found

    return run


# ---------------------------------------------------------------- streams


def test_output_that_nobody_reads(all_ended):
    """`| true` is gone before the first line: the work is finished, and the exit code is that of the work."""
    assert {end.out for end in all_ended("| true").values()} == {""}


def test_output_of_which_one_line_is_read(all_ended):
    assert {end.out.count("\n") for end in all_ended("| head -n 1").values()} == {1}


@pytest.mark.parametrize(
    "closed",
    ["<&- >&- 2>&-", pytest.param(">&-", marks=pytest.mark.slow), pytest.param("2>&-", marks=pytest.mark.slow)],
)
def test_streams_that_are_closed_from_the_start(closed, all_ended):
    """As cron and daemons close them."""
    all_ended(closed)


WHO_HAS = """
import os, sys
from blursynth import make
from blursynth.shards import writer

found = []
plain = writer._Disk.__init__
def watched(disk, *arguments):
    plain(disk, *arguments)
    found.append(disk.fileno())
writer._Disk.__init__ = watched
code = make.main(sys.argv[1:])
os._exit(code or not found or min(found) < 3)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_shard_gets_the_number_of_a_closed_stream(closed, recipe_file, tmp_path):
    """Libraries write warnings there."""
    script = tmp_path / "who_has.py"
    script.write_text(WHO_HAS)
    command = [sys.executable, str(script), "--recipe", recipe_file(), "--out", str(tmp_path / "out"), "--count", "2"]
    done = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "bash", *command, "--workers", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0


CHILD = """
import os, sys
from isp import command
from blursynth.executors import processes

def numbers(_):
    return [os.fstat(number).st_rdev for number in range(3)]

@command.door()
def main(argv=None):
    found = list(processes.run(numbers, [1, 2], 2))
    return 0 if all(number for each in found for number in each) else 1

if __name__ == "__main__":
    sys.exit(main())
"""


def test_workers_have_streams_though_their_parent_had_none(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    done = subprocess.run(
        ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written(unbuffered, commands, shards, contents, tmp_path):
    """The work is done, but whoever waits for its report must hear that there is none."""
    table = commands("place")
    for name in ("make", "inspect", "help"):
        end = ended(table[name], "> /dev/full", {"PYTHONUNBUFFERED": unbuffered})
        assert (end.code, end.in_order) == (1, True), end
        assert "stdout: No space left on device; what was written there is not whole" in end.err
    assert contents(tmp_path / "place" / "alone") == contents(shards())
    end = ended(["blursynth.make", "--no-such-option"], "> /dev/full")
    assert end.code == 2


# ---------------------------------------------------------------- terminals that know ASCII only


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_an_ascii_terminal(environment, all_ended):
    found = all_ended(environment=environment, name="Höhe")
    assert all((end.out + end.err).isascii() for end in found.values())
    assert any(escape in found["make with workers"].out for escape in (r"H\xf6he/workers", r"H\xc3\xb6he/workers"))


# ---------------------------------------------------------------- what others set for every Python process


def sitecustomize(folder: Path, code: str) -> dict[str, str]:
    """The environment in which every Python process runs `code` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


def test_a_default_device_changes_nothing(all_ended, tmp_path):
    """ "meta" stands in for "cuda": whatever lands there cannot be read."""
    all_ended(environment=sitecustomize(tmp_path / "site", "import torch; torch.set_default_device('meta')"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_cores_of_this_process_decide_the_default_number_of_workers(recipe_file, tmp_path):
    code = f"""
from blursynth.executors import processes
def told(function, tasks, workers, plain=processes.run):
    open({str(tmp_path / "told")!r}, "w").write(str(workers))
    return plain(function, tasks, 0)
processes.run = told
"""
    environment = sitecustomize(tmp_path / "site", code)
    cores = len(os.sched_getaffinity(0))
    for number, (before, more, extra) in enumerate(
        [
            ("", {}, cores),
            ("taskset -c $(taskset -pc $$ | grep -oE '[0-9]+' | tail -n 1)", {}, 1),
            ("", {"SLURM_CPUS_PER_TASK": "1"}, 1),
        ]
    ):
        if "taskset" in before and shutil.which("taskset") is None:
            continue
        command = [sys.executable, "-m", "blursynth.make", "--recipe", recipe_file(), "--count", "4"]
        command += ["--out", str(tmp_path / f"out{number}")]
        done = subprocess.run(
            ["bash", "-c", f'{before} "$@"', "bash", *command],
            env=os.environ | environment | more, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int((tmp_path / "told").read_text()) == extra


# ---------------------------------------------------------------- little memory


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A folder with a picture that takes much memory, and little space."""
    folder = tmp_path_factory.mktemp("large")
    tile = np.random.Generator(np.random.PCG64(5)).integers(0, 255, (500, 500, 3), np.uint8)
    pictures.write_image(folder / "large.png", np.tile(tile, (13, 13, 1)))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="sizes of the address space are those of Linux")
@pytest.mark.parametrize(("workers", "on_error"), [(0, "stop"), (2, "skip")])
def test_a_picture_for_which_there_is_no_memory_is_named(workers, on_error, large, recipe_file, tmp_path):
    """It is never skipped: whether it fits depends on the machine."""
    recipe = recipe_file(on_error=on_error)
    arguments = ["--recipe", recipe, "--data", large, "--out", tmp_path / "out", "--count", "4", "--workers", workers]
    end = ended(["blursynth.make", *arguments], environment={"BASH_ENV": str(limited(tmp_path, megabytes=1450))})
    assert (end.code, end.in_order) == (1, True), end
    assert "(large.png): expected enough memory, got none (" in end.err
    assert end.err.count("\n") == 1


def limited(folder: Path, megabytes: int) -> Path:
    """A file that limits the memory of the shell which reads it."""
    path = folder / "limit.sh"
    path.write_text(f"ulimit -v {megabytes * 1024}\n")
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="sizes of the address space are those of Linux")
def test_memory_too_small_for_the_libraries(commands, tmp_path):
    environment = {"BASH_ENV": str(limited(tmp_path, megabytes=200))}
    table = commands("place")
    for name in ("make", "inspect", "repair"):
        end = ended(table[name], environment=environment)
        assert (end.code, end.in_order) == (1, True), end
        assert end.err.startswith("expected enough memory, got none (")
        assert end.err.count("\n") == 1


# ---------------------------------------------------------------- folders that may only be read


@pytest.fixture
def read_only(shards, tmp_path):
    """A folder of shards that nobody can write to, as a mount of a data set; "" if that cannot be had here."""
    folder = Path(shutil.copytree(shards(), tmp_path / "read_only"))
    mounted = os.getuid() == 0 and all(
        subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode == 0
        for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"])
    )
    if not mounted:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("root may write anywhere, and may not mount here")
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    folder.chmod(0o755)


def test_statistics_need_no_writing(read_only, tmp_path):
    end = ended(["blursynth.inspect", read_only])
    assert (end.code, end.in_order) == (1, True)
    assert 'draws ("dice" in the records)' in end.out
    assert "contact_sheet    -\n" in end.out
    assert end.err.startswith(f"{read_only / 'contact_sheet.png'}: ")
    assert end.err.endswith("choose another place for the contact sheet with --out\n")
    end = ended(["blursynth.inspect", read_only, "--json"])
    assert '"contact_sheet": null' in end.out
    end = ended(["blursynth.inspect", read_only, "--out", tmp_path / "sheet.png"])
    assert (end.code, end.err) == (0, "")
    assert pictures.read_image(tmp_path / "sheet.png").shape[2] == 3


def test_a_folder_that_may_only_be_read_can_be_verified(read_only, recipe_file):
    assert ended(["blursynth.verify", read_only]).code == 0
    assert ended(["blursynth.verify", read_only, "--repair"]).code == 0  # there is nothing to repair
    assert ended(["blursynth.verify", read_only, "--resynthesise", "1"]).code == 0
    end = ended(["blursynth.make", "--recipe", recipe_file(), "--out", read_only, "--count", "6", "--workers", "0"])
    assert (end.code, end.in_order) == (1, True)
    assert str(read_only) in end.err

"""Who does the work, what its failures say, and who may write into a folder."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from blursynth.executors import locks, processes


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results(workers):
    assert sorted(processes.run(abs, [-3, -1, -2], workers)) == [1, 2, 3]
    assert list(processes.run(abs, [], workers)) == []


def test_processes_do_the_work(tmp_path):
    """As many as there are tasks, and none is left behind."""
    script = "import os; [open(path, 'w').write(str(os.getpid())) for path in [{!r}]]"
    paths = [str(tmp_path / name) for name in "ab"]
    assert list(processes.run(exec, [script.format(path) for path in paths], 2)) == [None, None]
    for path in paths:
        with open(path) as file:  # noqa: PTH123
            pid = int(file.read())
        assert pid != os.getpid()
        assert not processes.is_alive(pid)
    assert processes._PARENT not in os.environ


@pytest.mark.parametrize("workers", [0, 2])
def test_exceptions_arrive(workers):
    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'x'$"):
        list(processes.run(int, ["x", "x"], workers))
    with pytest.raises(FileNotFoundError, match="No such file or directory: '/no/such'"):
        list(processes.run(os.listdir, ["/no/such", "/no/such"], workers))
    assert processes._PARENT not in os.environ


def test_a_worker_that_ends_without_a_word():
    with pytest.raises(processes.WorkerDiedError, match="fewer --workers"):
        list(processes.run(os._exit, [3, 3], 2))
    assert sorted(processes.run(abs, [-1, -2], 2)) == [1, 2]  # and the next run works


class Unreadable:
    """A task that a worker cannot open."""

    def __reduce__(self):
        return int, ("x",)


def test_a_worker_that_cannot_begin():
    with pytest.raises(processes.WorkerDiedError, match=r"could not begin \(ValueError: invalid literal.*'x'\)"):
        list(processes.run(repr, [Unreadable(), Unreadable()], 2))


def test_a_machine_without_shared_memory(monkeypatch):
    import multiprocessing

    def refuse():
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing, "Semaphore", refuse)
    with pytest.raises(ChildProcessError, match=r"^2 worker processes: expected shared memory .* give --workers 0$"):
        list(processes.run(abs, [-1, -2], 2))
    assert list(processes.run(abs, [-1, -2], 0)) == [1, 2]
    assert processes.usable_cores() == 1


def test_results_that_nobody_waits_for():
    results = processes.run(abs, list(range(100)), 2)
    assert next(results) in range(100)
    results.close()
    assert processes._PARENT not in os.environ


def test_leave_if_orphaned(monkeypatch):
    monkeypatch.delenv(processes._PARENT, raising=False)
    processes.leave_if_orphaned()
    for parent in (os.getppid(), os.getpid()):
        monkeypatch.setenv(processes._PARENT, str(parent))
        processes.leave_if_orphaned()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    monkeypatch.setenv(processes._PARENT, str(gone.pid))
    with pytest.raises(processes.OrphanedError, match=f"parent process {gone.pid} is gone"):
        processes.leave_if_orphaned()


def test_is_alive():
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert processes.is_alive(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.is_alive(process.pid)  # ended, not yet collected
    assert not processes.is_alive(process.pid)
    assert processes.is_alive(1)
    assert processes.is_alive(os.getpid())


# ---------------------------------------------------------------- cores

CORES = "from blursynth.executors import processes; print(processes.usable_cores())"
VARIABLES = ("LOKY_MAX_CPU_COUNT", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


@pytest.fixture
def no_allotment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_decides_how_many_cores_are_used(no_allotment):
    """As of taskset and cpusets. A process of its own is bound, so that this one keeps its cores."""
    cores = sorted(os.sched_getaffinity(0))
    for count in {1, len(cores)}:
        bind = f"import os; os.sched_setaffinity(0, {cores[:count]}); "
        done = subprocess.run([sys.executable, "-c", bind + CORES], capture_output=True, text=True, check=True)
        assert int(done.stdout) == count


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, 8),
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "4"}, 2),
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),  # an allotment does not add cores to the machine
        ({"LOKY_MAX_CPU_COUNT": "5"}, 5),
        ({"LOKY_MAX_CPU_COUNT": "2", "SLURM_CPUS_PER_TASK": "3"}, 2),
    ],
)
def test_allotments_decide_how_many_cores_are_used(stated, expected, no_allotment, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    assert processes.usable_cores() == expected


def test_the_quota_of_a_container_decides(no_allotment, monkeypatch):
    from joblib.externals.loky.backend import context

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda _: 2)
    assert processes.usable_cores() == 2


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("text", ["", "abc", "0", "-1", "1.5", "2(x3)", "\u0663", "9" * 5000])
def test_an_allotment_that_is_no_number_is_refused(name, text, no_allotment, monkeypatch):
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=f"^{name}: expected a whole number of cores, at least 1, got "):
        processes.usable_cores()


def test_a_ceiling_that_is_no_number_is_refused_for_any_number_of_workers(no_allotment, monkeypatch):
    """joblib reads it, too."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "abc")
    with pytest.raises(ValueError, match="LOKY_MAX_CPU_COUNT"):
        list(processes.run(abs, [-1, -2], 2))
    assert list(processes.run(abs, [-1, -2], 0)) == [1, 2]


# ---------------------------------------------------------------- locks


def test_one_run_at_a_time(tmp_path):
    with locks.only_run_in(tmp_path):
        with locks.slice_lock(tmp_path), locks.slice_lock(tmp_path):
            pass
        for _ in range(2):
            with (
                pytest.raises(ValueError, match=f"process {os.getpid()} on {socket.gethostname()}\\) is writing here"),
                locks.only_run_in(tmp_path),
            ):
                pytest.fail("two runs in one folder")
    with locks.only_run_in(tmp_path):
        pass


HOLDS = """
import sys
from pathlib import Path
from blursynth.executors import locks
with locks.{lock}(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(lock: str, folder) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS.format(lock=lock), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_dead_run_holds_nothing(tmp_path):
    with holder("only_run_in", tmp_path) as process:
        with pytest.raises(ValueError, match=f"process {process.pid} "), locks.only_run_in(tmp_path):
            pytest.fail("two runs in one folder")
        process.kill()
        process.wait()
        with locks.only_run_in(tmp_path):
            pass


def test_workers_of_a_dead_run_are_waited_for(tmp_path):
    with holder("only_run_in", tmp_path) as run, holder("slice_lock", tmp_path) as worker:
        run.kill()
        run.wait()
        with pytest.raises(ValueError, match=f"process {run.pid} "), locks.only_run_in(tmp_path, patience_s=0.0):
            pytest.fail("a live writer was overrun")
        timer = threading.Timer(0.3, worker.stdin.close)
        timer.start()
        with locks.only_run_in(tmp_path, patience_s=60.0):
            assert worker.wait(60) == 0
        timer.join()


def test_a_worker_does_not_write_into_a_folder_that_another_run_took(tmp_path):
    import fcntl

    with locks._lock_path(tmp_path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(processes.OrphanedError, match="taken over"), locks.slice_lock(tmp_path):
            pytest.fail("two runs in one folder")


def test_nothing_but_a_lock_is_written_to(tmp_path):
    """A folder from elsewhere may hold anything under the name of the lock: a link to a file of the user's, for example."""
    thesis, lock = tmp_path / "thesis.txt", locks._lock_path(tmp_path)
    thesis.write_text("years")
    outside = {
        "link": lambda: lock.symlink_to(thesis),
        "dangling link": lambda: lock.symlink_to(tmp_path / "new"),
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "text": lambda: lock.write_text("years of work\n"),
        "bytes": lambda: lock.write_bytes(bytes(range(256)) * 10),
    }
    for name, place in outside.items():
        place()
        for hold in (locks.only_run_in, locks.slice_lock):
            with pytest.raises(ValueError, match=r"lock: expected the lock of a folder of shards"), hold(tmp_path):
                pytest.fail(f"took the {name} for a lock")
        assert (thesis.read_text(), (tmp_path / "new").exists()) == ("years", False)
        lock.rmdir() if lock.is_dir() and not lock.is_symlink() else lock.unlink()


@pytest.mark.parametrize("left", ["", "a-host", "a-host ", "a-host 12", "a-host 12\n"])
def test_a_lock_that_was_cut_short_is_a_lock(left, tmp_path):
    locks._lock_path(tmp_path).write_text(left)
    with locks.only_run_in(tmp_path):
        assert locks._lock_path(tmp_path).read_text() == f"{socket.gethostname()} {os.getpid()}\n"


def test_uninterrupted():
    """Ctrl-C waits, and is not lost."""
    reached = []
    with pytest.raises(KeyboardInterrupt), processes.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached
    with processes.uninterrupted():
        reached.append(True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

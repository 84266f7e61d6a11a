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

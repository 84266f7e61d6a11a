"""The local executor: this process does the work, or worker processes that leave when their parent has died."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_PARENT = "BLURSYNTH_PARENT"


class OrphanedError(RuntimeError):
    """The process that started this worker is gone; a resumed run must not meet a live second writer."""


class WorkerDiedError(ChildProcessError):
    """A worker process ended without an exception: it was killed, for example because memory ran out."""


def leave_if_orphaned() -> None:
    """Raise `OrphanedError` in a worker whose parent has died."""
    parent = os.environ.get(_PARENT)
    if parent is not None and int(parent) != os.getpid() and os.getppid() != int(parent):
        raise OrphanedError(f"parent process {parent} is gone")


# Environment variables that say how many cores a task of this job may use; the first that is set counts.
_ALLOTMENTS = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
_CEILING = "LOKY_MAX_CPU_COUNT"  # joblib's own variable


def usable_cores() -> int:
    """How many cores this process may use; at least 1.

    It is the least of the machine's cores, CPU affinity (taskset, cpusets), the CPU quota of a container, SLURM's
    allotment, and LOKY_MAX_CPU_COUNT; without shared memory for worker processes it is 1. Raises `ValueError` if a variable
    does not hold a whole number of at least 1.
    """
    stated = [_stated(name) for name in (_CEILING, *_ALLOTMENTS)]
    allotted = next((cores for cores in stated[1:] if cores is not None), None)
    if _missing_for_workers():
        return 1
    from joblib import cpu_count

    found: int = cpu_count()
    return found if allotted is None else min(found, allotted)


def _stated(name: str) -> int | None:
    """The number of cores in an environment variable; `None` if it is not set."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(
            f'{name}: expected a whole number of cores, at least 1, got "{text:.80}"; correct it or unset it'
        )
    return int(text)


def _missing_for_workers() -> str:
    """What worker processes lack on this machine; "" if nothing. Their locks lie in shared memory."""
    import multiprocessing

    try:
        multiprocessing.Semaphore()
    except (ImportError, OSError) as problem:  # /dev/shm is missing, or may not be written to
        return str(problem)
    return ""


def run(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """Yield the results of `function` over `tasks` as they arrive; with 0 workers or 1, this process does the work.

    Raises what `function` raises, `WorkerDiedError` if a worker is killed, and `ChildProcessError` if this machine has no
    shared memory for workers.
    """
    workers = min(workers, len(tasks))
    yield from map(function, tasks) if workers <= 1 else _in_processes(function, tasks, workers)


def _in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    if missing := _missing_for_workers():
        raise ChildProcessError(
            f"{workers} worker processes: expected shared memory for their locks (/dev/shm), got: {missing}; mount it, or "
            "give --workers 0"
        )
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

    _stated(_CEILING)  # joblib reads it whatever the number of workers is
    os.environ[_PARENT] = str(os.getpid())
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1, initializer=_begin_worker):
            pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
            # A terminal sends Ctrl-C to all processes. Those started here ignore it; their parent stops them.
            with _interrupts(signal.SIG_IGN):
                results = pool(delayed(function)(task) for task in tasks)
            try:
                for result in results:  # noqa: UP028 - `yield from` would close it with that warning
                    yield result
            finally:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # joblib warns that tasks are left if a run ends early
                    results.close()
    except BrokenProcessPool as death:
        killed = isinstance(death, TerminatedWorkerError)
        happened = "was killed" if killed else f"could not begin ({_last_line(death)})"
        raise WorkerDiedError(
            f"a worker process {happened}, probably because memory ran out; what was finished is kept, so run the same "
            "command again with fewer --workers"
        ) from death
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        del os.environ[_PARENT]


def _last_line(problem: BaseException) -> str:
    """The end of what is known of a problem: of one in a worker, the last line of its traceback there."""
    return str(problem.__cause__ or problem).strip().strip('"').strip().splitlines()[-1]


@contextmanager
def _interrupts(handler: Any) -> Iterator[None]:
    """Send Ctrl-C to `handler`. Does nothing outside the main thread, the only one that gets signals or may set this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block: HDF5 must not be interrupted in the middle of a write."""
    caught: list[int] = []
    try:
        with _interrupts(lambda number, _: caught.append(number)):
            yield
    finally:
        if caught:
            signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    """Prepare a worker: it ignores Ctrl-C, and ends with its parent even while it waits for work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_when_orphaned, daemon=True).start()


def _exit_when_orphaned() -> None:
    while True:
        time.sleep(0.5)
        try:
            leave_if_orphaned()
        except OrphanedError:
            # This is safe at any point: an unfinished shard is a .part file, which the next run removes.
            os._exit(1)


def is_alive(pid: int) -> bool:
    """Whether process `pid` of this host is running; a process that has ended but was not collected is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")

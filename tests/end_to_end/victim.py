"""Runs `make` in processes that come to harm: `victim.py FILE`, with a list [{"arguments", "dies", "limit"}, ...].

Each is forked from this one (importing torch once) and runs to the end of its interpreter. Prints a list of exit codes,
negative where a signal ended the process, with what it said.

limit   largest size of a file, in bytes: as on a full disk, what goes beyond is refused
dies    [a function of `publish`, when, a suffix]: SIGKILL "before" or "after" it, at the first path with that suffix
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from blursynth import make, synthesis
from blursynth.shards import publish


def die(name: str, when: str, suffix: str) -> None:
    spared = getattr(publish, name)

    def deadly(*arguments):
        mine = str(arguments[-1]).endswith(suffix)
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = spared(*arguments)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(publish, name, deadly)


def suffer(arguments: list[str], dies: list[str] | None = None, limit: int | None = None) -> int:
    if dies is not None:
        die(*dies)
    assert synthesis  # imported before the fork, for all
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return make.main([*arguments, "--workers", "0"])


def main(scenarios: list[dict]) -> None:
    victims = []
    for scenario in scenarios:
        said, speaks = os.pipe()  # a pipe, since a file would be limited too
        pid = os.fork()
        if pid == 0:
            os.dup2(speaks, 1)
            os.dup2(speaks, 2)
            sys.exit(suffer(**scenario))
        os.close(speaks)
        victims.append((pid, said))
    outcomes = [(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.fdopen(said).read()) for pid, said in victims]
    print(json.dumps(outcomes))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

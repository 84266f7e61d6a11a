"""The console command `blursynth`, also `python -m blursynth`: runs one of the commands of this package."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from isp import command

COMMANDS = {
    "make": "turn sharp photographs into shards of blurred and sharp pairs",
    "inspect": "draw a contact sheet of shards and print their statistics",
    "verify": "check that shards are complete and unchanged, and repair them",
}


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return command.dispatch("blursynth", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())

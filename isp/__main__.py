"""The console command `isp`, also `python -m isp`: runs one of the commands of this package."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from isp import command

COMMANDS = {
    "apply": "take photographs through a camera ISP, in either direction",
    "doctor": "report what RAW files and pictures contain, and whether it is plausible",
    "prepare": "turn folders of RAW + JPEG into training pairs",
    "train": "train a learned ISP",
    "evaluate": "measure an ISP on RAW + JPEG pairs",
    "convert": "turn published checkpoints into weight files",
}


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return command.dispatch("isp", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())

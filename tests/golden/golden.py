"""Where the recordings of the published implementations lie, and how close to them we have to be."""

import os
from pathlib import Path

import numpy as np
import pytest

_SMALL = Path(__file__).parent / "small"
_SHARED = Path(__file__).parents[2].parent / "shared" / "golden"


def folder() -> Path:
    """`BLURSYNTH_GOLDEN`, else the full recordings beside the checkout, else the small subset kept here."""
    named = os.environ.get("BLURSYNTH_GOLDEN")
    if named and not Path(named).is_dir():
        raise FileNotFoundError(f"BLURSYNTH_GOLDEN: expected a folder of recordings, got {named}")
    return Path(named) if named else _SHARED if _SHARED.is_dir() else _SMALL


def recording(name: str) -> dict[str, np.ndarray]:
    path = folder() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not recorded in this folder")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)

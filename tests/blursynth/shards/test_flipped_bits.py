"""No bit that flips in a shard goes unnoticed: reading raises, or gives what was stored.

The structure of a shard is tried byte by byte, which takes minutes: `pytest -m slow tests/blursynth/shards`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from blursynth import make

FLIPS = Path(__file__).with_name("flips.py")
DICE = np.random.Generator(np.random.PCG64(11))


@pytest.fixture(scope="module")
def folder(recipe_file, tmp_path_factory) -> Path:
    """One shard of three pairs in tiles, so that every kind of index is there."""
    out = tmp_path_factory.mktemp("flips") / "out"
    command = ["--recipe", recipe_file(samples_per_shard=4), "--out", str(out), "--count", "3", "--workers", "0"]
    assert make.main(command) == 0
    return out


def of_pixels(path: Path) -> np.ndarray:
    """Which bytes of a shard hold pixels of /blur and /sharp."""
    found = np.zeros(path.stat().st_size, bool)
    with h5py.File(path) as file:
        for name in ("blur", "sharp"):
            dataset = file[name].id
            for at in range(dataset.get_num_chunks()):
                chunk = dataset.get_chunk_info(at)
                found[chunk.byte_offset : chunk.byte_offset + chunk.size - 4] = True  # Fletcher-32 follows
    return found


def outcomes(folder: Path, places: Sequence[tuple[int, int]], tmp_path: Path) -> str:
    """One letter for each of `places`, as `flips.py` gives them; "d" if the process died."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    listed = tmp_path / "places.json"
    listed.write_text(json.dumps([(int(position), int(flipped)) for position, flipped in places]))
    letters = ""
    while len(letters) < len(places):
        shutil.copy(folder / "shard-00000.h5", copy)
        command = [sys.executable, "-X", "faulthandler", str(FLIPS), str(copy), str(listed), str(len(letters))]
        done = subprocess.run(command, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        letters += done.stdout.decode()
        if done.returncode:
            assert done.returncode < 0, done.stderr.decode()
            letters += "d"
    return letters


def silent(letters: str, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [place for letter, place in zip(letters, places, strict=True) if letter == "w"]


def test_pixels(folder, tmp_path):
    """Some bytes of pixels, and single bytes turned into zeros and ones."""
    path = folder / "shard-00000.h5"
    whole = path.read_bytes()
    chosen = DICE.choice(np.flatnonzero(of_pixels(path)), 60, replace=False)
    places = [(at, 1 << int(DICE.integers(8))) for at in chosen[:30]]
    places += [(at, whole[at] or 255) for at in chosen[30:45]]
    places += [(at, whole[at] ^ 255 or 1) for at in chosen[45:]]
    letters = outcomes(folder, places, tmp_path)
    assert set(letters[:30]) == {"e"}
    assert "w" not in letters
    assert "d" not in letters


def test_some_of_the_structure(folder, tmp_path):
    path = folder / "shard-00000.h5"
    chosen = DICE.choice(np.flatnonzero(~of_pixels(path)), 200, replace=False)
    places = [(at, 1 << int(DICE.integers(8))) for at in chosen]
    letters = outcomes(folder, places, tmp_path)
    assert silent(letters, places) == []
    assert letters.count("e") > 100


@pytest.mark.slow
def test_every_byte_of_the_structure(folder, tmp_path, capsys):
    path = folder / "shard-00000.h5"
    pixels = of_pixels(path)
    chosen = [*np.flatnonzero(~pixels), *DICE.choice(np.flatnonzero(pixels), 2000, replace=False)]
    places = [(at, 1 << int(DICE.integers(8))) for at in chosen]
    letters = outcomes(folder, places, tmp_path)
    with capsys.disabled():
        kinds = {"e": "errors", "s": "harmless", "w": "silent", "d": "end the process"}
        found = ", ".join(f"{letters.count(letter)} {kind}" for letter, kind in kinds.items())
        sys.stdout.write(f"\n{len(places)} flipped bits: {found}\n")
    assert silent(letters, places) == []
    assert letters.count("d") == 0

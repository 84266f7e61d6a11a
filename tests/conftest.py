"""What several tests share: a recipe of small pairs, folders of finished shards, and the comparison of folders."""

import copy
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "samples_per_shard": 2,
    "source": {"use": "photos"},
    "save": ["kernel"],
    "stages": [
        {"crop": {"size": 64}},
        {"camera": {"profile": "a7r3"}},
        "inverse_isp",
        {"camera_shake": {"sizes": [5, 7, 9]}},
        {"saturate": {"strength": [0.25, 1.75]}},
        "mosaic",
        {"sensor_noise": {"profile": "a7r3"}},
        "forward_isp",
        "keep_saturated",
        {"crop_border": {"pixels": 8}},
    ],
}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Digests of files are remembered here, not in the home of whoever runs the tests; subprocesses inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run beside other work, where threads that wait for each other take several times as long as one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> Callable[..., dict[str, Any]]:
    """The recipe of pairs of 48 px as a document; keywords replace its keys."""
    return lambda **changes: copy.deepcopy(SMALL) | changes


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes that recipe to a file, and returns its path; keywords replace its keys."""

    def write(**changes: Any) -> str:
        path = tmp_path_factory.mktemp("recipe") / "small.yaml"
        path.write_text(yaml.safe_dump(copy.deepcopy(SMALL) | changes, sort_keys=False), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def shards(recipe_file: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A finished folder of `count` small pairs of the built-in photographs, made once in this process; only for reading."""
    made: dict[int, Path] = {}

    def folder(count: int = 5) -> Path:
        from blursynth import make

        if count not in made:
            made[count] = tmp_path_factory.mktemp("shards") / "out"
            arguments = ["--recipe", recipe_file(), "--out", str(made[count]), "--count", str(count), "--workers", "0"]
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                assert make.main(arguments) == 0
        return made[count]

    return folder


@pytest.fixture
def copied(shards: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of such a folder, to do with what one likes."""
    return lambda count=5: Path(shutil.copytree(shards(count), tmp_path / "copied"))


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder by its name, with its bytes; without the lock."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}

    return read

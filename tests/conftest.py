"""What several tests share: a recipe of small pairs, folders of finished shards, and the comparison of folders."""

import copy
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
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
def resum() -> Callable[[Any], None]:
    """Makes the sums in an edited shard (an open `h5py.File`) right again, as whoever forges one would."""

    def make_right(file: Any) -> None:
        import numpy as np

        from blursynth.shards.arrays import ARRAYS
        from blursynth.shards.format import sum_of_attributes, sums_of

        names = [array.name for array in ARRAYS if array.name in file]
        records = file["record"][:]
        sums = [
            [*(found for name in names for found in sums_of(file[name][at])), zlib.crc32(record)]
            for at, record in enumerate(records)
        ]
        content = np.array(sums, np.uint32).reshape(len(records), -1)
        del file["crc32"]
        file.create_dataset("crc32", data=content, chunks=content.shape, fletcher32=True, track_times=False)
        with suppress(TypeError, ValueError):  # attributes that no sum can make right
            attributes = {
                name: value.decode() if isinstance(value, bytes) else int(value) for name, value in file.attrs.items()
            }
            file.attrs["attributes_crc32"] = sum_of_attributes(attributes)

    return make_right


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder by its name, with its bytes; without the lock."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}

    return read


ECHO = '''
"""An ISP that needs a reference and renders it: whoever cuts, turns or blurs the reference wrongly is found out."""

from dataclasses import dataclass, field

from isp.backends.rsblur import RSBlur
from isp.contract import Limits


@dataclass
class Echo:
    name: str = "echo"
    weights: tuple = ()
    limits: Limits = field(default_factory=lambda: Limits(multiple_of=4, forward_halo=2, needs_reference=True))

    def inverse(self, srgb, camera):
        return RSBlur("srgb").inverse(srgb, camera)

    def forward(self, bayer, camera, *, reference=None):
        if reference is None:
            raise ValueError("echo: expected a reference, got none")
        if reference.shape[-2:] != bayer.shape[-2:] or len(reference) != len(bayer):
            raise ValueError(f"echo: expected a reference like {bayer.shape}, got {reference.shape}")
        return reference.clone()


def create(variant, device):
    return Echo()
'''


@pytest.fixture
def reference_isp(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Installs the plug-in "echo", an ISP that needs a reference picture and returns it; gives its name.

    Subprocesses find it, too.
    """
    place = tmp_path_factory.mktemp("plug_in")
    (place / "echo_isp.py").write_text(ECHO, encoding="utf-8")
    metadata = place / "echo_isp-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-isp\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[isp.backends]\necho = echo_isp\n", encoding="utf-8")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH")))))
    return "echo"

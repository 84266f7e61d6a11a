"""What gets installed: every package, its data, and console commands that run outside the checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from blursynth.recipe import summaries
from isp import command

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("isp", "blursynth")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_setup_lists_every_package(setup):
    """Every folder with modules, and the folders of data beside them."""
    listed = setup["options"]["packages"].split()
    places = dict(line.replace(" ", "").split("=") for line in setup["options"]["package_dir"].split("\n") if line)
    folders = {name: ROOT / places.get(name, name.replace(".", "/")) for name in listed}
    assert len(listed) == len(set(listed))
    assert [name for name, folder in folders.items() if not folder.is_dir()] == []
    with_modules = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert with_modules <= set(folders.values())


def test_setup_lists_every_data_file(setup):
    places = dict(line.replace(" ", "").split("=") for line in setup["options"]["package_dir"].split("\n") if line)
    found = set()
    for package, patterns in setup["options.package_data"].items():
        folder = ROOT / places.get(package, package.replace(".", "/"))
        for pattern in patterns.replace(",", " ").split():
            files = set(folder.glob(pattern))
            assert files, f"{package} = {pattern} matches nothing"
            found |= files
    there = {path for package in (*PACKAGES, "recipes") for path in (ROOT / package).rglob("*") if path.is_file()}
    data = {path for path in there if path.suffix not in (".py", ".pyc", ".md")}
    assert data == found


def test_console_commands_exist(setup):
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert [line.replace(" ", "") for line in scripts if line] == [
        f"{p}={p}.__main__:main" for p in ("blursynth", "isp")
    ]


# ---------------------------------------------------------------- an installed wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, as building leaves files in the checkout."""
    pytest.importorskip("setuptools", "77", "builds a wheel without a network")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    subprocess.run(build, check=True, cwd=source)
    return next(out.glob("blursynth-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a command with the wheel, installed into a folder of its own, in front of everything else."""
    target, elsewhere = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(target)}
        words = [sys.executable, str(target / "bin" / name)] if name in PACKAGES else [sys.executable, name]
        return subprocess.run(
            [*words, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=elsewhere,
            env=environment,
            timeout=120,
        )

    return run


def test_the_wheel_holds_what_the_checkout_does(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert modules <= names
    assert {"isp/py.typed", "blursynth/py.typed", "isp/cameras/a7r3.yaml"} <= names
    assert {f"blursynth/recipes/{name}.yaml" for name in summaries()} <= names
    assert any(name.endswith(".safetensors") for name in names)


def test_installed_commands(installed):
    """They use the installed files: recipes, cameras, weights."""
    for package in PACKAGES:
        process = installed(package, "--version")
        assert (process.returncode, process.stdout) == (0, f"blursynth {command.version()}\n"), process.stderr
    process = installed("blursynth", "make", "--list")
    assert process.returncode == 0, process.stderr
    assert all(f"\n  {name} " in process.stdout for name in (*summaries(), "a7r3"))
    process = installed(
        "-c", "from isp.train import plan; print(plan.load('train/paramisp_small').name, *plan.shipped().values())"
    )
    assert process.returncode == 0, process.stderr
    name, *paths = process.stdout.split()
    assert name == "paramisp_small" and len(paths) == len(list((ROOT / "recipes" / "train").glob("*.yaml")))
    assert all("/target0/isp/recipes/" in path for path in paths)
    process = installed("-c", "import isp, blursynth; print(isp.__file__, blursynth.__file__)")
    assert process.returncode == 0, process.stderr
    assert all(f"/target0/{package}/__init__.py" in process.stdout for package in PACKAGES)


def test_an_installed_make(installed, tmp_path):
    out = str(tmp_path / "out")
    process = installed("blursynth", "make", "--recipe", "naive", "--count", "1", "--workers", "0", "--out", out)
    assert process.returncode == 0, process.stderr
    for name in ("verify", "inspect"):
        process = installed("blursynth", name, out)
        assert process.returncode == 0, process.stderr
    process = installed("blursynth", "make", "--recipe", "nave")
    assert process.returncode == command.USAGE
    assert 'did you mean "naive"?' in process.stderr

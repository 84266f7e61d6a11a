"""Who may import whom, and what no module may do, read from the sources themselves; each rule with planted violations."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("isp", "blursynth")

CORE = {f"isp.{name}" for name in ("space", "camera", "cfa", "color", "tone", "levels", "contract")}
CORE_USES = {"torch", "jaxtyping"}
READ_BY_BACKENDS = {
    "isp.files.weights"
}  # in the function that opens a backend; loading one needs no more than the core
# From the bottom up; a module may import, when it runs, from its own layer and from those below it.
LAYERS = (
    tuple(sorted(CORE)),
    ("isp.files", "isp.light", "isp.layers", "isp.rng", "isp.command"),
    ("isp.backends",),
    ("isp.registry", "isp.profile", "isp.metrics", "isp.pairs", "isp.full_size"),
    ("isp.virtual",),
    ("isp.train",),
    ("isp.prepare", "isp.apply", "isp.doctor", "isp.evaluate", "isp.convert", "isp.__main__"),
    ("blursynth.sample",),
    ("blursynth.stages",),
    ("blursynth.digests", "blursynth.sources", "blursynth.executors", "blursynth.shards"),
    ("blursynth.recipe", "blursynth.joins"),
    ("blursynth.synthesis", "blursynth.sealed"),
    ("blursynth.make", "blursynth.inspect", "blursynth.verify", "blursynth.__main__"),
)
HEAVY = {"torch", "cv2", "h5py", "numpy", "scipy", "skimage", "rawpy", "joblib", "pydantic", "yaml"}
LIGHT_MODULES = {
    "blursynth",
    *(f"blursynth.{name}" for name in ("make", "inspect", "verify", "__main__")),
    "isp.__main__",
}
LIGHT_OF_OURS = {"isp.command"}  # --help must answer at once; this is all that the light modules may load of ours
MEANINGLESS = {"utils", "util", "misc", "helpers", "common"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
YAML_LOADERS = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
SAFE_YAML = {"SafeLoader", "CSafeLoader"}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()

# ---------------------------------------------------------------- reading imports


class Import(NamedTuple):
    name: str  # of the module, as far as it is one of ours; else as written
    when: str  # "load": while the importing module is loaded; "run": in a function; "typing": under TYPE_CHECKING


def resolve(module: str, name: str) -> str:
    """`isp` and `cfa` of `from isp import cfa` is the module `isp.cfa`."""
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


def imports(module: str, tree: ast.AST, when: str = "load") -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                is_package = MODULES.get(module, Path()).name == "__init__.py"
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                origin = ".".join([*parents, *([origin] if origin else [])])
            yield from (Import(resolve(origin, alias.name), when) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(module, node, "run" if when == "load" else when)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports(module, ast.Module(node.body, []), "typing")
            yield from imports(module, ast.Module(node.orelse, []), when)
        else:
            yield from imports(module, node, when)


def top(name: str) -> str:
    return name.partition(".")[0]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


# ---------------------------------------------------------------- the rules: (module, its tree) -> what is wrong


def isp_stands_alone(module: str, tree: ast.Module) -> Iterator[str]:
    if within(module, "isp"):
        yield from (f"isp imports {name}" for name, _ in imports(module, tree) if within(name, "blursynth"))


def the_core_needs_torch_and_jaxtyping_only(module: str, tree: ast.Module) -> Iterator[str]:
    if module in CORE:
        for name, when in imports(module, tree):
            allowed = name in CORE or top(name) in sys.stdlib_module_names | CORE_USES
            upwards = within(name, "isp") and name not in CORE
            if upwards or (when == "load" and not allowed):
                yield f"the core imports {name}"


def backends_build_on_the_core_alone(module: str, tree: ast.Module) -> Iterator[str]:
    if module.startswith("isp.backends."):
        backend = ".".join(module.split(".")[:3])
        for name, when in imports(module, tree):
            ours = within(name, "isp") and not within(name, backend)
            ours = ours and not (name in READ_BY_BACKENDS and when == "run")
            foreign = when == "load" and top(name) not in sys.stdlib_module_names | CORE_USES | {"isp"}
            if foreign or (ours and name not in CORE and not within(name, "isp.layers")):
                yield f"a backend imports {name}"


# Wings that lean on little: (what of ours a wing may import besides itself, what of others when it is loaded).
WINGS = {
    "isp.layers": (set(), {"torch", "jaxtyping"}),
    "isp.light": (set(), {"torch", "jaxtyping", "numpy", "scipy"}),
    "isp.files": (CORE, None),
}


def wings_lean_on_little(module: str, tree: ast.Module) -> Iterator[str]:
    """Layers and light know nothing of ours, files the core alone."""
    for wing, (ours, others) in WINGS.items():
        if within(module, wing):
            for name, when in imports(module, tree):
                inside = any(within(name, package) for package in PACKAGES)
                if inside and not within(name, wing) and name not in ours:
                    yield f"{wing} imports {name}"
                known = others is None or top(name) in sys.stdlib_module_names | others
                if not inside and not known and when == "load":
                    yield f"{wing} loads {name}"


def layer_of(module: str) -> int | None:
    return next((height for height, layer in enumerate(LAYERS) if any(within(module, name) for name in layer)), None)


def layers_are_imported_downwards(module: str, tree: ast.Module) -> Iterator[str]:
    height = layer_of(module)
    if height is None:
        if module not in PACKAGES:
            yield f"{module} stands in no layer; give it one in this file"
    else:
        for name, when in imports(module, tree):
            other = layer_of(name)
            if when != "typing" and other is not None and other > height:
                yield f"{module} imports {name}, which stands above it"


def light_modules_load_nothing_heavy(module: str, tree: ast.Module) -> Iterator[str]:
    if module in LIGHT_MODULES:
        for name, when in imports(module, tree):
            heavy = top(name) in HEAVY or (top(name) in PACKAGES and name not in LIGHT_OF_OURS)
            if when == "load" and heavy:
                yield f"{module} loads {name}"


def names_mean_something(module: str, tree: ast.Module) -> Iterator[str]:
    yield from (f"{part} says nothing" for part in module.split(".") if part in MEANINGLESS)


def nothing_runs_from_data(module: str, tree: ast.Module) -> Iterator[str]:
    """No pickle, no eval, no YAML tags, no checkpoint that is code."""
    for name, _ in imports(module, tree):
        if top(name) in UNSAFE_MODULES:
            yield f"imports {name}"
    safe = SAFE_YAML | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).split(".")[-1] in SAFE_YAML for base in node.bases)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("yaml", "torch", "numpy", "builtins"):
            yield from (
                f"imports {alias.name} of {node.module} by name"
                for alias in node.names
                if alias.name in YAML_LOADERS | {"eval", "exec"}
            )
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("eval", "exec", "builtins.eval", "builtins.exec"):
            yield f"calls {called}"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield "calls torch.load without weights_only=True"
        if given.get("allow_pickle", "False") != "False":
            yield f"calls {called} with allow_pickle"
        if top(called) == "yaml" and called.split(".")[-1] in YAML_LOADERS:
            loader = given.get("Loader") or (ast.unparse(node.args[1]) if len(node.args) > 1 else "")
            if not called.endswith((".load", ".load_all")) or loader.split(".")[-1] not in safe:
                yield f"calls {called} without a SafeLoader"


Rule = Callable[[str, ast.Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    isp_stands_alone,
    the_core_needs_torch_and_jaxtyping_only,
    backends_build_on_the_core_alone,
    wings_lean_on_little,
    layers_are_imported_downwards,
    light_modules_load_nothing_heavy,
    names_mean_something,
    nothing_runs_from_data,
)


def test_there_is_something_to_read():
    assert len(MODULES) > 25
    assert MODULES.keys() >= CORE | LIGHT_MODULES
    assert all(any(within(module, name) for module in MODULES) for layer in LAYERS for name in layer)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_architecture(rule):
    problems = {
        module: found
        for module, path in MODULES.items()
        if (found := list(rule(module, ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert problems == {}


# ---------------------------------------------------------------- each rule sees what breaks it

PLANTED = [
    (isp_stands_alone, "isp.tone", "import blursynth"),
    (isp_stands_alone, "isp", "from blursynth.sample import Sample"),
    (isp_stands_alone, "isp.files.pictures", "def read():\n    from blursynth.shards import shard"),
    (isp_stands_alone, "isp.files.pictures", "if TYPE_CHECKING:\n    from blursynth.sample import Sample"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.cfa", "import numpy as np"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.camera", "try:\n    import yaml\nexcept ImportError:\n    pass"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "class A:\n    from scipy import ndimage"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "from isp import cfa, profile"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "def late():\n    from isp.backends.upi import UPI"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "from . import registry"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "from isp import Camera"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp.backends.rsblur import RSBlur"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp.backends import rsblur"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from .rsblur import RSBlur"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "def late():\n    from . import rsblur"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp import registry"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "import cv2"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp.files import weights"),
    (backends_build_on_the_core_alone, "isp.backends.paramisp.network", "from isp.backends import rsblur"),
    (backends_build_on_the_core_alone, "isp.backends.paramisp", "def late():\n    from isp import registry"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp.light import noise"),
    (wings_lean_on_little, "isp.layers.rows", "from isp.backends.paramisp import design"),
    (wings_lean_on_little, "isp.layers.rows", "from isp import cfa"),
    (wings_lean_on_little, "isp.layers.rows", "import numpy"),
    (wings_lean_on_little, "isp.light.noise", "def late():\n    from isp import profile"),
    (wings_lean_on_little, "isp.light.noise", "import cv2"),
    (wings_lean_on_little, "isp.files.shot", "from isp import profile"),
    (wings_lean_on_little, "isp.files.pictures", "def late():\n    from isp.prepare import registration"),
    (layers_are_imported_downwards, "isp.odds_and_ends", ""),
    (layers_are_imported_downwards, "blursynth.sample", "from blursynth.shards import shard"),
    (layers_are_imported_downwards, "blursynth.stages.noise", "def late():\n    from blursynth.recipe import load"),
    (layers_are_imported_downwards, "blursynth.shards.shard", "from blursynth.synthesis import fill"),
    (layers_are_imported_downwards, "blursynth.recipe", "import blursynth.make"),
    (layers_are_imported_downwards, "blursynth.stages.blur", "from ..executors.processes import run"),
    (layers_are_imported_downwards, "blursynth.odds_and_ends", ""),
    (layers_are_imported_downwards, "isp.files.raw", "from isp.virtual.scenes import luminance"),
    (layers_are_imported_downwards, "isp.profile", "from isp.virtual import cameras"),
    (
        layers_are_imported_downwards,
        "isp.virtual.scenes",
        "def late():\n    from isp.prepare.layouts import find_shots",
    ),
    (light_modules_load_nothing_heavy, "blursynth.make", "import torch"),
    (light_modules_load_nothing_heavy, "blursynth.make", "import numpy.typing as npt"),
    (light_modules_load_nothing_heavy, "blursynth.make", "from blursynth import recipe"),
    (light_modules_load_nothing_heavy, "blursynth.make", "from isp import profile"),
    (light_modules_load_nothing_heavy, "blursynth", "from blursynth.shards.dataset import ShardDataset"),
    (light_modules_load_nothing_heavy, "blursynth", "if TYPE_CHECKING:\n    import os\nelse:\n    import h5py"),
    (light_modules_load_nothing_heavy, "blursynth", "if not TYPE_CHECKING:\n    import torch"),
    (names_mean_something, "blursynth.utils", ""),
    (names_mean_something, "isp.helpers.files", ""),
    (nothing_runs_from_data, "isp.files.pictures", "import pickle"),
    (nothing_runs_from_data, "isp.files.pictures", "def late():\n    from pickle import loads"),
    (nothing_runs_from_data, "isp.files.pictures", "eval('1')"),
    (nothing_runs_from_data, "isp.files.pictures", "def late(text):\n    exec(text)"),
    (nothing_runs_from_data, "isp.files.pictures", "torch.load(path)"),
    (nothing_runs_from_data, "isp.files.pictures", "torch.load(path, weights_only=False)"),
    (nothing_runs_from_data, "isp.files.pictures", "from torch import load"),
    (nothing_runs_from_data, "isp.files.pictures", "np.load(path, allow_pickle=True)"),
    (nothing_runs_from_data, "isp.files.pictures", "yaml.load(text)"),
    (nothing_runs_from_data, "isp.files.pictures", "yaml.load(text, yaml.Loader)"),
    (nothing_runs_from_data, "isp.files.pictures", "class Mine(yaml.Loader): pass\nyaml.load(text, Loader=Mine)"),
    (nothing_runs_from_data, "isp.files.pictures", "yaml.unsafe_load(text)"),
    (nothing_runs_from_data, "isp.files.pictures", "yaml.full_load(text)"),
    (nothing_runs_from_data, "isp.files.pictures", "from yaml import load"),
]

INNOCENT = [
    (isp_stands_alone, "blursynth.sample", "import isp\nfrom blursynth.shards import shard"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.cfa", "import math\nimport torch\nfrom torch.nn import functional"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "from isp import cfa as _cfa\nfrom .camera import Camera"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.files.pictures", "import numpy\nfrom isp import profile"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp import cfa, tone\nfrom jaxtyping import Float"),
    (backends_build_on_the_core_alone, "isp.registry", "from isp.backends import upi"),
    (backends_build_on_the_core_alone, "isp.backends.upi", "def late():\n    from isp.files import weights"),
    (backends_build_on_the_core_alone, "isp.backends.paramisp.network", "from isp.backends.paramisp import design"),
    (
        layers_are_imported_downwards,
        "blursynth.shards.shard",
        "if TYPE_CHECKING:\n    from blursynth.recipe import Recipe",
    ),
    (backends_build_on_the_core_alone, "isp.backends.upi", "from isp.layers import mappings"),
    (wings_lean_on_little, "isp.layers.mappings", "from isp.layers import rows\nimport torch"),
    (wings_lean_on_little, "isp.light.bank", "from isp.light.raster import splat\ndef late():\n    import cv2"),
    (wings_lean_on_little, "isp.files.shot", "import numpy\nfrom isp import cfa\nfrom isp.files import icc"),
    (layers_are_imported_downwards, "blursynth.make", "from blursynth.shards import shard\nfrom isp import profile"),
    (layers_are_imported_downwards, "isp.prepare", "from isp import profile"),
    (
        light_modules_load_nothing_heavy,
        "blursynth.make",
        "def main():\n    import torch\n    from blursynth import recipe",
    ),
    (light_modules_load_nothing_heavy, "blursynth.make", "if TYPE_CHECKING:\n    import torch\nimport argparse"),
    (light_modules_load_nothing_heavy, "blursynth.recipe", "import torch"),
    (light_modules_load_nothing_heavy, "blursynth.make", "from isp import command\nfrom isp.command import DONE"),
    (names_mean_something, "isp.camera", ""),
    (
        nothing_runs_from_data,
        "isp.files.pictures",
        "model.eval()\nre.compile('a')\nnp.load(path, allow_pickle=False)\nnp.load(path)",
    ),
    (nothing_runs_from_data, "isp.files.pictures", "torch.load(path, weights_only=True)\njson.load(file)"),
    (nothing_runs_from_data, "isp.files.pictures", "yaml.safe_load(text)\nyaml.load(text, Loader=yaml.SafeLoader)"),
    (nothing_runs_from_data, "isp.files.pictures", "class Strict(yaml.SafeLoader): pass\nyaml.load(text, Strict)"),
]


@pytest.mark.parametrize(("rule", "module", "source"), PLANTED)
def test_each_rule_sees_a_planted_violation(rule, module, source):
    assert list(rule(module, ast.parse(source)))


@pytest.mark.parametrize(("rule", "module", "source"), INNOCENT)
def test_no_rule_cries_wolf(rule, module, source):
    assert list(rule(module, ast.parse(source))) == []


def test_each_rule_is_planted_against_and_has_an_innocent():
    assert {rule for rule, *_ in PLANTED} == {rule for rule, *_ in INNOCENT} == set(RULES)


# ---------------------------------------------------------------- what really gets loaded


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=60)


LOADED = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded_by(statement: str) -> set[str]:
    process = python("-c", f"{statement}; {LOADED}")
    assert process.returncode == 0, process.stderr
    return set(ast.literal_eval(process.stdout))


def test_make_loads_nothing_heavy():
    loaded = loaded_by("import blursynth.make")
    assert "blursynth" in loaded
    assert loaded & HEAVY == set()
    assert loaded_by("import numpy") & HEAVY == {"numpy"}  # the measurement itself


def test_make_answers_help():
    process = python("-m", "blursynth.make", "--help")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("usage: python -m blursynth.make")
    assert "--recipe" in process.stdout

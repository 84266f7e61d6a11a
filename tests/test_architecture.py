"""Who may import whom, and what no module may do, read from the sources themselves.

Each rule is a function (module, its tree) -> what is wrong, with planted violations and with innocents.
"""

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("isp", "blursynth")

CORE = {f"isp.{name}" for name in ("space", "camera", "cfa", "color", "tone", "levels", "contract")}
CORE_USES = {"torch", "jaxtyping"}
READ_BY_BACKENDS = {"isp.files.weights"}  # when a backend is created; loading its module needs the core and layers only

# From the bottom up. A module may import, when it runs, from its own layer and from those below it.
LAYERS = (
    tuple(sorted(CORE)),
    ("isp.files", "isp.light", "isp.layers", "isp.rng", "isp.command"),
    ("isp.backends",),
    ("isp.registry", "isp.profile", "isp.recipe_files", "isp.metrics", "isp.pairs", "isp.full_size"),
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

# Wings with few dependencies: {wing: (modules of ours that it may import besides itself, what else it may load)}.
WINGS: dict[str, tuple[set[str], set[str] | None]] = {
    "isp.space": (set(), set()),
    "isp.rng": (set(), {"numpy"}),
    "isp.command": (set(), set()),
    "isp.layers": (set(), {"torch", "jaxtyping"}),
    "isp.light": (set(), {"torch", "jaxtyping", "numpy", "scipy"}),
    "isp.files": (CORE, None),
}

# The modules behind `python -m`. Nothing imports a door but the console commands, which start them.
DOORS = {
    *(f"isp.{name}.__main__" for name in ("apply", "prepare", "train")),
    *(f"isp.{name}" for name in ("doctor", "evaluate", "convert")),
    *(f"blursynth.{name}" for name in ("make", "inspect", "verify")),
}
CONSOLE = {"isp.__main__", "blursynth.__main__"}

# --help must answer at once, so these load nothing heavy, neither themselves nor through what they load. The exception is
# isp.convert, which needs the networks to know what it may read.
HEAVY = {
    *("torch", "numpy", "scipy", "skimage", "cv2", "PIL", "rawpy", "exifread"),
    *("h5py", "safetensors", "joblib", "pydantic", "yaml", "tqdm"),
}
LIGHT_MODULES = {"isp", "isp.command", "blursynth", *CONSOLE, *(DOORS - {"isp.convert"})}
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


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the rules: (module, its tree) -> what is wrong


def isp_stands_alone(module: str, tree: ast.Module) -> Iterator[str]:
    if within(module, "isp"):
        yield from (f"isp imports {name}" for name, _ in imports(module, tree) if within(name, "blursynth"))


NAMES_A_PLACE = {"Path", "PurePath", "joinpath", "files", "import_module", "find_spec", "open", "__import__"}


def isp_looks_into_no_folder_of_blursynth(module: str, tree: ast.Module) -> Iterator[str]:
    """No path or module of the other package as text; its bare name, as that of the distribution, is no path."""
    if not within(module, "isp"):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    parts_of_paths = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts_of_paths |= {id(node.left), id(node.right)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in NAMES_A_PLACE:
            parts_of_paths |= {id(argument) for argument in node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            place = re.search(r"\bblursynth[/\\]|^blursynth(\.\w+)+$", node.value)
            if place or (node.value == "blursynth" and id(node) in parts_of_paths):
                yield f'isp looks into "{node.value}"'


def the_core_needs_torch_and_jaxtyping_only(module: str, tree: ast.Module) -> Iterator[str]:
    if module in CORE:
        for name, when in imports(module, tree):
            allowed = name in CORE or top(name) in sys.stdlib_module_names | CORE_USES
            upwards = within(name, "isp") and name not in CORE
            if upwards or (when == "load" and not allowed):
                yield f"the core imports {name}"


def backends_never_import_each_other(module: str, tree: ast.Module) -> Iterator[str]:
    if module.startswith("isp.backends."):
        backend = ".".join(module.split(".")[:3])
        for name, _ in imports(module, tree):
            if within(name, "isp.backends") and not within(name, backend):
                yield f"a backend imports {name}"


def backends_build_on_the_core_and_layers(module: str, tree: ast.Module) -> Iterator[str]:
    if within(module, "isp.backends"):
        for name, when in imports(module, tree):
            allowed = name in CORE or within(name, "isp.layers") or within(name, "isp.backends")
            allowed = allowed or (name in READ_BY_BACKENDS and when == "run")
            foreign = when == "load" and top(name) not in sys.stdlib_module_names | CORE_USES | {"isp"}
            if foreign or (within(name, "isp") and not allowed):
                yield f"a backend imports {name}"


def wings_depend_on_little(module: str, tree: ast.Module) -> Iterator[str]:
    """A wing imports of ours what its line in `WINGS` lists, and loads nothing else than listed there."""
    for wing, (ours, others) in WINGS.items():
        if within(module, wing):
            for name, when in imports(module, tree):
                inside = any(within(name, package) for package in PACKAGES)
                if inside and not within(name, wing) and name not in ours:
                    yield f"{wing} imports {name}"
                known = others is None or top(name) in sys.stdlib_module_names | others
                if not inside and not known and when == "load":
                    yield f"{wing} loads {name}"


def nothing_imports_a_door(module: str, tree: ast.Module) -> Iterator[str]:
    for name, when in imports(module, tree):
        if name in DOORS - {module} and when != "typing" and module not in CONSOLE:
            yield f"{module} imports {name}, a command"


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
    if module not in LIGHT_MODULES:
        return
    seen, waiting = {module}, [(module, tree, module)]
    while waiting:
        current, its_tree, chain = waiting.pop()
        for name, when in imports(current, its_tree):
            if when == "load" and top(name) in HEAVY:
                yield f"{chain} -> {name}"
            parts = name.split(".")
            for loaded in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
                if when == "load" and loaded in MODULES and loaded not in seen:
                    seen.add(loaded)
                    waiting.append((loaded, tree_of(loaded), f"{chain} -> {loaded}"))


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


MAKES_A_TENSOR = {
    *("zeros", "ones", "empty", "full", "eye", "arange", "range", "linspace", "logspace", "tensor", "as_tensor"),
    *("asarray", "scalar_tensor", "rand", "randn", "randint", "randperm", "normal", "fftfreq", "rfftfreq"),
    *("hann_window", "hamming_window", "tril_indices", "triu_indices", "Generator"),
}


def tensors_name_their_device(module: str, tree: ast.Module) -> Iterator[str]:
    """Or they would go where a user's `torch.set_default_device` says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and all(keyword.arg != "device" for keyword in node.keywords):
            called = ast.unparse(node.func)
            if top(called) == "torch" and called.split(".")[-1] in MAKES_A_TENSOR:
                yield f"calls {called} without a device (line {node.lineno})"


Rule = Callable[[str, ast.Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    isp_stands_alone,
    isp_looks_into_no_folder_of_blursynth,
    the_core_needs_torch_and_jaxtyping_only,
    backends_never_import_each_other,
    backends_build_on_the_core_and_layers,
    wings_depend_on_little,
    layers_are_imported_downwards,
    nothing_imports_a_door,
    light_modules_load_nothing_heavy,
    names_mean_something,
    nothing_runs_from_data,
    tensors_name_their_device,
)


def test_there_is_something_to_read():
    assert len(MODULES) > 25
    assert MODULES.keys() >= CORE | LIGHT_MODULES | DOORS | READ_BY_BACKENDS
    assert all(any(within(module, name) for module in MODULES) for layer in LAYERS for name in layer)
    assert all(any(within(module, wing) for module in MODULES) for wing in WINGS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_architecture(rule):
    problems = {module: found for module in MODULES if (found := list(rule(module, tree_of(module))))}
    assert problems == {}


@pytest.mark.parametrize(
    ("exempt", "rule"),
    [
        (READ_BY_BACKENDS, backends_build_on_the_core_and_layers),
    ],
)
def test_no_exemption_outlives_its_reason(monkeypatch, exempt, rule):
    names = [name for name, value in globals().items() if value is exempt]
    for name in names:
        monkeypatch.setitem(globals(), name, set())
    assert any(list(rule(module, tree_of(module))) for module in MODULES)


def circle(imported: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, empty if none do."""
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle():
    imported = {
        module: {name for name, when in imports(module, tree_of(module)) if when != "typing" and name in MODULES}
        for module in MODULES
    }
    assert circle({module: names - {module} for module, names in imported.items()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


# ---------------------------------------------------------------- each rule sees what breaks it

PLANTED = [
    (isp_stands_alone, "isp.tone", "import blursynth"),
    (isp_stands_alone, "isp", "from blursynth.sample import Sample"),
    (isp_stands_alone, "isp.files.pictures", "def read():\n    from blursynth.shards import reader"),
    (isp_stands_alone, "isp.files.pictures", "if TYPE_CHECKING:\n    from blursynth.sample import Sample"),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'home / "blursynth" / "recipes"'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'open("../blursynth/recipes/rsblur.yaml")'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'Path(home, "blursynth")'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'resources.files("blursynth.recipes")'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'import_module("blursynth")'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'ROOM = "blursynth.stages"'),
    (isp_looks_into_no_folder_of_blursynth, "isp.profile", 'f"blursynth/{name}"'),
    (the_core_needs_torch_and_jaxtyping_only, "isp.cfa", "import numpy as np"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.camera", "try:\n    import yaml\nexcept ImportError:\n    pass"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "class A:\n    from scipy import ndimage"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "from isp import cfa, profile"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "def late():\n    from isp.backends.upi import UPI"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "from . import registry"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.contract", "from isp import Camera"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.levels", "def late():\n    from isp.command import did_you_mean"),
    (backends_never_import_each_other, "isp.backends.upi", "from isp.backends.rsblur import RSBlur"),
    (backends_never_import_each_other, "isp.backends.upi", "from isp.backends import rsblur"),
    (backends_never_import_each_other, "isp.backends.upi", "from .rsblur import RSBlur"),
    (backends_never_import_each_other, "isp.backends.upi", "def late():\n    from . import rsblur"),
    (backends_never_import_each_other, "isp.backends.upi", "if TYPE_CHECKING:\n    from . import rsblur"),
    (backends_never_import_each_other, "isp.backends.paramisp.network", "from isp.backends import rsblur"),
    (backends_never_import_each_other, "isp.backends.rsblur", "from isp.backends.paramisp.design import Design"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "from isp import registry"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "import cv2"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "from isp.files import weights"),
    (backends_build_on_the_core_and_layers, "isp.backends.paramisp", "def late():\n    from isp import registry"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "from isp.light import noise"),
    (backends_build_on_the_core_and_layers, "isp.backends", "from isp.rng import generator"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "from isp.command import did_you_mean"),
    (wings_depend_on_little, "isp.space", "import torch"),
    (wings_depend_on_little, "isp.rng", "import torch"),
    (wings_depend_on_little, "isp.command", "from isp import profile"),
    (wings_depend_on_little, "isp.command", "import yaml"),
    (wings_depend_on_little, "isp.layers.rows", "from isp.backends.paramisp import design"),
    (wings_depend_on_little, "isp.layers.rows", "from isp import cfa"),
    (wings_depend_on_little, "isp.layers.rows", "import numpy"),
    (wings_depend_on_little, "isp.light.noise", "def late():\n    from isp import profile"),
    (wings_depend_on_little, "isp.light.noise", "import cv2"),
    (wings_depend_on_little, "isp.light.raster", "from isp.command import did_you_mean"),
    (wings_depend_on_little, "isp.files.shot", "from isp import profile"),
    (wings_depend_on_little, "isp.files.raw", "from isp import command"),
    (wings_depend_on_little, "isp.files.pictures", "def late():\n    from isp.prepare import registration"),
    (layers_are_imported_downwards, "isp.odds_and_ends", ""),
    (layers_are_imported_downwards, "blursynth.sample", "from blursynth.shards import reader"),
    (layers_are_imported_downwards, "blursynth.stages.noise", "def late():\n    from blursynth.recipe import load"),
    (layers_are_imported_downwards, "blursynth.shards.writer", "from blursynth.synthesis import fill"),
    (layers_are_imported_downwards, "blursynth.recipe", "import blursynth.make"),
    (layers_are_imported_downwards, "blursynth.stages.blur", "from ..executors.processes import run"),
    (layers_are_imported_downwards, "blursynth.odds_and_ends", ""),
    (layers_are_imported_downwards, "isp.metrics", "from isp.train import data"),
    (layers_are_imported_downwards, "isp.virtual.cameras", "from isp.evaluate import WRONG"),
    (layers_are_imported_downwards, "isp.train.loop", "from isp import evaluate"),
    (layers_are_imported_downwards, "isp.files.raw", "from isp.virtual.scenes import luminance"),
    (layers_are_imported_downwards, "isp.profile", "from isp.virtual import cameras"),
    (
        layers_are_imported_downwards,
        "isp.virtual.scenes",
        "def late():\n    from isp.prepare.layouts import find_shots",
    ),
    (nothing_imports_a_door, "blursynth.synthesis", "from blursynth import make"),
    (nothing_imports_a_door, "blursynth.make", "def late():\n    from blursynth.verify import check"),
    (nothing_imports_a_door, "isp.evaluate", "from isp.apply.__main__ import GAINS"),
    (light_modules_load_nothing_heavy, "isp.command", "from tqdm import tqdm"),
    (light_modules_load_nothing_heavy, "isp.apply.__main__", "from isp.rng import generator"),
    (light_modules_load_nothing_heavy, "isp.prepare.__main__", "from isp.prepare import registration"),
    (light_modules_load_nothing_heavy, "isp.train.__main__", "from isp.train import plan"),
    (light_modules_load_nothing_heavy, "isp.doctor", "from isp.files import raw"),
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
    (tensors_name_their_device, "isp.cfa", "torch.zeros(3, dtype=torch.float32)"),
    (tensors_name_their_device, "isp.virtual.scenes", "torch.fft.fftfreq(8)"),
]

INNOCENT = [
    (isp_stands_alone, "blursynth.sample", "import isp\nfrom blursynth.shards import reader"),
    (
        isp_looks_into_no_folder_of_blursynth,
        "isp.command",
        '"""See blursynth/stages."""\nversion("blursynth")\nprint("blursynth 1", "blursynth.inspect reads its own")',
    ),
    (isp_looks_into_no_folder_of_blursynth, "blursynth.recipe", 'home / "blursynth" / "recipes"'),
    (the_core_needs_torch_and_jaxtyping_only, "isp.cfa", "import math\nimport torch\nfrom torch.nn import functional"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.color", "from isp import cfa as _cfa\nfrom .camera import Camera"),
    (the_core_needs_torch_and_jaxtyping_only, "isp.files.pictures", "import numpy\nfrom isp import profile"),
    (
        backends_build_on_the_core_and_layers,
        "isp.backends.upi",
        "from isp import cfa, tone\nfrom jaxtyping import Float",
    ),
    (backends_never_import_each_other, "isp.registry", "from isp.backends import upi"),
    (backends_never_import_each_other, "isp.backends.paramisp.network", "from isp.backends.paramisp import design"),
    (backends_build_on_the_core_and_layers, "isp.registry", "from isp.backends import upi"),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "def late():\n    from isp.files import weights"),
    (
        backends_build_on_the_core_and_layers,
        "isp.backends.paramisp.network",
        "from isp.backends.paramisp import design",
    ),
    (
        layers_are_imported_downwards,
        "blursynth.shards.writer",
        "if TYPE_CHECKING:\n    from blursynth.recipe import Recipe",
    ),
    (backends_build_on_the_core_and_layers, "isp.backends.upi", "from isp.layers import mappings"),
    (wings_depend_on_little, "isp.command", "import argparse\ndef late():\n    from tqdm import tqdm"),
    (wings_depend_on_little, "isp.layers.mappings", "from isp.layers import rows\nimport torch"),
    (wings_depend_on_little, "isp.light.bank", "from isp.light.raster import splat\ndef late():\n    import cv2"),
    (wings_depend_on_little, "isp.files.shot", "import numpy\nfrom isp import cfa\nfrom isp.files import icc"),
    (layers_are_imported_downwards, "blursynth.make", "from blursynth.shards import reader\nfrom isp import profile"),
    (layers_are_imported_downwards, "isp.prepare", "from isp import profile"),
    (nothing_imports_a_door, "blursynth.__main__", "from blursynth import make"),
    (nothing_imports_a_door, "isp.evaluate", "from isp.train import data\nfrom isp import evaluate"),
    (
        light_modules_load_nothing_heavy,
        "isp.prepare.__main__",
        "from isp import command\nfrom isp.prepare import layouts",
    ),
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
    (tensors_name_their_device, "isp.cfa", "torch.zeros(3, device=image.device)\nimage.new_zeros(3)\nnumpy.zeros(3)"),
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


@pytest.mark.parametrize("module", sorted(LIGHT_MODULES))
def test_light_modules_are_light(module):
    loaded = loaded_by(f"import {module}")
    assert top(module) in loaded
    assert loaded & HEAVY == set()


def test_what_is_heavy_is_seen():
    assert loaded_by("import numpy") & HEAVY == {"numpy"}


@pytest.mark.parametrize("door", sorted(LIGHT_MODULES & DOORS))
def test_light_doors_answer_help(door):
    command = door.removesuffix(".__main__")
    process = python("-m", command, "--help")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"usage: python -m {command} ")

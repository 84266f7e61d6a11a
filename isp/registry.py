"""The table of ISPs, and how one is opened by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from isp.command import did_you_mean
from isp.contract import ISP, Published, TrainableBackend

# name -> module with `VARIANTS` (a bare name means the first) and `create(variant, device)`. If it also has `TAKES_PATHS`, a
# variant may be a path to weights, and `create` judges it. If it also has `trainable`, it is a `TrainableBackend`, and
# may have `PUBLISHED` and `CHOICES`.
BUILT_IN = {
    "rsblur": "isp.backends.rsblur",
    "upi": "isp.backends.upi",
    "paramisp": "isp.backends.paramisp",
}
ENTRY_POINT_GROUP = "isp.backends"


def _plug_ins() -> dict[str, EntryPoint]:
    """The backends of installed packages, by name. Raises `ValueError` if two have the same name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        taken = BUILT_IN.get(point.name) or (found[point.name].value if point.name in found else None)
        if taken:
            raise ValueError(f'isp: two backends are named "{point.name}": {taken} and {point.value}; uninstall one')
        found[point.name] = point
    return found


def _module(backend: str) -> Any:
    plug_ins = _plug_ins()
    if backend in BUILT_IN:
        return import_module(BUILT_IN[backend])
    if backend not in plug_ins:
        known = [*BUILT_IN, *plug_ins]
        hint = did_you_mean(backend, known)
        raise ValueError(f'isp: expected a backend out of {", ".join(known)}, got "{backend}"{hint}')
    try:
        return plug_ins[backend].load()
    except Exception as cause:
        raise ValueError(
            f'isp: the plug-in "{backend}" ({plug_ins[backend].value}) cannot be imported: {cause}; '
            "reinstall or uninstall the package that brings it"
        ) from cause


def names() -> list[str]:
    """List every built-in variant and the name of every plug-in."""
    built_in = [f"{name}/{variant}" for name in BUILT_IN for variant in _module(name).VARIANTS]
    return built_in + list(_plug_ins())


def create(name: str, device: Any = "cpu") -> ISP:
    """Open the ISP called `backend` or `backend/variant` on `device`; some backends take a path as variant.

    Raises `ValueError` for an unknown backend or variant, two backends of one name, or a plug-in that cannot be imported.
    """
    backend, _, variant = name.partition("/")
    module = _module(backend)
    has_fixed_variants = backend in BUILT_IN and not hasattr(module, "TAKES_PATHS")
    if has_fixed_variants and variant and variant not in module.VARIANTS:
        known = [f"{backend}/{each}" for each in module.VARIANTS]
        # Judged by the variants alone: names of one backend resemble each other in any case.
        hint = did_you_mean(name, known) if did_you_mean(variant, module.VARIANTS) else ""
        raise ValueError(f'isp: expected one of {", ".join(known)}, got "{name}"{hint}')
    make: Callable[[str, Any], ISP] = module.create
    return make(variant, device)


def trainable_backend(name: str) -> TrainableBackend:
    """Find the backend called `name` among those that can be trained.

    Raises `ValueError` for an unknown backend, or for one that has nothing to learn.
    """
    module = _module(name)
    if not hasattr(module, "trainable"):
        raise ValueError(f'isp: expected a backend that can be trained, got "{name}", which has nothing to learn')
    return cast(TrainableBackend, module)


def training_choices(name: str) -> Mapping[str, Collection[str]]:
    """Return the keys that the blocks "design" and "loss" of a training recipe may have, if the backend lists them.

    Raises `ValueError` for an unknown backend, or for one that has nothing to learn.
    """
    return getattr(trainable_backend(name), "CHOICES", {})


def published(name: str) -> Published:
    """Find how the authors of the backend called `name` store their weights.

    Raises `ValueError` for an unknown backend, or for one without published checkpoints.
    """
    found: Published | None = getattr(_module(name), "PUBLISHED", None)
    if found is None:
        raise ValueError(f'isp: expected a backend with published checkpoints, got "{name}", which has none')
    return found

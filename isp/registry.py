"""Which ISPs there are, and how one is opened by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from isp.contract import ISP

# name -> module with `VARIANTS` (a bare name is the first) and `create(variant, device)`; where it also has
# `TAKES_PATHS`, a variant may be a path to weights, and `create` judges it
BUILT_IN = {
    "rsblur": "isp.backends.rsblur",
    "upi": "isp.backends.upi",
    "paramisp": "isp.backends.paramisp",
}
ENTRY_POINT_GROUP = "isp.backends"


def _plug_ins() -> dict[str, EntryPoint]:
    """Backends of installed packages, by name. Raises `ValueError` where two claim one name."""
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
        close = difflib.get_close_matches(backend, known, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f'isp: expected a backend out of {", ".join(known)}, got "{backend}"{hint}')
    try:
        return plug_ins[backend].load()
    except Exception as cause:
        raise ValueError(
            f'isp: the plug-in "{backend}" ({plug_ins[backend].value}) cannot be imported: {cause}; '
            "reinstall or uninstall the package that brings it"
        ) from cause


def names() -> list[str]:
    """Every built-in variant, and the name of every plug-in."""
    built_in = [f"{name}/{variant}" for name in BUILT_IN for variant in _module(name).VARIANTS]
    return built_in + list(_plug_ins())


def create(name: str, device: Any = "cpu") -> ISP:
    """The ISP called `backend` or `backend/variant`, on `device`; a variant may be a path where the backend takes one.

    Raises `ValueError` for an unknown backend or variant, a clash of names, or a plug-in that cannot be imported.
    """
    backend, _, variant = name.partition("/")
    module = _module(backend)
    has_fixed_variants = backend in BUILT_IN and not hasattr(module, "TAKES_PATHS")
    if has_fixed_variants and variant and variant not in module.VARIANTS:
        close = difflib.get_close_matches(variant, module.VARIANTS, n=1)
        hint = f'; did you mean "{backend}/{close[0]}"?' if close else ""
        expected = ", ".join(f"{backend}/{known}" for known in module.VARIANTS)
        raise ValueError(f'isp: expected one of {expected}, got "{name}"{hint}')
    make: Callable[[str, Any], ISP] = module.create
    return make(variant, device)

"""Published checkpoints: read without running anything in them, and renamed to our tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isp.contract import Directions, Published
from isp.files import torch_file

WRAPPERS = ("state_dict", "params")  # keys under which training code stores the tensors, beside other things
PARALLEL = "module."  # what torch.nn.DataParallel puts before every name
SHOWN = 3  # names in a message


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint as a dictionary with the key "state_dict", whatever the file calls it.

    Raises what `torch_file.read` raises, and `ValueError` if the file has anything but tensors by name.
    """
    found = torch_file.read(path, "a checkpoint", "fetch it again, or save its state_dict alone")
    if isinstance(found, dict) and found and all(isinstance(value, Tensor) for value in found.values()):
        found = {"state_dict": found}
    wrapper = next((key for key in WRAPPERS if isinstance(found, dict) and isinstance(found.get(key), dict)), None)
    if wrapper is None:
        raise ValueError(f"{path}: expected a checkpoint with a state_dict, got {type(found).__name__}")
    state = found[wrapper]
    wrong = next((key for key, value in state.items() if not isinstance(key, str) or not _is_plain(value)), None)
    if wrong is not None:
        value = state[wrong]
        kind = type(value).__name__
        if isinstance(value, Tensor):
            kind = f"a tensor of {value.numel():,} values in less memory"
        raise ValueError(f"{path}: expected ordinary tensors with names, got {kind} under the name {wrong!r:.80}")
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > torch_file.MOST_BYTES:  # many names may share one storage
        raise ValueError(f"{path}: expected tensors of at most {torch_file.MOST_BYTES:,} bytes together, got {total:,}")
    if state and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    return {**found, "state_dict": state}


def _is_plain(value: Any) -> bool:
    """Tell whether `value` is a tensor that takes no more memory than the file holds for it."""
    return isinstance(value, Tensor) and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def renamed(
    checkpoints: Sequence[Mapping[str, Any]], published: Published, directions: Directions, source: str
) -> dict[str, Tensor]:
    """Collect the tensors of one or several checkpoints under our names; messages begin with `source`.

    Raises `ValueError` for another number of files than the weights have, a checkpoint of other directions, an unknown
    tensor, or aliases that differ.
    """
    files = published.files.get(directions, ("",))
    if len(checkpoints) != len(files):
        raise ValueError(f"{source}: expected {len(files)} checkpoints for {directions}, got {len(checkpoints)}")
    for checkpoint in checkpoints:
        possible = published.directions_of(checkpoint)
        if directions not in possible:
            raise ValueError(
                f"{source}: expected a checkpoint of direction {directions}, got one of {' or '.join(possible)}; "
                "change --direction"
            )
    modules = published.modules.get(directions, {})
    found: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    unknown = []
    for prefix, checkpoint in zip(files, checkpoints, strict=True):
        for key, tensor in checkpoint["state_dict"].items():
            name = f"{prefix}{key}"
            if name in published.unused:
                continue
            module, _, leaf = name.rpartition(".")
            if module not in modules:
                unknown.append(name)
                continue
            ours = f"{modules[module]}.{leaf}".removeprefix(".")
            if ours in found and not (found[ours].dtype == tensor.dtype and torch.equal(found[ours], tensor)):
                raise ValueError(f"{source}: expected {names[ours]} and {name} to be equal, but they differ")
            found.setdefault(ours, tensor.contiguous().clone())
            names.setdefault(ours, name)
    if unknown:
        shown = ", ".join(name[:80] for name in unknown[:SHOWN])
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise ValueError(f"{source}: expected the published tensors alone, got also {shown}{more}")
    return found

"""Weight files: .safetensors with what must be known of them in the metadata. Nothing in them can run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isp.files.whole import replace_file

# What every file says of itself; all of it is text.
#   backend    "paramisp"
#   direction  "inverse", "forward" or "joint": both, with the names of the tensors under "inverse." and "forward."
#   camera     what the weights were trained for
#   design     what the backend needs to build the network, as JSON
#   matrix     "rows_1" or "official" (rows sum to 3): the camera matrices that the weights want
#   licence    under which terms the weights may be used
#   version    of the code that wrote the file
#   sha256     of the tensors, so that a flipped bit is seen
KEYS = ("backend", "direction", "camera", "design", "matrix", "licence", "version", "sha256")


@dataclass(frozen=True)
class Weights:
    """One file: its tensors, what it says of itself, and the SHA-256 of its bytes."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    digest: str


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    running = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        running.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return running.hexdigest()


def _ordered(file: bytes) -> bytes:
    """A .safetensors file with its metadata sorted: the library writes them in random order, and equal weights shall be
    equal files."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


def write(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Writes `path` whole or not at all. `metadata` holds every key of `KEYS` but the last two, and may hold more.

    Raises `ValueError` for a missing key.
    """
    missing = [key for key in KEYS[:-2] if key not in metadata]
    if missing:
        raise ValueError(f"{path}: expected the metadata {', '.join(KEYS[:-2])}; {', '.join(missing)} is missing")
    try:
        code = version("blursynth")
    except PackageNotFoundError:
        code = "checkout"
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    replace_file(path, _ordered(save(own, {**metadata, "version": code, "sha256": digest_of(own)})))


def read(path: Path) -> Weights:
    """Raises `ValueError` for a file that is missing, is no weight file, or whose tensors are not those written."""
    if not path.is_file():
        raise ValueError(f"{path}: expected a weight file, but there is none")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except SafetensorError as cause:
        raise ValueError(f"{path}: expected a .safetensors file, got: {cause}") from cause
    missing = [key for key in KEYS if key not in metadata]
    if missing:
        raise ValueError(f"{path}: expected the metadata {', '.join(KEYS)}; {', '.join(missing)} is missing")
    if digest_of(tensors) != metadata["sha256"]:
        raise ValueError(f"{path}: its tensors are not those that were written (sha256 differs); fetch the file again")
    return Weights(path, tensors, metadata, hashlib.sha256(path.read_bytes()).hexdigest())


def fill(network: nn.Module, tensors: Mapping[str, Tensor], of: str) -> None:
    """Copies `tensors` into `network`, in the network's precision.

    Raises `ValueError` for a tensor that is missing, unknown, or of another shape or kind.
    """
    wanted = network.state_dict()
    problems = [
        ("is missing", sorted(wanted.keys() - tensors.keys())),
        ("is unknown", sorted(tensors.keys() - wanted.keys())),
        ("holds no floats", [name for name in sorted(tensors) if not tensors[name].is_floating_point()]),
    ]
    for what, names in problems:
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(f"{of}: tensor {names[0]}{more} {what}; these are weights of another network")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(wanted[name].shape)}, got {tuple(tensor.shape)}"
            raise ValueError(f"{of}: expected {name} of shape {shapes}; these are weights of another network")
    network.load_state_dict(dict(tensors))

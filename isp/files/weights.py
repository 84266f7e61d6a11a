"""Weight files: .safetensors whose metadata say what they are. Nothing in them can run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from isp.contract import Direction
from isp.files import places, torch_file
from isp.files.whole import replace_file

# The metadata that every file has; all of it is text. A backend adds what else it needs, such as the network's design.
#   backend    the backend whose networks they are, such as "paramisp"
#   direction  "inverse", "forward" or "joint", see `by_network`
#   camera     what the weights were trained for
#   licence    the terms under which the weights may be used
#   version    the version of the code that wrote the file
#   sha256     the digest of the tensors, which reveals a flipped bit
KEYS = ("backend", "direction", "camera", "licence", "version", "sha256")


@dataclass(frozen=True)
class Weights:
    """One file: its tensors, its metadata, and the SHA-256 of its bytes."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    digest: str

    @property
    def networks(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of each network, by what the network does."""
        return by_network(self.tensors, self.metadata["direction"])


def by_network(tensors: Mapping[str, Tensor], direction: str) -> dict[str, dict[str, Tensor]]:
    """Split the tensors of one file into {network: {name: tensor}}.

    A "joint" file holds both networks, with names that begin with "inverse." and "forward.", or one network that works in
    both directions.
    """
    prefixes = [f"{each}." for each in get_args(Direction)]
    if direction != "joint" or not all(name.startswith(tuple(prefixes)) for name in tensors):
        return {direction: dict(tensors)}
    return {
        prefix[:-1]: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in prefixes
    }


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, types, shapes and values."""
    running = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        running.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return running.hexdigest()


def _ordered(file: bytes) -> bytes:
    """Sort the metadata of a .safetensors file: the library writes them in random order, but equal weights must give
    equal files."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


def write(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write `path` whole or not at all. `metadata` has every key of `KEYS` except the last two, and may have more.

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
    """Read one file.

    Raises `ValueError` if it is missing, is no weight file, is larger than `torch_file.MOST_BYTES`, or has other tensors than
    were written.
    """
    try:
        size = places.check_regular(path, "a weight file")
    except FileNotFoundError as cause:
        raise ValueError(f"{path}: expected a weight file, but there is none") from cause
    if size > torch_file.MOST_BYTES:
        raise ValueError(f"{path}: expected a weight file of at most {torch_file.MOST_BYTES:,} bytes, got {size:,}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except SafetensorError as cause:
        raise ValueError(f"{path}: expected a .safetensors file, got: {cause!s:.300}; fetch the file again") from cause
    except OSError as cause:
        raise ValueError(
            f"{path}: expected a readable weight file, got an error ({cause.strerror}); check it"
        ) from cause
    other = next((name for name, tensor in tensors.items() if tensor.dtype not in torch_file.TYPES), None)
    if other is not None:
        raise ValueError(f"{path}: expected ordinary numbers, got {tensors[other].dtype} in {other:.80}; convert them")
    missing = [key for key in KEYS if key not in metadata]
    if missing:
        raise ValueError(f"{path}: expected the metadata {', '.join(KEYS)}; {', '.join(missing)} is missing")
    if digest_of(tensors) != metadata["sha256"]:
        raise ValueError(f"{path}: its tensors are not those that were written (sha256 differs); fetch the file again")
    return Weights(path, tensors, metadata, digest)


def read_for(backend: str, path: Path) -> Weights:
    """Read one file as `read` does. Raises `ValueError` as well if it holds weights of another backend."""
    found = read(path)
    if found.metadata["backend"] != backend:
        raise ValueError(f"{path}: expected weights of {backend}, got weights of {found.metadata['backend']}")
    return found


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors` into `network`, in the network's precision; messages begin with `source`.

    Raises `ValueError` for a tensor that is missing, unknown, of another shape or kind, or not finite.
    """
    wanted = network.state_dict()
    integers = [name for name in sorted(tensors) if name in wanted and not tensors[name].is_floating_point()]
    broken = [name for name in sorted(tensors) if not bool(tensors[name].isfinite().all())]
    problems = [
        ("is missing", sorted(wanted.keys() - tensors.keys())),
        ("is unknown", sorted(tensors.keys() - wanted.keys())),
        ("holds no floats", [name for name in integers if wanted[name].is_floating_point()]),
    ]
    for what, names in problems:
        if names:
            raise ValueError(f"{source}: tensor {_first(names)} {what}; these are weights of another network")
    if broken:
        raise ValueError(
            f"{source}: tensor {_first(broken)} holds NaN or infinite values; use weights that did not diverge"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(wanted[name].shape)}, got {tuple(tensor.shape)}"
            raise ValueError(f"{source}: expected {name} of shape {shapes}; these are weights of another network")
    network.load_state_dict(dict(tensors))


def _first(names: Sequence[str]) -> str:
    return f"{names[0]:.80}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")

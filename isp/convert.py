"""`python -m isp.convert`: the ParamISP authors' checkpoints as .safetensors.

    python -m isp.convert official.ckpt --direction inverse --camera A7R3 --out a7r3-inverse.safetensors
    python -m isp.convert joint.ckpt --direction joint --camera A7R3 --out a7r3-joint.safetensors

A checkpoint is a pickle, which could run anything: only tensors, plain containers and NumPy values are accepted in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isp.backends.paramisp.design import PRESETS
from isp.backends.paramisp.network import ParamISPNet
from isp.contract import Direction
from isp.files import weights

DONE, BAD_DATA, USAGE = 0, 1, 2

# Our name of each published module; a pattern may carry an index over. Source: kim2024, ParamISP@0e4913f
_NAMES = (
    (r"embed_color", "param_net.colour"),
    (r"embed_focallen", "param_net.optical.focal_mm"),
    (r"embed_aperture", "param_net.optical.f_number"),
    (r"embed_expstime", "param_net.optical.exposure_s"),
    (r"embed_senstvty", "param_net.optical.iso"),
    (r"embednet\.1", "param_net.layers.0"),
    (r"embednet\.3", "param_net.layers.1"),
    (r"embednet\.5", "param_net.layers.2"),
    (r"tonenet\.convs\.(\d)", r"global_net.convs.\1"),
    (r"tonenet\.fcs\.(\d)", r"global_net.hidden.\1"),
    (r"tonenet\.fc_index", "global_net.stage"),
    (r"tonenet\.fc_last\.(\d)", r"global_net.heads.\1"),
    (r"hypertonenet\.fc_embed", "global_net.optical"),
    (r"hyperlocalnet\.fc_head", "local_net.optical"),
    (r"localnet\.conv_head", "local_net.head"),
    (r"localnet\.conv_tail", "local_net.tail"),
    (r"localnet\.conv_down\.(\d)", r"local_net.down.\1"),
    # Upsampling and the blocks after it are numbered from full to quarter resolution there, in order of use here.
    (r"localnet\.conv_up\.0", "local_net.up.1"),
    (r"localnet\.conv_up\.1", "local_net.up.0"),
    (r"localnet\.resblks\.6", "local_net.blocks.8"),
    (r"localnet\.resblks\.7", "local_net.blocks.9"),
    (r"localnet\.resblks\.8", "local_net.blocks.6"),
    (r"localnet\.resblks\.9", "local_net.blocks.7"),
    (r"localnet\.resblks\.(\d)", r"local_net.blocks.\1"),
)
_IN_BLOCK = (
    (r"\.chattn\.conv1", ".channel_narrow"),
    (r"\.chattn\.conv2", ".channel_widen"),
    (r"\.spattn\.conv", ".spatial"),
    (r"\.conv1", ".narrow"),
    (r"\.conv2", ".widen"),
)
_ALIASES = {"hypertonenet.target.": "tonenet.", "hyperlocalnet.target.": "localnet."}
# Constants, and a layer whose output is multiplied by 0; they may be absent.
_UNUSED = ("demosaic.kernels", "demosaic.indices_rggb", "ms_ssim_loss._g_masks", "embed_id.weight", "embed_id.bias")
_PREFIXES: dict[Direction, str] = {"inverse": "rgb2raw.", "forward": "raw2rgb."}


def _allowed() -> list[Any]:
    """What a checkpoint may hold besides tensors and plain containers: NumPy's arrays and numbers, under old names too."""
    rebuild_array, rebuild_scalar = np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [
        np.ndarray,
        np.dtype,
        *dtypes,
        *((rebuild_array, f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
        *((rebuild_scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    ]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint as a dictionary. Raises `ValueError` for what is none, or holds more than data."""
    try:
        with torch.serialization.safe_globals(_allowed()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as cause:  # torch raises many kinds for a file that is no checkpoint
        first_line = str(cause).partition("\n")[0]
        raise ValueError(f"{path}: expected a checkpoint of tensors and plain values, got: {first_line}") from cause
    if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict):
        raise ValueError(f"{path}: expected a checkpoint with a state_dict, got {type(found).__name__}")
    return found


def _our_name(published: str) -> str | None:
    module, _, leaf = published.rpartition(".")
    for pattern, name in _NAMES:
        found = re.match(pattern + r"(?=\.|$)", module)
        if found:
            rest = module[found.end() :]
            for of_block, ours in _IN_BLOCK:
                rest = re.sub(f"^{of_block}$", ours, rest)
            return f"{found.expand(name)}{rest}.{leaf}"
    return None


def translated(state: dict[str, Tensor], of: str) -> dict[str, Tensor]:
    """The tensors of one network under our names.

    Raises `ValueError` for one that is missing, unknown or of another shape, and for aliases that differ.
    Source: kim2024, ParamISP@0e4913f
    """
    merged: dict[str, Tensor] = {}
    for key in sorted(state):
        name = next((key.replace(alias, real, 1) for alias, real in _ALIASES.items() if key.startswith(alias)), key)
        if name in merged and not torch.equal(merged[name], state[key]):
            raise ValueError(f"{of}: expected two names of one tensor, but {name} and its alias differ")
        merged.setdefault(name, state[key])
    found, unknown = {}, []
    for key, tensor in merged.items():
        if key not in _UNUSED:
            ours = _our_name(key)
            if ours is None:
                unknown.append(key)
            else:
                found[ours] = tensor.contiguous().clone()
    if unknown:
        raise ValueError(f"{of}: expected the tensors of ParamISP, got also {', '.join(unknown)}")
    weights.fill(ParamISPNet("inverse", PRESETS["official"]), found, of)
    return found


def converted(
    checkpoint: dict[str, Any], direction: Literal["inverse", "forward", "joint"], of: str
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names; those of a joint one begin with "inverse." and "forward.".

    Raises `ValueError` where the checkpoint says that it is of another direction.
    """
    state, inverse = checkpoint["state_dict"], (checkpoint.get("hyper_parameters") or {}).get("inverse")
    joint = any(key.startswith(tuple(_PREFIXES.values())) for key in state)
    if joint != (direction == "joint"):
        raise ValueError(f"{of}: holds {'both networks' if joint else 'one network'}; --direction {direction} is wrong")
    if not joint:
        if isinstance(inverse, bool) and inverse != (direction == "inverse"):
            raise ValueError(
                f"{of}: says that it is the {'inverse' if inverse else 'forward'} network, not {direction}"
            )
        return translated(state, of)
    both: dict[str, Tensor] = {}
    for one, prefix in _PREFIXES.items():
        own = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        both |= {f"{one}.{name}": tensor for name, tensor in translated(own, f"{of} ({prefix}*)").items()}
    others = [key for key in state if not key.startswith(tuple(_PREFIXES.values())) and key not in _UNUSED]
    if others:
        raise ValueError(f"{of}: expected the tensors of a joint ParamISP, got also {', '.join(others)}")
    return both


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m isp.convert", description="Writes a checkpoint of the ParamISP authors as .safetensors."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--direction", required=True, choices=("inverse", "forward", "joint"))
    parser.add_argument("--camera", required=True, help="the camera that the weights are for, such as A7R3")
    parser.add_argument("--out", required=True, type=Path, help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="overwrite it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or DONE)
    if args.out.suffix != ".safetensors":
        sys.stderr.write(f"--out: expected a name that ends in .safetensors, got {args.out}\n")
        return USAGE
    if args.out.exists() and not args.force:
        sys.stderr.write(f"{args.out}: is there already; choose another name, or overwrite it with --force\n")
        return USAGE
    try:
        checkpoint = read_checkpoint(args.checkpoint)
        tensors = converted(checkpoint, args.direction, of=str(args.checkpoint))
        weights.write(
            args.out,
            tensors,
            backend="paramisp",
            direction=args.direction,
            camera=args.camera,
            design=PRESETS["official"].to_json(),
            matrix="official",
            licence="not stated by the authors of ParamISP",
        )
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return BAD_DATA
    said = (checkpoint.get("hyper_parameters") or {}).get("inverse")
    doubt = "" if args.direction == "joint" or isinstance(said, bool) else "; the checkpoint does not say its direction"
    sys.stdout.write(
        f"{args.out}: {args.direction} ParamISP of {args.camera}, {sum(t.numel() for t in tensors.values()):,} parameters, "
        f"design official, colour matrix official (rows sum to 3){doubt}\n"
    )
    return DONE


if __name__ == "__main__":
    sys.exit(main())

"""How the ParamISP authors name the tensors of their checkpoints (PyTorch Lightning), for `isp.convert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isp.contract import Direction, Directions, Published

# {published name: ours} of a block's parts, and of all modules. Source: kim2024, ParamISP@0e4913f
_IN_BLOCK = {
    "conv1": "narrow",
    "conv2": "widen",
    "chattn.conv1": "channel_narrow",
    "chattn.conv2": "channel_widen",
    "spattn.conv": "spatial",
}
# Upsampling and the blocks after it are numbered from full to quarter resolution there, in order of use here.
_BLOCKS = (0, 1, 2, 3, 4, 5, 8, 9, 6, 7)
_UP = (1, 0)
_GLOBAL_NET = {
    **{f"convs.{at}": f"convs.{at}" for at in range(3)},
    **{f"fcs.{at}": f"hidden.{at}" for at in range(2)},
    "fc_index": "stage",
    **{f"fc_last.{at}": f"heads.{at}" for at in range(4)},
}
_LOCAL_NET = {
    "conv_head": "head",
    "conv_tail": "tail",
    **{f"conv_down.{at}": f"down.{at}" for at in range(2)},
    **{f"conv_up.{theirs}": f"up.{ours}" for ours, theirs in enumerate(_UP)},
    **{
        f"resblks.{theirs}.{part}": f"blocks.{ours}.{own}"
        for ours, theirs in enumerate(_BLOCKS)
        for part, own in _IN_BLOCK.items()
    },
}
_MODULES = {
    "embed_color": "param_net.colour",
    "embed_focallen": "param_net.optical.focal_mm",
    "embed_aperture": "param_net.optical.f_number",
    "embed_expstime": "param_net.optical.exposure_s",
    "embed_senstvty": "param_net.optical.iso",
    **{f"embednet.{2 * at + 1}": f"param_net.layers.{at}" for at in range(3)},
    "hypertonenet.fc_embed": "global_net.optical",
    "hyperlocalnet.fc_head": "local_net.optical",
    # Each of these two networks stands there twice, the second time inside the one that modulates it.
    **{f"{at}.{name}": f"global_net.{own}" for at in ("tonenet", "hypertonenet.target") for name, own in _GLOBAL_NET.items()},
    **{f"{at}.{name}": f"local_net.{own}" for at in ("localnet", "hyperlocalnet.target") for name, own in _LOCAL_NET.items()},
}  # fmt: skip
# Constants, and a layer whose output is multiplied by 0; they may be absent.
_UNUSED = ("demosaic.kernels", "demosaic.indices_rggb", "ms_ssim_loss._g_masks", "embed_id.weight", "embed_id.bias")
_PREFIXES: dict[Direction, str] = {"inverse": "rgb2raw.", "forward": "raw2rgb."}


def _directions_of(checkpoint: Mapping[str, Any]) -> tuple[Directions, ...]:
    """Tell by the names whether a checkpoint holds both networks, and else by its hyper-parameters, if they say it."""
    if any(name.startswith(tuple(_PREFIXES.values())) for name in checkpoint["state_dict"]):
        return ("joint",)
    hyper_parameters = checkpoint.get("hyper_parameters")
    inverse = hyper_parameters.get("inverse") if isinstance(hyper_parameters, dict) else None
    if isinstance(inverse, bool):
        return ("inverse",) if inverse else ("forward",)
    return ("inverse", "forward")


PUBLISHED = Published(
    modules={
        "inverse": _MODULES,
        "forward": _MODULES,
        "joint": {
            f"{prefix}{name}": f"{direction}.{own}"
            for direction, prefix in _PREFIXES.items()
            for name, own in _MODULES.items()
        },
    },
    unused=frozenset(f"{prefix}{name}" for prefix in ("", *_PREFIXES.values()) for name in _UNUSED),
    design={"preset": "official"},
    metadata={"matrix": "official"},
    licence="not stated by the authors of ParamISP",
    directions_of=_directions_of,
)

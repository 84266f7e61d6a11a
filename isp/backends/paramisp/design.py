"""The choices in the design of ParamISP's networks, and the two presets."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from isp import cfa

Optical = Literal["focal_mm", "f_number", "exposure_s", "iso"]
Input = Literal["gradient", "histogram", "overexposure"]

WIDTH = 64  # channels of every feature map and of every feature vector
OPTICAL: tuple[Optical, ...] = ("focal_mm", "f_number", "exposure_s", "iso")
HISTOGRAM_BINS = (4, 8, 16)
MOST_STAGES = 64  # weight files from elsewhere name their design, which must not take any memory


@dataclass(frozen=True, kw_only=True)
class Design:
    """Everything that the paper ablates, or that its text and the published code do differently. The defaults are the paper's.

    optical                 parameters that ParamNet sees (Table 2); without them and without colour_embedding there is no
                            ParamNet (Table 1)
    equalisation            feed the 15 mappings of each parameter to ParamNet, or else its bare value (Table 1)
    dropout                 probability that a parameter is left out of a training iteration (Table 1)
    fully_connected         ParamNet's layers: activation before each of the last three, or after each (Fig. 3)
    colour_embedding        feed white balance and colour matrix to ParamNet, too
    inputs                  features that are added to the image as channels (Table S2)
    mask_threshold          value at which over-exposure begins
    mask_of                 measure over-exposure in each network's input, or in the first network's for both
    local                   LocalNet, or the local mapping of CIE XYZ Net (Table 3)
    tone                    global operation: A, B or C of Table S3, or the global mapping of CIE XYZ Net (Table 3)
    stages                  number of times that C is applied (Table S3)
    coefficient_activation  "elu" keeps every coefficient above -1
    clip_white              clip white-balanced values to [0, 1] in `forward`, so that clipped highlights are white
    demosaic_border         as in `isp.cfa.demosaic`

    The numbers of parameters in Tables 3 and S3 of the paper follow from `optical=()` and `inputs=()`.
    """

    optical: tuple[Optical, ...] = OPTICAL
    equalisation: bool = True
    dropout: float = 0.2
    fully_connected: Literal["activation_first", "activation_last"] = "activation_first"
    colour_embedding: bool = False
    inputs: tuple[Input, ...] = ("gradient", "histogram", "overexposure")
    mask_threshold: float = 0.9
    mask_of: Literal["each", "first"] = "each"
    local: Literal["localnet", "cie_xyz"] = "localnet"
    tone: Literal["A", "B", "C", "cie_xyz"] = "C"
    stages: int = 4
    coefficient_activation: Literal["elu", "none"] = "elu"
    clip_white: bool = True
    demosaic_border: cfa.Border = "phase"

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value of the wrong type, an unknown choice, or choices that exclude each other."""
        for name, hint in get_type_hints(Design).items():
            value, kind = getattr(self, name), type(_default(name))
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"Design.{name}: expected a value like {_default(name)!r}, got {value!r}")
            chosen, choices = ((value,), get_args(hint)) if get_origin(hint) is Literal else ((), ())
            if get_origin(hint) is tuple:
                chosen, choices = value, get_args(get_args(hint)[0])
            if any(each not in choices for each in chosen) or len(set(chosen)) < len(chosen):
                raise ValueError(f"Design.{name}: expected some of {', '.join(choices)}, each once, got {value!s:.80}")
        if not 1 <= self.stages <= MOST_STAGES:
            raise ValueError(f"Design.stages: expected 1 to {MOST_STAGES}, got {self.stages}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Design.dropout: expected a probability below 1, got {self.dropout:g}")
        if self.has_param_net and self.local == self.tone == "cie_xyz":
            raise ValueError("Design: the networks of CIE XYZ Net take no optical feature; set optical to ()")

    @property
    def has_param_net(self) -> bool:
        return bool(self.optical) or self.colour_embedding

    @property
    def input_channels(self) -> int:
        channels = {"gradient": 6, "histogram": 3 * sum(HISTOGRAM_BINS), "overexposure": 3}
        return 3 + sum(channels[name] for name in self.inputs)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Design:
        """Read what `to_json` wrote. Raises `ValueError` if the text is no JSON object or has an unknown key."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        known = {field.name for field in dataclasses.fields(Design)}
        if not isinstance(record, dict) or record.keys() - known:
            raise ValueError(f"Design: expected an object with keys out of {', '.join(sorted(known))}, got {text:.80}")
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return Design(**fields)


def _default(name: str) -> Any:
    return next(field.default for field in dataclasses.fields(Design) if field.name == name)


PRESETS = {
    "paper": Design(),
    "official": Design(colour_embedding=True, mask_threshold=0.95, mask_of="first", demosaic_border="replicate"),
}

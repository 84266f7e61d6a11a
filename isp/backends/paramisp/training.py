"""How ParamISP learns: its networks from a recipe, and the paper's losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa
from isp.backends.paramisp.design import PRESETS, Design
from isp.backends.paramisp.network import ParamISPNet
from isp.camera import Camera
from isp.contract import Direction, Directions, TrainingBatch

HYPER_PARAMETERS = {"forward_weight": 0.0}
CHOICES = {"design": tuple(field.name for field in dataclasses.fields(Design)), "loss": tuple(HYPER_PARAMETERS)}


def designed(choices: Mapping[str, Any]) -> Design:
    """Build the design of a named "preset", with single choices instead of the preset's.

    Raises `ValueError` for an unknown preset or choice.
    """
    known = CHOICES["design"]
    unknown = choices.keys() - {*known, "preset"}
    if unknown:
        raise ValueError(f"design: expected keys out of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
    preset = choices.get("preset", "paper")
    if preset not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {preset}")
    replaced: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in choices.items() if key != "preset"
    }
    return dataclasses.replace(PRESETS[preset], **replaced)


def l1(predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], border: int) -> Float[Tensor, ""]:
    """Compute the mean absolute difference inside a frame of `border` pixels.

    Source: kim2024, eq. 4; kim2024, eq. 5
    """
    inside = slice(border, -border or None)
    return (predicted - target)[..., inside, inside].abs().mean()


class ParamISPTraining:
    """One or both networks while they learn. The phase follows from what is trained: one direction, or the pair.

    With a `generator`, `inverse` and `forward` drop optical parameters at random, as in training.
    """

    def __init__(self, directions: Directions, design: Design, forward_weight: float, seed: int) -> None:
        self.directions: tuple[Direction, ...] = ("inverse", "forward") if directions == "joint" else (directions,)
        self.networks: dict[Directions, ParamISPNet] = {
            direction: ParamISPNet(direction, design, seed) for direction in self.directions
        }
        self.phases = (directions,)
        self.metadata = {"design": design.to_json(), "matrix": "rows_1"}
        self._forward_weight = forward_weight

    def inverse(
        self, srgb: Float[Tensor, "b 3 h w"], camera: Camera, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        sensor: Tensor = self.networks["inverse"](srgb, camera, generator)
        return sensor

    def forward(
        self,
        bayer: Float[Tensor, "b 1 h w"],
        camera: Camera,
        *,
        reference: Float[Tensor, "b 3 h w"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        srgb: Tensor = self.networks["forward"](bayer, camera, generator)
        return srgb

    def loss(self, batch: TrainingBatch, phase: str) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Compute the L1 distance of one direction, or those of the pair: of the RAW image and of the picture that is
        rendered from it, and, if it has a weight, of the picture that is rendered from the recorded RAW image.

        Source: kim2024, eq. 4; kim2024, eq. 5; kim2024, eq. S1
        """
        clean, camera = batch.clean, batch.clean.camera

        def rendered(bayer: Tensor, target: Tensor) -> Tensor:
            return l1(self.forward(bayer, camera, generator=batch.generator), target, batch.border)

        parts: dict[str, Tensor] = {}
        if phase == "forward":
            parts["srgb"] = rendered(batch.noisy.bayer, clean.srgb)
            return parts["srgb"], parts
        sensor = self.inverse(batch.noisy.srgb, camera, batch.generator)
        loss = parts["raw"] = l1(cfa.mosaic(sensor, camera.cfa), clean.bayer, batch.border)
        if phase == "joint":
            parts["cycle"] = rendered(batch.edit.expose(sensor), batch.edit.srgb)
            loss = loss + parts["cycle"]
            if self._forward_weight:
                parts["srgb"] = rendered(batch.noisy.bayer, clean.srgb)
                loss = loss + self._forward_weight * parts["srgb"]
        return loss, parts


def trainable(
    directions: Directions, design: Mapping[str, Any], loss: Mapping[str, Any], seed: int
) -> ParamISPTraining:
    """Build untrained networks; `loss` may have "forward_weight", the weight of eq. 5 beside eq. S1.

    Raises `ValueError` for an unknown key or value.
    """
    unknown = loss.keys() - HYPER_PARAMETERS.keys()
    if unknown:
        raise ValueError(f"loss: expected keys out of {', '.join(HYPER_PARAMETERS)}, got {', '.join(sorted(unknown))}")
    return ParamISPTraining(directions, designed(design), **{**HYPER_PARAMETERS, **loss}, seed=seed)

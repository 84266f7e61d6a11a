"""What a training run is: one YAML file, every figure of the paper's schedule a key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import isp
from isp import recipe_files
from isp.backends.paramisp.design import PRESETS, Design
from isp.recipe_files import RecipeError, explained

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Plan(BaseModel):
    """A checked training recipe. The defaults are the paper's figures; what it does not state is the published code's.

    direction          which network is trained; "joint" trains the pair
    preset, design     the network: a named preset, and single choices of `Design` instead of the preset's
    start_from         weight files to begin with: one, or for "joint" the inverse and the forward network
    cameras, shots     virtual cameras that take the pairs where no data are given, and how many scenes each sees
    low_key            share of their scenes that are dark beyond what the camera's meter allows for, as a night is
    patch              side of the square patches
    batch              patches in a step, over all processes
    patches            patches of each camera in an epoch
    lr, decay, every   learning rate, times `decay` after every so many epochs
    noise              standard deviation of the noise on the input, in units of its quantisation step
    border             pixels of the frame that the loss leaves out, since demosaicing spoils them
    forward_weight     "joint": how much the forward network's own loss on the recorded RAW image counts beside eq. S1. With the
                       paper's 0 it sees only RAW images that the inverse network made, which have no noise, and unlearns noise
    precision          of the convolutions; the loss and the tone curves stay in float32
    validate_patches   patches of the validation split that are measured after every `validate_every` epochs
    store              precision of the weight files that are written
    licence            under which terms the weights may be used; written into the files

    Source: kim2024, §4 and §S5; kim2024, ParamISP@0e4913f
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    direction: Literal["inverse", "forward", "joint"] = "inverse"
    preset: Literal["paper", "official"] = "paper"
    design: dict[str, Any] = {}
    start_from: tuple[str, ...] = ()
    cameras: Annotated[tuple[str, ...], Field(min_length=1)] = ("a7r3-virtual",)
    shots: Annotated[int, Field(ge=1, le=1_000_000)] = 2000  # the next million are validated on
    low_key: Annotated[float, Field(ge=0, le=1)] = 0.0
    patch: Annotated[int, Field(ge=88, multiple_of=4)] = 448
    batch: Count = 8
    patches: Count = 1024
    epochs: Count = 520
    lr: Positive = 2e-4
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    every: Count = 10
    weight_decay: Annotated[float, Field(ge=0)] = 1e-12
    noise: Annotated[float, Field(ge=0)] = 0.4
    border: Annotated[int, Field(ge=0)] = 2
    forward_weight: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    validate_every: Count = 1
    validate_patches: Count = 32
    store: Literal["float32", "float16"] = "float32"
    licence: str = "as the data it was trained on"

    @property
    def network(self) -> Design:
        """The network's design. Raises `ValueError` for an unknown choice."""
        known = {field.name for field in dataclasses.fields(Design)}
        unknown = self.design.keys() - known
        if unknown:
            raise ValueError(
                f"design: expected keys out of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}"
            )
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.design.items()
        }
        return dataclasses.replace(PRESETS[self.preset], **chosen)

    @property
    def directions(self) -> tuple[Literal["inverse", "forward"], ...]:
        return ("inverse", "forward") if self.direction == "joint" else (self.direction,)

    @property
    def text(self) -> str:
        """This plan as JSON, defaults written out."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def shipped() -> dict[str, Path]:
    """Return the training recipes that come with the package, by name: "train/paramisp_small" and so on."""
    return recipe_files.shipped(Path(isp.__file__).parent, "recipes/train", prefix="train/")


def load(name: str, overrides: Sequence[str] = ()) -> Plan:
    """Return the shipped training recipe `name` ("train/..."), or that in a .yaml file, with overrides such as "patch=96".

    Raises `RecipeError` with all its problems.
    """
    recipe = recipe_files.read(name, shipped(), "a mapping of keys; recipes/train/paramisp_pretrain.yaml is an example")
    problems = [
        problem
        for text in overrides
        for problem in recipe_files.override(recipe, text, lambda keys: (recipe, keys), "design.dropout=0.1")
    ]
    try:
        plan = Plan.model_validate(recipe)
    except ValidationError as failure:
        raise RecipeError(name, problems + explained(failure, Plan, recipe)) from failure
    if problems:
        raise RecipeError(name, problems)
    return plan

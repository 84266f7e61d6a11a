"""Training recipes: one YAML file describes a run, and every figure of the paper's schedule is a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

import isp
from isp import recipe_files, registry
from isp.command import did_you_mean
from isp.contract import Direction, Trainable
from isp.files.document import Count, NonNegative, Part, Positive
from isp.recipe_files import RecipeError, explained

# `Plan.text` omits these keys at their defaults, so that it equals the texts of older runs.
NEWER_KEYS = ("backend", "phase", "loss")


class Plan(Part):
    """A checked training recipe. The defaults are the paper's figures, or the published code's if the paper states none.

    backend            the backend whose networks are trained
    direction          which direction is trained; "joint" trains both
    phase              the loss to use, if the backend has several for a direction; its first, if none is named
    preset, design     the networks: a preset of the backend, and single choices instead of the preset's
    loss               hyper-parameters of the backend's loss
    start_from         weight files to begin with: one for each network, or one with both
    cameras, shots     virtual cameras that take the pairs if no data are given, and the number of scenes that each sees
    low_key            share of their scenes that are too dark for the camera's meter, as at night
    patch              side of the square patches
    batch              patches per step, over all processes
    patches            patches of each camera per epoch
    lr, decay, every   learning rate; it is multiplied by `decay` after every `every` epochs
    noise              standard deviation of the noise on the input, in units of its quantisation step
    border             width of the frame that the loss ignores, because demosaicing spoils it
    forward_weight     "joint": weight of the forward network's own loss on the recorded RAW image, beside eq. S1. With the
                       paper's 0 it sees only RAW images that the inverse network made, which have no noise, and unlearns noise.
                       It is a hyper-parameter of ParamISP's loss, and may stand in `loss` as well
    precision          of the convolutions; the loss and the tone curves stay in float32
    validate_patches   patches of the validation split to measure after every `validate_every` epochs
    store              precision of the weight files that are written
    licence            the terms of use of the weights, written into their files

    Source: kim2024, §4 and §S5; kim2024, ParamISP@0e4913f
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    backend: str = "paramisp"
    direction: Literal["inverse", "forward", "joint"] = "inverse"
    phase: str = ""
    preset: str = "paper"
    design: dict[str, Any] = Field(default={})
    loss: dict[str, Any] = Field(default={})
    start_from: tuple[str, ...] = ()
    cameras: Annotated[tuple[str, ...], Field(min_length=1)] = ("a7r3-virtual",)
    shots: Annotated[int, Field(ge=1, le=1_000_000)] = 2000  # validation uses the next million
    low_key: Annotated[float, Field(ge=0, le=1)] = 0.0
    patch: Annotated[int, Field(ge=88, le=16384, multiple_of=4)] = 448
    batch: Annotated[int, Field(ge=1, le=65536)] = 8
    patches: Count = 1024
    epochs: Count = 520
    lr: Positive = 2e-4
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    every: Count = 10
    weight_decay: NonNegative = 1e-12
    noise: NonNegative = 0.4
    border: Annotated[int, Field(ge=0)] = 2
    forward_weight: NonNegative = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    validate_every: Count = 1
    validate_patches: Count = 32
    store: Literal["float32", "float16"] = "float32"
    licence: str = "as the data it was trained on"

    def trainable(self) -> Trainable:
        """Build the untrained networks. Raises `ValueError` for what the backend does not know, and for an unknown backend."""
        design = {"preset": self.preset, **self.design}
        loss = {**({"forward_weight": self.forward_weight} if self.forward_weight else {}), **self.loss}
        networks = registry.trainable_backend(self.backend).trainable(self.direction, design, loss, self.seed)
        if self.phase and self.phase not in networks.phases:
            raise ValueError(f"phase: expected one of {', '.join(networks.phases)}, got {self.phase}")
        if len(self.start_from) > len(networks.networks):
            expected = len(networks.networks)
            raise ValueError(f"start_from: expected {expected} weight files, got {len(self.start_from)}")
        return networks

    @property
    def directions(self) -> tuple[Direction, ...]:
        return ("inverse", "forward") if self.direction == "joint" else (self.direction,)

    @property
    def text(self) -> str:
        """The plan as JSON, with all defaults written out, except those of `NEWER_KEYS`."""
        record = self.model_dump(mode="json")
        defaults = {key: Plan.model_fields[key].default for key in NEWER_KEYS}
        return json.dumps(
            {key: value for key, value in record.items() if value != defaults.get(key, ...)}, sort_keys=True
        )


def shipped() -> dict[str, Path]:
    """Return the training recipes that come with the package, by name: "train/paramisp_small" and so on."""
    return recipe_files.shipped(Path(isp.__file__).parent, "recipes/train", prefix="train/")


def load(name: str, overrides: Sequence[str] = ()) -> Plan:
    """Return the shipped training recipe `name` ("train/..."), or that in a .yaml file, with overrides such as "patch=96".

    Raises `RecipeError` with all its problems at once.
    """
    recipe = recipe_files.read(name, shipped(), "a mapping of keys; recipes/train/paramisp_pretrain.yaml is an example")
    problems = [
        problem
        for text in overrides
        for problem in recipe_files.override(recipe, text, lambda keys: (recipe, keys), "design.dropout=0.1")
    ]
    plan: Plan | None = None
    try:
        plan = Plan.model_validate(recipe)
    except ValidationError as failure:
        problems += explained(failure, Plan, recipe)
    problems += _unknown_choices(recipe)
    if plan is not None and not problems:
        try:
            plan.trainable()
            return plan
        except ValueError as problem:
            problems.append(str(problem))
    raise RecipeError(name, problems)


def _unknown_choices(recipe: Mapping[str, Any]) -> list[str]:
    """Return the keys inside `design` and `loss` that the backend does not know, and the backend if it is unknown."""
    name = recipe.get("backend", Plan.model_fields["backend"].default)
    if not isinstance(name, str):  # a problem already
        return []
    try:
        choices = registry.training_choices(name)
    except ValueError as problem:
        return [f"backend: {str(problem).removeprefix('isp: ')}"]
    found = []
    for block, known in choices.items():
        given = recipe.get(block)
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                expected = f"expected keys out of {', '.join(sorted(known))}, got {key}"
                found.append(f"{block}.{key}: {expected}{did_you_mean(str(key), known)}")
    return found

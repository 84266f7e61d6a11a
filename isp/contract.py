"""What every ISP backend promises. Backends inherit nothing; `tests/isp/test_contract.py` runs over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isp.camera import Camera
from isp.cfa import PATTERNS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a backend can take, as data, so that a recipe that breaks a limit is refused before work starts.

    cfas             CFA patterns that `forward` understands
    multiple_of      height and width must be multiples of it
    inverse_halo     how many border pixels of `inverse` differ from those of a larger image
    forward_halo     the same for `forward`
    needs            `Camera` fields that must be known, besides the ones that are never unknown
    needs_reference  `forward` wants the sRGB image of the same scene
    camera           what its weights were trained for, as they say; None: nothing, or more than one
    renders          "srgb" where `forward` ends in a plain gamma or the sRGB curve, "camera" where in a tone map of its own
    """

    cfas: tuple[str, ...] = PATTERNS
    multiple_of: int = 1
    inverse_halo: int = 0
    forward_halo: int = 0
    needs: tuple[str, ...] = ()
    needs_reference: bool = False
    camera: str | None = None
    renders: Literal["srgb", "camera"] = "srgb"


Direction = Literal["inverse", "forward"]
Meter = Callable[[float], object]  # is told the work of every step


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way of taking a photograph through an ISP.

    said        in a few words, for whoever waits
    peak_bytes  the most memory that it takes beside its input
    work        of all steps, in any unit, of which `run` tells its meter
    """

    said: str
    peak_bytes: float
    work: float
    run: Callable[[Tensor, Camera, Meter], Tensor]


@runtime_checkable
class ISP(Protocol):
    """A camera's image signal processor and its inverse. Both directions are pure: no in-place edits, no global state.

    `weights` are the SHA-256 digests of the weight files behind it, none for a parametric ISP.
    """

    name: str
    limits: Limits
    weights: tuple[str, ...]

    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """`sensor` of an sRGB image in [0, 1]."""
        ...

    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """sRGB in [0, 1] of a mosaic, which noise may have taken below 0 and above 1."""
        ...


@runtime_checkable
class Bounded(ISP, Protocol):
    """An ISP that knows how to take a large photograph through in little memory.

    One that pools over the whole image must: any other is cut into strips by its halo (`isp.full_size`).
    """

    def strategies(self, direction: Direction, count: int, height: int, width: int) -> Sequence[Strategy]:
        """For `count` images of that size; the preferred one first."""
        ...


# ---------------------------------------------------------------- training and published weights

Directions = Literal["inverse", "forward", "joint"]  # what is trained, or stored in one file; "joint" is both


class Batch(NamedTuple):
    """Patches with the cameras that took them: `bayer` as recorded, `srgb` the camera's own picture of it."""

    bayer: Float[Tensor, "b 1 h w"]
    srgb: Float[Tensor, "b 3 h w"]
    camera: Camera

    def to(self, device: torch.device) -> Batch:
        return Batch(self.bayer.to(device), self.srgb.to(device), self.camera.to(device))


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What happens to the light between `inverse` and `forward`, and the picture that the camera would take of it.

    expose     takes the `sensor` image that `inverse` gives to the `bayer` image that `forward` gets, with gradients;
               without an edit this is the mosaic alone
    srgb       the true picture of the edited light; without an edit the camera's picture
    reference  the picture that a `forward` with `needs_reference` gets for the edited light, edited in the same way
    """

    expose: Callable[[Tensor], Tensor]
    srgb: Float[Tensor, "b 3 h w"]
    reference: Float[Tensor, "b 3 h w"]


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Everything that a loss gets for one training step.

    noisy      what the networks see: the pictures with noise of the size of their quantisation steps
    clean      what their results are compared with: the pictures as recorded
    edit       what happens between the two directions
    border     pixels of the frame that comparisons leave out, since demosaicing spoils them
    rows       which rows of the whole step these are: other processes may have the others
    generator  on the CPU, seeded by the step alone, so that it is the same in every process. A loss draws nothing
               elsewhere. A draw for each row is made for the rows from 0 to `rows.stop`, of which it keeps its own
    """

    noisy: Batch
    clean: Batch
    edit: Edit
    border: int
    rows: range
    generator: torch.Generator


@runtime_checkable
class Trainable(Protocol):
    """Networks of a backend while they learn. `TrainableBackend.trainable` makes one.

    networks    by what they do: "inverse", "forward", or "joint" for one network that does both. A network may consist of
                several; each key becomes a weight file KEY.safetensors
    directions  which of `inverse` and `forward` can be measured
    phases      the names that `loss` knows, the default first
    metadata    what weight files say besides the keys that all files have: the design, for instance
    """

    networks: Mapping[Directions, nn.Module]
    directions: tuple[Direction, ...]
    phases: tuple[str, ...]
    metadata: Mapping[str, str]

    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """As `ISP.inverse`, with the networks as they are now."""
        ...

    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """As `ISP.forward`, with the networks as they are now; not clipped."""
        ...

    def loss(self, batch: TrainingBatch, phase: str) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Compute (the loss to descend, its parts by name, for people to watch)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Published:
    """How the authors of a backend store their weights, so that `isp.convert` can translate them.

    modules        {directions: {published name of a module: our name}}; two published names of one of ours are aliases, whose
                   tensors must be equal. For "joint", ours begin with "inverse." or "forward.", unless one network does both
    design         what `TrainableBackend.trainable` needs to build the published networks
    metadata       what their weight files say besides the keys that all files have, and besides `Trainable.metadata`
    licence        the licence of the published weights
    unused         names of tensors that may be there and are left out
    files          {directions: what to put before the names in each file}, if the weights come in several files
    directions_of  the directions that a checkpoint may be of, judged by its content
    """

    modules: Mapping[Directions, Mapping[str, str]]
    design: Mapping[str, Any]
    metadata: Mapping[str, str]
    licence: str
    unused: frozenset[str] = frozenset()
    files: Mapping[Directions, tuple[str, ...]] = field(default_factory=dict)
    directions_of: Callable[[Mapping[str, Any]], tuple[Directions, ...]] = lambda checkpoint: (
        "inverse",
        "forward",
        "joint",
    )


@runtime_checkable
class TrainableBackend(Protocol):
    """The module of a backend that can be trained: it has `trainable`, besides `VARIANTS` and `create`.

    If there are checkpoints of its authors to convert, it has a `Published` called `PUBLISHED`, too.
    """

    def trainable(
        self, directions: Directions, design: Mapping[str, Any], loss: Mapping[str, Any], seed: int
    ) -> Trainable:
        """Build untrained networks from plain data of a recipe.

        `design` has the key "preset", which may be "paper", and single choices that replace the preset's; `loss` has
        hyper-parameters of the loss. Random weights follow from `seed` alone.
        Raises `ValueError` for an unknown key or value.
        """
        ...

"""The contract of an ISP backend. Backends inherit nothing; `tests/isp/test_contract.py` runs over all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isp.camera import Camera
from isp.cfa import PATTERNS

Direction = Literal["inverse", "forward"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a backend accepts, as data, so that `unfit` can refuse a file or a recipe before work starts.

    cfas             CFA patterns that `forward` accepts
    multiple_of      height and width must be multiples of this number
    inverse_halo     number of border pixels of `inverse` that differ from those of a larger image
    forward_halo     the same for `forward`
    needs            `Camera` fields that must be known, besides those that are never unknown
    needs_reference  `forward` needs the sRGB picture of the same scene
    camera           the camera that its weights were trained for; None if it has no weights or was trained for several
    renders          "srgb" if `forward` ends in a plain gamma or the sRGB curve, "camera" if in a tone map of its own
    """

    cfas: tuple[str, ...] = PATTERNS
    multiple_of: int = 1
    inverse_halo: int = 0
    forward_halo: int = 0
    needs: tuple[str, ...] = ()
    needs_reference: bool = False
    camera: str | None = None
    renders: Literal["srgb", "camera"] = "srgb"


@dataclass(frozen=True)
class Misfit:
    """One reason why an ISP cannot take an image.

    limit     the field of `Limits` that is not met
    wrong     what does not meet it: CFA patterns, unknown `Camera` fields, or the size; empty for a missing reference
    sentence  "needs ..., got ...": the caller prepends the name of the ISP and appends a remedy
    """

    limit: Literal["cfas", "needs", "needs_reference", "multiple_of"]
    wrong: tuple[str, ...]
    sentence: str


def unfit(
    limits: Limits,
    direction: Direction,
    *,
    cfa: Collection[str],
    known: Collection[str],
    has_reference: bool,
    size: tuple[int, int] | None = None,
) -> list[Misfit]:
    """Return every reason why an ISP with these limits cannot take an image; none if it can.

    cfa            the CFA patterns that the image may have
    known          the `Camera` fields that are known; those that are never unknown may be left out
    has_reference  whether the sRGB picture of the same scene is at hand
    size           (height, width); None if the caller pads the image to a size that fits
    """
    found = []
    patterns = tuple(pattern for pattern in cfa if pattern not in limits.cfas)
    if direction == "forward" and patterns:
        sentence = f"needs the CFA pattern {' or '.join(limits.cfas)}, got {', '.join(patterns)}"
        found.append(Misfit("cfas", patterns, sentence))
    never_unknown = {field.name for field in dataclasses.fields(Camera) if field.default is dataclasses.MISSING}
    unknown = tuple(field for field in limits.needs if field not in known and field not in never_unknown)
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        found.append(Misfit("needs", unknown, f"needs {', '.join(unknown)}, which {verb} unknown"))
    if direction == "forward" and limits.needs_reference and not has_reference:
        sentence = "needs the sRGB picture of the same scene as a reference, got none"
        found.append(Misfit("needs_reference", (), sentence))
    if size is not None and any(side % limits.multiple_of for side in size):
        text = f"{size[0]}x{size[1]}"
        sentence = f"needs height and width to be multiples of {limits.multiple_of}, got {text}"
        found.append(Misfit("multiple_of", (text,), sentence))
    return found


def known_fields(camera: Camera) -> frozenset[str]:
    """Return the names of the fields of `camera` that are known."""
    names = (field.name for field in dataclasses.fields(camera))
    return frozenset(name for name in names if getattr(camera, name) is not None)


Meter = Callable[[float], object]  # is told the work of every step
# Takes (image, camera, reference or None, meter) and returns the rendered image.
Run = Callable[[Tensor, Camera, Tensor | None, Meter], Tensor]


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way to take an image of any size through an ISP.

    label       a few words that name the strategy in messages
    peak_bytes  the most memory that it takes besides its input
    work        the sum over all steps of what `run` tells its meter, in any unit
    run         does the work; a backend that needs no reference ignores it
    """

    label: str
    peak_bytes: float
    work: float
    run: Run


@runtime_checkable
class ISP(Protocol):
    """A camera's image signal processor and its inverse. Both directions are pure: no in-place edits, no global state.

    `weights` holds the SHA-256 digests of its weight files; it is empty for a parametric ISP.
    """

    name: str
    limits: Limits
    weights: tuple[str, ...]

    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """Return `sensor` of an sRGB image in [0, 1]."""
        ...

    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Return sRGB in [0, 1] of a mosaic; noise may have taken its values below 0 and above 1.

        `reference` is the sRGB picture of the same scene, in [0, 1] and of the same size.
        """
        ...


@runtime_checkable
class Bounded(ISP, Protocol):
    """An ISP that brings its own strategies for large images.

    An ISP that pools over the whole image must be one. `isp.full_size` cuts images for every other ISP into strips that
    overlap by its halo.
    """

    def strategies(self, direction: Direction, count: int, height: int, width: int) -> Sequence[Strategy]:
        """Return the strategies for `count` images of that size, the preferred one first."""
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

    If there are checkpoints of its authors to convert, it has a `Published` called `PUBLISHED`, too. If it has `CHOICES`,
    {"design": keys, "loss": keys}, unknown keys of a training recipe are found before anything is built, with suggestions.
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

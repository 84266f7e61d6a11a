"""The contract of an ISP backend. Backends inherit nothing; `tests/isp/test_contract.py` runs over all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

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

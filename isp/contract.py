"""What every ISP backend promises. Backends inherit nothing; `tests/isp/test_contract.py` runs over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

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

"""`Sample`: one pair in the making, handed from stage to stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isp.camera import Camera
from isp.rng import generator
from isp.space import Space

Target = Literal["source", "rendered"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One pair between two stages. It is frozen: a stage returns a changed copy.

    image          what becomes the blurred image, in `space`; `f` frames until they are accumulated, then one
    sharp          the ground truth, sRGB
    saturation     per channel, the share of a pixel's light that came from clipped places of the source
    kernel         the blur kernel, if one was drawn
    saturated      per channel, the pixels that `saturate` drove to full scale
    sharp_frame    index of the sharp frame in `image`; `None` if the blurred image came ready-made
    sharp_sensor   the clean scene in `sensor`
    bayer          the RAW pair, blurred with noise and sharp without: `bayer` and `sharp_bayer`
    target         "source" keeps `sharp`; "rendered" replaces it by the clean sensor image, rendered by the same ISP
    saves          what the recipe stores besides the sRGB pair
    reference      the source in sRGB, blurred like the image, if an ISP of the recipe needs one; as many frames as `image`
    draws          every number drawn for this pair, stored with it
    stage          label of the stage at work; the purpose of each of its draws begins with it
    """

    image: Float[Tensor, "f c h w"]
    space: Space
    sharp: Float[Tensor, "1 3 h w"]
    seed: int
    index: int
    source: str
    target: Target = "source"
    saves: tuple[str, ...] = ()
    sharp_frame: int | None = 0
    camera: Camera | None = None
    saturation: Float[Tensor, "f 3 h w"] | None = None
    saturated: Bool[Tensor, "1 3 h w"] | None = None
    kernel: Float[Tensor, "n n"] | None = None
    sharp_sensor: Float[Tensor, "1 3 h w"] | None = None
    bayer: Float[Tensor, "1 1 h w"] | None = None
    sharp_bayer: Float[Tensor, "1 1 h w"] | None = None
    reference: Float[Tensor, "f 3 h w"] | None = None
    draws: dict[str, Any] = field(default_factory=dict)
    stage: str = ""

    @property
    def device(self) -> torch.device:
        return self.image.device

    @property
    def wants_sharp_raw(self) -> bool:
        return self.target == "rendered" or "raw" in self.saves

    @property
    def known_camera(self) -> Camera:
        """The camera. Raises `ValueError` if no stage has drawn one yet, which the recipe check rules out."""
        if self.camera is None:
            raise ValueError(f'{self.stage}: needs a camera; put the stage "camera" before it')
        return self.camera

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator for this pair, this stage and `purpose`."""
        return generator(self.seed, self.index, f"{self.stage}.{purpose}")

    def replace(self, **changes: Any) -> Sample:
        return dataclasses.replace(self, **changes)

    def drawn(self, **draws: Any) -> Sample:
        """Return this sample with more draws, each under the label of its stage."""
        return self.replace(draws=self.draws | {f"{self.stage}.{name}": value for name, value in draws.items()})

    def moved(self, move: Callable[[Tensor], Tensor]) -> Sample:
        """Apply `move` to every image that the sample carries. The caller moves the camera."""
        images = ("image", "sharp", "saturation", "saturated", "sharp_sensor", "bayer", "sharp_bayer", "reference")
        there = {name: image for name in images if (image := getattr(self, name)) is not None}
        return self.replace(**{name: move(image) for name, image in there.items()})

    def cropped(self, top: int, left: int, height: int, width: int) -> Sample:
        """Cut the same window out of every image that the sample carries; the CFA phase follows."""
        camera = None if self.camera is None else self.camera.crop(top, left)
        cut = self.moved(lambda image: image[..., top : top + height, left : left + width])
        return cut.replace(camera=camera)

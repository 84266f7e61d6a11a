"""Display encoding without an ISP, a camera's tone curve, and its JPEG."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field

from blursynth.sample import Sample
from blursynth.stages.stage import Problem, Stage, State
from isp import tone
from isp.files import pictures
from isp.space import Space


class DecodeSRGB(Stage):
    """Decode sRGB to linear light by the sRGB curve alone, without a camera; clipped pixels become saturation light.

    Source: rim2022, RSBlur@ae33a6c (ablation, "sRGB")
    """

    name: ClassVar[str] = "decode_srgb"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    gives: ClassVar[Space] = "linear"
    brings: ClassVar[tuple[str, ...]] = ("saturation",)

    clipped_at: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __call__(self, sample: Sample) -> Sample:
        saturation = sample.saturation
        if saturation is None:
            saturation = (sample.image >= self.clipped_at).to(sample.image.dtype)
        return sample.replace(image=tone.inverse_srgb_curve(sample.image), space="linear", saturation=saturation)


class EncodeSRGB(Stage):
    """Encode linear light to sRGB by the sRGB curve alone, clipped to [0, 1].

    Source: rim2022, RSBlur@ae33a6c (ablation, "sRGB")
    """

    name: ClassVar[str] = "encode_srgb"
    takes: ClassVar[tuple[Space, ...]] = ("linear",)
    gives: ClassVar[Space] = "srgb"

    def __call__(self, sample: Sample) -> Sample:
        return sample.replace(image=tone.srgb_curve(sample.image.clamp(0, 1)), space="srgb")


class ToneCurve(Stage):
    """Replace the sRGB curve by a camera's response, in the blurred and the sharp image.

    It is for ISPs that render with the sRGB curve; the recipe check refuses it after an ISP that renders camera JPEGs.
    Source: rim2022, RSBlur@ae33a6c
    """

    name: ClassVar[str] = "tone_curve"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)

    curve: Literal["a7r3", "a7r3_polynomial"] = "a7r3"

    def misfits(self, before: State) -> list[Problem]:
        twice = (
            f"{before.rendered_by} already renders camera JPEGs, and a response must not be applied twice; "
            "remove tone_curve, or choose rsblur/srgb"
        )
        return super().misfits(before) + ([Problem(twice)] if before.rendered_by else [])

    def __call__(self, sample: Sample) -> Sample:
        response = {"a7r3": tone.a7r3_response, "a7r3_polynomial": tone.a7r3_polynomial}[self.curve]
        images = {"image": sample.image, "sharp": sample.sharp, "reference": sample.reference}
        return sample.replace(
            **{name: response(tone.inverse_srgb_curve(srgb)) for name, srgb in images.items() if srgb is not None}
        )


def _ordered(bounds: tuple[int, int]) -> tuple[int, int]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [lowest, highest], got [{bounds[0]}, {bounds[1]}]")
    return bounds


Quality = Annotated[int, Field(ge=1, le=100)]


class Jpeg(Stage):
    """Pass the blurred image through a JPEG file; its quality is uniform between two bounds, both included."""

    name: ClassVar[str] = "jpeg"
    takes: ClassVar[tuple[Space, ...]] = ("srgb",)
    needs: ClassVar[tuple[str, ...]] = ("one_frame",)

    quality: Annotated[tuple[Quality, Quality], AfterValidator(_ordered)] = (90, 98)

    def misfits(self, before: State) -> list[Problem]:
        spoiled = [Problem("its blocks carry spoiled border pixels inwards; put it after crop_border")]
        return super().misfits(before) + (spoiled if before.halo else [])

    def __call__(self, sample: Sample) -> Sample:
        quality = int(sample.rng("quality").integers(*self.quality, endpoint=True))
        pixels = (sample.image[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        decoded = torch.from_numpy(pictures.decode_jpeg(pictures.encode_jpeg(pixels, quality)))
        image = (decoded.permute(2, 0, 1)[None].to(sample.image) / 255).contiguous()
        return sample.replace(image=image).drawn(quality=quality)

"""Display encoding, a camera's tone, and the JPEG file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from pydantic import ValidationError

from blursynth.sample import Sample
from blursynth.stages.finish import DecodeSRGB, EncodeSRGB, Jpeg, ToneCurve
from isp import tone
from isp.rng import generator


def pictures(frames: int = 1, seed: int = 0) -> torch.Tensor:
    """Smooth colours, which a JPEG keeps."""
    coarse = torch.from_numpy(generator(seed, 0, "pictures").random((frames, 3, 4, 5), dtype=np.float32))
    return torch.nn.functional.interpolate(coarse, size=(24, 40), mode="bilinear").clamp(0, 1)


def sample_of(image: torch.Tensor, space: str = "srgb", index: int = 0, **others) -> Sample:
    fields = {"sharp": image[:1]} | others
    return Sample(image=image, space=space, seed=1, index=index, source="a.png", stage="jpeg", **fields)


def test_decoding_and_encoding_are_inverse_to_each_other() -> None:
    image = pictures(3)
    image[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    decoded = DecodeSRGB()(sample_of(image))
    assert decoded.space == "linear"
    encoded = EncodeSRGB()(decoded)
    assert encoded.space == "srgb"
    assert float((encoded.image - image).abs().max()) < 1e-6
    assert float(decoded.image[0, 0, 0, 0]) == 0 and float(decoded.image[0, 0, 0, 1]) == 1
    # The well-known value, from IEC 61966: sRGB 0.5 is 0.21404 in linear light.
    half = DecodeSRGB()(sample_of(torch.full((1, 3, 8, 8), 0.5)))
    assert float(half.image.mean()) == pytest.approx(0.2140411, abs=1e-6)


def test_encoding_clips() -> None:
    linear = torch.tensor([-0.5, 0.0, 1.0, 1.5]).expand(1, 3, 8, 4)
    encoded = EncodeSRGB()(sample_of(linear, "linear")).image
    assert torch.allclose(encoded[0, 0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert float(encoded.min()) >= 0 and float(encoded.max()) <= 1


def test_decoding_finds_what_was_clipped_and_keeps_a_ready_made_mask() -> None:
    image = pictures()
    image[0, 1, 2, 3] = 1
    mask = DecodeSRGB()(sample_of(image)).saturation
    assert mask.sum() == (image == 1).sum() >= 1 and mask[0, 1, 2, 3] == 1
    assert torch.equal(DecodeSRGB(clipped_at=0.5)(sample_of(image)).saturation, (image >= 0.5).float())
    made = DecodeSRGB()(sample_of(image, saturation=image / 2))
    assert torch.equal(made.saturation, image / 2)


@pytest.mark.parametrize(
    ("curve", "response"), [("a7r3", tone.a7r3_response), ("a7r3_polynomial", tone.a7r3_polynomial)]
)
def test_tone_curve_takes_blurred_and_sharp_alike(curve: str, response) -> None:
    blurred, sharp = pictures(), pictures(seed=1)
    made = ToneCurve(curve=curve)(sample_of(blurred, sharp=sharp))
    assert torch.equal(made.image, response(tone.inverse_srgb_curve(blurred)))
    assert torch.equal(made.sharp, response(tone.inverse_srgb_curve(sharp)))
    assert float((made.image - blurred).abs().max()) > 0.05
    same = ToneCurve(curve=curve)(sample_of(blurred))
    assert torch.equal(same.image, same.sharp)


# ---------------------------------------------------------------- JPEG


def opencvs(image: torch.Tensor, quality: int) -> np.ndarray:
    levels = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    _, data = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("quality", [30, 75, 98])
def test_jpeg_is_the_file_and_back(quality: int) -> None:
    image = pictures()
    made = Jpeg(quality=[quality, quality])(sample_of(image, sharp=image))
    assert made.draws == {"jpeg.quality": quality}
    levels = (made.image[0] * 255).permute(1, 2, 0).numpy()
    assert np.abs(levels - opencvs(image, quality)).max() < 1e-4
    assert torch.equal(made.sharp, image)
    assert 1 / 255 <= float((made.image - image).abs().max()) < 0.3
    assert float((made.image - image).mean()) == pytest.approx(0, abs=2 / 255)


def test_quality_is_uniform_both_ends_included() -> None:
    drawn = [Jpeg()(sample_of(torch.zeros(1, 3, 8, 8), index=index)).draws["jpeg.quality"] for index in range(450)]
    assert set(drawn) == set(range(90, 99))
    assert scipy.stats.chisquare(np.bincount(drawn)[90:]).pvalue > 1e-3


def test_jpeg_takes_values_out_of_range() -> None:
    wild = torch.tensor([-1.0, 2.0]).repeat(8).expand(1, 3, 16, 16).contiguous()
    made = Jpeg(quality=[98, 98])(sample_of(wild))
    tame = Jpeg(quality=[98, 98])(sample_of(wild.clamp(0, 1)))
    assert torch.equal(made.image, tame.image)


@pytest.mark.parametrize(
    ("quality", "words"),
    [([98, 90], r"expected \[lowest, highest\], got \[98, 90\]"), ([0, 5], "greater than"), ([5, 101], "less than")],
)
def test_qualities_that_make_no_sense(quality: list[int], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Jpeg(quality=quality)

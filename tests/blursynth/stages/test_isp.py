"""Into the camera and out: targets, masks, the middle frame, and ISPs that are opened once."""

from __future__ import annotations

import pytest
import torch

import isp
from blursynth.sample import Sample
from blursynth.stages import isp as stages
from blursynth.stages.isp import ForwardISP, InverseISP, Mosaic
from isp import cfa, profile
from isp.rng import generator

CAMERA = profile.load("a7r3").camera((2.1, 1.6), "GBRG")
A7R3 = isp.create("rsblur/a7r3")


def pictures(frames: int = 1, seed: int = 0) -> torch.Tensor:
    levels = generator(seed, 0, "pictures").integers(0, 256, (frames, 3, 16, 18))
    return torch.from_numpy(levels).float() / 255


def sample_of(image: torch.Tensor, **others) -> Sample:
    fields = {"sharp": image[:1], "space": "srgb", "camera": CAMERA, "stage": "x"} | others
    return Sample(image=image, seed=1, index=0, source="a.png", **fields)


def through(sample: Sample, name: str = "rsblur/a7r3") -> Sample:
    for stage in (InverseISP(isp=name), Mosaic(), ForwardISP(isp=name)):
        sample = stage(sample)
    return sample


# ---------------------------------------------------------------- inverse


def test_inverse_is_the_backends_and_the_mask_is_what_was_clipped() -> None:
    image = pictures()
    image[0, 1, 3, 4], image[0, 2, 3, 4] = 1, 254 / 255
    made = InverseISP(isp="rsblur/a7r3")(sample_of(image))
    assert made.space == "sensor"
    assert torch.equal(made.image, A7R3.inverse(image, CAMERA))
    assert torch.equal(made.saturation, (image == 1).float())
    assert made.saturation[0, :, 3, 4].tolist()[1:] == [1, 0]
    lower = InverseISP(isp="rsblur/a7r3", clipped_at=0.9)(sample_of(image))
    assert torch.equal(lower.saturation, (image >= 0.9).float())


def test_a_ready_made_mask_is_kept() -> None:
    mask = pictures(seed=1)
    image = torch.ones_like(mask)
    made = InverseISP(isp="rsblur/a7r3")(sample_of(image, saturation=mask, sharp_frame=None))
    assert torch.equal(made.saturation, mask)


def test_of_several_frames_the_sharp_one_is_kept() -> None:
    frames = pictures(5)
    made = InverseISP(isp="rsblur/a7r3")(sample_of(frames, sharp=frames[2:3], sharp_frame=2, saves=("raw",)))
    assert made.image.shape[0] == made.saturation.shape[0] == 5
    assert torch.equal(made.sharp_sensor, A7R3.inverse(frames[2:3], CAMERA))


@pytest.mark.parametrize(
    ("target", "saves", "wanted"), [("source", (), False), ("rendered", (), True), ("source", ("raw",), True)]
)
def test_the_sharp_raw_of_ready_made_pairs_is_made_when_wanted_only(target, saves, wanted) -> None:
    blurred, sharp = pictures(), pictures(seed=1)
    start = sample_of(blurred, sharp=sharp, sharp_frame=None, target=target, saves=saves)
    made = through(start)
    assert (made.sharp_bayer is not None) == wanted
    if wanted:
        assert torch.equal(made.sharp_bayer, cfa.mosaic(A7R3.inverse(sharp, CAMERA), CAMERA.cfa))


# ---------------------------------------------------------------- mosaic, forward


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_mosaic_sees_through_the_cameras_filters(pattern: str) -> None:
    camera = profile.load("a7r3").camera((2.0, 1.5), pattern)
    sensor = pictures()
    made = Mosaic()(sample_of(sensor, space="sensor", camera=camera, sharp_sensor=sensor / 2, saves=("raw",)))
    assert made.space == "bayer"
    for row in (0, 1):
        for column in (0, 1):
            channel = "RGB".index(pattern[2 * row + column])
            assert torch.equal(made.image[0, 0, row::2, column::2], sensor[0, channel, row::2, column::2])
    assert torch.equal(made.sharp_bayer, made.image / 2)


def test_sharp_bayer_only_when_wanted() -> None:
    start = sample_of(pictures())
    assert through(start).sharp_bayer is None
    for wanting in ({"target": "rendered"}, {"saves": ("raw",)}):
        assert through(start.replace(**wanting)).sharp_bayer is not None


def test_the_target_is_the_source_or_rendered_by_the_same_isp() -> None:
    start = sample_of(pictures())
    as_source, rendered = through(start), through(start.replace(target="rendered"))
    assert torch.equal(as_source.sharp, start.sharp)
    # Nothing was blurred and no noise came: what the ISP does to the image it does to the target.
    assert torch.equal(rendered.sharp, rendered.image)
    assert float((rendered.sharp - start.sharp).abs().max()) > 0.1


def test_forward_keeps_the_noisy_raw() -> None:
    bayer = cfa.mosaic(pictures(), CAMERA.cfa) - 0.05
    made = ForwardISP(isp="rsblur/a7r3")(sample_of(bayer, space="bayer", sharp=pictures()))
    assert torch.equal(made.bayer, bayer)
    assert torch.equal(made.image, A7R3.forward(bayer, CAMERA))
    assert made.space == "srgb" and 0 <= float(made.image.min()) <= float(made.image.max()) <= 1


# ---------------------------------------------------------------- which ISP


def test_an_isp_is_opened_once(monkeypatch) -> None:
    opened = []

    def counted(name: str, device: object = "cpu") -> isp.ISP:
        opened.append(name)
        return isp.create(name, device)

    monkeypatch.setattr(stages, "create", counted)
    stages.opened.cache_clear()
    for _ in range(5):
        through(sample_of(pictures()), "rsblur/srgb")
    assert opened == ["rsblur/srgb"]
    stages.opened.cache_clear()


def test_halos_are_the_backends() -> None:
    for name in isp.names():
        limits = isp.create(name).limits
        assert InverseISP(isp=name).halo == limits.inverse_halo
        assert ForwardISP(isp=name).halo == limits.forward_halo
    assert ForwardISP(isp="rsblur/a7r3").halo == 2


@pytest.mark.parametrize("stage", [InverseISP, ForwardISP])
def test_an_unknown_isp_is_a_problem_with_a_suggestion(stage) -> None:
    assert stage(isp="rsblur").problems() == []
    assert stage(isp="rsblur/a7r4").problems()[0].endswith('got "rsblur/a7r4"; did you mean "rsblur/a7r3"?')
    assert stage(isp="rsblurr").problems() == [
        'isp: expected a backend out of rsblur, upi, paramisp, got "rsblurr"; did you mean "rsblur"?'
    ]


def test_no_camera_no_isp() -> None:
    with pytest.raises(ValueError, match='x: needs a camera; put the stage "camera" before it'):
        InverseISP(isp="rsblur/a7r3")(sample_of(pictures(), camera=None))


def test_nothing_is_changed_in_place() -> None:
    start = sample_of(pictures(), target="rendered")
    kept = start.image.clone()
    made = Mosaic()(InverseISP(isp="rsblur/a7r3")(start))
    raw = made.image.clone(), made.sharp_bayer.clone()
    ForwardISP(isp="rsblur/a7r3")(made)
    assert torch.equal(start.image, kept) and torch.equal(made.image, raw[0])
    assert torch.equal(made.sharp_bayer, raw[1])


# ---------------------------------------------------------------- which picture is the sharp one


@pytest.mark.parametrize("saves", [("raw",), ()])
def test_a_picture_that_was_blurred_before_the_inverse_is_not_the_sharp_one(saves) -> None:
    blurred, sharp = pictures(), pictures(seed=1)
    start = sample_of(blurred, sharp=sharp, sharp_frame=0, target="rendered", saves=saves)
    made = InverseISP(isp="rsblur/a7r3")(start)
    assert torch.equal(made.sharp_sensor, A7R3.inverse(sharp, CAMERA))


def test_frames_that_were_averaged_before_the_inverse_hold_no_sharp_one() -> None:
    frames = pictures(5)
    start = sample_of(frames.mean(0, keepdim=True), sharp=frames[2:3], sharp_frame=2, saves=("raw",))
    made = InverseISP(isp="rsblur/a7r3")(start)
    assert torch.equal(made.sharp_sensor, A7R3.inverse(frames[2:3], CAMERA))


def test_a_frame_that_is_sharp_goes_through_the_inverse_once(monkeypatch) -> None:
    through_the_inverse = []

    class Counted:
        limits = A7R3.limits

        def inverse(self, srgb: torch.Tensor, camera: isp.Camera) -> torch.Tensor:
            through_the_inverse.append(len(srgb))
            return A7R3.inverse(srgb, camera)

    monkeypatch.setattr(stages, "opened", lambda name, device: Counted())
    frames = pictures(5)
    InverseISP(isp="rsblur/a7r3")(sample_of(frames, sharp=frames[2:3], sharp_frame=2, saves=("raw",)))
    assert through_the_inverse == [5]

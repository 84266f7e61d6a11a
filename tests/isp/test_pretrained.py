"""The weights that come with the package, on shots of their virtual cameras of a photograph that no training has seen."""

import dataclasses

import numpy as np
import pytest
import torch

import isp
from isp import cfa, color, evaluate, tone
from isp.apply import __main__ as apply
from isp.backends.paramisp import PRETRAINED, VARIANTS, border_effect
from isp.camera import Camera
from isp.files import photographs, weights
from isp.files.pictures import read_image, write_image
from isp.metrics import psnr_db
from isp.rng import generator
from isp.train import plan
from isp.train.data import VirtualPair, VirtualShots, stacked
from isp.virtual import cameras, scenes, simulate
from isp.virtual.develop import develop

SHIPPED = "paramisp/a7r3-virtual"
PARAMETRIC = ("rsblur/a7r3", "rsblur/srgb", "upi/pair", "upi/paramisp")


def shots(count: int, side: int, camera: str = "a7r3-virtual") -> list[VirtualPair]:
    """Of the photograph; every other scene would be dead leaves."""
    return VirtualShots((camera,), 1, side - 1, held_out=2 * count).pairs("test")[0][1::2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_files_say_what_they_are(variant):
    for path in (PRETRAINED / variant).iterdir():
        read = weights.read(path)
        assert {tensor.dtype for tensor in read.tensors.values()} == {torch.float16}
        assert read.metadata["camera"] == variant and read.metadata["licence"] == "Apache-2.0"
        bound = plan.Plan.model_validate_json(read.metadata["recipe"])
        assert bound.direction == "joint" and bound.cameras == (variant,)
        assert path.stat().st_size < 2e6


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_beat_every_parametric_isp_by_three_db(variant):
    pairs = shots(8, 160, variant)

    def table(name: str) -> dict[str, tuple[float, float]]:
        return evaluate.evaluate(isp.create(name), pairs, "paper", 0, torch.device("cpu"))[variant]

    learned, others = table(f"paramisp/{variant}"), [table(name) for name in PARAMETRIC]
    for of in ("raw", "srgb"):
        assert learned[of][0] > max(other[of][0] for other in others) + 3


def test_all_four_cfa_phases_are_rendered_alike():
    made, found = isp.create(SHIPPED), {}
    for pair in shots(4, 162):
        for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
            bayer, srgb, camera = pair.window(top, left, 160, 160)
            raw = cfa.mosaic(made.inverse(srgb, camera), camera.cfa)
            figures = psnr_db(raw, bayer), psnr_db(made.forward(bayer, camera), srgb)
            found.setdefault(camera.cfa[0], []).append(figures)
    assert set(found) == set(cfa.PATTERNS)
    means = torch.tensor(list(found.values())).mean(1)
    assert float((means.amax(0) - means.amin(0)).max()) < 0.5


def test_borders_are_what_the_backend_says():
    made = isp.create(SHIPPED)
    bayer, srgb, camera = stacked([pair.window(0, 0, 320, 320) for pair in shots(4, 322)])
    assert border_effect(lambda image: made.inverse(image, camera), srgb, 160) <= made.limits.inverse_halo
    assert border_effect(lambda image: made.forward(image, camera), bayer, 160) <= made.limits.forward_halo


def test_a_crop_alone_has_the_tone_of_the_whole_picture():
    """Mean over the crop, in 255ths. GlobalNet pools over what it is given, so this is learned, not built in."""
    made, apart = isp.create(SHIPPED), {"inverse": [], "forward": []}
    for pair in shots(3, 592):
        bayer, srgb, camera = pair.window(0, 0, 592, 592)
        for direction, image in (("inverse", srgb), ("forward", bayer)):
            run = getattr(made, direction)
            place = (..., slice(148, 444), slice(148, 444))
            difference = (run(image[place].contiguous(), camera) - run(image, camera)[place]) * 255
            apart[direction].append(float(difference.mean((0, 2, 3)).abs().max()))
    assert max(apart["inverse"]) < 1.0
    assert max(apart["forward"]) < 2.0


def cycled(srgb: torch.Tensor, camera: Camera) -> torch.Tensor:
    """A picture through both directions."""
    made = isp.create(SHIPPED)
    return made.forward(cfa.mosaic(made.inverse(srgb, camera), camera.cfa), camera)


def test_a_grey_scale_stays_grey():
    """Through the cycle, at eight brightnesses and several white balances; measured: up to 5.6 between channels."""
    levels = torch.tensor([0.03, 0.06, 0.12, 0.25, 0.5, 0.7, 0.85, 0.95])
    scale = levels.repeat_interleave(24).expand(1, 3, 96, 192).contiguous()
    for pair in shots(4, 96):
        cycle = cycled(scale, pair.camera)
        fields = 255 * cycle.view(3, 96, 8, 24)[:, :, :, 4:-4].mean((1, 3))
        assert float((fields.amax(0) - fields.amin(0)).max()) < 7
        assert float((fields.mean(0) - 255 * levels).abs().max()) < 5


def test_nights_have_no_cast():
    """What the cycle adds to each channel of shots far darker than metered, in 255ths."""
    nights = VirtualShots(("a7r3-virtual",), 1, 159, held_out=16, low_key=1.0).pairs("test")[0][1::2]
    added = []
    for pair in nights:
        _, srgb, camera = pair.window(0, 0, 160, 160)
        cycle = cycled(srgb, camera)
        added.append((255 * (cycle - srgb)).mean((0, 2, 3)))
    assert float(torch.stack(added).mean(0).abs().max()) < 1.0
    assert float(torch.stack(added).abs().max()) < 3.0


def test_they_follow_the_exif():
    """A shot rendered with another ISO is another picture; without it, still a picture."""
    made, pair = isp.create(SHIPPED), shots(1, 160)[0]
    bayer, _, camera = pair.window(0, 0, 160, 160)
    rendered = made.forward(bayer, camera)
    for name in ("iso", "exposure_s"):
        other = dataclasses.replace(camera, **{name: getattr(camera, name) * 16})
        assert float((made.forward(bayer, other) - rendered).abs().mean()) > 1 / 255
        unknown = dataclasses.replace(camera, **{name: None})
        assert float((made.forward(bayer, unknown) - rendered).abs().mean()) < 0.1


def test_transfer_makes_what_the_other_camera_would_have_made(tmp_path):
    """The same light, through the same lens, into two cameras: each one's picture becomes the other's."""
    first, second = cameras.load("a7r3-virtual"), cameras.load("d7000-virtual")
    second = dataclasses.replace(second, lens=first.lens, metered_level=first.metered_level)
    photograph = torch.from_numpy(read_image(photographs.folder() / "coffee.png")).permute(2, 0, 1) / 255
    scene = scenes.metered(tone.inverse_srgb_curve(photograph), ev100=10.0)
    optics = {"iso": 200.0, "exposure_s": 1 / 50, "f_number": 4.5, "focal_mm": 35.0}
    taken = {}
    for camera in (first, second):
        daylight = color.daylight_white_balance(camera.profile.xyz_to_sensor).tolist()
        shot = camera.profile.camera((daylight[0], daylight[2]), **optics)
        raw = simulate.read_out(simulate.expose(scene, camera, shot), camera, shot, generator(1, 0, camera.name))
        taken[camera.name] = develop(raw, camera.character, shot)
    options = [part for name, value in optics.items() for part in ("--" + name.replace("_", "-"), str(value))]
    for source, target in (("a7r3-virtual", "d7000-virtual"), ("d7000-virtual", "a7r3-virtual")):
        path = tmp_path / f"{source}.png"
        write_image(path, taken[source])
        arguments = ["--from", f"paramisp/{source}", "--to", f"paramisp/{target}", *options, "--out", str(tmp_path)]
        assert apply.main(["transfer", str(path), *arguments]) == apply.DONE
        found = read_image(tmp_path / f"{source}_transfer.png")
        near, far = (float(np.square(each - taken[target].astype(float)).mean()) for each in (found, taken[source]))
        assert near < far / 2

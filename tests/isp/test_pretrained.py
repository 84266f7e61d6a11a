"""The weights that come with the package, on shots of the virtual A7R3 of a photograph that no training has seen."""

import dataclasses

import pytest
import torch

import isp
from isp import cfa, evaluate, weights
from isp.backends.paramisp import PRETRAINED, VARIANTS, border_effect
from isp.camera import Camera
from isp.metrics import psnr_db
from isp.train import plan
from isp.train.data import VirtualPair, VirtualShots, stacked

SHIPPED = "paramisp/a7r3-virtual"
FILES = [
    PRETRAINED / variant / f"{direction}.safetensors" for variant in VARIANTS for direction in ("inverse", "forward")
]


def shots(count: int, side: int) -> list[VirtualPair]:
    """Of the photograph; every other scene would be dead leaves."""
    return VirtualShots(("a7r3-virtual",), 1, side - 1, held_out=2 * count).pairs("test")[0][1::2]


def test_the_files_say_what_they_are():
    for path in FILES:
        read = weights.read(path)
        assert {tensor.dtype for tensor in read.tensors.values()} == {torch.float16}
        assert read.metadata["camera"] == "a7r3-virtual" and read.metadata["licence"] == "Apache-2.0"
        made_by = plan.Plan.model_validate_json(read.metadata["recipe"])
        assert made_by.direction == "joint" and made_by.cameras == ("a7r3-virtual",)
    assert sum(path.stat().st_size for path in FILES) < 4e6


@pytest.fixture(scope="module")
def tables():
    """PSNR and SSIM by ISP."""
    pairs = shots(8, 160)
    return {
        name: evaluate.evaluate(isp.create(name), pairs, "paper", 0, torch.device("cpu"))["a7r3-virtual"]
        for name in (SHIPPED, "rsblur/a7r3", "rsblur/srgb", "upi/pair", "upi/paramisp")
    }


@pytest.mark.parametrize("of", ["raw", "srgb"])
def test_they_beat_every_parametric_isp_by_three_db(tables, of):
    best = max(table[of][0] for name, table in tables.items() if name != SHIPPED)
    assert tables[SHIPPED][of][0] > best + 3


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

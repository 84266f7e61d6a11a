"""Strips against the whole: equal numbers for every design, size and strip height; less memory, measured."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from isp import cfa, profile
from isp.backends.paramisp import feature_map, strips
from isp.backends.paramisp.design import PRESETS, WIDTH, Design
from isp.backends.paramisp.feature_map import FeatureMap, Storage
from isp.backends.paramisp.network import ParamISPNet
from isp.layers.rows import Rows, between
from isp.metrics import psnr_db
from isp.rng import generator

FLOAT32 = Storage()
DESIGNS = {
    "paper": Design(),
    "official": PRESETS["official"],
    "without ParamNet": Design(optical=(), inputs=("histogram",)),
    "tone A": Design(optical=(), inputs=(), tone="A"),
    "tone B": Design(optical=(), inputs=("gradient", "overexposure"), tone="B"),
    "local of CIE XYZ": Design(optical=(), local="cie_xyz"),
    "global of CIE XYZ": Design(optical=(), tone="cie_xyz"),
}


@pytest.fixture(autouse=True)
def thin_strips(monkeypatch):
    """Many strips and chunks in a small image: three or four rows of 100 pixels, two strips a chunk."""
    monkeypatch.setattr(feature_map, "STRIP_BYTES", 1e5)
    monkeypatch.setattr(feature_map, "CHUNK_BYTES", 2e5)
    monkeypatch.setattr(feature_map, "GROUPS", 4)


def network(direction, design=DESIGNS["paper"], seed=3):
    """With weights that are felt: as they are drawn, LocalNet adds next to nothing."""
    net = ParamISPNet(direction, design, seed).requires_grad_(False)
    if hasattr(net.local_net, "tail"):
        net.local_net.tail.weight *= 30
    return net


def picture(height, width, channels=3, count=1, seed=1):
    coarse = generator(seed, height * width, "strips").random((count, channels, 5, 7), dtype="float32")
    smooth = nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear")
    fine = generator(seed, height * width, "fine").random((count, channels, height, width), dtype="float32")
    return 0.8 * smooth + 0.2 * torch.from_numpy(fine)


def a_camera(pattern="RGGB"):
    return profile.load("a7r3").camera((2.1, 1.7), pattern, iso=640.0, exposure_s=0.02, f_number=4.0, focal_mm=35.0)


def through(net, height, width, storage=FLOAT32, pattern="RGGB"):
    """(the whole, the strips)"""
    image = picture(height, width, 1 if net.direction == "forward" else 3)
    camera = a_camera(pattern)
    return net(image, camera), strips.run(net, image, camera, storage, lambda macs: None)


# ---------------------------------------------------------------- equal to the whole


@pytest.mark.parametrize("direction", ["inverse", "forward"])
@pytest.mark.parametrize("design", DESIGNS)
def test_strips_give_what_the_whole_gives(direction, design):
    whole, in_strips = through(network(direction, DESIGNS[design]), 101, 130)
    assert whole.std() > 0.01
    torch.testing.assert_close(in_strips, whole, atol=1e-5, rtol=0)


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(3, 150), width=st.integers(3, 150), strip_kb=st.floats(10, 2000), chunk=st.integers(1, 5),
    kept=st.floats(0, 1), pattern=st.sampled_from(cfa.PATTERNS), direction=st.sampled_from(["inverse", "forward"]),
)  # fmt: skip
def test_any_size_any_strip_any_share(height, width, strip_kb, chunk, kept, pattern, direction):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_map, "STRIP_BYTES", strip_kb * 1e3)
        patch.setattr(feature_map, "CHUNK_BYTES", strip_kb * 1e3 * chunk)
        whole, in_strips = through(network(direction), height, width, Storage(kept=kept), pattern)
    torch.testing.assert_close(in_strips, whole, atol=1e-5, rtol=0)


def test_several_images_at_once():
    net, image = network("inverse"), picture(90, 100, count=2)
    camera = a_camera()
    camera = type(camera).stack([camera, dataclasses.replace(camera, iso=torch.tensor([3200.0]))])
    in_strips = strips.run(net, image, camera, Storage(), lambda macs: None)
    torch.testing.assert_close(in_strips, net(image, camera), atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", ["inverse", "forward"])
def test_float16_maps_cost_little(direction):
    whole, in_strips = through(network(direction), 120, 160, Storage(dtype=torch.float16))
    assert 60 < psnr_db(in_strips, whole) < 130  # not float32 in disguise


@pytest.mark.parametrize("wrong", ["top", "pool", "skip"])
def test_the_comparison_sees_mistakes(monkeypatch, wrong):
    if wrong == "top":
        monkeypatch.setattr(strips, "WARM_UP", 3)
    if wrong == "pool":
        pooled = strips.channel_attention
        monkeypatch.setattr(strips, "channel_attention", lambda block, rows: pooled(block, rows) * 1.01)
    if wrong == "skip":
        monkeypatch.setattr(strips, "added", lambda rows, others: rows)
    whole, in_strips = through(network("inverse"), 101, 130, Storage(kept=0.5))
    assert (in_strips - whole).abs().max() > 1e-4


def test_the_input_is_not_written_to():
    net, image = network("inverse"), picture(88, 92)
    before = image.clone()
    strips.run(net, image, a_camera(), Storage(), lambda macs: None)
    assert torch.equal(image, before)


# ---------------------------------------------------------------- rows


@given(
    heights=st.lists(st.integers(1, 9), min_size=1, max_size=9), ends=st.tuples(st.integers(0, 90), st.integers(0, 90))
)
def test_rows_between(heights, ends):
    whole = torch.arange(float(sum(heights))).view(1, 1, -1, 1)
    start, stop = sorted(ends)
    found = torch.cat([whole[:, :, :0], *between(iter(whole.split(heights, 2)), start, stop)], 2)
    assert torch.equal(found, whole[:, :, start:stop])


@given(heights=st.lists(st.integers(1, 9), min_size=1, max_size=12), data=st.data())
def test_rows_come_out_as_they_went_in(heights, data):
    rows, total = Rows(), sum(heights)
    whole = torch.arange(float(total)).view(1, 1, total, 1)
    list(rows.remembering(whole.split(heights, 2)))
    at = 0
    while at < total:
        count = data.draw(st.integers(1, total - at))
        for place, piece in rows.take(count):
            assert torch.equal(piece, whole[:, :, at : at + count][:, :, place])
        at += count


@settings(deadline=None, max_examples=30)
@given(heights=st.lists(st.integers(1, 30), min_size=1, max_size=8), share=st.floats(0, 1))
def test_a_map_gives_back_what_was_written(heights, share):
    total = sum(heights)
    whole = picture(total, 20, WIDTH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_map, "STRIP_BYTES", 4e4)
        patch.setattr(feature_map, "CHUNK_BYTES", 1e5)
        kept = FeatureMap(whole[:, :3], 1, torch.float32, lambda macs: None)
        passed = torch.cat(list(kept.writing(iter(whole.split(heights, 2)))), 2)
        assert torch.equal(passed, whole)
        spared = kept.spared(share)
        for missing, rows, chunks in kept.runs(spared):
            assert {chunk in spared for chunk in chunks} == {missing}
            assert torch.equal(torch.cat(list(kept.reading(1.0, chunks)), 2), whole[:, :, rows.start : rows.stop])
        assert len(kept.chunks) - len(spared) <= share * len(kept.chunks) + 1e-9 if share < 1 else not spared
        list(kept.reading(1.0, going=spared))
        assert kept._chunks.keys() == {*kept.chunks} - spared
        list(kept.writing(iter(whole.split(heights, 2))))
        assert torch.equal(torch.cat(list(kept.emptying(1.0)), 2), whole)
        assert not kept._chunks


# ---------------------------------------------------------------- what it takes


@pytest.mark.parametrize("direction", ["inverse", "forward"])
@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_the_work_is_known_before(direction, kept):
    net, done = network(direction), []
    image = picture(200, 160, 1 if direction == "forward" else 3)
    strips.run(net, image, a_camera(), Storage(kept=kept), done.append)
    assert sum(done) == pytest.approx(strips.work(net, 200, 160, Storage(kept=kept)), rel=0.12)


@pytest.mark.parametrize("design", ["paper", "local of CIE XYZ"])
@pytest.mark.parametrize("direction", ["inverse", "forward"])
def test_the_work_at_once_is_told_layer_by_layer(direction, design):
    net, done = network(direction, DESIGNS[design]), []
    image = picture(200, 160, 1 if direction == "forward" else 3)
    with strips.metered(net, done.append):
        whole = net(image, a_camera())
    assert sum(done) == pytest.approx(strips.work(net, 200, 160, None), rel=0.05)
    assert max(done) < 0.25 * sum(done)
    told = list(done)
    assert torch.equal(net(image, a_camera()), whole) and done == told  # nobody listens any more


def test_more_of_the_skip_connection_kept_is_more_memory_and_less_work():
    net = network("inverse")
    ways = [Storage(kept=kept) for kept in (0.0, 0.5, 1.0)]
    for fewer, more in itertools.pairwise(ways):
        assert strips.work(net, 4000, 6000, fewer) > strips.work(net, 4000, 6000, more)
        assert strips.peak_bytes(net, 1, 4000, 6000, fewer) <= strips.peak_bytes(net, 1, 4000, 6000, more)

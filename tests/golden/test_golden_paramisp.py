"""Parity with ParamISP@0e4913f: every intermediate, both directions, the joint pair, and proof that mistakes are seen."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from isp import cfa, color
from isp.backends.paramisp import PUBLISHED, features, global_net, local_net, network, param_net
from isp.backends.paramisp.design import PRESETS, Design
from isp.backends.paramisp.network import ParamISPNet
from isp.camera import Camera
from isp.files import checkpoints

_spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)

TOLERANCE = 2e-5  # absolute; the reference's own float32 is within 4.1e-6 of its float64
MISTAKE = 1e-3  # what a mistake has to move an output by
OFFICIAL = PRESETS["official"]
FORWARD_INTERMEDIATES = [
    "embedding", "demosaic", "wb_clip_out", "ccm_out", "mask", "local_out", "global_feature", "global_coefs", "out",
]  # fmt: skip
INVERSE_INTERMEDIATES = [
    "embedding", "mask", "global_feature", "global_coefs", "global_out", "local_out", "ccm_out", "wb_out", "out",
]  # fmt: skip
FIELDS = {"focal_length": "focal_mm", "f_number": "f_number", "exposure_time": "exposure_s", "iso_sensitivity": "iso"}


def recording(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(values)) for key, values in golden.recording(f"paramisp/{name}").items()}


@pytest.fixture(scope="module")
def networks() -> dict[str, ParamISPNet]:
    """Both recorded checkpoints, through `isp.convert`."""
    made = {}
    for direction in ("inverse", "forward"):
        path = golden.folder() / "paramisp" / f"{direction}.ckpt"
        if not path.is_file():
            pytest.skip(f"{path} is not recorded in this folder")
        tensors = checkpoints.renamed([checkpoints.read(path)], PUBLISHED, direction, str(path))
        made[direction] = ParamISPNet(direction, OFFICIAL)
        made[direction].load_state_dict(tensors)
        made[direction].requires_grad_(False)
    return made


def batch(letter: str) -> tuple[dict[str, torch.Tensor], Camera]:
    found = recording(f"batch_{letter}")
    cells = ("".join("RGB"[index] for index in cell.flatten()) for cell in found["bayer_pattern"])
    patterns = tuple(cells)
    camera = Camera(
        name=("recorded",) * len(patterns),
        cfa=patterns,
        white_balance=found["white_balance"],
        sensor_to_linear=found["color_matrix"],
        **{ours: found[theirs].float() for theirs, ours in FIELDS.items()},
    )
    return found, camera


def deviation(ours: torch.Tensor, recorded: torch.Tensor) -> float:
    assert ours.shape == recorded.shape
    return float((ours.double() - recorded.double()).abs().max())


def assert_close(ours: torch.Tensor, recorded: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert deviation(ours, recorded) <= tolerance * max(1.0, float(recorded.abs().max()))


def through(net: ParamISPNet, found: dict[str, torch.Tensor], camera: Camera) -> torch.Tensor:
    if net.direction == "forward":
        return net(found["raw"], camera)
    return cfa.mosaic(net(found["rgb"], camera), camera.cfa)


# ---------------------------------------------------------------- the whole, step by step


@pytest.mark.parametrize("letter", ["a", "b"])
def test_golden_paramisp_forward(networks, letter):
    found, camera = batch(letter)
    net, recorded = networks["forward"], recording(f"forward_{letter}")
    assert list(recorded) == FORWARD_INTERMEDIATES
    embedding = net.param_net(camera)
    assert_close(embedding, recorded["embedding"])
    assert_close(cfa.demosaic(found["raw"], camera.cfa, OFFICIAL.demosaic_border), recorded["demosaic"])
    plain = dataclasses.replace(camera, sensor_to_linear=torch.eye(3).expand(len(camera), 3, 3))
    assert_close(net.linear(found["raw"], plain), recorded["wb_clip_out"])
    linear = net.linear(found["raw"], camera)
    assert_close(linear, recorded["ccm_out"])
    inputs = features.features(linear, linear, OFFICIAL)
    assert_close(inputs[:, -3:], recorded["mask"])
    local = net.local_net(linear, inputs, embedding)
    assert_close(local, recorded["local_out"])
    inputs = features.features(local, linear, OFFICIAL)
    feature = net.global_net.feature(inputs)
    assert_close(feature, recorded["global_feature"])
    assert_close(net.global_net.weights(feature, embedding), recorded["global_coefs"])
    assert_close(net.global_net(local, inputs, embedding), recorded["out"])
    assert_close(through(net, found, camera), recorded["out"])


@pytest.mark.parametrize("letter", ["a", "b"])
def test_golden_paramisp_inverse(networks, letter):
    found, camera = batch(letter)
    net, recorded = networks["inverse"], recording(f"inverse_{letter}")
    assert list(recorded) == INVERSE_INTERMEDIATES
    embedding = net.param_net(camera)
    assert_close(embedding, recorded["embedding"])
    inputs = features.features(found["rgb"], found["rgb"], OFFICIAL)
    assert_close(inputs[:, -3:], recorded["mask"])
    feature = net.global_net.feature(inputs)
    assert_close(feature, recorded["global_feature"])
    assert_close(net.global_net.weights(feature, embedding), recorded["global_coefs"])
    toned = net.global_net(found["rgb"], inputs, embedding)
    assert_close(toned, recorded["global_out"])
    local = net.local_net(toned, features.features(toned, found["rgb"], OFFICIAL), embedding)
    assert_close(local, recorded["local_out"])
    unbalanced = dataclasses.replace(camera, white_balance=torch.ones(len(camera), 3))
    assert_close(color.linear_to_sensor(local, unbalanced), recorded["ccm_out"])
    assert_close(color.linear_to_sensor(local, camera), recorded["wb_out"])
    assert_close(through(net, found, camera), recorded["out"])


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_golden_paramisp_at_128(networks, direction):
    found, camera = batch("c")
    net, recorded = networks[direction], recording(f"{direction}_c")
    assert_close(net.param_net(camera), recorded["embedding"])
    assert_close(through(net, found, camera), recorded["out"])


def test_golden_paramisp_joint(networks):
    found, camera = batch("c")
    recorded = recording("joint_c")
    bayer = through(networks["inverse"], found, camera).clamp(0, 1)
    quantised = torch.floor(bayer * 2**14 + 0.5) / (2**14 - 1)
    level = 1 / (2**14 - 1)
    assert deviation(quantised, recorded["raw_est_quantised"]) < 1.5 * level  # a rounding may fall to the other side
    assert float(((quantised - recorded["raw_est_quantised"]).abs() > level / 2).float().mean()) < 0.01
    assert_close(networks["forward"](recorded["raw_est_quantised"], camera), recorded["rgb_rec"])


# ---------------------------------------------------------------- the parts


@pytest.mark.parametrize("pattern", cfa.PATTERNS)
def test_golden_paramisp_demosaic(pattern):
    recorded = recording("demosaic")
    assert_close(cfa.demosaic(recorded[f"{pattern}_in"], [pattern], "replicate"), recorded[f"{pattern}_out"])
    assert_close(cfa.mosaic(recorded[f"{pattern}_rgb"], [pattern]), recorded[f"{pattern}_mosaic"])


@pytest.mark.parametrize("theirs", FIELDS)
def test_golden_paramisp_equalisation(theirs):
    recorded = recording("embeddings")
    values, expected = recorded[theirs].float(), recorded[f"{theirs}_emb"]
    assert values[-1] == 0, "which is unknown here, and 1e-12 there"
    assert_close(param_net.equalise(values[:-1], FIELDS[theirs]), expected[:-1])


def test_golden_paramisp_features():
    recorded = recording("features")
    image = recorded["x"]
    inputs = features.features(image, image, OFFICIAL)
    assert_close(inputs[:, :3], image)
    assert_close(inputs[:, 3:93], recorded["content"])
    assert_close(inputs[:, 93:], recorded["mask"])
    assert_close(features.features(image, 0 * image, PRESETS["paper"])[:, 93:], recorded["mask_090"])


def test_golden_paramisp_tone():
    recorded = recording("tone")
    assert_close(global_net.OPERATIONS["C"].apply(recorded["x"], recorded["coefs"]), recorded["out"])
    assert_close(global_net.quadratic(recorded["x"], recorded["coefs"][:, :30]), recorded["quadratic_only"])
    pixel = torch.tensor([0.3, 0.5, 0.7]).view(1, 3, 1, 1)
    for monomial, expected in enumerate(recorded["monomials_of_rgb_030507"]):
        weights = torch.zeros(1, 10, 3)
        weights[0, monomial] = 1
        assert_close(global_net.quadratic(pixel, weights.flatten(1)) - pixel, expected.expand(1, 3, 1, 1))


def test_golden_paramisp_attentive_block(networks):
    recorded = recording("localblock_forward_resblks3")
    block = networks["forward"].local_net.blocks[3]
    residual = block.widen(functional.elu(block.narrow(recorded["x"])))
    assert_close(residual, recorded["convs"])
    residual = residual * block.channel_attention(
        residual.mean((2, 3), keepdim=True), residual.amax((2, 3), keepdim=True)
    )
    assert_close(residual, recorded["chattn"])
    spatial = torch.sigmoid(block.spatial(local_net.across_channels(residual)))
    assert_close(residual * spatial, recorded["spattn"])
    assert_close(block(recorded["x"]), recorded["out"])


def test_golden_paramisp_local_net(networks):
    recorded = recording("localnet_forward")
    net = networks["forward"].local_net
    assert_close(net(recorded["x"], recorded["z"], recorded["h"]), recorded["out"])


def test_golden_paramisp_without_gradients_nothing_changes(networks):
    found, camera = batch("a")
    for net in networks.values():
        with torch.no_grad():
            alone = through(net, found, camera)
        assert_close(alone, through(net, found, camera), 5e-6)


# ---------------------------------------------------------------- the comparison sees mistakes


def test_the_comparison_sees_a_difference():
    recorded = torch.ones(2, 2)
    assert_close(recorded + 0.9 * TOLERANCE, recorded)
    with pytest.raises(AssertionError):
        assert_close(recorded + 2 * TOLERANCE, recorded)


def without(design: Design) -> str:
    return ", ".join(
        field.name
        for field in dataclasses.fields(Design)
        if getattr(design, field.name) != getattr(OFFICIAL, field.name)
    )


@pytest.mark.parametrize(
    "design",
    [
        dataclasses.replace(OFFICIAL, mask_threshold=0.9),
        dataclasses.replace(OFFICIAL, mask_of="each"),
        dataclasses.replace(OFFICIAL, demosaic_border="phase"),
        dataclasses.replace(OFFICIAL, clip_white=False),
        dataclasses.replace(OFFICIAL, coefficient_activation="none"),
        dataclasses.replace(OFFICIAL, fully_connected="activation_last"),
    ],
    ids=without,
)
def test_golden_paramisp_sees_another_design(networks, design):
    only_forward = {"demosaic_border", "clip_white"}
    found, camera = batch("a")
    for direction, net in networks.items():
        other = ParamISPNet(direction, design)
        other.requires_grad_(False).load_state_dict(net.state_dict())
        moved = deviation(through(other, found, camera), recording(f"{direction}_a")["out"])
        assert moved > MISTAKE or (direction == "inverse" and without(design) in only_forward)


MISTAKES = {
    "Sobel not divided": (features, "gradient_kernels", lambda f: lambda: 8 * f()),
    "Sobel transposed": (features, "gradient_kernels", lambda f: lambda: f().mT.contiguous()),
    "natural logarithm": (torch, "log2", lambda f: torch.log),
    "no quadratic residual": (global_net, "quadratic", lambda f: lambda image, weights: f(image, weights) - image),
    "coefficients as 3 x 10": (
        global_net,
        "quadratic",
        lambda f: lambda image, weights: f(image, weights.reshape(-1, 3, 10).mT.flatten(1)),
    ),
    "gamma coefficients transposed": (
        global_net,
        "gamma_correction",
        lambda f: lambda image, weights: f(image, weights.reshape(-1, 3, 3).mT.flatten(1)),
    ),
    "colour matrix transposed": (
        network.ParamISPNet,
        "linear",
        lambda f: (
            lambda net, bayer, camera: f(
                net, bayer, dataclasses.replace(camera, sensor_to_linear=camera.sensor_to_linear.mT)
            )
        ),
    ),
    "zero padding": (
        local_net.ReplicateConv2d,
        "forward",
        lambda f: lambda conv, x: functional.conv2d(x, conv.weight, conv.bias, padding=conv.padding),
    ),
    "channel attention without its maximum": (
        local_net.AttentiveBlock,
        "channel_attention",
        lambda f: lambda block, mean, largest: f(block, mean, mean),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_golden_paramisp_sees_mistakes(networks, monkeypatch, mistake):
    place, name, wrong = MISTAKES[mistake]
    found, camera = batch("a")
    features._linear_part.cache_clear()
    monkeypatch.setattr(place, name, wrong(getattr(place, name)))
    try:
        assert deviation(through(networks["forward"], found, camera), recording("forward_a")["out"]) > MISTAKE
    finally:
        features._linear_part.cache_clear()

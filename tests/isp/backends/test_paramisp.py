"""ParamISP's networks and backend: every design, any size and phase, unknown EXIF, dropout, initialisation, files."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import isp
from isp import cfa, profile
from isp.backends import paramisp
from isp.backends.paramisp import features, global_net, local_net, network
from isp.backends.paramisp.design import OPTICAL, PRESETS, Design
from isp.backends.paramisp.network import ParamISPNet
from isp.backends.paramisp.param_net import equalise
from isp.camera import Camera
from isp.files import weights
from isp.layers.mappings import polynomial

PAPER, OFFICIAL = PRESETS["paper"], PRESETS["official"]
ABLATIONS = {
    "without ParamNet": Design(optical=()),
    "without equalisation": Design(equalisation=False),
    "without dropout": Design(dropout=0.0),
    "with the colour embedding": Design(colour_embedding=True),
    "colour embedding alone": Design(optical=(), colour_embedding=True),
    "activation after each layer": Design(fully_connected="activation_last"),
    **{f"without {name}": Design(optical=tuple(o for o in OPTICAL if o != name)) for name in OPTICAL},
    **{f"without {name}": Design(inputs=tuple(i for i in PAPER.inputs if i != name)) for name in PAPER.inputs},
    "image alone": Design(inputs=()),
    "one mask": Design(mask_of="first"),
    "threshold": Design(mask_threshold=0.95),
    "CIE XYZ local mapping": Design(local="cie_xyz"),
    "CIE XYZ global mapping": Design(tone="cie_xyz"),
    "CIE XYZ both": Design(local="cie_xyz", tone="cie_xyz", optical=()),
    "operation A": Design(tone="A"),
    "operation B": Design(tone="B"),
    **{f"operation C x {stages}": Design(stages=stages) for stages in (1, 2, 3, 4, 5)},
    "unbounded coefficients": Design(coefficient_activation="none"),
    "no clip": Design(clip_white=False),
    "replicated border": Design(demosaic_border="replicate"),
}
DESIGNS = {**PRESETS, **ABLATIONS}
DIRECTIONS = ("inverse", "forward")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape, dtype=np.float32))


def shots(*patterns: str, **optics: float | None) -> Camera:
    everything = {"iso": 400.0, "exposure_s": 0.02, "f_number": 4.0, "focal_mm": 35.0} | optics
    made = [
        profile.load(name).camera((1.6 + 0.3 * at, 2.2 - 0.2 * at), pattern, **everything)
        for at, (pattern, name) in enumerate(zip(patterns, ("a7r3", "d90", "s7", "d7000"), strict=False))
    ]
    return Camera.stack(made)


def net(direction: str, design: Design = PAPER, seed: int = 0) -> ParamISPNet:
    return ParamISPNet(direction, design, seed).requires_grad_(False)


def given(direction: str, *size: int, seed: int = 0) -> torch.Tensor:
    count, height, width = size
    return noise(count, 3 if direction == "inverse" else 1, height, width, seed=seed)


def parameters(design: Design) -> int:
    return sum(parameter.numel() for parameter in net("inverse", design).parameters())


# ---------------------------------------------------------------- designs


def test_every_field_of_the_design_is_ablated():
    changed = {
        field.name
        for design in DESIGNS.values()
        for field in dataclasses.fields(Design)
        if getattr(design, field.name) != getattr(PAPER, field.name)
    }
    assert changed == {field.name for field in dataclasses.fields(Design)}


@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_runs_in_both_directions_and_learns_everywhere(name):
    design = DESIGNS[name]
    camera = shots("GBRG")
    for direction in DIRECTIONS:
        learner = ParamISPNet(direction, design)
        output = learner(given(direction, 1, 88, 88), camera)
        assert output.shape == (1, 3, 88, 88) and bool(output.isfinite().all())
        if direction == "inverse" and name not in PRESETS:  # whose networks are those of the other direction
            continue
        output.abs().mean().backward()
        idle = [key for key, value in learner.named_parameters() if value.grad is None or not value.grad.any()]
        assert idle == []


def test_designs_are_different_functions():
    camera, bayer = shots("RGGB"), 1.4 * given("forward", 1, 88, 88)
    with torch.no_grad():
        outputs = {name: net("forward", design)(bayer, camera) for name, design in DESIGNS.items()}
    same = {
        name
        for name, output in outputs.items()
        if name != "paper" and float((output - outputs["paper"]).abs().max()) < 1e-7
    }
    assert same == {"without dropout", "operation C x 4"}  # one acts in training only, the other is the paper's


def test_numbers_of_parameters():
    assert parameters(OFFICIAL) == 709_885  # the published 710,973 without the layer that is multiplied by 0
    assert parameters(PAPER) == 709_885 - 1_600  # 0.71 M in Table 1
    assert parameters(Design(optical=())) == 683_389  # 0.68 M there
    table_3 = {"optical": (), "inputs": ()}
    assert round(parameters(Design(**table_3)) / 1e6, 1) == 0.6
    assert round(parameters(Design(tone="cie_xyz", **table_3)) / 1e6, 1) == 1.7
    assert parameters(Design(local="cie_xyz", tone="cie_xyz", **table_3)) == 131_235 + 1_217_554  # 1.3 M


def test_a_design_survives_json():
    for design in DESIGNS.values():
        assert Design.from_json(design.to_json()) == design
    with pytest.raises(ValueError, match=r"Design: expected an object with keys out of .*stages.*, got"):
        Design.from_json('{"stagess": 4}')
    for text in ("", "[]", '{"a":' * 10**5, "{}" + " " * 10**6 + "x"):
        with pytest.raises(ValueError, match="Design: expected an object") as refusal:
            Design.from_json(text)
        assert len(str(refusal.value)) < 600


def test_bad_designs_are_refused():
    with pytest.raises(ValueError, match=r"Design.dropout: expected a probability below 1, got 1"):
        Design(dropout=1.0)
    with pytest.raises(ValueError, match=r"Design.stages: expected 1 to 64, got 0"):
        Design(stages=0)
    with pytest.raises(ValueError, match=r"Design.stages: expected 1 to 64, got 1000000000"):
        Design.from_json('{"stages": 1000000000}')
    for name, value in (("tone", "D"), ("optical", ("lens",)), ("optical", ("iso", "iso")), ("inputs", (["iso"],))):
        unchecked = Design()  # the type checks of the tests would refuse it first
        object.__setattr__(unchecked, name, value)
        with pytest.raises(ValueError, match=rf"Design.{name}: expected some of .*, got .*"):
            unchecked.__post_init__()
    with pytest.raises(ValueError, match="take no optical feature"):
        Design(local="cie_xyz", tone="cie_xyz")


# ---------------------------------------------------------------- sizes, phases, batches


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", [(30, 41), (88, 88), (101, 97), (2, 3), (90, 13)])
def test_any_size(direction, size):
    camera = shots("GRBG")
    with torch.no_grad():
        output = net(direction)(given(direction, 1, *size), camera)
    assert output.shape == (1, 3, *size) and bool(output.isfinite().all())


def test_too_small_is_refused():
    with pytest.raises(ValueError, match="expected at least 2x2 pixels, got 1x40"):
        net("forward")(given("forward", 1, 1, 40), shots("RGGB"))


@pytest.mark.parametrize("size", [(30, 41), (2, 3), (89, 120)])
def test_extending_keeps_the_phase_and_mirrors(size):
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    labels = torch.stack([rows + 0 * columns, 0 * rows + columns]).float()[None]
    extended = network.extended(labels)
    height, width = extended.shape[-2:]
    assert height >= 88 and width >= 88 and height % 4 == width % 4 == 0
    assert torch.equal(extended[..., : size[0], : size[1]], labels)
    assert torch.equal(extended[0, 0, :, 0] % 2, torch.arange(height) % 2)
    assert torch.equal(extended[0, 1, 0] % 2, torch.arange(width) % 2)
    steps = extended[0, 0, 1:, 0] - extended[0, 0, :-1, 0]
    assert bool((steps.abs() == 1).all())


def test_an_image_that_fits_is_not_copied():
    image = noise(1, 3, 88, 92)
    assert network.extended(image) is image


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("design", PRESETS)
def test_rows_of_a_mixed_batch_are_independent(direction, design):
    camera = shots(*cfa.PATTERNS)
    image = given(direction, 4, 92, 88)
    with torch.no_grad():
        together = net(direction, PRESETS[design])(image, camera)
        for row in range(4):
            alone = net(direction, PRESETS[design])(image[row : row + 1], camera[row])
            assert torch.allclose(alone, together[row : row + 1], atol=1e-5)


def test_the_phase_matters_and_is_right():
    """A colour that fills the image is the same image whatever the phase of its mosaic."""
    flat = torch.tensor([0.2, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 90, 90)
    forward = net("forward")
    camera = shots("RGGB")
    with torch.no_grad():
        outputs = [
            forward(cfa.mosaic(flat, [pattern]), dataclasses.replace(camera, cfa=(pattern,)))
            for pattern in cfa.PATTERNS
        ]
        wrong = forward(cfa.mosaic(flat, ["BGGR"]), camera)
    assert all(torch.allclose(output, outputs[0], atol=1e-5) for output in outputs)
    assert not torch.allclose(wrong, outputs[0], atol=1e-2)


def test_with_and_without_gradients_agree():
    camera = shots("RGGB", "BGGR")
    for direction in DIRECTIONS:
        image = given(direction, 2, 100, 96)
        with torch.no_grad():
            fast = net(direction)(image, camera)
        assert torch.allclose(fast, net(direction)(image, camera), atol=2e-6)


def test_the_frame_of_a_convolution_repeats_the_border():
    for kernel in (3, 7):
        conv = local_net.ReplicateConv2d(4, 5, kernel).requires_grad_(False)
        image = noise(2, 4, 17, 23)
        with torch.no_grad():
            fast = conv(image)
        assert torch.allclose(fast, conv(image), atol=1e-6)


# ---------------------------------------------------------------- ParamNet


@pytest.mark.parametrize("inputs", [PAPER.inputs, ("histogram",), ("gradient", "overexposure")])
def test_features_and_their_gradient_are_the_formulas(inputs):
    """The soft histogram is computed in place, with a gradient of its own."""
    image = (1.4 * noise(2, 3, 9, 11) - 0.2).requires_grad_()
    maps = features.features(image, image, dataclasses.replace(PAPER, inputs=inputs))
    parts = [image]
    if "gradient" in inputs:
        around = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        parts.append(torch.nn.functional.conv2d(around, features.gradient_kernels()))
    if "histogram" in inputs:
        for bins in (4, 8, 16):
            centres = torch.linspace(0, 1, bins)[None, None, :, None, None]
            parts.append((1 - (image[:, :, None] - centres).abs() * (bins - 1)).clamp(min=0).flatten(1, 2))
    if "overexposure" in inputs:
        parts.append((image - 0.9).clamp(min=0) / 0.1)
    expected = torch.cat(parts, 1)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
    weight = 2 * noise(*maps.shape, seed=4) - 1
    ours, theirs = (torch.autograd.grad((found * weight).sum(), image)[0] for found in (maps, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", OPTICAL)
def test_an_unknown_parameter_drops_its_term(name):
    without = Design(optical=tuple(other for other in OPTICAL if other != name))
    full = net("inverse").param_net
    rest = net("inverse", without).param_net
    rest.load_state_dict({key: value for key, value in full.state_dict().items() if f"optical.{name}." not in key})
    camera = shots("RGGB", "RGGB")
    expected = rest(camera)
    assert not torch.allclose(full(camera), expected)
    unknown = dataclasses.replace(camera, **{name: None})
    assert torch.equal(full(unknown), expected)
    for value in (math.nan, 0.0):
        half = getattr(camera, name).clone()
        half[1] = value
        mixed = full(dataclasses.replace(camera, **{name: half}))
        assert torch.equal(mixed[1], expected[1])
        assert torch.equal(mixed[0], full(camera)[0])


def test_gradients_are_finite_where_parameters_are_unknown():
    learner = ParamISPNet("inverse", PAPER)
    camera = Camera.stack([shots("RGGB"), shots("RGGB", iso=None, f_number=None)])
    assert camera.iso is not None and bool(camera.iso.isnan().any())
    learner(noise(2, 3, 88, 88), camera).mean().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in learner.parameters())


def test_dropout_leaves_each_parameter_out_of_one_iteration_in_five():
    param_net = net("inverse").param_net
    camera = shots("RGGB", "RGGB")
    whole = param_net(camera)
    terms = [layer(equalise(getattr(camera, name), name)) for name, layer in param_net.optical.items()]
    seen = {}
    for bits in range(16):
        total = sum(term for at, term in enumerate(terms) if bits >> at & 1) + torch.zeros(2, 64)
        for layer in param_net.layers:
            total = layer(torch.nn.functional.elu(total))
        seen[bits] = total
    assert torch.allclose(whole, seen[15], atol=1e-6)
    generator = torch.Generator().manual_seed(1)
    state = torch.get_rng_state()
    counts = np.zeros(4)
    draws = 600
    for _ in range(draws):
        output = param_net(camera, generator)
        nearest = min(seen, key=lambda bits: float((seen[bits] - output).abs().max()))
        assert torch.allclose(output, seen[nearest], atol=1e-6), "one mask for the whole batch, no rescaling"
        counts += [nearest >> at & 1 for at in range(4)]
    dropped = 1 - counts / draws
    assert np.all(np.abs(dropped - 0.2) < 4 * math.sqrt(0.2 * 0.8 / draws))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"


def test_dropout_is_repeatable_and_belongs_to_training():
    camera, image = shots("RGGB"), noise(1, 3, 88, 88)
    inverse = net("inverse")

    def draw() -> torch.Tensor:
        return inverse(image, camera, torch.Generator().manual_seed(5))

    assert torch.equal(draw(), draw())
    assert torch.equal(inverse(image, camera), inverse(image, camera))
    always = net("inverse", Design(dropout=0.0))
    assert torch.equal(always(image, camera, torch.Generator().manual_seed(5)), always(image, camera))


def test_equalised_parameters_lie_in_the_unit_interval():
    ranges = {"focal_mm": (4.2, 200), "f_number": (1.7, 32), "exposure_s": (1 / 28800, 30), "iso": (64, 8000)}
    for name, (low, high) in ranges.items():
        values = torch.linspace(math.log(low), math.log(high), 50).exp()
        mapped = equalise(values, name)
        assert mapped.shape == (50, 15)
        assert float(mapped[:, :6].min()) > 0 and float(mapped[:, :6].max()) <= 1 + 1e-5
        assert float(mapped[:, 6].min()) > -0.03 and float(mapped[:, 6].max()) < 1.03
        assert float(mapped[:, 7:].abs().max()) <= 1


# ---------------------------------------------------------------- global operations


def test_weights_of_zero_are_the_identity():
    image = 3 * noise(2, 3, 5, 6) - 1
    for name, operation in global_net.OPERATIONS.items():
        weights_of_zero = torch.zeros(2, operation.weights)
        assert torch.allclose(operation.apply(image, weights_of_zero), image, atol=1e-5)
        network_of = net("inverse", Design(tone=name)).global_net
        assert torch.allclose(network_of.rendered(image, weights_of_zero[:, None]), image, atol=1e-5)


def test_gamma_correction_keeps_black_and_white_and_order():
    for seed in range(5):
        weights_of_gamma = 4 * noise(1, 9, seed=seed) - 1
        ramp = torch.linspace(0, 1, 200).view(1, 1, 1, 200).expand(1, 3, 1, 200)
        mapped = global_net.gamma_correction(ramp, weights_of_gamma)
        assert torch.allclose(mapped[..., 0], torch.zeros(1, 3, 1), atol=1e-5)
        assert torch.allclose(mapped[..., -1], torch.ones(1, 3, 1), atol=1e-5)
        assert bool((mapped.diff(dim=-1) >= 0).all())


def test_quadratic_is_equation_1():
    image, coefficients = noise(2, 3, 4, 5), noise(2, 30, seed=1) - 0.5
    r, g, b = image.unbind(1)
    monomials = torch.stack([r * r, r * g, r * b, r, g * g, g * b, g, b * b, b, torch.ones_like(r)], 1)
    expected = image + torch.einsum("nmk,nmhw->nkhw", coefficients.view(2, 10, 3), monomials)
    assert torch.allclose(global_net.quadratic(image, coefficients), expected, atol=1e-6)


def test_polynomial_of_cie_xyz():
    image, matrix = noise(1, 3, 4, 5), noise(1, 3, 6, seed=1)
    expected = torch.einsum("nkm,nmhw->nkhw", matrix, torch.cat([image, image**2], 1))
    assert torch.allclose(polynomial(image, matrix.flatten(1)), expected, atol=1e-6)


def test_global_operation_is_in_float32_under_autocast():
    image, coefficients = noise(1, 3, 8, 8), noise(1, 39) - 0.5
    expected = global_net.quadratic_with_gamma(image, coefficients)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net("inverse").global_net.rendered(image, coefficients[:, None]), expected)


def test_half_precision_stays_near_and_learns():
    camera, image = shots("RGGB"), noise(1, 3, 88, 88)
    learner = ParamISPNet("inverse", PAPER)
    expected = learner(image, camera)
    with torch.autocast("cpu", torch.bfloat16):
        output = learner(image, camera)
        output.abs().mean().backward()
    assert output.dtype == torch.float32
    assert float((output - expected).detach().abs().max()) < 0.05
    assert all(bool(parameter.grad.isfinite().all()) for parameter in learner.parameters())


# ---------------------------------------------------------------- initialisation


def test_initial_weights():
    made = dict(net("inverse", OFFICIAL).named_parameters())

    def deviates(name: str, std: float) -> float:
        return abs(float(made[name].std()) / std - 1)

    assert deviates("local_net.head.weight", math.sqrt(2 / (9 * 160))) < 0.03
    assert deviates("local_net.blocks.3.widen.weight", math.sqrt(2 / (9 * 96))) < 0.03
    assert deviates("local_net.tail.weight", 0.01 * math.sqrt(2 / (9 * 67))) < 0.06
    assert deviates("global_net.heads.2.weight", 0.01 * math.sqrt(2 / 103)) < 0.06
    assert deviates("global_net.hidden.1.weight", math.sqrt(2 / 128)) < 0.06
    assert deviates("global_net.optical.weight", 0.1 * math.sqrt(2 / 128)) < 0.06
    assert deviates("param_net.layers.2.weight", 0.1 * math.sqrt(2 / 128)) < 0.06
    assert deviates("param_net.layers.1.weight", math.sqrt(2 / 128)) < 0.06
    for name, bound in (("local_net.down.0", 1 / 16), ("local_net.up.1", 1 / 16), ("global_net.stage", 1 / 2)):
        largest = float(made[f"{name}.weight"].abs().max())
        assert 0.95 * bound < largest <= bound
    assert 0.5 / 24 < float(made["local_net.tail.bias"].abs().max()) <= 1 / 24
    assert 0.9 / 8 < float(made["global_net.heads.0.bias"].abs().max()) <= 1 / 8


def test_a_seed_decides_the_weights_and_the_global_generator_does_not():
    state = torch.get_rng_state()
    first, again, other = net("forward"), net("forward"), net("forward", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_the_border_that_a_crop_spoils():
    image = torch.nn.functional.interpolate(noise(1, 3, 32, 32), size=(256, 256), mode="bicubic").clamp(0, 1)
    camera = shots("RGGB")
    bayer = cfa.mosaic(image * 0.5, camera.cfa)
    inverse, forward = net("inverse"), net("forward")
    with torch.no_grad():
        assert paramisp.border_effect(lambda x: inverse(x, camera), image, 160) <= paramisp.INVERSE_BORDER
        assert paramisp.border_effect(lambda x: forward(x, camera), bayer, 160) <= paramisp.FORWARD_BORDER


def test_border_effect_counts_rings():
    image = noise(2, 1, 64, 60)

    def blur(x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (3, 3, 3, 3))
        return torch.nn.functional.avg_pool2d(padded, 7, stride=1)

    assert paramisp.border_effect(blur, image, 40) == 3
    assert paramisp.border_effect(lambda x: x, image, 40) == 0
    assert paramisp.border_effect(lambda x: x + x.mean(), image, 40) == 0  # pooling alone is no border


# ---------------------------------------------------------------- the backend and its files


def save(path, direction, design=PAPER, matrix="rows_1", **changes):
    if direction == "joint":
        tensors = {f"{d}.{k}": v for d in DIRECTIONS for k, v in net(d, design).state_dict().items()}
    else:
        tensors = net(direction, design).state_dict()
    said = {"backend": "paramisp", "direction": direction, "camera": "none", "licence": "none", "matrix": matrix}
    weights.write(path, tensors, **(said | {"design": design.to_json()} | changes))


@pytest.fixture
def folder(tmp_path):
    for direction in DIRECTIONS:
        save(tmp_path / f"{direction}.safetensors", direction)
    save(tmp_path / "joint.safetensors", "joint")
    return tmp_path


def test_every_way_to_name_weights(folder):
    image, camera = noise(1, 3, 88, 88), shots("RGGB")
    inverse, forward = (f"{folder}/{direction}.safetensors" for direction in DIRECTIONS)
    for name, files in (
        (f"paramisp/{folder}", 2),
        (f"paramisp/{folder}/joint.safetensors", 1),
        (f"paramisp/{inverse}+{forward}", 2),
        (f"paramisp/{forward}+{inverse}", 2),
    ):
        made = isp.create(name)
        assert made.name == name and len(made.weights) == files
        assert made.limits.needs == () and made.limits.multiple_of == 1
        with torch.no_grad():
            assert torch.equal(made.inverse(image, camera), net("inverse")(image, camera))
            expected = net("forward")(image[:, :1], camera).clamp(0, 1)
            assert torch.equal(made.forward(image[:, :1], camera), expected)


def test_weights_say_which_camera_they_are_for(tmp_path):
    for inverse, forward, trained_for in (("A7R3", "A7R3", "A7R3"), ("a7r3", "d90", None)):
        for direction, camera in zip(DIRECTIONS, (inverse, forward), strict=True):
            save(tmp_path / f"{direction}.safetensors", direction, camera=camera)
        assert isp.create(f"paramisp/{tmp_path}").limits.camera == trained_for


def test_the_backend_gives_no_gradient_graph(folder):
    made = isp.create(f"paramisp/{folder}")
    assert not made.inverse(noise(1, 3, 88, 88), shots("RGGB")).requires_grad


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "paramisp/nothing",
            'paramisp/nothing: expected a7r3-virtual, d7000-virtual, a folder with .* but there is no "nothing"',
        ),
        ("paramisp/{}/nothing.safetensors", r"or weight files, but there is no .*nothing\.safetensors"),
        ("paramisp/{0}/inverse.safetensors+nothing", "nothing: expected a weight file, but there is none"),
        ("paramisp/{}/inverse.safetensors", "expected weights of both directions, but forward is not among them"),
        (
            "paramisp/{0}/inverse.safetensors+{0}/inverse.safetensors",
            "expected one inverse and one forward network, got two of inverse",
        ),
        ("paramisp/{}/other.safetensors", "expected weights of paramisp, got weights of upi"),
        ("paramisp/{}/matrix.safetensors", "expected weights with matrix rows_1 or official, got rows_2"),
        ("paramisp/{}/sideways.safetensors", "expected the direction inverse, forward or joint, got sideways"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_sentence(folder, name, words):
    save(folder / "other.safetensors", "inverse", backend="upi")
    tensors = net("inverse").state_dict()
    metadata = {"backend": "paramisp", "direction": "sideways", "camera": "", "licence": "", "matrix": "rows_1"}
    weights.write(folder / "sideways.safetensors", tensors, design=PAPER.to_json(), **metadata)
    odd = metadata | {"direction": "inverse", "matrix": "rows_2"}
    weights.write(folder / "matrix.safetensors", tensors, design=PAPER.to_json(), **odd)
    with pytest.raises(ValueError, match=words):
        isp.create(name.format(folder))


def test_a_folder_without_one_direction_says_which_file_is_missing(folder):
    (folder / "forward.safetensors").unlink()
    with pytest.raises(ValueError, match=r"forward\.safetensors: expected a weight file, but there is none"):
        isp.create(f"paramisp/{folder}")


# ---------------------------------------------------------------- which matrix the weights want

PUBLISHED = {
    "a7r3": [[3.6078298, -0.42575794, -0.18207195], [-2.1520138, 7.9994545, -2.8474407], [0.10570342, -0.7846928, 3.6789894]],
    "d7000": [[3.6998718, -0.5884627, -0.11140898], [-1.5856934, 7.326727, -2.7410336], [0.04789164, -1.0564402, 4.0085487]],
    "d90": [[3.824437, -0.63158756, -0.19284935], [-0.0474462, 4.2565393, -1.2090931], [0.31611648, -0.9302971, 3.6141806]],
    "d40": [[3.5294511, -0.48798594, -0.04146527], [-0.08414898, 4.286089, -1.20194], [0.04546179, -0.49990866, 3.4544468]],
    "s7": [[2.237324, -1.4440103, 0.20668642], [-0.2603548, 1.4750377, -0.2146829], [-0.02993463, -0.93290716, 1.9628417]],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_official_matrices_are_the_published_table(name):
    camera = profile.load(name).camera((2.0, 1.5))
    expected = torch.tensor([PUBLISHED[name]])
    assert torch.allclose(paramisp.camera_for("official", camera).sensor_to_linear, expected, atol=3e-6)
    assert paramisp.camera_for("rows_1", camera) is camera


def test_a_mixed_batch_gets_each_its_matrix_and_an_unknown_camera_is_refused():
    both = Camera.stack([profile.load(name).camera((2.0, 1.5)) for name in ("a7r3", "s7")])
    expected = torch.tensor([PUBLISHED["a7r3"], PUBLISHED["s7"]])
    assert torch.allclose(paramisp.camera_for("official", both).sensor_to_linear, expected, atol=3e-6)
    with pytest.raises(ValueError, match='published matrix of camera "mine", which follows from xyz_to_sensor; give'):
        paramisp.camera_for("official", dataclasses.replace(both, name=("a7r3", "mine")))


def test_the_backend_uses_the_matrix_that_its_weights_want(tmp_path):
    for direction in DIRECTIONS:
        save(tmp_path / f"{direction}.safetensors", direction, OFFICIAL, matrix="official")
    made = isp.create(f"paramisp/{tmp_path}")
    camera, image = shots("RGGB"), noise(1, 3, 88, 88)
    wanted = paramisp.camera_for("official", camera)
    with torch.no_grad():
        assert torch.equal(made.inverse(image, camera), net("inverse", OFFICIAL)(image, wanted))
        assert torch.equal(
            made.forward(image[:, :1], camera), net("forward", OFFICIAL)(image[:, :1], wanted).clamp(0, 1)
        )

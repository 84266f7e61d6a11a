"""The ISP contract over every backend that can be created, and proof that each check of it can fail."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

import isp
from isp import cfa, profile
from isp.backends.paramisp.design import PRESETS
from isp.backends.paramisp.network import ParamISPNet
from isp.backends.rsblur import RSBlur
from isp.camera import Camera
from isp.contract import ISP, Limits
from isp.files import weights

# Largest |forward(mosaic(inverse(srgb))) - srgb| away from the border on `smooth`, 1.5 times what was measured. It is
# the error of demosaicing, but for `upi/published`, whose forward is no inverse of its inverse.
ROUND_TRIP = {
    "rsblur/a7r3": 0.065,
    "rsblur/srgb": 0.047,
    "rsblur/published": 0.047,
    "rsblur/tensorflow": 0.047,
    "upi/pair": 0.027,
    "upi/published": 0.265,
    "upi/paramisp": 0.0172,
}
# White becomes white again within 1/255 in all of these; a learned ISP need not promise it.
KEEPS_WHITE = (
    "rsblur/a7r3", "rsblur/srgb", "rsblur/published", "rsblur/tensorflow", "upi/pair", "upi/published", "upi/paramisp",
)  # fmt: skip
CAMERAS = ("a7r3", "d7000", "s7", "d40")
ALWAYS_KNOWN = ("name", "cfa", "white_balance", "sensor_to_linear")
EXACT = 1e-5  # more than rounding may differ between a batch and its rows, or an image and its crop


def noise(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> torch.Tensor:
    unit = np.random.Generator(np.random.PCG64(seed)).random(shape, dtype=np.float32)
    return torch.from_numpy(unit * np.float32(high - low) + np.float32(low))


def smooth(count: int, side: int = 64) -> torch.Tensor:
    """Every channel its own sum of sinusoids of at most one period, over the whole of [0.1, 0.9]."""
    rng = np.random.Generator(np.random.PCG64(3))
    row, column = np.mgrid[:side, :side] / side
    waves = np.zeros((count, 3, side, side))
    for channel in waves.reshape(-1, side, side):
        for cycles in ((0, 1), (1, 0), (1, 1)):
            phase = cycles[0] * row + cycles[1] * column + rng.random()
            channel += rng.uniform(0.3, 1) * np.sin(2 * math.pi * phase)
        channel -= channel.min()
        channel *= 0.8 / channel.max()
    return torch.from_numpy(waves + 0.1).float()


def cameras(count: int, patterns: tuple[str, ...], **known: float) -> Camera:
    """Shots of different cameras with different white balances and, as far as `patterns` allow, different phases."""
    everything = {"iso": 400.0, "exposure_s": 0.02, "f_number": 4.0, "focal_mm": 35.0} | known
    return Camera.stack([
        profile.load(CAMERAS[at % len(CAMERAS)]).camera(
            (1.5 + 0.4 * (at % 4), 2.6 - 0.3 * (at % 4)), patterns[at % len(patterns)], **everything
        )
        for at in range(count)
    ])  # fmt: skip


def rendered(backend: ISP, bayer: torch.Tensor, camera: Camera) -> torch.Tensor:
    reference = noise(len(bayer), 3, *bayer.shape[-2:], seed=9) if backend.limits.needs_reference else None
    return backend.forward(bayer, camera, reference=reference)


def size_of(backend: ISP, least: int) -> int:
    """The smallest side of at least `least` that the backend takes, an odd multiple of its unit."""
    unit = backend.limits.multiple_of
    return unit * (math.ceil(least / unit) | 1)


# ---------------------------------------------------------------- what every backend promises


def check_identity(backend: ISP) -> None:
    assert isinstance(backend, ISP)
    assert isinstance(backend.limits, Limits)
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in backend.weights)
    assert backend.limits.cfas and set(backend.limits.cfas) <= set(cfa.PATTERNS)
    assert set(backend.limits.needs) <= {field.name for field in dataclasses.fields(Camera)} - set(ALWAYS_KNOWN)


def check_shapes_types_and_range(backend: ISP) -> None:
    height = size_of(backend, 9)
    width = height + 2 * backend.limits.multiple_of
    camera = cameras(3, backend.limits.cfas)
    srgb = noise(3, 3, height, width)
    srgb[..., :2, :], srgb[..., -2:, :] = 0, 1
    sensor = backend.inverse(srgb, camera)
    assert sensor.shape == srgb.shape and sensor.dtype == torch.float32 and bool(sensor.isfinite().all())
    for bayer in (noise(3, 1, height, width), noise(3, 1, height, width, low=-1.5, high=3.0)):
        output = rendered(backend, bayer, camera)
        assert output.shape == srgb.shape and output.dtype == torch.float32 and bool(output.isfinite().all())
        assert float(output.min()) >= 0 and float(output.max()) <= 1


def check_inputs_are_left_alone(backend: ISP) -> None:
    side = size_of(backend, 12)
    camera, srgb, bayer = cameras(2, backend.limits.cfas), noise(2, 3, side, side), noise(2, 1, side, side, high=1.5)
    kept = [tensor.clone() for tensor in (srgb, bayer, camera.white_balance, camera.sensor_to_linear)]
    backend.inverse(srgb, camera)
    rendered(backend, bayer, camera)
    now = [srgb, bayer, camera.white_balance, camera.sensor_to_linear]
    assert all(torch.equal(before, after) for before, after in zip(kept, now, strict=True))


def check_calls_are_pure(backend: ISP) -> None:
    side = size_of(backend, 12)
    camera, srgb, bayer = cameras(2, backend.limits.cfas), noise(2, 3, side, side), noise(2, 1, side, side)
    first = backend.inverse(srgb, camera), rendered(backend, bayer, camera)
    backend.inverse(1 - srgb, camera)
    rendered(backend, 1 - bayer, camera)
    assert torch.equal(backend.inverse(srgb, camera), first[0])
    assert torch.equal(rendered(backend, bayer, camera), first[1])


def check_rows_of_a_batch_are_independent(backend: ISP) -> None:
    side = size_of(backend, 12)
    camera, srgb, bayer = cameras(5, backend.limits.cfas), noise(5, 3, side, side), noise(5, 1, side, side, high=1.2)
    reference = noise(5, 3, side, side, seed=9) if backend.limits.needs_reference else None
    sensor, output = backend.inverse(srgb, camera), backend.forward(bayer, camera, reference=reference)
    for row in range(5):
        at = slice(row, row + 1)
        alone = None if reference is None else reference[at]
        assert torch.allclose(backend.inverse(srgb[at], camera[row]), sensor[at], atol=EXACT)
        assert torch.allclose(backend.forward(bayer[at], camera[row], reference=alone), output[at], atol=EXACT)


def check_patterns(backend: ISP) -> None:
    side = size_of(backend, 12)
    for pattern in cfa.PATTERNS:
        camera, bayer = cameras(1, (pattern,)), noise(1, 1, side, side)
        if pattern in backend.limits.cfas:
            assert rendered(backend, bayer, camera).shape == (1, 3, side, side)
        else:
            with pytest.raises(
                ValueError, match=rf"{backend.name}: .*{'.*'.join(backend.limits.cfas)}.* got {pattern}"
            ):
                rendered(backend, bayer, camera)


def check_multiples(backend: ISP) -> None:
    """Every multiple is taken (odd ones: see `size_of`), and nothing else where there is a unit."""
    unit = backend.limits.multiple_of
    camera, side = cameras(1, backend.limits.cfas), size_of(backend, 9)
    for height, width in ((side, side + unit), (side + unit, side)):
        srgb = noise(1, 3, height, width)
        assert backend.inverse(srgb, camera).shape == srgb.shape
        assert rendered(backend, srgb[:, :1], camera).shape == srgb.shape
    for extra in range(1, unit):
        for height, width in ((side, side + extra), (side + extra, side)):
            with pytest.raises(ValueError, match=rf"{backend.name}: .* multiples of {unit}, got {height}x{width}"):
                rendered(backend, noise(1, 1, height, width), camera)


def depth_of_difference(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many pixels from the border the innermost difference lies; 0 where there is none."""
    rows, columns = ((one - other).abs() > EXACT).any(1).any(0).nonzero(as_tuple=True)
    height, width = one.shape[-2:]
    depths = torch.stack([rows, columns, height - 1 - rows, width - 1 - columns]).min(0).values
    return 0 if len(depths) == 0 else int(depths.max()) + 1


def measured_halo(run: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, margin: int) -> int:
    """The larger of: how deep a crop differs from the whole, and how deep a change around a window is felt in it."""
    window = (..., slice(margin, -margin), slice(margin, -margin))
    whole = run(image)
    elsewhere = 1 - image
    elsewhere[window] = image[window]
    return max(
        depth_of_difference(run(image[window]), whole[window]),
        depth_of_difference(run(elsewhere)[window], whole[window]),
    )


def check_halos(backend: ISP) -> None:
    limits = backend.limits
    unit = math.lcm(2, limits.multiple_of)
    margin = unit * math.ceil((max(limits.inverse_halo, limits.forward_halo) + 4) / unit)
    side = 4 * margin
    inverse, forward = set(), set()
    for seed in range(4):
        camera = cameras(1, (limits.cfas[seed % len(limits.cfas)],))
        srgb = noise(1, 3, side, side, seed=seed)
        inverse.add(measured_halo(lambda image, camera=camera: backend.inverse(image, camera), srgb, margin))
        bayer = noise(1, 1, side, side, high=0.4, seed=seed)
        forward.add(measured_halo(lambda image, camera=camera: rendered(backend, image, camera), bayer, margin))
    assert max(inverse) == limits.inverse_halo, "true and tight"
    assert max(forward) == limits.forward_halo, "true and tight"


def check_needs(backend: ISP) -> None:
    side = size_of(backend, 12)
    camera = cameras(2, backend.limits.cfas)
    kept = {*ALWAYS_KNOWN, *backend.limits.needs}
    unknown = {field.name: None for field in dataclasses.fields(Camera) if field.name not in kept}
    bare = dataclasses.replace(camera, **unknown)
    srgb = noise(2, 3, side, side)
    assert torch.equal(backend.inverse(srgb, bare), backend.inverse(srgb, camera))
    assert torch.equal(rendered(backend, srgb[:, :1], bare), rendered(backend, srgb[:, :1], camera))
    if backend.limits.needs_reference:
        with pytest.raises(ValueError, match=rf"{backend.name}: .*reference"):
            backend.forward(srgb[:, :1], camera)


def check_round_trip(backend: ISP) -> None:
    srgb, camera = smooth(12), cameras(12, backend.limits.cfas)
    bayer = cfa.mosaic(backend.inverse(srgb, camera), camera.cfa)
    border = backend.limits.inverse_halo + backend.limits.forward_halo
    error = (rendered(backend, bayer, camera) - srgb).abs()[..., border:-border, border:-border]
    assert float(error.max()) <= ROUND_TRIP[backend.name]


def check_white_stays_white(backend: ISP) -> None:
    side = size_of(backend, 16)
    camera = cameras(8, backend.limits.cfas)
    white = torch.ones(8, 3, side, side)
    bayer = cfa.mosaic(backend.inverse(white, camera), camera.cfa)
    border = backend.limits.inverse_halo + backend.limits.forward_halo
    output = rendered(backend, bayer, camera)[..., border:-border, border:-border]
    assert float(output.min()) >= 1 - 1 / 255


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


# What a learned ISP does not promise: its networks pool over the whole image, so that no halo is exact; it may use what
# it does not need; and it is a pair for the pictures it has learned, or for none, if its weights are random.
UNLEARNED = ("halos", "needs", "round_trip", "white_stays_white")

PROMISES = [
    (name, check)
    for name in isp.names()
    for check in CHECKS
    if check not in UNLEARNED or (name in ROUND_TRIP and (check != "white_stays_white" or name in KEEPS_WHITE))
]


@pytest.mark.parametrize(("name", "check"), PROMISES)
def test_contract(name, check):
    CHECKS[check](isp.create(name))


@pytest.fixture(scope="module", params=PRESETS)
def paramisp_folder(request, tmp_path_factory):
    """Both networks of a preset with random weights, as files."""
    folder, design = tmp_path_factory.mktemp("paramisp"), PRESETS[request.param]
    for direction in ("inverse", "forward"):
        weights.write(
            folder / f"{direction}.safetensors",
            ParamISPNet(direction, design, seed=3).state_dict(),
            backend="paramisp",
            direction=direction,
            camera="none",
            design=design.to_json(),
            matrix="official" if request.param == "official" else "rows_1",
            licence="none",
        )
    return folder


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in UNLEARNED])
def test_contract_of_paramisp(paramisp_folder, check):
    CHECKS[check](isp.create(f"paramisp/{paramisp_folder}"))


def test_paramisp_needs_no_more_than_it_says(paramisp_folder):
    made, camera, image = isp.create(f"paramisp/{paramisp_folder}"), cameras(2, cfa.PATTERNS), noise(2, 3, 12, 12)
    kept = {*ALWAYS_KNOWN, "xyz_to_sensor"}  # from which the published matrix follows
    unknown = {field.name: None for field in dataclasses.fields(Camera) if field.name not in kept}
    bare = dataclasses.replace(camera, **unknown)
    for output, other in (
        (made.inverse(image, bare), made.inverse(image, camera)),
        (made.forward(image[:, :1], bare), made.forward(image[:, :1], camera)),
    ):
        assert bool(output.isfinite().all()) and not torch.equal(output, other)


def test_every_backend_states_its_round_trip():
    assert [*ROUND_TRIP, "paramisp/a7r3-virtual", "paramisp/d7000-virtual"] == isp.names()
    assert set(KEEPS_WHITE) <= set(isp.names())


# ---------------------------------------------------------------- every check can fail


class Sound(RSBlur):
    """`rsblur/srgb`, from which every fault is made; `claims` are what it says of itself."""

    def __init__(self, **claims: object) -> None:
        super().__init__("srgb")
        self.limits = dataclasses.replace(self.limits, **claims)


FAULTS: list[tuple[str, Callable[[], Sound]]] = [
    ("identity", partial(Sound, cfas=("RGGB", "XTRANS"))),
    ("identity", partial(Sound, cfas=())),
    ("identity", partial(Sound, needs=("isso",))),
    ("patterns", partial(Sound, cfas=("RGGB",))),
    ("multiples", partial(Sound, multiple_of=2)),
    ("halos", partial(Sound, forward_halo=1)),
    ("halos", partial(Sound, forward_halo=3)),
    ("halos", partial(Sound, inverse_halo=1)),
    ("needs", partial(Sound, needs_reference=True)),
]


def fault(of: str) -> Callable[[type[Sound]], type[Sound]]:
    """Marks a backend that breaks the contract in the point `of`."""

    def planted(backend: type[Sound]) -> type[Sound]:
        FAULTS.append((of, backend))
        return backend

    return planted


@fault("identity")
class WeightsWithoutDigest(Sound):
    weights = ("best.safetensors",)


@fault("shapes_types_and_range")
class DoublePrecision(Sound):
    def inverse(self, srgb, camera):
        return super().inverse(srgb, camera).double()


@fault("shapes_types_and_range")
class BlackIsNotANumber(Sound):
    def inverse(self, srgb, camera):
        return super().inverse(srgb, camera) / (srgb > 0)


@fault("shapes_types_and_range")
class Unclipped(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer, camera) * 1.01


@fault("shapes_types_and_range")
class HalfSize(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer, camera)[..., ::2, ::2]


@fault("inputs_are_left_alone")
class ClipsItsInput(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer.clamp_(max=1), camera)


@fault("inputs_are_left_alone")
class EditsTheCamera(Sound):
    def inverse(self, srgb, camera):
        camera.white_balance[:, 0] += 1
        return super().inverse(srgb, camera)


@fault("calls_are_pure")
class Remembers(Sound):
    brightest = 0.0

    def forward(self, bayer, camera, *, reference=None):
        self.brightest = max(self.brightest, float(bayer.max()))
        return super().forward(bayer / self.brightest, camera)


@fault("rows_of_a_batch_are_independent")
class ExposesByTheBatch(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer / bayer.mean() / 4, camera)


@fault("rows_of_a_batch_are_independent")
class ReadsTheFirstCamera(Sound):
    def inverse(self, srgb, camera):
        return super().inverse(srgb, camera[0])


@fault("patterns")
class TakesLessThanItSays(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer, camera)[: sum(pattern == "RGGB" for pattern in camera.cfa)]


@fault("multiples")
class CutsOddSides(Sound):
    def forward(self, bayer, camera, *, reference=None):
        height, width = (side - side % 2 for side in bayer.shape[-2:])
        return super().forward(bayer, camera)[..., :height, :width]


@fault("halos")
class SharpensInTheInverse(Sound):
    def inverse(self, srgb, camera):
        sensor = super().inverse(srgb, camera)
        return 2 * sensor - torch.nn.functional.avg_pool2d(sensor, 3, stride=1, padding=1)


@fault("halos")
class LooksAtTheWholeImage(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer + 0.01 * bayer.mean((2, 3), keepdim=True), camera)


@fault("needs")
class ReadsTheISO(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer if camera.iso is None else bayer * 400 / camera.iso.max() / 2, camera)


@fault("round_trip")
class Brightens(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer * 1.2, camera)


@fault("round_trip")
class ForgetsThePhase(Sound):
    def forward(self, bayer, camera, *, reference=None):
        return super().forward(bayer, camera.crop(1, 0))


@fault("white_stays_white")
class Magenta(Sound):
    def inverse(self, srgb, camera):
        return super().inverse(srgb, camera) * torch.tensor([1.0, 0.98, 1.0])[:, None, None]


@pytest.mark.parametrize("check", CHECKS)
def test_the_backend_that_faults_are_made_from_is_sound(check):
    CHECKS[check](Sound())


@pytest.mark.parametrize(("check", "backend"), FAULTS)
def test_each_check_sees_its_faults(check, backend):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        CHECKS[check](backend())


def test_each_check_has_a_fault():
    assert {check for check, _ in FAULTS} == set(CHECKS)


def test_an_object_that_is_no_isp_is_seen():
    with pytest.raises(AssertionError):
        check_identity(object())

"""A trainable backend that only its plug-in knows: it trains, resumes after a kill, evaluates, and is converted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import isp
from isp import cfa, contract, convert, evaluate, pairs, profile, registry
from isp.files import weights
from isp.rng import generator
from isp.train import loop, plan
from isp.train.__main__ import main
from isp.train.data import Folders, training_batch

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")

# One network for each direction, of two parts, or one that is inverted; the forward one wants the picture. Its losses use both
# directions, the reference, and draws for the whole step and for each row.
PLUG_IN = '''
from pathlib import Path

import torch
from torch import nn

from isp import cfa
from isp.contract import Limits, Published
from isp.files import weights

VARIANTS = ()
TAKES_PATHS = True
PRESETS = {"paper": {"gain": 1.0}, "bright": {"gain": 2.0, "inverted": True}}


class Gain(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), gain))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, image):
        return image * self.weight[:, None, None]


class Rendering(nn.Module):
    """Two networks for one direction."""

    def __init__(self, gain):
        super().__init__()
        self.gain = Gain(gain)
        self.tint = Gain(0.5)

    def forward(self, image, reference):
        return self.gain(image) + self.tint(reference.mean((2, 3), keepdim=True))


class Toy:
    def __init__(self, directions, gain, keep, shared, seed):
        self.directions = ("inverse", "forward") if directions == "joint" else (directions,)
        start = gain + torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
        if shared:
            self.networks = {"joint": Gain(start)}
        else:
            made = {"inverse": Gain, "forward": Rendering}
            self.networks = {direction: made[direction](start) for direction in self.directions}
        self.phases = ("plain", "edit")
        self.metadata = {"gain": str(gain)}
        self.keep = keep

    def inverse(self, srgb, camera):
        return self.networks.get("inverse", self.networks.get("joint"))(srgb)

    def forward(self, bayer, camera, *, reference=None):
        if reference is None:
            raise ValueError("toy: needs a reference, got none")
        image = cfa.demosaic(bayer, camera.cfa)
        if "joint" in self.networks:
            return image / self.networks["joint"].weight[:, None, None]
        return self.networks["forward"](image, reference)

    def loss(self, batch, phase):
        camera, parts = batch.clean.camera, {}
        shared = torch.rand((), generator=batch.generator)
        every_row = torch.rand(batch.rows.stop, generator=batch.generator)[batch.rows.start :, None, None, None]
        kept = (every_row < self.keep) / self.keep

        def distance(one, other):
            inside = slice(batch.border, -batch.border)
            return (kept * (one - other).abs())[..., inside, inside].mean() * (1 + 0.01 * shared)

        if "inverse" in self.directions:
            sensor = self.inverse(batch.noisy.srgb, camera)
            parts["raw"] = distance(cfa.mosaic(sensor, camera.cfa), batch.clean.bayer)
        if "forward" in self.directions:
            parts["srgb"] = distance(self.forward(batch.noisy.bayer, camera, reference=batch.noisy.srgb), batch.clean.srgb)
        if phase == "edit":
            edited = self.forward(batch.edit.expose(sensor), camera, reference=batch.edit.reference)
            parts["edit"] = distance(edited, batch.edit.srgb)
        return sum(parts.values()), parts


def trainable(directions, design, loss, seed):
    preset = PRESETS[design.get("preset", "paper")]
    unknown = design.keys() - {"preset", "gain", "shared"}
    if unknown:
        raise ValueError(f"design: expected gain or shared, got {', '.join(unknown)}")
    gain = float(design.get("gain", preset["gain"]))
    shared = design.get("shared", directions == "joint" and preset.get("inverted", False))
    return Toy(directions, gain, loss.get("keep", 1.0), shared, seed)


class Opened:
    limits = Limits(needs_reference=True)

    def __init__(self, name, toy, digests):
        self.name, self.toy, self.weights = name, toy, digests

    def inverse(self, srgb, camera):
        return self.toy.inverse(srgb, camera)

    def forward(self, bayer, camera, *, reference=None):
        return self.toy.forward(bayer, camera, reference=reference).clamp(0, 1)


def create(variant, device):
    files = sorted(Path(variant).glob("*.safetensors")) if Path(variant).is_dir() else [Path(variant)]
    read = [weights.read_for("toy", file) for file in files]
    found = {name: state for each in read for name, state in each.networks.items()}
    toy = trainable("joint", {"shared": "joint" in found}, {}, 0)
    for name, network in toy.networks.items():
        weights.fill(network.requires_grad_(False), found[name], str(variant))
    return Opened(f"toy/{variant}", toy, tuple(each.digest for each in read))


# Its authors have one file for the inverse network, two for the forward one, and one for the network that is inverted.
PUBLISHED = Published(
    modules={
        "inverse": {"net": "", "net.alias": ""},
        "forward": {"a.net": "gain", "b.net": "tint"},
        "joint": {"flow": ""},
    },
    design={"preset": "bright"},
    metadata={"origin": "published"},
    licence="MIT",
    unused=frozenset({"constant"}),
    files={"forward": ("a.", "b.")},
)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a plug-in, as pip would leave it: a module, and its metadata with the entry point."""
    place = tmp_path_factory.mktemp("site")
    (place / "toy_isp.py").write_text(PLUG_IN)
    about = place / "toy_isp-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-isp\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[isp.backends]\ntoy = toy_isp\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        yield place
    sys.modules.pop("toy_isp", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pairs that the toy can learn: sRGB is a third of the RAW values, plus grain."""
    place = tmp_path_factory.mktemp("pairs")
    for at in range(4):
        camera = profile.load("a7r3").camera((2.0, 1.6), cfa.PATTERNS[at], iso=100.0)
        bright = generator(at, 0, "toy").random((3, 96, 96), dtype="float32") * 0.05
        bright += np.linspace(0.05, 0.25, 96, dtype="float32")
        bayer = cfa.mosaic(3 * torch.from_numpy(bright)[None], camera.cfa)
        raw = (bayer[0, 0] * (16383 - 512) + 512).round().numpy().astype(np.uint16)
        pairs.write(
            place / f"{at}.h5", raw, (255 * bright).round().astype(np.uint8).transpose(1, 2, 0).copy(), camera, "toy"
        )
    for name, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        (place / f"{name}.txt").write_text("".join(f"{at}.h5\n" for at in numbers))
    return place


@pytest.fixture
def recipe(tmp_path) -> str:
    content = {
        "name": "toy", "backend": "toy", "direction": "joint", "loss": {"keep": 0.8}, "store": "float16", "patch": 88,
        "batch": 2, "patches": 4, "epochs": 20_000, "lr": 0.05, "validate_every": 20, "validate_patches": 1, "licence": "none",
    }  # fmt: skip
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "toy.yaml")


def trained(chosen: plan.Plan, folder: Path, out: Path, steps: int) -> loop.Run:
    loop.train(chosen, Folders((folder,)), out, CPU, loop.Ranks(), steps)
    return loop.Run(chosen, out, CPU)


def equal(one: loop.Run, other: loop.Run) -> bool:
    states = [
        {f"{name}.{key}": value for name, net in run.model.networks.items() for key, value in net.state_dict().items()}
        for run in (one, other)
    ]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


# ---------------------------------------------------------------- training


def test_it_keeps_the_contract(installed):
    assert isp.names()[-1] == "toy"
    backend = registry.trainable_backend("toy")
    assert isinstance(backend, contract.TrainableBackend)
    assert isinstance(backend.trainable("joint", {}, {}, 0), contract.Trainable)
    ours = registry.trainable_backend("paramisp").trainable("joint", {"preset": "official"}, {"forward_weight": 1.0}, 0)
    assert isinstance(ours, contract.Trainable)
    with pytest.raises(ValueError, match='expected a backend with published checkpoints, got "rsblur"'):
        registry.published("rsblur")


@pytest.mark.parametrize(
    "overrides", [[], ["phase=edit"], ["design.shared=true"], ["direction=inverse"], ["direction=forward"]]
)
def test_it_learns_in_every_direction_and_phase(installed, folder, recipe, tmp_path, overrides):
    chosen = plan.load(recipe, overrides)
    before = loop.Run(chosen, tmp_path / "before", CPU).validate(
        loop.validation_batches(Folders((folder,)).pairs("val"), 1, 88)
    )
    run = trained(chosen, folder, tmp_path / "out", 150)
    after = run.validate(loop.validation_batches(Folders((folder,)).pairs("val"), 1, 88))
    expected = {"joint": {"raw", "srgb", "cycle"}, "inverse": {"raw"}, "forward": {"srgb"}}[chosen.direction]
    assert set(after) == expected
    # The cycle of a shared network is exact from the start.
    learned = expected - {"cycle"} if "design.shared=true" in overrides else expected
    assert all(after[name] > before[name] + 2 for name in learned)
    figures = run.advance(Folders((folder,)).pairs("train"))
    assert ("edit" in figures) == (chosen.phase == "edit")
    assert figures["loss"] == pytest.approx(sum(value for name, value in figures.items() if name != "loss"))
    names = {"joint"} if overrides == ["design.shared=true"] else set(chosen.directions)
    assert {path.stem for path in (tmp_path / "out").glob("*.safetensors")} == names


def test_an_edit_is_what_the_batch_says(installed, folder, recipe):
    chosen = plan.load(recipe, ["phase=edit"])
    batch = training_batch(Folders((folder,)).pairs("train"), chosen, 0, range(2), CPU)
    sensor = torch.from_numpy(generator(1, 0, "sensor").random((2, 3, 88, 88), dtype="float32"))
    assert torch.equal(batch.edit.expose(sensor), cfa.mosaic(sensor, batch.clean.camera.cfa))
    assert torch.equal(batch.edit.srgb, batch.clean.srgb) and torch.equal(batch.edit.reference, batch.noisy.srgb)


def test_killed_and_resumed_is_uninterrupted(installed, folder, recipe, tmp_path):
    out = tmp_path / "out"
    arguments = ["--recipe", recipe, "--data", str(folder), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)]), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "isp.train", *arguments],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (out / loop.STATE).exists():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    chosen = plan.load(recipe)
    kept = loop.Run(chosen, out, CPU).step
    assert kept > 0
    assert main([*arguments, "--steps", "3"]) == 0
    resumed = loop.Run(chosen, out, CPU)
    assert resumed.step == kept + 3
    assert equal(resumed, trained(chosen, folder, tmp_path / "straight", kept + 3))


def test_it_starts_from_its_own_weights_alone(installed, folder, recipe, tmp_path):
    run = trained(plan.load(recipe), folder, tmp_path / "first", 2)
    files = [str(tmp_path / "first" / f"{name}.safetensors") for name in ("inverse", "forward")]
    begun = loop.Run(plan.load(recipe, [f"start_from={json.dumps(files[::-1])}", "seed=7"]), tmp_path / "second", CPU)
    ours, theirs = run.model.networks["inverse"].weight, begun.model.networks["inverse"].weight
    assert torch.equal(ours.half().float(), theirs) and begun.model.networks["inverse"].count.dtype == torch.int64
    with pytest.raises(ValueError, match="expected weights of inverse and forward, but forward is missing"):
        loop.Run(plan.load(recipe, [f"start_from=[{files[0]}]"]), tmp_path / "third", CPU)
    shipped = ROOT / "isp" / "pretrained" / "paramisp" / "a7r3-virtual" / "inverse.safetensors"
    with pytest.raises(ValueError, match="expected weights of toy, got weights of paramisp"):
        loop.Run(plan.load(recipe, [f"start_from=[{shipped}]", "direction=inverse"]), tmp_path / "fourth", CPU)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("backend=tyo", 'got "tyo"; did you mean "toy"'),
        ("backend=rsblur", 'got "rsblur", which has nothing to learn'),
        ("phase=later", "phase: expected one of plain, edit, got later"),
        ("design.width=3", "design: expected gain or shared, got width"),
    ],
)
def test_wrong_recipes_are_refused(installed, recipe, capsys, override, words):
    assert main(["--recipe", recipe, "--set", override]) == 2
    assert words in capsys.readouterr().err


def test_plans_of_before_are_read_and_written_as_they_were():
    chosen = plan.load("train/paramisp_small")
    assert not {"backend", "phase", "loss"} & json.loads(chosen.text).keys()
    assert plan.Plan.model_validate_json(chosen.text) == chosen
    other = chosen.model_copy(update={"backend": "toy"})
    assert json.loads(other.text)["backend"] == "toy"


# ---------------------------------------------------------------- its weights


def test_it_is_evaluated_like_every_isp(installed, folder, recipe, tmp_path):
    trained(plan.load(recipe), folder, tmp_path / "out", 150)
    metadata = weights.read(tmp_path / "out" / "forward.safetensors").metadata
    assert metadata["backend"] == "toy" and metadata["gain"] == "1.0" and metadata["licence"] == "none"
    opened = isp.create(f"toy/{tmp_path / 'out'}")
    bayer, srgb, camera = pairs.split(folder, "test")[0].window(0, 0, 96, 96)
    sensor = opened.inverse(srgb, camera)
    assert float((cfa.mosaic(sensor, camera.cfa) - bayer).abs().mean()) < 0.03
    with pytest.raises(ValueError, match="needs a reference"):
        opened.forward(bayer, camera)
    camera_isp = WithReference(opened, srgb)
    table = evaluate.evaluate(camera_isp, pairs.split(folder, "test"), "paper", 0, CPU)
    assert set(table["a7r3"]) == {"raw", "srgb", "cycle"} and all(psnr > 20 for psnr, _ in table["a7r3"].values())


class WithReference:
    """Gives the picture to an ISP that needs one."""

    def __init__(self, opened, srgb):
        self.opened, self.srgb = opened, srgb
        self.name, self.limits, self.weights = opened.name, opened.limits, opened.weights

    def inverse(self, srgb, camera):
        return self.opened.inverse(srgb, camera)

    def forward(self, bayer, camera, *, reference=None):
        return self.opened.forward(bayer, camera, reference=self.srgb if reference is None else reference)


def published(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor([1.0, 2.0, 3.0]), "count": torch.tensor(4), **changes}


def saved(path: Path, module: str, parallel: bool = False, wrapper: str | None = None) -> Path:
    state = {f"{'module.' if parallel else ''}{module}.{name}": value for name, value in published().items()}
    torch.save({wrapper: state} if wrapper else state, path)
    return path


def test_its_checkpoints_are_converted_and_open(installed, tmp_path, capsys):
    out, alone = tmp_path / "out", ["--backend", "toy", "--camera", "x"]
    out.mkdir()
    inverse = saved(tmp_path / "inverse.pth", "net", parallel=True)
    forward = [saved(tmp_path / "a.pth", "net"), saved(tmp_path / "b.pth", "net", wrapper="params")]
    for direction, files in (("inverse", [inverse]), ("forward", forward)):
        target = out / f"{direction}.safetensors"
        command = [*map(str, files), *alone, "--direction", direction, "--out", str(target)]
        done = subprocess.run(
            [sys.executable, "-m", "isp.convert", *command], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{direction} toy of x, " in done.stdout and "preset bright, origin published" in done.stdout
        metadata = weights.read_for("toy", target).metadata
        assert metadata["licence"] == "MIT" and metadata["origin"] == "published" and metadata["gain"] == "2.0"
    opened = isp.create(f"toy/{out}")
    assert opened.toy.networks["forward"].tint.weight.tolist() == [1, 2, 3]
    arguments = [str(forward[0]), *alone, "--direction", "forward", "--out", str(tmp_path / "x.safetensors")]
    assert convert.main(arguments) == 1
    assert "expected 2 checkpoints for forward, got 1" in capsys.readouterr().err
    flow = saved(tmp_path / "flow.pth", "flow", wrapper="state_dict")
    joint = tmp_path / "joint.safetensors"
    assert convert.main([str(flow), *alone, "--direction", "joint", "--out", str(joint)]) == 0
    assert isp.create(f"toy/{joint}").toy.networks["joint"].count == 4

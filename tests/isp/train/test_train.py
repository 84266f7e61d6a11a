"""Training of ParamISP: batches by address, losses, resuming, several processes, weights that open again."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import isp
from isp import cfa, pairs, profile, tone
from isp.backends.paramisp.training import l1
from isp.files import weights
from isp.rng import generator
from isp.train import loop, plan
from isp.train.__main__ import main
from isp.train.data import (
    Folders,
    VirtualShots,
    clean_batch,
    quantisation_noise,
    training_batch,
    validation_batches,
)

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["patch=88", "batch=2", "patches=4", "epochs=100", "validate_patches=2"]


def scene(at: int, size: int = 120) -> np.ndarray:
    """Smooth linear sensor RGB, different for every number."""
    rng = generator(at, 0, "scene")
    y, x = np.mgrid[:size, :size] / size

    def channel() -> np.ndarray:
        waves = np.zeros((size, size))
        for _ in range(3):
            along_y, along_x, phase = rng.uniform(0, 4, 3)
            waves += rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * (along_y * y + along_x * x + phase))
        return waves

    waves = [channel() for _ in range(3)]
    return np.clip(0.3 + np.stack(waves), 0.01, 0.9).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six pairs of a camera with the A7R3's matrix and response, in three splits."""
    place = tmp_path_factory.mktemp("pairs")
    backend = isp.create("rsblur/a7r3")
    for at in range(6):
        pattern = cfa.PATTERNS[at % 4]
        camera = profile.load("a7r3").camera(
            (2.0, 1.6), pattern, iso=100.0 * (at + 1), exposure_s=0.01, f_number=4.0, focal_mm=35.0
        )
        sensor = torch.from_numpy(scene(at))[None] / torch.tensor([2.0, 1.0, 1.6])[None, :, None, None]
        bayer = cfa.mosaic(sensor, camera.cfa)
        raw = (bayer[0, 0] * (16383 - 512) + 512).round().numpy().astype(np.uint16)
        srgb = (backend.forward(bayer, camera)[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
        pairs.write(place / f"{at}.h5", raw, srgb, camera, f"scene {at}")
    for name, numbers in (("train", range(4)), ("val", (4,)), ("test", (5,))):
        (place / f"{name}.txt").write_text("".join(f"{at}.h5\n" for at in numbers))
    return place


def planned(*overrides: str, recipe: str = "train/paramisp_pretrain") -> plan.Plan:
    return plan.load(recipe, [*SMALL, *overrides])


def trained(folder: Path, out: Path, steps: int, *overrides: str, recipe: str = "train/paramisp_pretrain") -> loop.Run:
    chosen = planned(*overrides, recipe=recipe)
    loop.train(chosen, Folders((folder,)), out, torch.device("cpu"), loop.Ranks(), steps)
    return loop.Run(chosen, out, torch.device("cpu"))


# ---------------------------------------------------------------- pairs and batches


def test_a_pair_is_read_as_it_was_written(folder):
    pair = pairs.split(folder, "train")[2]
    bayer, srgb, camera = pair.window(3, 5, 20, 24)
    whole, picture, whole_camera = pair.window(0, 0, 120, 120)
    assert camera.cfa == (cfa.shift(whole_camera.cfa[0], 3, 5),)
    assert torch.equal(bayer, whole[..., 3:23, 5:29]) and torch.equal(srgb, picture[..., 3:23, 5:29])
    expected = cfa.mosaic(
        torch.from_numpy(scene(2))[None] / torch.tensor([2.0, 1.0, 1.6])[None, :, None, None], whole_camera.cfa
    )
    assert float((whole - expected).abs().max()) < 1e-4
    with pytest.raises(ValueError, match="expected a window inside 120x120, got 20x20 at"):
        pair.window(110, 0, 20, 20)


def test_splits_name_what_is_missing(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"val\.txt: expected the list of a split, written by isp\.prepare"):
        pairs.split(tmp_path, "val")
    (tmp_path / "val.txt").write_text("../0.h5\n")
    with pytest.raises(ValueError, match=r"expected a name inside .*, got .\.\./0\.h5., which leads out of it"):
        pairs.split(tmp_path, "val")


def test_equal_pairs_give_equal_bytes(folder, tmp_path):
    pair = pairs.split(folder, "train")[0]
    before = pair.path.read_bytes()
    import h5py

    with h5py.File(pair.path) as file:
        raw, srgb = file["raw"][:], file["srgb"][:]
    pairs.write(tmp_path / "again.h5", raw, srgb, pair.camera, "scene 0")
    assert (tmp_path / "again.h5").read_bytes() == before
    damaged = bytearray(before)
    damaged[len(before) // 2] ^= 1
    (tmp_path / "damaged.h5").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"sound pair|written by isp\.prepare"):
        pairs.Pair(tmp_path / "damaged.h5").window(0, 0, 120, 120)


def test_batches_are_addressed(folder):
    training = Folders((folder,)).pairs("train")

    def batch(step: int, rows: range):
        return clean_batch(training, 3, step, rows, 4, 8, 88)

    whole, halves = batch(5, range(4)), [batch(5, range(2)), batch(5, range(2, 4))]
    assert torch.equal(whole.bayer, torch.cat([half.bayer for half in halves]))
    assert whole.camera.cfa == halves[0].camera.cfa + halves[1].camera.cfa
    assert not torch.equal(whole.srgb, batch(6, range(4)).srgb)
    noisy = quantisation_noise(whole, 3, 5, range(4), 4, 0.4)
    parts = [
        quantisation_noise(half, 3, 5, rows, 4, 0.4) for half, rows in zip(halves, (range(2), range(2, 4)), strict=True)
    ]
    assert torch.equal(noisy.srgb, torch.cat([part.srgb for part in parts]))
    assert abs(float((noisy.srgb - whole.srgb).std()) * 255 - 0.4) < 0.01
    assert abs(float((noisy.bayer - whole.bayer).std()) * (16383 - 512) - 0.4) < 0.02


def test_an_epoch_takes_equally_many_patches_of_each_camera(folder):
    training = [[pairs.split(folder, "train")[0]], [pairs.split(folder, "train")[1]]]
    isos = [float(iso) for step in range(4) for iso in clean_batch(training, 0, step, range(4), 4, 8, 88).camera.iso]
    assert isos.count(100.0) == isos.count(200.0) == 8


def test_every_epoch_has_another_order(folder):
    """Of two cameras, which is the first patch of an epoch from, and which are all the others from."""
    training = [[pairs.split(folder, "train")[0]], [pairs.split(folder, "train")[1]]]
    isos = [
        tuple(
            float(iso)
            for step in range(4)
            for iso in clean_batch(training, 0, 4 * epoch + step, range(4), 4, 8, 88).camera.iso
        )
        for epoch in range(4)
    ]
    assert all(sorted(order) == sorted(isos[0]) for order in isos)
    assert len(set(isos)) == 4  # each is one of 12,870


# ---------------------------------------------------------------- losses and schedule


def test_l1_leaves_the_frame_out():
    predicted = torch.zeros(1, 1, 8, 8)
    predicted[..., :2, :] = 9
    assert float(l1(predicted, torch.zeros(1, 1, 8, 8), 2)) == 0
    assert float(l1(predicted + 1, torch.zeros(1, 1, 8, 8), 2)) == 1
    assert float(l1(predicted, torch.zeros(1, 1, 8, 8), 0)) > 0


def test_joint_training_may_keep_the_forward_network_used_to_noise(folder):
    """Beside eq. S1, the forward network's own loss on the recorded RAW image, by its weight; the paper has none."""
    pairs_by_camera = Folders((folder,)).pairs("train")

    def loss_of(direction: str, weight: float) -> float:
        undropped = planned("design.dropout=0.0", f"direction={direction}", f"forward_weight={weight}")
        batch = training_batch(pairs_by_camera, undropped, 0, range(2), torch.device("cpu"))
        with torch.no_grad():
            loss, parts = undropped.trainable().loss(batch, direction)
        assert set(parts) == {"joint": {"raw", "cycle"} | ({"srgb"} if weight else set())}.get(direction, {"srgb"})
        return float(loss)

    assert loss_of("joint", 2.0) == pytest.approx(loss_of("joint", 0.0) + 2 * loss_of("forward", 0.0))


def test_the_papers_figures_are_the_defaults():
    stages = [plan.load(f"train/paramisp_{name}") for name in ("pretrain", "finetune", "joint")]
    assert [stage.epochs for stage in stages] == [520, 2140, 450]
    assert [stage.lr for stage in stages] == [2e-4, 2e-5, 1e-4]
    assert all((stage.patches, stage.patch, stage.decay, stage.every) == (1024, 448, 0.8, 10) for stage in stages)
    assert stages[2].directions == ("inverse", "forward")


def test_every_shipped_training_recipe_binds_and_says_what_it_is():
    files = sorted((ROOT / "recipes" / "train").glob("*.yaml"))
    assert [file.stem for file in files] == [
        "a7r3_virtual", "a7r3_virtual_joint",
        "paramisp_finetune", "paramisp_joint", "paramisp_pretrain", "paramisp_small",
    ]  # fmt: skip
    for file in files:
        title, command, *_ = file.read_text().splitlines()
        assert title.startswith(f"# train/{file.stem}: ")
        assert f"python -m isp.train --recipe train/{file.stem}" in command
        assert plan.load(f"train/{file.stem}").name == file.stem


def test_the_rate_decays_by_epochs(folder, tmp_path):
    run = loop.Run(planned("patches=2", "every=2", "lr=1e-4"), tmp_path, torch.device("cpu"))
    training = Folders((folder,)).pairs("train")
    rates = []
    for _ in range(5):
        run.advance(training)
        rates.append(run.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 1e-4, 0.8e-4, 0.8e-4, 0.64e-4])


def test_every_ablation_is_reachable():
    for override in (
        "design.optical=[]", "design.equalisation=false", "design.dropout=0.0", "design.inputs=[gradient]",
        "design.tone=A", "design.stages=2", "preset=official",
    ):  # fmt: skip
        planned(override).trainable()  # raises if it is unknown
    assert planned("design.optical=[iso]").trainable().networks["inverse"].design.optical == ("iso",)
    with pytest.raises(ValueError, match=r"expected keys out of .*, got colour"):
        planned("design.colour=1")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["patch=90"], "patch"),
        (["lr=-1"], "lr"),
        (["epocs=3"], "epocs"),
        (["start_from=[a, b]"], "expected 1 weight files, got 2"),
    ],
)
def test_bad_plans_are_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        plan.load("train/paramisp_pretrain", overrides)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("direction", ["inverse", "forward"])
def test_training_improves_on_unseen_scenes(folder, tmp_path, direction):
    chosen = planned(f"direction={direction}", "lr=1e-3")
    batches = validation_batches(Folders((folder,)).pairs("val"), 2, 88)
    before = loop.Run(chosen, tmp_path / "before", torch.device("cpu")).validate(batches)
    after = trained(folder, tmp_path / "out", 12, f"direction={direction}", "lr=1e-3").validate(batches)
    (name,) = before
    assert after[name] > before[name] + 3
    assert (tmp_path / "out" / "validation.png").stat().st_size > 1000


def test_resumed_is_uninterrupted(folder, tmp_path):
    straight = trained(folder, tmp_path / "straight", 4)
    trained(folder, tmp_path / "parts", 1)
    parts = trained(folder, tmp_path / "parts", 3)
    assert straight.step == parts.step == 4
    one, other = (run.model.networks["inverse"].state_dict() for run in (straight, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        trained(folder, tmp_path / "parts", 1, "lr=1e-3")
    (tmp_path / "parts" / loop.STATE).write_bytes(b"broken")
    with pytest.raises(ValueError, match="expected the state of a run"):
        trained(folder, tmp_path / "parts", 1)


def flipped_in_the_largest_tensor(path: Path) -> None:
    """Flip the lowest bit of an exponent in the middle of the largest member of the archive."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        stored = archive.read(largest)
    content = bytearray(path.read_bytes())
    content[content.index(stored) + len(stored) // 8 * 4 + 3] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def one_step(folder, tmp_path_factory) -> Path:
    """The folder of a run after one step."""
    place = tmp_path_factory.mktemp("run")
    trained(folder, place, 1)
    return place


def test_a_damaged_state_is_refused(folder, one_step, tmp_path):
    shutil.copytree(one_step, tmp_path, dirs_exist_ok=True)
    state = tmp_path / loop.STATE
    whole = state.read_bytes()
    flipped_in_the_largest_tensor(state)
    torch.load(state, weights_only=True)  # PyTorch does not look at the checksums
    with pytest.raises(
        ValueError, match=r"state.pt: expected the state of a run as .*Bad CRC-32.*; remove state.pt to"
    ):
        trained(folder, tmp_path, 1)
    state.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"state.pt: expected the state of a run"):
        trained(folder, tmp_path, 1)
    state.write_bytes(whole)
    assert trained(folder, tmp_path, 1).step == 2


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


def with_moments(state, **changed):
    moments = state["optimiser"]["state"]
    return state | {"optimiser": {"state": moments | {0: moments[0] | changed}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: [state], "expected the state of a run, got none with plan, step, best_db, networks, optimiser"),
        (lambda state: without(state, "step"), "expected the state of a run, got none with step"),
        (lambda state: state | {"step": -1}, "expected the state of a run, got none with step"),
        (lambda state: state | {"step": "1"}, "expected the state of a run, got none with step"),
        (lambda state: state | {"networks": {}}, r"state.pt \(inverse\): tensor .* is missing"),
        (lambda state: state | {"networks": {"inverse": [1]}}, "expected the state of a run, got none with networks"),
        (lambda state: state | {"optimiser": {}}, "expected the moments of AdamW"),
        (lambda state: with_moments(state, exp_avg=torch.zeros(1)), "expected the moments of AdamW"),
        (lambda state: with_moments(state, exp_avg=3), "expected the moments of AdamW"),
        (lambda state: with_moments(state, other=torch.zeros(())), "expected the moments of AdamW"),
    ],
)
def test_a_state_of_another_form_is_refused(one_step, tmp_path, change, words):
    state = torch.load(one_step / loop.STATE, weights_only=True)
    torch.save(change(state), tmp_path / loop.STATE)
    with pytest.raises(ValueError, match=words):
        loop.Run(planned(), tmp_path, torch.device("cpu"))


def test_a_pair_trains_jointly_and_opens_as_an_isp(folder, tmp_path):
    for direction in ("inverse", "forward"):
        trained(folder, tmp_path / direction, 2, f"direction={direction}")
    files = [str(tmp_path / direction / f"{direction}.safetensors") for direction in ("inverse", "forward")]
    joint = trained(folder, tmp_path / "joint", 2, f"start_from={json.dumps(files)}", recipe="train/paramisp_joint")
    found = joint.validate(validation_batches(Folders((folder,)).pairs("val"), 2, 88))
    assert set(found) == {"raw", "srgb", "cycle"} and all(math.isfinite(value) for value in found.values())
    learned = isp.create(f"paramisp/{tmp_path / 'joint'}")
    bayer, srgb, camera = pairs.split(folder, "test")[0].window(0, 0, 96, 96)
    assert learned.forward(bayer, camera).shape == srgb.shape
    assert learned.inverse(srgb, camera).shape == srgb.shape
    metadata = weights.read(tmp_path / "joint" / "inverse.safetensors").metadata
    assert json.loads(metadata["recipe"])["name"] == "paramisp_joint" and metadata["camera"] == "a7r3"


def test_two_processes_have_the_loss_curve_of_one(folder, tmp_path):
    """The same global batch over gloo."""
    program = (
        "import sys, torch, json\n"
        "from pathlib import Path\n"
        "from torch import distributed\n"
        "import os\n"
        "from isp.train import loop, plan\n"
        "from isp.train.data import Folders\n"
        "torch.set_num_threads(1)\n"
        "distributed.init_process_group('gloo')\n"
        "ranks = loop.Ranks(distributed.get_rank(), distributed.get_world_size())\n"
        "chosen = plan.load('train/paramisp_pretrain', json.loads(sys.argv[1]))\n"
        "run = loop.Run(chosen, Path(sys.argv[3]), torch.device('cpu'), ranks)\n"
        "pairs = Folders((Path(sys.argv[2]),)).pairs('train')\n"
        "losses = [run.advance(pairs)['loss'] for _ in range(3)]\n"
        "print(json.dumps(losses)) if ranks.rank == 0 else None\n"
        "distributed.destroy_process_group()\n"
        "sys.stdout.flush()\n"
        "os._exit(0)\n"  # as `isp.train` leaves
    )
    (tmp_path / "program.py").write_text(program)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        str(tmp_path / "program.py"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, json.dumps(SMALL), str(folder), str(tmp_path / "two")],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[:3000]
    run = loop.Run(planned(), tmp_path / "one", torch.device("cpu"))
    training = Folders((folder,)).pairs("train")
    alone = [run.advance(training)["loss"] for _ in range(3)]
    assert json.loads(result.stdout.splitlines()[-1]) == pytest.approx(alone, rel=1e-4)
    with pytest.raises(ValueError, match="expected a multiple of the 2 processes, got 3"):
        loop.Ranks(0, 2).rows(3)


def test_killed_and_resumed_on_the_command_line(folder, tmp_path):
    arguments = ["--recipe", "train/paramisp_pretrain", "--data", str(folder), "--out", str(tmp_path / "out")]
    for override in SMALL:
        arguments += ["--set", override]
    child = subprocess.Popen(
        [sys.executable, "-m", "isp.train", *arguments], env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / loop.STATE).exists():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = loop.Run(planned(), tmp_path / "out", torch.device("cpu")).step
    assert kept > 0
    assert main([*arguments, "--steps", "1"]) == 0
    resumed = loop.Run(planned(), tmp_path / "out", torch.device("cpu"))
    assert resumed.step == kept + 1
    straight = trained(folder, tmp_path / "straight", kept + 1)
    one, other = (run.model.networks["inverse"].state_dict() for run in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_diverges_stops_and_says_so(folder, tmp_path, capsys):
    arguments = ["--data", str(folder), "--out", str(tmp_path), "--set", "lr=1e30", "--set", "validate_every=1000"]
    small = [part for override in SMALL for part in ("--set", override)]
    assert main(["--recipe", "train/paramisp_small", *small, *arguments]) == 1
    assert "the run has diverged. Begin again in another folder with a lower lr than 1e+30" in capsys.readouterr().err
    assert not (tmp_path / "inverse.safetensors").exists()


def test_exit_codes(folder, tmp_path, capsys):
    assert main(["--recipe", "train/nothing", "--data", str(folder)]) == 2
    assert "expected one of train/a7r3_virtual, " in capsys.readouterr().err
    assert main(["--recipe", "train/paramisp_pretrain", "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "train.txt" in capsys.readouterr().err


def test_the_curve_of_the_scenes_is_not_flat():
    """The pairs mean something only if RAW and picture differ."""
    assert float((tone.a7r3_response(torch.tensor([0.1, 0.4])) - torch.tensor([0.1, 0.4])).abs().min()) > 0.2


# ---------------------------------------------------------------- without data


def test_virtual_shots_are_addressed_and_hold_photographs_out():
    source = VirtualShots(("a7r3-virtual", "d90-virtual"), 8, 88)
    splits = {name: source.pairs(name) for name in ("train", "val", "test")}
    assert [len(of_camera) for of_camera in splits["train"]] == [8, 8]
    seen = {path for of_camera in splits["train"] for pair in of_camera for path in pair.photographs}
    held_out = {
        path
        for name in ("val", "test")
        for of_camera in splits[name]
        for pair in of_camera
        for path in pair.photographs
    }
    assert seen and held_out and seen.isdisjoint(held_out)
    pair = splits["train"][0][3]
    bayer, srgb, camera = pair.window(1, 0, 88, 88)
    again = pair.window(1, 0, 88, 88)
    assert torch.equal(bayer, again[0]) and torch.equal(srgb, again[1])
    whole = pair.window(0, 0, 89, 89)
    assert torch.equal(bayer, whole[0][..., 1:, :88]) and camera.cfa == (cfa.shift(whole[2].cfa[0], 1, 0),)
    assert camera.iso is not None and camera.exposure_s is not None
    with pytest.raises(ValueError, match="d91"):
        VirtualShots(("d91-virtual",), 8, 88).pairs("train")


def test_low_key_shots_are_darker_and_the_others_stay():
    def light(low_key: float) -> list[float]:
        made = VirtualShots(("a7r3-virtual",), 12, 95, low_key=low_key).pairs("train")[0]
        return [float(pair.window(0, 0, 96, 96)[0].mean()) for pair in made]

    day, night, mixed = light(0.0), light(1.0), light(0.5)
    assert all(dark < bright for dark, bright in zip(night, day, strict=True))
    assert all(value in pair for value, *pair in zip(mixed, night, day, strict=True))
    assert set(mixed) & set(day) and set(mixed) & set(night)


def test_training_on_the_virtual_camera(tmp_path):
    chosen = planned("cameras=[a7r3-virtual]", "shots=8", "lr=1e-3", "patches=64")
    source = VirtualShots(chosen.cameras, chosen.shots, chosen.patch)
    batches = validation_batches(source.pairs("val"), 2, 88)
    before = loop.Run(chosen, tmp_path / "before", torch.device("cpu")).validate(batches)["raw"]
    assert loop.train(chosen, source, tmp_path / "out", torch.device("cpu"), loop.Ranks(), 10)["raw"] > before + 2
    arguments = ["--recipe", "train/paramisp_pretrain", "--out", str(tmp_path / "line"), "--steps", "1"]
    for override in [*SMALL, "cameras=[a7r3-virtual]"]:
        arguments += ["--set", override]
    assert main(arguments) == 0

"""The authors' checkpoints: translation, every refusal, hostile files, and the command line."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import isp
from isp import convert
from isp.backends.paramisp import PUBLISHED
from isp.backends.paramisp.design import PRESETS, Design
from isp.backends.paramisp.network import ParamISPNet
from isp.files import checkpoints, torch_file, weights

UNUSED = {
    "demosaic.kernels": torch.zeros(4, 1, 5, 5),
    "demosaic.indices_rggb": torch.zeros(1, 3, 2, 2, dtype=torch.int64),
    "ms_ssim_loss._g_masks": torch.zeros(15, 1, 33, 33),
    "embed_id.weight": torch.zeros(64, 16),
    "embed_id.bias": torch.zeros(64),
}
BLOCK = {
    "narrow": "conv1",
    "widen": "conv2",
    "channel_narrow": "chattn.conv1",
    "channel_widen": "chattn.conv2",
    "spatial": "spattn.conv",
}
# Ours -> theirs, written down apart from the code under test.
MODULES = {
    "param_net.colour": "embed_color",
    "param_net.optical.focal_mm": "embed_focallen",
    "param_net.optical.f_number": "embed_aperture",
    "param_net.optical.exposure_s": "embed_expstime",
    "param_net.optical.iso": "embed_senstvty",
    **{f"param_net.layers.{at}": f"embednet.{2 * at + 1}" for at in range(3)},
    **{f"global_net.convs.{at}": f"tonenet.convs.{at}" for at in range(3)},
    **{f"global_net.hidden.{at}": f"tonenet.fcs.{at}" for at in range(2)},
    **{f"global_net.heads.{at}": f"tonenet.fc_last.{at}" for at in range(4)},
    "global_net.stage": "tonenet.fc_index",
    "global_net.optical": "hypertonenet.fc_embed",
    "local_net.optical": "hyperlocalnet.fc_head",
    "local_net.head": "localnet.conv_head",
    "local_net.tail": "localnet.conv_tail",
    **{f"local_net.down.{at}": f"localnet.conv_down.{at}" for at in range(2)},
    "local_net.up.0": "localnet.conv_up.1",
    "local_net.up.1": "localnet.conv_up.0",
    **{
        f"local_net.blocks.{ours}.{part}": f"localnet.resblks.{theirs}.{published}"
        for ours, theirs in enumerate((0, 1, 2, 3, 4, 5, 8, 9, 6, 7))
        for part, published in BLOCK.items()
    },
}


def published_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """The 289 keys of one network."""
    state = dict(UNUSED)
    for name, value in ParamISPNet("inverse", PRESETS["official"], seed).state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{MODULES[module]}.{leaf}"] = value
    for alias, real in (("hypertonenet.target.", "tonenet."), ("hyperlocalnet.target.", "localnet.")):
        state |= {alias + key.removeprefix(real): value for key, value in state.items() if key.startswith(real)}
    return state


def checkpoint(path: Path, state: dict[str, torch.Tensor] | None = None, **hyper_parameters: object) -> Path:
    torch.save(
        {
            "epoch": 3,
            "global_step": np.int64(12),
            "pytorch-lightning_version": "1.6.5",
            "state_dict": published_state() if state is None else state,
            "loops": {"fit": {"state": {}}},
            "callbacks": {"best": {"score": np.float64(1.5), "history": np.arange(3.0)}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
            "hparams_name": "args",
            "hyper_parameters": hyper_parameters,
        },
        path,
    )
    return path


def joint_state() -> dict[str, torch.Tensor]:
    state = {key: value for key, value in UNUSED.items() if key.startswith("demosaic.")}
    for seed, prefix in enumerate(("rgb2raw.", "raw2rgb.")):
        state |= {prefix + key: value for key, value in published_state(seed).items()}
    return state


def run(*arguments: object) -> int:
    """The exit code."""
    try:
        return convert.main([str(argument) for argument in arguments])
    except SystemExit as end:  # raised by argparse
        return int(end.code or 0)


def translated(state: dict[str, torch.Tensor], direction: str = "inverse") -> dict[str, torch.Tensor]:
    return checkpoints.renamed([{"state_dict": state}], PUBLISHED, direction, "x")


def test_the_published_keys():
    assert len(published_state()) == 289 and len(joint_state()) == 580
    assert len(set(MODULES.values())) == len(MODULES)


def test_one_network(tmp_path, capsys):
    path, out = checkpoint(tmp_path / "x.ckpt", inverse=True), tmp_path / "a7r3-inverse.safetensors"
    assert run(path, "--direction", "inverse", "--camera", "A7R3", "--out", out) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out == (
        f"{out}: inverse paramisp of A7R3, 709,885 parameters, preset official, matrix official\n"
    )
    read = weights.read(out)
    expected = ParamISPNet("inverse", PRESETS["official"]).state_dict()
    assert read.tensors.keys() == expected.keys()
    assert all(torch.equal(read.tensors[name], value) for name, value in expected.items())
    assert all(value.dtype == torch.float32 for value in read.tensors.values())
    known = {"backend": "paramisp", "direction": "inverse", "camera": "A7R3", "matrix": "official"}
    assert read.metadata.items() >= known.items()
    assert Design.from_json(read.metadata["design"]) == PRESETS["official"]


def test_a_joint_checkpoint_opens_as_a_pair(tmp_path, capsys):
    path, out = checkpoint(tmp_path / "x.ckpt", joint_state(), lr=1e-4), tmp_path / "joint.safetensors"
    assert run(path, "--direction", "joint", "--camera", "A7R3", "--out", out) == 0
    assert "joint paramisp of A7R3, 1,419,770 parameters" in capsys.readouterr().out
    made = isp.create(f"paramisp/{out}")
    assert made.weights == (weights.read(out).digest,)
    assert made.limits.camera == "A7R3"
    for seed, direction in enumerate(("inverse", "forward")):
        expected = ParamISPNet(direction, PRESETS["official"], seed).state_dict()
        ours = made.networks[direction].state_dict()
        assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_the_checkpoint_need_not_say_its_direction(tmp_path, capsys):
    path, out = checkpoint(tmp_path / "x.ckpt"), tmp_path / "x.safetensors"
    assert run(path, "--direction", "forward", "--camera", "D90", "--out", out) == 0
    assert "; the checkpoint does not say its direction" in capsys.readouterr().out
    assert weights.read(out).metadata["direction"] == "forward"


def test_constants_and_either_of_two_names_may_be_absent():
    expected = translated(published_state())
    for absent in (tuple(UNUSED), ("hypertonenet.target.", "hyperlocalnet.target."), ("tonenet.", "localnet.")):
        state = {key: value for key, value in published_state().items() if not key.startswith(absent)}
        assert len(state) < 289
        ours = translated(state)
        assert ours.keys() == expected.keys() and all(torch.equal(ours[key], expected[key]) for key in ours)


def changed(**values: torch.Tensor) -> dict[str, torch.Tensor]:
    return published_state() | {key.replace("__", "."): value for key, value in values.items()}


WRONG = {
    "missing": (
        {key: value for key, value in published_state().items() if key != "embednet.3.bias"},
        "tensor param_net.layers.1.bias is missing; these are weights of another network",
    ),
    "unknown": (changed(extra=torch.zeros(1)), "expected the published tensors alone, got also extra"),
    "almost a name": (changed(embed_colors__weight=torch.zeros(64, 24)), "got also embed_colors.weight"),
    "another shape": (
        changed(embed_color__weight=torch.zeros(64, 23)),
        r"expected param_net.colour.weight of shape \(64, 24\), got \(64, 23\)",
    ),
    "aliases": (
        changed(hypertonenet__target__fc_index__bias=torch.zeros(64)),
        r"expected (\S*tonenet\S*fc_index.bias) and \S*fc_index.bias to be equal, but they differ",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(tmp_path, capsys, case):
    state, words = WRONG[case]
    path, out = checkpoint(tmp_path / "x.ckpt", state), tmp_path / "x.safetensors"
    assert run(path, "--direction", "inverse", "--camera", "x", "--out", out) == 1
    error = capsys.readouterr().err
    assert re.search(words, error)
    assert error.startswith(f"{path}") and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("state", "hyper_parameters", "direction", "words"),
    [
        (
            None,
            {"inverse": False},
            "inverse",
            "expected a checkpoint of direction inverse, got one of forward; change --direction",
        ),
        (
            None,
            {"inverse": True},
            "forward",
            "expected a checkpoint of direction forward, got one of inverse; change --direction",
        ),
        (None, {}, "joint", "expected a checkpoint of direction joint, got one of inverse or forward"),
        ("joint", {}, "inverse", "expected a checkpoint of direction inverse, got one of joint"),
        ("more", {}, "joint", "expected the published tensors alone, got also more"),
        ("half", {}, "joint", r"\(forward\): tensor .* is missing"),
    ],
)
def test_the_direction_is_checked(tmp_path, capsys, state, hyper_parameters, direction, words):
    states = {
        None: published_state,
        "joint": joint_state,
        "more": lambda: joint_state() | {"more": torch.zeros(1)},
        "half": lambda: {key: value for key, value in joint_state().items() if not key.startswith("raw2rgb.")},
    }
    path, out = checkpoint(tmp_path / "x.ckpt", states[state](), **hyper_parameters), tmp_path / "x.safetensors"
    assert run(path, "--direction", direction, "--camera", "x", "--out", out) == 1
    assert re.search(words, capsys.readouterr().err) and not out.exists()


# ---------------------------------------------------------------- hostile and broken files


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, capsys):
    victim, out = tmp_path / "victim", tmp_path / "x.safetensors"
    raw, zipped = tmp_path / "raw.ckpt", tmp_path / "zipped.ckpt"
    raw.write_bytes(pickle.dumps({"state_dict": Hostile(victim)}))
    torch.save({"state_dict": published_state(), "hyper_parameters": Hostile(victim)}, zipped)
    for path in (raw, zipped):
        assert run(path, "--direction", "inverse", "--camera", "x", "--out", out) == 1
        assert capsys.readouterr().err.startswith(f"{path}: expected a checkpoint as torch.save writes it, got ")
        assert not victim.exists() and not out.exists()
    pickle.loads(raw.read_bytes())
    assert victim.exists(), "the attack itself works"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken"])
def test_what_is_no_checkpoint_is_said_in_a_sentence(tmp_path, capsys, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    assert run(path, "--direction", "inverse", "--camera", "x", "--out", tmp_path / "x.safetensors") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: expected a checkpoint as torch.save writes it, got ")
    assert error.count("\n") == 1


def test_a_checkpoint_without_state(tmp_path):
    torch.save([1, 2], tmp_path / "x")
    with pytest.raises(ValueError, match="x: expected a checkpoint with a state_dict, got list"):
        checkpoints.read(tmp_path / "x")


HEAD = "localnet.conv_head.weight"


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {HEAD: np.zeros(3)}},
        {"state_dict": {HEAD: 3}},
        {"state_dict": {3: torch.zeros(1)}},
        {"state_dict": {"a": torch.zeros(1), 3: torch.zeros(1)}},
        {"state_dict": {HEAD: torch.zeros(1)}, "hyper_parameters": [1, 2]},
        {"state_dict": {HEAD: torch.zeros(1)}, "hyper_parameters": np.zeros(3)},
        {"state_dict": {HEAD: torch.zeros(1).expand(10**6, 10**6)}},
        {"state_dict": {HEAD: torch.zeros(3, 3).to_sparse()}},
        {"state_dict": {HEAD: torch.zeros(3, dtype=torch.complex64)}},
        {"state_dict": {HEAD: [torch.zeros(3)]}},
        {"state_dict": {"x" * 10**6: torch.zeros(3)}},
        {"state_dict": []},
        {"state_dict": {}, "hyper_parameters": {"inverse": np.bool_(True)}},
        {HEAD: torch.zeros(3), "epoch": 3},
        [{"state_dict": {}}],
    ],
)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before PyTorch 1.6"])
def test_values_of_other_kinds_are_refused_in_a_sentence(tmp_path, capsys, content, archive):
    path = tmp_path / "odd.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    assert run(path, "--direction", "inverse", "--camera", "x", "--out", tmp_path / "x.safetensors") == 1
    error = capsys.readouterr().err
    assert error.startswith(str(path)) and error.count("\n") == 1 and len(error) < 1000 and "weights_only" not in error


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, capsys, value):
    bias = published_state()["embed_color.bias"]
    bias[3] = value
    path = checkpoint(tmp_path / "x.ckpt", changed(embed_color__bias=bias))
    assert run(path, "--direction", "inverse", "--camera", "x", "--out", tmp_path / "x.safetensors") == 1
    assert f"{path} (inverse): tensor param_net.colour.bias holds NaN or infinite values" in capsys.readouterr().err


def test_names_that_share_one_storage_take_no_more_than_a_file_may_have(tmp_path, monkeypatch):
    one = torch.zeros(1000)
    torch.save({"state_dict": {f"{at}": one for at in range(20)}}, tmp_path / "x.ckpt")
    assert len(checkpoints.read(tmp_path / "x.ckpt")["state_dict"]) == 20
    monkeypatch.setattr(torch_file, "MOST_BYTES", 79_999)
    with pytest.raises(ValueError, match="expected tensors of at most 79,999 bytes together, got 80,000"):
        checkpoints.read(tmp_path / "x.ckpt")


# ---------------------------------------------------------------- the command line


def test_nothing_is_overwritten_unasked(tmp_path, capsys):
    path, out = checkpoint(tmp_path / "x.ckpt"), tmp_path / "x.safetensors"
    out.write_text("precious")
    arguments = (path, "--direction", "inverse", "--camera", "x", "--out", out)
    assert run(*arguments) == 2
    assert "exists already; choose another name, or overwrite it with --force" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(*arguments, "--force") == 0
    assert weights.read(out).metadata["camera"] == "x"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.ckpt", "--direction", "sideways", "--camera", "x", "--out", "x.safetensors"],
        ["x.ckpt", "--direction", "inverse", "--camera", "x", "--out", "x.pth"],
    ],
)
def test_wrong_usage_is_2(capsys, arguments):
    assert run(*arguments) == 2
    assert capsys.readouterr().err


def test_a_missing_file_is_1_and_help_is_0(tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    assert run(tmp_path / "none", "--direction", "inverse", "--camera", "x", "--out", out) == 1
    assert "none" in capsys.readouterr().err
    assert run("--help") == 0
    assert "usage: python -m isp.convert" in capsys.readouterr().out


def test_a_backend_without_checkpoints_is_wrong_usage(tmp_path, capsys):
    arguments = (tmp_path / "x", "--direction", "inverse", "--camera", "x", "--out", tmp_path / "x.safetensors")
    assert run(*arguments, "--backend", "rsblur") == 2
    assert 'expected a backend that can be trained, got "rsblur", which has nothing to learn' in capsys.readouterr().err
    assert run(*arguments, "--backend", "paramips") == 2
    assert 'got "paramips"; did you mean "paramisp"?' in capsys.readouterr().err


@pytest.mark.parametrize("door", ["isp.convert", "isp.train"])
def test_help_does_not_wait_for_torch(door):
    program = (
        "import sys, importlib\n"
        f"main = importlib.import_module('{door}' + ('.__main__' if '{door}' == 'isp.train' else '')).main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and f"usage: python -m {door}" in done.stdout

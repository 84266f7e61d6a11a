"""Weight files: what is written is read, and what is wrong with one is said in a sentence."""

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from isp.files import weights

METADATA = {"backend": "x", "direction": "inverse", "camera": "a", "design": "{}", "licence": "free"}


def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([0.5, -1.0])}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "some.safetensors"
    weights.write(path, tensors(), **METADATA, recipe="a line")
    read = weights.read(path)
    assert read.path == path and read.metadata.items() >= (METADATA | {"recipe": "a line"}).items()
    assert set(read.metadata) == {*weights.KEYS, "design", "recipe"}
    assert {name: value.tolist() for name, value in read.tensors.items()} == {
        name: value.tolist() for name, value in tensors().items()
    }
    assert re.fullmatch("[0-9a-f]{64}", read.digest) and re.fullmatch("[0-9a-f]{64}", read.metadata["sha256"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.safetensors"], "nothing half-written is left"


def test_equal_weights_are_equal_files(tmp_path):
    for name in ("one", "two"):
        weights.write(tmp_path / name, tensors(), **METADATA)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_digest_sees_name_type_shape_and_value():
    changed = [
        {**tensors(), "bias": torch.tensor([0.5, -1.5])},
        {**tensors(), "weight": torch.arange(6.0).view(3, 2)},
        {**tensors(), "bias": torch.tensor([0.5, -1.0]).half()},
        {"weight": tensors()["weight"], "bia": tensors()["bias"]},
    ]
    assert len({weights.digest_of(state) for state in [tensors(), *changed]}) == 5
    strided = {**tensors(), "weight": tensors()["weight"].T.contiguous().T}
    assert weights.digest_of(strided) == weights.digest_of(tensors())


def test_views_and_shared_memory_are_written(tmp_path):
    shared = torch.arange(4.0)
    weights.write(tmp_path / "x", {"a": shared, "b": shared[:2], "c": shared.view(2, 2).T}, **METADATA)
    assert weights.read(tmp_path / "x").tensors["c"].tolist() == [[0, 2], [1, 3]]


def test_writing_needs_the_metadata(tmp_path):
    with pytest.raises(ValueError, match=r"x: expected the metadata backend, .*; licence is missing"):
        weights.write(tmp_path / "x", tensors(), **{key: value for key, value in METADATA.items() if key != "licence"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="none: expected a weight file, but there is none"):
        weights.read(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match=r"text: expected a .safetensors file, got: "):
        weights.read(tmp_path / "text")
    torch.save(tensors(), tmp_path / "pickle")
    with pytest.raises(ValueError, match=r"pickle: expected a .safetensors file, got: "):
        weights.read(tmp_path / "pickle")


def test_a_file_that_says_too_little(tmp_path):
    save_file(tensors(), tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare: expected the metadata .*; backend, direction, .* is missing"):
        weights.read(tmp_path / "bare")


def test_a_truncated_file_and_a_flipped_bit_are_seen(tmp_path):
    path = tmp_path / "some"
    weights.write(path, tensors(), **METADATA)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"some: expected a \.safetensors file"):
        weights.read(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="some: its tensors are not those that were written"):
        weights.read(path)


def crafted(header: object, body: bytes = b"") -> bytes:
    """A .safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: str, *shape: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


KNOWN = METADATA | {"version": "1", "sha256": "0"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        crafted(b"[" * 10**5),
        crafted(b"{}" + b" " * 10**5 + b"x"),
        crafted([]),
        crafted({"__metadata__": {"backend": 3}}),
        crafted({"__metadata__": KNOWN, "a": entry("F32", 10**12, end=4 * 10**12)}, b"\0" * 4),
        crafted({"__metadata__": KNOWN, "a": entry("F32", 2**40, 2**40, end=4)}, b"\0" * 4),
        crafted({"__metadata__": KNOWN, "a": entry("F8_E4M3", 4, end=4)}, b"\0" * 4),
        crafted({"__metadata__": KNOWN, "a": entry("F4", 8, end=4)}, b"\0" * 4),
        crafted({"__metadata__": KNOWN, "a": entry("F32", 1, end=4)}, b"\0" * 4),
    ],
)
def test_a_file_from_elsewhere_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as refusal:
        weights.read(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600


def test_what_is_no_regular_file_of_a_sane_size_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "sparse", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: expected a weight file"):
            weights.read(path)


def test_whoever_opens_a_file_names_its_backend(tmp_path):
    weights.write(tmp_path / "x", tensors(), **METADATA)
    assert weights.read_for("x", tmp_path / "x").metadata["design"] == "{}"
    with pytest.raises(ValueError, match="x: expected weights of paramisp, got weights of x"):
        weights.read_for("paramisp", tmp_path / "x")


def test_one_file_holds_one_or_two_networks_or_one_that_does_both(tmp_path):
    pair = {f"{direction}.{name}": value for direction in ("inverse", "forward") for name, value in tensors().items()}
    for direction, state, networks in (
        ("inverse", tensors(), ["inverse"]),
        ("joint", pair, ["inverse", "forward"]),
        ("joint", tensors(), ["joint"]),
    ):
        weights.write(tmp_path / "x", state, **METADATA | {"direction": direction})
        found = weights.read(tmp_path / "x").networks
        assert list(found) == networks
        for own in found.values():
            assert {name: value.tolist() for name, value in own.items()} == {
                name: value.tolist() for name, value in tensors().items()
            }


def test_filling_a_network():
    network = nn.Linear(3, 2)
    weights.fill(network, {name: value.half() for name, value in tensors().items()}, source="x")
    assert network.weight.dtype == torch.float32
    assert network.weight.tolist() == tensors()["weight"].tolist() and network.bias.tolist() == [0.5, -1]


def test_whole_numbers_are_filled_in_as_they_are():
    network = nn.BatchNorm2d(2)
    state = {name: value + 3 for name, value in network.state_dict().items()}
    weights.fill(network, state, source="x")
    assert int(network.num_batches_tracked) == 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weight": torch.zeros(2, 3)}, "x: tensor bias is missing; these are weights of another network"),
        ({}, r"x: tensor bias \(and 1 more\) is missing"),
        ({**tensors(), "more": torch.zeros(1)}, "x: tensor more is unknown"),
        ({**tensors(), "bias": torch.zeros(3)}, r"x: expected bias of shape \(2,\), got \(3,\)"),
        ({**tensors(), "bias": torch.zeros(2, dtype=torch.int64)}, "x: tensor bias holds no floats"),
        ({**tensors(), "bias": torch.zeros(2, dtype=torch.complex64)}, "x: tensor bias holds no floats"),
        ({**tensors(), "bias": torch.tensor([0.0, np.nan])}, "x: tensor bias holds NaN or infinite values"),
        (
            {"weight": -tensors()["weight"] / 0, "bias": torch.ones(2) / 0},
            r"x: tensor bias \(and 1 more\) holds NaN or inf",
        ),
    ],
)
def test_weights_of_another_network_are_refused(wrong, words):
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(ValueError, match=words):
        weights.fill(network, wrong, source="x")
    assert torch.equal(network.weight, before)

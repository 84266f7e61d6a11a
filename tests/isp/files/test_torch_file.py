"""Files of torch.save: everything that training code stores comes back, and nothing else gets in, whatever the file says."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isp.files import pickles, torch_file

EXPECTED = ("a checkpoint", "fetch it again")


def read(path: Path) -> Any:
    return torch_file.read(path, *EXPECTED)


def equal(one: Any, other: Any) -> bool:
    """Tell whether two values are the same; an OrderedDict or a Counter comes back as a dictionary."""
    if isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other.detach())
    if isinstance(other, np.ndarray | np.generic):
        return np.array_equal(one, other) and np.asarray(one).dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
    if isinstance(other, dict):
        return type(one) is dict and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return isinstance(one, list | tuple) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def state_of_a_run() -> dict[str, Any]:
    """What a training run saves: networks, moments of the optimiser, schedule, counters."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 4])
    network(torch.eye(3) / 2).sum().backward()
    optimiser.step()
    return {
        "network": network.state_dict(),
        "parameters": list(network.parameters()),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "step": 3,
        "best": -np.inf,
    }


TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)
SOUND: dict[str, Any] = {
    "run": state_of_a_run(),
    **{str(dtype): torch.tensor([0, 1, 1]).to(dtype) for dtype in TYPES},
    "a view": torch.arange(20.0).view(4, 5).t()[1:, ::2],
    "a repeated value": torch.ones(1).expand(5),
    "no value": torch.zeros(0, 3),
    "a scalar": torch.tensor(3),
    "numbers": [1, -(2**40), 10**30, 1.5, True, None, 1 + 2j],
    "texts": ["", "ä", b"", b"\xff", "x" * 300],
    "containers": {"a": (1, (2, [3])), 4: {5: {6}}, "counter": collections.Counter("aab"), "ordered": OrderedDict(b=1)},
    "sizes": [torch.Size([1, 2]), torch.zeros(2, 3).shape],
    "numpy numbers": [np.float64(1.5), np.int64(3), np.float32(2), np.bool_(True)],
    "numpy arrays": [np.arange(3.0), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(2), np.zeros((0, 2))],
    "numpy big-endian": np.arange(3, dtype=">i4"),
}


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before PyTorch 1.6"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", SOUND)
def test_what_training_code_stores_comes_back(tmp_path: Path, name: str, protocol: int, archive: bool) -> None:
    path = tmp_path / "sound.pt"
    torch.save(SOUND[name], path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    assert equal(read(path), SOUND[name])


def test_newer_types_come_back(tmp_path: Path) -> None:
    torch.save(torch.tensor([1, 65535], dtype=torch.uint16), tmp_path / "x")
    assert read(tmp_path / "x").to(torch.int64).tolist() == [1, 65535]


def test_tensors_share_memory_as_they_did(tmp_path: Path) -> None:
    one = torch.arange(4.0)
    torch.save({"a": one, "b": one[1:3]}, tmp_path / "x")
    found = read(tmp_path / "x")
    found["a"][1] = 7
    assert found["b"].tolist() == [7, 2]


def test_numpy_values_under_their_old_name_are_accepted(tmp_path: Path) -> None:
    """As files of numpy 1 hold them: numpy.core.multiarray._reconstruct."""
    old = tmp_path / "old.ckpt"
    torch.save(np.arange(3.0), old, _use_new_zipfile_serialization=False)
    legacy = old.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert legacy != old.read_bytes()
    old.write_bytes(legacy)
    assert read(old).tolist() == [0, 1, 2]


# ---------------------------------------------------------------- flipped bits


def small_state() -> dict[str, Any]:
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.eye(3) / 2).sum().backward()
    optimiser.step()
    return {
        "plan": "{}",
        "step": 3,
        "best_db": 1.5,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }


def silently_other(path: Path, bits: Iterator[int]) -> list[int]:
    """Flip each of `bits` of the file alone; return those with which other values are read without a word."""
    whole, right, silent = path.read_bytes(), read(path), []
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = read(path)
        except ValueError:
            continue
        if not equal(found, right):
            silent.append(bit)
    path.write_bytes(whole)
    return silent


@pytest.mark.parametrize("step", [89, pytest.param(1, marks=pytest.mark.slow)], ids=["every 89th bit", "every bit"])
def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, step: int) -> None:
    """Before, PyTorch read other values after 617 of 5,624 flips."""
    path = tmp_path / "state.pt"
    torch.save(small_state(), path)
    count = 8 * path.stat().st_size
    assert count > 20_000
    assert silently_other(path, iter(range(0, count, step))) == []


def test_a_flip_in_a_file_without_checksums_would_be_silent(tmp_path: Path) -> None:
    """The test of the test: files from before PyTorch 1.6 have none."""
    path = tmp_path / "old.pt"
    torch.save(small_state(), path, _use_new_zipfile_serialization=False)
    count = 8 * path.stat().st_size
    assert silently_other(path, iter(range(count - 800, count, 11)))


# ---------------------------------------------------------------- files that want more than to be read


class Call:
    """Pickles as a call of a function with arguments, and a state to build."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


class Type:
    """A type of NumPy whose state is crafted."""

    def __init__(self, code: str, *state: Any) -> None:
        self.code, self.state = code, state

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, (self.code, False, True), self.state


RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]
PLAIN = Type("i8", 3, "<", None, None, None, -1, -1, 0)


def array(dtype: Any, shape: Any = (1,), data: Any = b"\0" * 8) -> Call:
    return Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data))


def tensor(*place: Any) -> Call:
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    return Call(torch._utils._rebuild_tensor_v2, (storage, *place, False, OrderedDict()))


def quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "array over bytes of its own": (lambda: Call(np.ndarray, ((1,), np.dtype("i8"), b"\0" * 8)), "an array of NumPy that"),
    "objects": (lambda: array(np.dtype("O")), "the NumPy type 'O8', which are no numbers"),
    "sub-array": (lambda: array(Type("i8", 3, "<", (np.dtype("i8"), (2,)), None, None, 8, 8, 0)), "no plain number"),
    "sub-array of objects": (lambda: array(Type("i8", 3, "<", (np.dtype("O"), (1,)), None, None, 8, 8, 0)),
                             "'O8', which are no numbers"),
    "flags": (lambda: array(Type("i8", 3, "<", None, None, None, -1, -1, 63)), "no plain number"),
    "fields": (lambda: array(np.dtype([("a", "i4")])), "'V4', which are no numbers"),
    "dates": (lambda: array(np.dtype("M8[ns]")), "'M8', which are no numbers"),
    "texts of NumPy": (lambda: array(np.dtype("U2")), "'U2', which are no numbers"),
    "array without its bytes": (lambda: array(PLAIN, (2,)), "an array of NumPy of 2 numbers in 8 bytes"),
    "array of all memory": (lambda: array(PLAIN, (2**40, 2**20)), "an array of NumPy of 1,152,921,504,606,846,976 numbers"),
    "array of a negative side": (lambda: array(PLAIN, (-1,)), "int -1 as a size"),
    "array of half a side": (lambda: array(PLAIN, (1.0,)), "float 1.0 as a size"),
    "number of too few bytes": (lambda: Call(SCALAR, (PLAIN, b"\0")), "1 numbers in 1 bytes"),
    "tensor beyond its storage": (lambda: tensor(0, (1000,), (1,)), "a tensor of 1,000 values in a storage of 4"),
    "steps beyond its storage": (lambda: tensor(0, (2,), (2**60,)), "values in a storage of 4"),
    "steps backwards": (lambda: tensor(3, (2,), (-1,)), "int -1 as a size"),
    "negative sides": (lambda: tensor(0, (-2,), (1,)), "int -2 as a size"),
    "begins beyond its storage": (lambda: tensor(9, (0,), (1,)), "a tensor behind the end of its storage"),
    "sparse": (lambda: torch.zeros(3, 3).to_sparse(), "a sparse tensor"),
    "compressed rows": (lambda: torch.zeros(3, 3).to_sparse_csr(), "a sparse tensor"),
    "quantised": (quantised, "torch._utils._rebuild_qtensor, which is neither"),
    "meta": (lambda: torch.zeros(3, device="meta"), "a tensor without values, of the device meta"),
    "10 GB of zeros": (lambda: Call(bytearray, (10**10,)), "__builtin__.bytearray, which is neither a tensor nor"),
    "10 GB of anything": (lambda: Call(torch.Tensor, (10**10,)), "torch.Tensor, which is neither a tensor nor"),
    "a command": (lambda: Call(os.system, ("true",)), "system, which is neither a tensor nor a plain value"),
    "a path": (lambda: Path("/etc"), "PosixPath, which is neither a tensor nor a plain value"),
    "a tuple as a key": (lambda: {(1, 2): 3}, "a tuple as a key"),
    "a number of 70 bits as a key": (lambda: {2**70: 3}, "a number of more than 64 bits as a key"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of sparse and quantised tensors when they are made
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before PyTorch 1.6"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_value_is_refused_by_name(tmp_path: Path, name: str, archive: bool) -> None:
    make, words = HOSTILE[name]
    path = tmp_path / "hostile.pt"
    torch.save({"x": make()}, path, pickle_protocol=2, _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError) as refusal:
        read(path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path}: expected a checkpoint as torch.save writes it, got ") and words in sentence
    assert sentence.endswith("; fetch it again") and "weights_only" not in sentence


def archived(path: Path, pickled: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"a/data/{name}", content)
    return path


MILLION = 1_000_000
DEEP = 300_000  # levels, which overflow the stack
WRITTEN_BY_HAND = {
    "a tuple in many tuples, as a key": (b"\x80\x02})" + b"\x85" * DEEP + b"K\x01s.", "a tuple as a key"),
    "more than the pickle has": (b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a", "bytes in a unicodestring4"),
    "a pickle of 17 MB": (b"\x80\x02]" + b"N0" * (9 * MILLION) + b".", "a pickle of 18,000,004 bytes; at most"),
    "one text copied a hundred times": (
        b"\x80\x02(X" + struct.pack("<I", MILLION) + b"a" * MILLION + b"q\x00c_codecs\nencode\nq\x01"
        + b"h\x01h\x00\x85R" * 100 + b"l.",
        "the same values again and again",
    ),
    "an old operation": (b"(S'echo'\nios\nsystem\n.", "the operation STRING"),
    "a class of its own": (b"\x80\x02cos\nsystem\n)\x81.", "os.system, which is neither"),
    "a call of a text": (b"\x80\x02X\x01\x00\x00\x00a)R.", "a call of str, which is no function"),
    "a text filled as a list": (b"\x80\x02X\x01\x00\x00\x00aNa.", "a str that is filled like a list"),
    "attributes of a list": (b"\x80\x02]}b.", "attributes of a list"),
    "nothing on the stack": (b"\x80\x02.", "something else"),
    "no end": (b"\x80\x02N", "pickle exhausted"),
    "something else than a storage": (b"\x80\x02K\x01Q.", "a reference to something else than a storage"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN_BY_HAND)
def test_a_pickle_written_by_hand_is_refused(tmp_path: Path, name: str) -> None:
    pickled, words = WRITTEN_BY_HAND[name]
    with pytest.raises(ValueError, match=r"expected a checkpoint as torch.save writes it, got ") as refusal:
        read(archived(tmp_path / "x", pickled))
    assert words in str(refusal.value)


def test_the_number_of_operations_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_OPERATIONS", 1000)
    assert read(archived(tmp_path / "x", b"\x80\x02(" + b"}" * 900 + b"t.")) == ({},) * 900
    with pytest.raises(ValueError, match="got more than 1,000 operations"):
        read(archived(tmp_path / "x", b"\x80\x02(" + b"}" * 1000 + b"t."))


def test_a_storage_has_the_size_that_the_file_says(tmp_path: Path) -> None:
    """PyTorch 2.6 believed the pickle, and read what lies behind the storage in memory."""
    torch.save(torch.zeros(4), tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for size in (3, 5, 2**28):
        with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
            for name, content in members.items():
                lie = content.replace(b"K\x04tq", b"J" + struct.pack("<i", size) + b"tq", 1)
                archive.writestr(name, lie if name.endswith(".pkl") else content)
        with pytest.raises(ValueError, match=f"got a storage of {4 * size:,} bytes, for which the file has 16;"):
            read(tmp_path / "y.pt")


def test_an_archive_cannot_unfold(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10**7)
    with pytest.raises(ValueError, match=r"got an archive with a compressed member, a/data.pkl;"):
        read(tmp_path / "bomb")
    archived(tmp_path / "twice", b"\x80\x02N.", x=b"\0" * 1000, y=b"\0" * 1000)
    whole = (tmp_path / "twice").read_bytes()
    # The directory says that both members are longer than the file.
    at = whole.rindex(b"PK\x01\x02")
    (tmp_path / "twice").write_bytes(whole[: at + 20] + struct.pack("<II", 2 * 10**9, 2 * 10**9) + whole[at + 28 :])
    with pytest.raises(ValueError, match="an archive whose members overlap"):
        read(tmp_path / "twice")


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    os.mkfifo(tmp_path / "pipe")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script"))
    torch.save(torch.arange(1000.0), tmp_path / "whole")
    for cut in (3, 100, 1000, 4000):
        (tmp_path / f"cut {cut}").write_bytes((tmp_path / "whole").read_bytes()[:cut])
    assert len(list(tmp_path.iterdir())) == 11
    for path in (tmp_path, Path("/dev/zero"), *(path for path in tmp_path.iterdir() if path.name != "whole")):
        with pytest.raises(ValueError, match="expected a checkpoint") as refusal:
            read(path)
        assert str(refusal.value).startswith(f"{path}: ")
    with pytest.raises(FileNotFoundError, match="none: expected a checkpoint, got nothing there"):
        read(tmp_path / "none")

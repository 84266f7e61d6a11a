"""Pairs on disk: whole, or a sentence, whatever the file holds."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from isp import pairs, profile
from isp.pairs import Pair

RNG = np.random.Generator(np.random.PCG64(7))
RAW = RNG.integers(600, 16000, (300, 520), dtype=np.uint16)
SRGB = RNG.integers(0, 256, (300, 520, 3), dtype=np.uint8)
CAMERA = profile.load("a7r3").camera((2.0, 1.6), "GBRG", iso=200.0, exposure_s=0.01)


@pytest.fixture
def path(tmp_path) -> Path:
    pairs.write(tmp_path / "a.h5", RAW, SRGB, CAMERA, "a.dng + a.jpg", "id")
    return tmp_path / "a.h5"


def refused(path: Path) -> str:
    """The sentence in which each way to read a pair refuses it."""
    said = []
    for read in (lambda pair: pair.window(0, 0, 64, 64), lambda pair: pair.camera, lambda pair: pair.size):
        with pytest.raises((ValueError, OSError)) as problem:
            read(Pair(path))
        said.append(str(problem.value))
    assert len(set(said)) == 1
    assert said[0].startswith(f"{path}: expected a") and said[0].count("\n") == 0 and "; " in said[0]
    return said[0]


def test_what_is_written_is_read(path):
    pair = Pair(path)
    assert (pair.size, pair.source, pair.raw_id, pair.camera.cfa) == ((300, 520), "a.dng + a.jpg", "id", ("GBRG",))
    bayer, srgb, camera = pair.window(101, 250, 64, 100)
    assert camera.cfa == (pair.camera.crop(101, 250).cfa[0],)
    assert torch.equal(
        srgb[0].permute(1, 2, 0).mul(255).round().to(torch.uint8), torch.from_numpy(SRGB[101:165, 250:350])
    )
    assert bayer.shape == (1, 1, 64, 100)
    again = path.with_name("b.h5")
    pairs.write(again, RAW, SRGB, CAMERA, "a.dng + a.jpg", "id")
    assert again.read_bytes() == path.read_bytes()


def test_pairs_of_earlier_versions_stay_readable(path):
    with h5py.File(path.with_name("old.h5"), "w") as file:
        for name, pixels in (("raw", RAW), ("srgb", SRGB)):
            chunks = (256, 256, *pixels.shape[2:])
            file.create_dataset(name, data=pixels, chunks=chunks, fletcher32=True, track_times=False)
        file.attrs["camera"], file.attrs["source"] = CAMERA.to_json(), "x"
    old = Pair(path.with_name("old.h5"))
    assert (old.source, old.raw_id) == ("x", "")
    assert torch.equal(old.window(0, 0, 300, 520)[1], Pair(path).window(0, 0, 300, 520)[1])


def replaced(name: str, make: Callable[[h5py.File, Path], None]) -> Callable[[h5py.File, Path], None]:
    def edit(file: h5py.File, folder: Path) -> None:
        del file[name]
        make(file, folder)

    return edit


def array(name: str, data: np.ndarray, **options: object) -> Callable[[h5py.File, Path], None]:
    given = {"chunks": True, "fletcher32": True} | options
    return replaced(name, lambda file, folder: file.create_dataset(name, data=data, **given))


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((300, 520), "<u2")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "raw", (300, 520))
    file.create_virtual_dataset("raw", layout)


def sparse(file: h5py.File, folder: Path) -> None:
    made = file.create_dataset("raw", (300, 520), "<u2", chunks=(256, 256), fletcher32=True)
    made[:100] = RAW[:100]


def attribute(name: str, value: object) -> Callable[[h5py.File, Path], None]:
    def edit(file: h5py.File, folder: Path) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return edit


HOSTILE = {
    "external storage": replaced(
        "raw", lambda file, folder: file.create_dataset("raw", (300, 520), "<u2", external=[("/etc/passwd", 0, 312000)])
    ),
    "external link": replaced("raw", lambda file, _: file.__setitem__("raw", h5py.ExternalLink("other.h5", "raw"))),
    "soft link": replaced("raw", lambda file, _: file.__setitem__("raw", h5py.SoftLink("/srgb"))),
    "virtual": replaced("raw", virtual),
    "missing tiles": replaced("raw", sparse),
    "huge": replaced(
        "raw", lambda file, _: file.create_dataset("raw", (2**40, 2**20), "<u2", chunks=(256, 256), fletcher32=True)
    ),
    "group": replaced("srgb", lambda file, _: file.create_group("srgb")),
    "scalar": array("raw", np.uint16(3), chunks=None, fletcher32=False),
    "gone": replaced("srgb", lambda file, _: None),
    "float": array("raw", RAW.astype(np.float32)),
    "signed": array("raw", RAW.astype(np.int16)),
    "big-endian": array("raw", RAW.astype(">u2")),
    "other size": array("srgb", SRGB[:-1]),
    "four channels": array("srgb", np.dstack([SRGB, SRGB[..., :1]])),
    "no checksums": array("raw", RAW, fletcher32=False),
    "text": replaced("raw", lambda file, _: file.create_dataset("raw", data=["a"] * 9, dtype=h5py.string_dtype())),
    "no camera": attribute("camera", None),
    "camera of numbers": attribute("camera", np.arange(3)),
    "camera of nothing": attribute("camera", "{}"),
    "camera of nests": attribute("camera", "[" * 30_000),
    "camera without levels": attribute("camera", CAMERA.to_json().replace("16383.0", "NaN")),
    "camera of a wrong shape": attribute(
        "camera", CAMERA.to_json().replace('"white_balance": [', '"white_balance": [1.0, ')
    ),
    "source of numbers": attribute("source", 3),
    "raw_id of numbers": attribute("raw_id", 3.5),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pair_is_one_sentence(path, kind):
    pairs.write(path.with_name("other.h5"), RAW, SRGB, CAMERA, "other")
    with h5py.File(path, "r+") as file:
        HOSTILE[kind](file, path.parent)
    refused(path)


def test_no_flipped_bit_changes_a_pixel(tmp_path):
    """Of a small pair, every bit of the structure and a part of the pixels: the same pixels, or a sentence."""
    small = tmp_path / "small.h5"
    pairs.write(small, RAW[:20, :30], SRGB[:20, :30], CAMERA, "a + b", "id")
    whole = small.read_bytes()
    pair = Pair(small)
    right = pair.window(0, 0, 20, 30)
    described = pair.camera.to_json(), pair.source
    places = RNG.choice(len(whole) * 8, 2500, replace=False)
    refusals = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        small.write_bytes(damaged)
        try:
            found = Pair(small).window(0, 0, 20, 30)
        except ValueError as problem:
            assert str(problem).startswith(f"{small}: expected a sound pair")
            refusals += 1
            continue
        assert torch.equal(found[0], right[0]) and torch.equal(found[1], right[1])
        assert (Pair(small).camera.to_json(), Pair(small).source) == described
    assert refusals > 1000


@pytest.mark.parametrize("entry", ["../a.h5", "/etc/passwd", "x/../../a.h5", "..\\a.h5", "C:a.h5"])
def test_no_name_in_a_list_leads_out(path, entry):
    (path.parent / "in").mkdir()
    (path.parent / "in" / "test.txt").write_text(f"{entry}\n")
    with pytest.raises(ValueError, match=r"test\.txt: expected a name inside .*, which leads out of it"):
        pairs.split(path.parent / "in", "test")


def test_lists(path):
    (path.parent / "train.txt").write_bytes(b"a.h5\r\n\r\n a.h5 \n")
    assert [pair.path for pair in pairs.split(path.parent, "train")] == [path, path]
    (path.parent / "val.txt").write_text("b.h5\n")
    with pytest.raises(ValueError, match=r"val\.txt: expected names of files beside it, got b\.h5"):
        pairs.split(path.parent, "val")
    with pytest.raises(FileNotFoundError, match=r"test\.txt: expected the list of a split"):
        pairs.split(path.parent, "test")
    (path.parent / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"test\.txt: expected names in UTF-8"):
        pairs.split(path.parent, "test")


def test_a_pair_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError) as problem:
        pairs.write(tmp_path / "missing" / "a.h5", RAW, SRGB, CAMERA, "x")
    assert problem.value.filename == str(tmp_path / "missing" / "a.h5")

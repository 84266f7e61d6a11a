"""Kernels in MATLAB files and stacks: what is meant as a kernel is read or refused by name, and no file takes what it likes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.light import bank, matlab
from isp.light.bank import centred, read_bank
from isp.rng import generator


def kernels(count: int, height: int = 9, width: int = 9, seed: int = 0) -> np.ndarray:
    """(n h w) lopsided kernels of sum 1."""
    drawn = generator(seed, count, "kernels").random((count, height, width)) + 0.01
    drawn[:, : height // 2] *= 4
    return np.asarray(drawn / drawn.sum((1, 2), keepdims=True))


# ---------------------------------------------------------------- files of all kinds


def write_npy(path: Path, array: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


def write_mat_5(path: Path, array: np.ndarray) -> Path:
    scipy.io.savemat(path.with_suffix(".mat"), {"kernels": array})
    return path.with_suffix(".mat")


def write_mat_73(path: Path, array: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        file["kernels"] = array.T
    return path.with_suffix(".mat")


STACKS = {"npy": write_npy, "mat 5": write_mat_5, "mat 7.3": write_mat_73}


def cell_of(members: Sequence[Any]) -> np.ndarray:
    cell = np.empty((1, len(members)), object)
    for at, member in enumerate(members):
        cell[0, at] = member
    return cell


def write_cell_5(path: Path, members: Sequence[Any]) -> Path:
    scipy.io.savemat(path.with_suffix(".mat"), {"kernels": cell_of(members)})
    return path.with_suffix(".mat")


def write_struct_5(path: Path, members: Sequence[Any]) -> Path:
    structs = np.array([(member,) for member in cell_of(members).ravel()], dtype=[("psf", object)])[None]
    scipy.io.savemat(path.with_suffix(".mat"), {"kernels": structs})
    return path.with_suffix(".mat")


def stored_73(file: h5py.File, name: str, member: Any) -> None:
    if isinstance(member, str):
        file[name] = np.array([[ord(each)] for each in member], np.uint16)
        file[name].attrs["MATLAB_class"] = np.bytes_("char")
    elif np.size(member) == 0:
        file[name] = np.zeros(2, np.uint64)
        file[name].attrs["MATLAB_empty"] = np.uint8(1)
    else:
        array = np.atleast_2d(member)
        if array.dtype.kind == "c":
            array = array.view([("real", "f8"), ("imag", "f8")])
        file[name] = array.T


def write_cell_73(path: Path, members: Sequence[Any], name: str = "kernels") -> Path:
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        for at, member in enumerate(members):
            stored_73(file, f"#refs#/{at}", member)
        cell = file.create_dataset(name, (len(members), 1), h5py.ref_dtype)
        for at in range(len(members)):
            cell[at, 0] = file[f"#refs#/{at}"].ref
    return path.with_suffix(".mat")


def write_struct_73(path: Path, members: Sequence[Any]) -> Path:
    return write_cell_73(path, members, "kernels/psf")


GROUPS = {
    "cell 5": write_cell_5,
    "cell 7.3": write_cell_73,
    "structs 5": write_struct_5,
    "structs 7.3": write_struct_73,
}


def assert_are(found: list[np.ndarray], expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    for kernel, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(kernel, centred(right), atol=1e-7)


# ---------------------------------------------------------------- stacks, in the order (n h w) or in MATLAB's (h w n)

SHAPES = [(8, 17, 17), (4, 15, 11), (9, 9, 9), (5, 5, 7), (7, 5, 7), (1, 9, 9), (2, 9, 7), (3, 3, 3), (20, 3, 3)]


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["n h w", "h w n"])
def test_the_sums_tell_the_order_of_a_stack(tmp_path: Path, kind: str, shape: tuple[int, int, int], order: str) -> None:
    stack = kernels(*shape)
    stored = stack if order == "n h w" else np.moveaxis(stack, 0, -1)
    assert_are(read_bank(STACKS[kind](tmp_path / "bank", stored)), stack)


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 12), st.integers(3, 12), st.integers(3, 12)), st.integers(0, 2**32), st.booleans())
def test_no_stack_is_cut_the_wrong_way(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], seed: int, last: bool
) -> None:
    stack = kernels(*shape, seed=seed).astype(np.float32)
    path = write_npy(tmp_path_factory.mktemp("bank") / "x", np.moveaxis(stack, 0, -1) if last else stack)
    assert_are(read_bank(path), stack)


@pytest.mark.parametrize("scale", [255, 0.5, 1.2])
def test_without_sums_of_1_two_equal_sides_tell_the_order(tmp_path: Path, scale: float) -> None:
    stack = scale * kernels(8, 17, 17)
    assert_are(read_bank(write_npy(tmp_path / "a", stack)), stack)
    for shape, unclear in (
        ((17, 17, 8), np.moveaxis(stack, 0, -1)),
        ((15, 11, 4), np.moveaxis(scale * kernels(4, 15, 11), 0, -1)),
        ((4, 15, 11), scale * kernels(4, 15, 11)),
        ((9, 9, 9), scale * kernels(9, 9, 9)),
    ):
        with pytest.raises(ValueError, match=r"b.npy, kernel 1: expected kernels in the order \(n h w\)") as refusal:
            read_bank(write_npy(tmp_path / "b", unclear))
        assert f"of shape {shape}" in str(refusal.value)
        assert "np.moveaxis(kernels, -1, 0) turns MATLAB's order (h w n)" in str(refusal.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-6])
@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("order", ["n h w", "h w n"])
def test_a_bad_kernel_of_a_stack_is_named(tmp_path: Path, kind: str, value: float, order: str) -> None:
    stack = kernels(5, 9, 9)
    stack[2, 0, 0] = value
    path = STACKS[kind](tmp_path / "bank", stack if order == "n h w" else np.moveaxis(stack, 0, -1))
    place = "kernel 3" if kind == "npy" else "kernels, kernel 3"
    with pytest.raises(ValueError, match=f"^{path}, {place}: expected a kernel of finite, non-negative values"):
        read_bank(path)


# ---------------------------------------------------------------- what is meant as a kernel


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-6, -0.02])
def test_a_bad_kernel_is_refused_in_the_same_words_in_every_file(tmp_path: Path, kind: str, value: float) -> None:
    (kernel,) = kernels(1)
    if np.isfinite(value):
        kernel[1, 1] += kernel[0, 0] - value  # the sum stays 1
    kernel[0, 0] = value
    path = STACKS[kind](tmp_path / "bank", kernel)
    place = "kernel 1" if kind == "npy" else "kernels"
    words = "expected a kernel of finite, non-negative values that are not all 0, got values from"
    with pytest.raises(ValueError, match=f"^{path}, {place}: {words} .*; repair or remove it$"):
        read_bank(path)


def test_a_kernel_without_its_peak_is_refused(tmp_path: Path) -> None:
    kernel = np.full((9, 9), 0.005)
    kernel[4, 4] = np.nan
    scipy.io.savemat(tmp_path / "x.mat", {"good": kernels(1)[0], "bad": kernel})
    with pytest.raises(ValueError, match=r"x.mat, bad: expected a kernel of finite, non-negative values"):
        read_bank(tmp_path / "x.mat")


def with_value(value: float) -> np.ndarray:
    (kernel,) = kernels(1)
    kernel[0, 0] = value
    return kernel


BAD = {
    "tiny negative": with_value(-1e-6),
    "negative": -kernels(1)[0],
    "not a number": with_value(np.nan),
    "nothing but that": np.full((9, 9), np.nan),
    "infinite": with_value(np.inf),
    "all 0": np.zeros((9, 9)),
    "sum 2": 2 * kernels(1)[0],
    "sum 255": np.round(255 * kernels(1)[0] / kernels(1).max()),
    "sum 0.9": 0.9 * kernels(1)[0],
    "empty": np.zeros((0, 0)),
    "too large": np.full((301, 301), 1 / 301**2),
    "colours": np.full((9, 9, 3), 0.5),
    "complex": kernels(1)[0] + 0j,
    "two pictures": np.full((9, 9, 2), 0.5),
}


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_kernel_among_kernels_is_refused_by_its_place(tmp_path: Path, kind: str, name: str) -> None:
    good = kernels(2)
    path = GROUPS[kind](tmp_path / "bank", [good[0], BAD[name], good[1]])
    place = {
        "cell 5": "kernels{2}",
        "cell 7.3": "kernels{2}",
        "structs 5": "kernels(2).psf",
        "structs 7.3": "kernels.psf{2}",
    }
    with pytest.raises(ValueError, match=r"expected|no kernel in") as refusal:
        read_bank(path)
    assert str(refusal.value).startswith(str(path)) and place[kind] in str(refusal.value)
    assert_are(read_bank(GROUPS[kind](tmp_path / "good", [good[0], good[1]])), good)


@pytest.mark.parametrize("kind", GROUPS)
def test_names_numbers_and_lists_among_kernels_are_ignored(tmp_path: Path, kind: str) -> None:
    good = kernels(2)
    members = [good[0], "hand shake", 3.5, np.full((1, 4), 0.25), np.ones((3, 2)), good[1]]
    assert_are(read_bank(GROUPS[kind](tmp_path / "bank", members)), good)


def test_other_variables_and_other_fields_are_ignored(tmp_path: Path) -> None:
    (kernel,) = kernels(1)
    shot = {"psf": kernel, "picture": np.full((60, 80), 0.5), "rgb": np.full((60, 80, 3), 0.5), "size": [60, 80]}
    content = {
        **shot, "shot": shot, "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]), "padded": np.eye(300) / 300,
        "pictures": cell_of([np.full((60, 80), 0.5), np.zeros((9, 9))]), "nan": np.full((9, 9), np.nan),
    }  # fmt: skip
    scipy.io.savemat(tmp_path / "a.mat", content)
    assert_are(read_bank(tmp_path / "a.mat"), np.stack([kernel, kernel]))


def test_cells_in_cells_are_one_group(tmp_path: Path) -> None:
    good = kernels(2)
    scipy.io.savemat(tmp_path / "a.mat", {"k": cell_of([cell_of([good[0]]), cell_of([good[1], 2 * good[1]])])})
    with pytest.raises(
        ValueError, match=r"a.mat: .* no kernel in k\{2\}\{2\}, beside kernels, but float64 of .* sum 2;"
    ):
        read_bank(tmp_path / "a.mat")


@pytest.mark.parametrize("kind", ["cell 5", "cell 7.3"])
def test_one_kernel_that_stands_twice_is_read_twice(tmp_path: Path, kind: str) -> None:
    good = kernels(1)
    path = GROUPS[kind](tmp_path / "bank", [good[0], good[0]])
    if kind == "cell 7.3":
        with h5py.File(path, "r+") as file:
            file["kernels"][1, 0] = file["#refs#/0"].ref
    assert_are(read_bank(path), np.repeat(good, 2, 0))


# ---------------------------------------------------------------- files that want more than to be read


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def matrix(
    kind: int, dims: tuple[int, ...], payload: bytes = b"", name: bytes = b"k", length: int | None = None
) -> bytes:
    """A matrix of a file of version 5; `length` is what it says of its own length."""
    inner = (
        element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims)) + element(1, name)
    )
    inner += payload
    return struct.pack("<II", 14, len(inner) if length is None else length) + inner


def nested_cells(levels: int) -> bytes:
    inner = matrix(6, (1, 1), element(9, struct.pack("<d", 1)))
    for _ in range(levels):
        inner = matrix(1, (1, 1), inner, b"")
    return inner


def lying_cells(levels: int) -> bytes:
    """Cells that say that they end before their content."""
    return b"".join(matrix(1, (1, 1), b"", b"", 56) for _ in range(levels)) + matrix(6, (1, 1), element(9, b"\0" * 8))


def compressed(variable: bytes) -> bytes:
    packed = zlib.compress(variable)
    return struct.pack("<II", 15, len(packed)) + packed


HOSTILE_5: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (lambda: compressed(matrix(6, (2**25, 1), element(9, bytes(2**28)))), "more than 268,435,456 bytes when"),
    "two bombs": (
        lambda: 2 * compressed(matrix(6, (2**24, 1), element(9, bytes(2**27)))),
        "more than 268,435,456 bytes when",
    ),
    "cells in cells": (lambda: nested_cells(2500), "more than 2,000 arrays"),
    "packed cells in cells": (lambda: compressed(nested_cells(2500)), "more than 2,000 arrays"),
    "lying cells in cells": (lambda: lying_cells(20_000), "more than 2,000 arrays"),
    "cells without end": (lambda: matrix(1, (2**31 - 1, 2**31 - 1)), "got"),
    "sides without end": (lambda: matrix(6, (2**31 - 1, 2**31 - 1), element(9, b"\0" * 8)), "got"),
    "negative sides": (lambda: matrix(6, (-9, -9), element(9, b"\0" * 648)), "got"),
    "an element without end": (lambda: matrix(6, (9, 9), struct.pack("<II", 9, 2**32 - 8)), "got"),
}


@pytest.mark.parametrize("name", HOSTILE_5)
def test_a_hostile_file_of_version_5_is_refused(tmp_path: Path, name: str) -> None:
    make, words = HOSTILE_5[name]
    (tmp_path / "x.mat").write_bytes(HEADER + make())
    with pytest.raises(ValueError, match=r"x.mat: expected a readable .mat file, got ") as refusal:
        read_bank(tmp_path / "x.mat")
    assert words in str(refusal.value)


def test_a_variable_that_replaces_another_is_not_silent(tmp_path: Path) -> None:
    good = [matrix(6, (3, 3), element(9, np.full(9, 1 / 9).tobytes())) for _ in range(2)]
    (tmp_path / "x.mat").write_bytes(HEADER + good[0])
    assert len(read_bank(tmp_path / "x.mat")) == 1
    (tmp_path / "x.mat").write_bytes(HEADER + b"".join(good))
    with pytest.raises(ValueError, match=r'expected a readable .mat file, got .*Duplicate variable name "k"'):
        read_bank(tmp_path / "x.mat")


def external_link(file: h5py.File) -> None:
    file["elsewhere"] = h5py.ExternalLink("other.mat", "/kernel")


def soft_link(file: h5py.File) -> None:
    file["inner/elsewhere"] = h5py.SoftLink("/kernel")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("foreign", (9, 9), "f8", external=[("other.bin", 0, 648)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((9, 9), "f8")
    layout[:] = h5py.VirtualSource("other.mat", "kernel", (9, 9))
    file.create_virtual_dataset("foreign", layout)


def large_pieces(file: h5py.File) -> None:
    file.create_dataset("foreign", (9, 9), "f8", maxshape=(None, None), chunks=(2**14, 2**13), compression="gzip")


def sparse(file: h5py.File) -> None:
    file["foreign/jc"], file["foreign/ir"] = np.zeros(10, np.uint64), np.zeros(1, np.uint64)
    file["foreign"].attrs["MATLAB_sparse"] = np.uint64(9)


def many(file: h5py.File) -> None:
    file.create_dataset("foreign", (2001, 1), h5py.ref_dtype)


def deep(file: h5py.File) -> None:
    group = file
    for _ in range(1500):
        group = group.create_group("a")


def each_twice(file: h5py.File) -> None:
    """A cell of two cells of two cells and so on, each stored once: 2^30 kernels."""
    inner = file["kernel"]
    for level in range(30):
        cell = file.create_dataset(f"#refs#/{level}" if level < 29 else "foreign", (2, 1), h5py.ref_dtype)
        cell[0, 0] = cell[1, 0] = inner.ref
        inner = cell


HOSTILE_73 = {
    external_link: "a link in elsewhere, which may lead out of the file",
    soft_link: "a link in inner.elsewhere, which may lead out of the file",
    external_storage: "values of foreign that lie in another file",
    virtual: "values of foreign that lie in another file",
    large_pieces: "pieces of 1,073,741,824 bytes in foreign",
    sparse: "a sparse matrix in foreign; save full(foreign)",
    many: "more than 2,000 arrays",
    deep: "arrays in arrays, hundreds of levels deep",
    each_twice: "more than 2,000 arrays",
}


@pytest.mark.parametrize("edit", HOSTILE_73, ids=lambda edit: edit.__name__)
def test_a_hostile_file_of_version_73_is_refused(tmp_path: Path, edit: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "x.mat"
    for name in ("x.mat", "other.mat"):
        with h5py.File(tmp_path / name, "w") as file:
            file["kernel"] = kernels(1)[0].T
    (tmp_path / "other.bin").write_bytes(kernels(1)[0].tobytes())
    assert len(read_bank(path)) == 1
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(ValueError, match=r"x.mat: expected a readable .mat file, got ") as refusal:
        read_bank(path)
    assert HOSTILE_73[edit] in str(refusal.value)


def test_a_sparse_kernel_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"k": kernels(1)[0], "s": scipy.sparse.csc_matrix(np.eye(9) / 9)})
    with pytest.raises(ValueError, match=r"got a sparse matrix in s; save full\(s\)"):
        read_bank(tmp_path / "x.mat")
    scipy.io.savemat(tmp_path / "x.mat", {"k": kernels(1)[0], "s": scipy.sparse.identity(1000, format="csc")})
    assert len(read_bank(tmp_path / "x.mat")) == 1


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    for name, header in (("x.mat", HEADER), ("x.npy", b""), ("x.png", b"\x89PNG\r\n\x1a\n")):
        path = tmp_path / name
        path.write_bytes(header)
        os.truncate(path, 10**12)
        with pytest.raises(ValueError, match=f"{name}: expected a readable"):
            read_bank(path)


def npy(shape: str, dtype: str = "<f8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        npy("(1000000, 1000, 1000)", data=b"\0" * 80),
        npy("(1000000000, 0, 5)"),
        npy("(9, 9)", data=b"\0" * 80),
        npy("(-9, -9)", data=b"\0" * 648),
        npy("(9, 9)", "|O", b"\0" * 648),
        npy("(9, 9, 9)", "<U2", b"\0" * 8 * 729),
        npy("(9, 9, 9)", "<M8[s]", b"\0" * 8 * 729),
        npy("()", data=b"\0" * 8),
        npy("(300, 400, 3)", "|u1", b"\1" * 360_000),
        npy("(9, 9)", data=b"\0" * 648)[:60],
    ],
)
def test_an_odd_npy_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.npy"):
        read_bank(tmp_path / "x.npy")


def test_the_number_of_kernels_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "MOST_KERNELS", 20)
    assert len(read_bank(write_npy(tmp_path / "a", kernels(20)))) == 20
    with pytest.raises(
        ValueError, match=r"a.npy: expected a readable .npy file, got shape \(21, 9, 9\); at most 20 kernels"
    ):
        read_bank(write_npy(tmp_path / "a", kernels(21)))
    monkeypatch.setattr(matlab, "MOST_ARRAYS", 10)
    for write in (write_cell_5, write_cell_73):
        assert len(read_bank(write(tmp_path / "b", list(kernels(9))))) == 9
        with pytest.raises(ValueError, match="more than 10 arrays"):
            read_bank(write(tmp_path / "b", list(kernels(21))))

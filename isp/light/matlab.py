"""MATLAB files: every array of numbers in them, with its place. Nothing leads out of the file, whatever it says."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NUMBERS = "buifc"  # kinds of dtype
MOST_ARRAYS = 2000  # in one file; arrays in arrays overflow the stack at 6000 levels
MOST_BYTES = 256 * 2**20  # of a file up to version 7, unpacked; and of one piece of a file of version 7.3

Wanted = Callable[[tuple[int, ...]], bool]  # whether the values of an array of this shape matter


class Found(NamedTuple):
    """An array.

    place  where MATLAB has it: "psf", "kernels{3}", "bank(2).psf"
    group  the place without numbers; arrays of one group are of one kind
    array  its values; zeros for one that nobody wants
    """

    place: str
    group: str
    array: np.ndarray


def arrays_in(path: Path, wanted: Wanted) -> Iterator[Found]:
    """Yield the arrays of numbers in a .mat file of any version, also those in cells and structs, cells in MATLAB's order.

    Raises `ValueError` for links and values that lie outside the file, for sparse matrices of a kernel's size, for more than
    `MOST_ARRAYS` arrays, and for more than `MOST_BYTES`; whatever scipy and h5py raise for a broken file.
    """
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            yield from _Hdf5(h5py, wanted).arrays_of(file, "", "", frozenset())
        return
    _check_size(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scipy warns if one variable replaces another of its name
        variables = scipy.io.loadmat(str(path))
    for name, variable in variables.items():
        yield from _arrays_within(name, name, variable)


# ---------------------------------------------------------------- up to version 7


def _check_size(path: Path) -> None:
    """Raise `ValueError` for a file that would take too much memory unpacked, or that nests too deeply to be read."""
    from scipy.io.matlab import matfile_version

    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes; at most {MOST_BYTES:,} are read")
    content = path.read_bytes()
    if matfile_version(str(path))[0] == 0:  # version 4 has no compression and no cells
        return
    order = "<" if content[126:128] == b"IM" else ">"
    at, unpacked, arrays = 128, 0, 0
    while at + 8 <= len(content):
        kind, length = (int(each) for each in np.frombuffer(content, f"{order}u4", 2, at))
        variable = content[at : at + 8 + length]
        if kind == 15:
            variable = zlib.decompressobj().decompress(variable[8:], MOST_BYTES + 1 - unpacked)
        unpacked += len(variable)
        # Every array in an array begins with the number 14 at a multiple of 8 bytes.
        arrays += int((np.frombuffer(variable, f"{order}u4", len(variable) // 8 * 2)[::2] == 14).sum())
        if unpacked > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes when it is unpacked")
        if arrays > MOST_ARRAYS:
            raise ValueError(f"more than {MOST_ARRAYS:,} arrays")
        at += 8 + length


def _arrays_within(place: str, group: str, variable: Any) -> Iterator[Found]:
    if hasattr(variable, "tocsc"):
        _refuse_sparse(place, variable.shape)
    elif not isinstance(variable, np.ndarray):
        return
    elif variable.dtype.names:
        for name in variable.dtype.names:
            elements = variable[name].ravel(order="F")
            for number, element in enumerate(elements, 1):
                index = f"({number})" if len(elements) > 1 else ""
                yield from _arrays_within(f"{place}{index}.{name}", f"{group}.{name}", element)
    elif variable.dtype.kind == "O":
        for number, cell in enumerate(variable.ravel(order="F"), 1):
            yield from _arrays_within(f"{place}{{{number}}}", f"{group}{{}}", cell)
    elif variable.dtype.kind in NUMBERS:
        yield Found(place, group, variable)


def _refuse_sparse(place: str, shape: tuple[int, ...]) -> None:
    if min(shape) >= 3 and max(shape) <= 255:
        raise ValueError(f"a sparse matrix in {place}; save full({place})")


# ---------------------------------------------------------------- version 7.3


class _Hdf5:
    """Walks through a file of version 7.3."""

    def __init__(self, h5py: Any, wanted: Wanted) -> None:
        self.h5py, self.wanted, self.count = h5py, wanted, 0

    def arrays_of(self, node: Any, place: str, group: str, parents: frozenset[int]) -> Iterator[Found]:
        """Yield the arrays of a variable or group; `parents` breaks cycles of references."""
        address = self.h5py.h5o.get_info(node.id).addr
        if address in parents:
            return
        self.count += 1
        if self.count > 2 * MOST_ARRAYS:  # groups and cells count as well
            raise ValueError(f"more than {MOST_ARRAYS:,} arrays")
        inner = parents | {address}
        if isinstance(node, self.h5py.Group):
            if "MATLAB_sparse" in node.attrs:
                rows, columns = int(node.attrs["MATLAB_sparse"]), node["jc"].size - 1 if "jc" in node else 0
                _refuse_sparse(place, (rows, columns))
                return
            for name in node:
                if name.startswith("#"):  # "#refs#" holds the cells, which are reached through their variables
                    continue
                deeper = f"{place}.{name}" if place else name
                if not isinstance(node.get(name, getlink=True), self.h5py.HardLink):
                    raise ValueError(f"a link in {deeper}, which may lead out of the file")
                yield from self.arrays_of(node[name], deeper, f"{group}.{name}" if group else name, inner)
        elif isinstance(node, self.h5py.Dataset) and node.shape is not None:
            yield from self._arrays_of_values(node, place, group, inner)

    def _arrays_of_values(self, node: Any, place: str, group: str, parents: frozenset[int]) -> Iterator[Found]:
        if node.external or node.is_virtual:
            raise ValueError(f"values of {place} that lie in another file")
        kind = self.h5py.check_ref_dtype(node.dtype)
        is_complex = node.dtype.names == ("real", "imag")
        if kind is self.h5py.Reference:
            self._check_pieces(node, place)
            if node.size > MOST_ARRAYS:
                raise ValueError(f"more than {MOST_ARRAYS:,} arrays")
            in_struct = _class_of(node) not in ("cell", "")
            for number, reference in enumerate(node[()].ravel(), 1):
                if reference:
                    index = f"({number})" if in_struct else f"{{{number}}}"
                    yield from self.arrays_of(node.file[reference], f"{place}{index}", f"{group}{{}}", parents)
        elif "MATLAB_empty" in node.attrs:
            yield Found(place, group, np.empty((0, 0)))
        elif _class_of(node) != "char" and (is_complex or node.dtype.kind in NUMBERS):
            shape = node.shape[::-1]  # MATLAB writes its columns as rows
            if not self.wanted(shape):
                yield Found(place, group, np.broadcast_to(np.zeros((), "c16" if is_complex else node.dtype), shape))
                return
            self._check_pieces(node, place)
            values = node[()].T
            yield Found(place, group, values["real"] + 1j * values["imag"] if is_complex else values)

    def _check_pieces(self, node: Any, place: str) -> None:
        """Raise `ValueError` for values that unpack to more than they are, which a file from MATLAB never does."""
        piece = math.prod(node.chunks or ()) * node.dtype.itemsize
        if piece > MOST_BYTES:
            raise ValueError(f"pieces of {piece:,} bytes in {place}; at most {MOST_BYTES:,} are read")


def _class_of(node: Any) -> str:
    name = node.attrs.get("MATLAB_class", b"")
    return name.decode("latin1") if isinstance(name, bytes) else str(name)

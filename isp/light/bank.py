"""Measured blur kernels: read from .npy, .png and .mat files, centred and normalised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isp.light.raster import Kernel, Kernels, splat

LARGEST_PX = 255  # side of a measured kernel; also keeps out photographs that lie beside the kernels

_NUMBERS = "buif"  # kinds of dtype
_RULE = f"a 2-D array, finite, non-negative, of sum 1 within 5 %, 3 to {LARGEST_PX} px a side"


def centred(kernel: np.ndarray, name: str = "kernel") -> Kernel:
    """Normalise a measured kernel of any shape and scale, and move its centroid onto the centre pixel.

    The move is bilinear, which adds up to 1/4 px^2 of variance in y and in x. The result has the smallest odd side that
    holds every pixel above 0. `name` identifies the kernel in messages.
    Raises `ValueError` unless the array is 2-D, at most `LARGEST_PX` a side, finite, non-negative and not all zero.
    """
    if kernel.ndim != 2 or kernel.dtype.kind not in _NUMBERS or not kernel.size or max(kernel.shape) > LARGEST_PX:
        raise ValueError(
            f"{name}: expected a kernel as a 2-D array of numbers, 1 to {LARGEST_PX} px a side, got {kernel.dtype} "
            f"of shape {kernel.shape}; crop or convert it"
        )
    if not np.isfinite(kernel).all() or kernel.min() < 0 or kernel.max() == 0:
        raise ValueError(
            f"{name}: expected a kernel of finite, non-negative values that are not all 0, got values from "
            f"{kernel.min()} to {kernel.max()}; repair or remove it"
        )
    positions_px = np.argwhere(kernel)
    weights = kernel[kernel > 0].astype(np.float64)
    weights /= weights.max()  # the sum of the original values might overflow
    # Rounded, because an error in the last digit would give a symmetric kernel one more rim of pixels.
    offsets_px = positions_px - np.round(weights @ positions_px / weights.sum(), 6)
    radius_px = math.ceil(np.abs(offsets_px).max())
    return splat(offsets_px + radius_px, weights, 2 * radius_px + 1)


def files_of(path: Path) -> list[Path]:
    """List the kernel files at `path`: the file itself, or those in the folder, sorted by name. May be empty."""
    if path.is_dir():
        return [f for f in sorted(path.iterdir()) if f.suffix.lower() in _READERS and f.is_file() and f.name[0] != "."]
    return [path] if path.is_file() and path.suffix.lower() in _READERS else []


def read_bank(path: Path | str) -> Kernels:
    """Read every kernel of a file, or of the .npy, .png and .mat files of a folder sorted by name, `centred`.

    .npy: one kernel (h w) or several (n h w).  .png: one kernel, grey, 8 or 16 bit.  .mat, up to version 7.3: every 2-D
    array, also in cells and structs, that is finite, non-negative, has sum 1 within 5 % and 3 to `LARGEST_PX` pixels a
    side. Other contents of a .mat file (images, settings) are ignored, as are a folder's hidden files, subfolders and
    files of other types. No file can make code run.
    Raises `ValueError` naming the file if it is broken or holds no kernel, and if there is no file.
    """
    files = files_of(Path(path))
    if not files:
        raise ValueError(f"{path}: expected a file of kernels ({', '.join(_READERS)}) or a folder of such, found none")
    bank = []
    for file in files:
        try:
            arrays = _READERS[file.suffix.lower()](file)
        except Exception as error:  # on broken files the three readers raise exceptions of many kinds
            raise ValueError(
                f"{file}: expected a readable {file.suffix} file, got {type(error).__name__} ({error}); "
                "copy or export it again"
            ) from error
        bank += [centred(array, f"{file}, kernel {place}") for place, array in enumerate(arrays, 1)]
        if not arrays:
            raise ValueError(f"{file}: expected at least one kernel ({_RULE}), found none; save them as .npy (n h w)")
    return bank


def _read_npy(path: Path) -> list[np.ndarray]:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a forged header cannot claim memory
    if not isinstance(stored, np.ndarray):
        raise TypeError("an archive of several arrays")
    return list(stored) if stored.ndim == 3 else [stored]


def _read_png(path: Path) -> list[np.ndarray]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("OpenCV cannot decode it")
    return [np.asarray(image)]


def _read_mat(path: Path) -> list[np.ndarray]:
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return [array for array in _arrays_of_hdf5(h5py, file, set()) if _is_kernel(array)]
    variables = scipy.io.loadmat(str(path))
    return [array for variable in variables.values() for array in _arrays_within(variable) if _is_kernel(array)]


def _arrays_within(variable: Any) -> Iterator[np.ndarray]:
    """Find the arrays of numbers in a variable of a version 5 file, cells in MATLAB's order."""
    if not isinstance(variable, np.ndarray):
        return
    if variable.dtype.names:
        for name in variable.dtype.names:
            yield from _arrays_within(variable[name])
    elif variable.dtype.kind == "O":
        for cell in variable.ravel(order="F"):
            yield from _arrays_within(cell)
    else:
        yield variable


def _arrays_of_hdf5(h5py: Any, node: Any, seen: set[int]) -> Iterator[np.ndarray]:
    """Find the arrays of numbers in a variable or group of a version 7.3 file; `seen` breaks cycles of references."""
    address = h5py.h5o.get_info(node.id).addr
    if address in seen:
        return
    seen.add(address)
    if isinstance(node, h5py.Group):
        for name in node:
            # "#refs#" holds the cells, which are reached through their variables; soft and external links may lead out
            # of the file.
            if not name.startswith("#") and isinstance(node.get(name, getlink=True), h5py.HardLink):
                yield from _arrays_of_hdf5(h5py, node[name], seen)
    elif not isinstance(node, h5py.Dataset) or not node.shape or node.size > LARGEST_PX**2:
        return
    elif h5py.check_ref_dtype(node.dtype) is h5py.Reference:
        for reference in filter(None, node[()].ravel()):
            yield from _arrays_of_hdf5(h5py, node.file[reference], seen)
    elif not node.external and not node.is_virtual and node.dtype.kind in _NUMBERS:
        yield node[()].T  # MATLAB writes its columns as rows


def _is_kernel(array: np.ndarray) -> bool:
    """Check `_RULE`. At least 3 px, because the number 1 or a list of weights is not a kernel."""
    if array.ndim != 2 or array.dtype.kind not in _NUMBERS or min(array.shape) < 3 or max(array.shape) > LARGEST_PX:
        return False
    return bool(np.isfinite(array).all() and array.min() >= 0 and abs(array.sum(dtype=np.float64) - 1) <= 0.05)


_READERS: dict[str, Callable[[Path], list[np.ndarray]]] = {".npy": _read_npy, ".png": _read_png, ".mat": _read_mat}

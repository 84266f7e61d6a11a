"""Measured blur kernels: read from .npy, .png and .mat files, centred and normalised."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isp.light import matlab
from isp.light.raster import Kernel, Kernels, splat

LARGEST_PX = 255  # side of a measured kernel; also keeps out photographs that lie beside the kernels
MOST_KERNELS, MOST_VALUES = 100_000, 2**27  # in one array

_LARGEST_PNG = 2**22  # bytes; 255 x 255 px take 130,000 and what a program adds
_NUMBERS = "buif"  # kinds of dtype
_NEAR, _EXACT = 0.05, 1e-3  # how far the sum of a kernel may be from 1, and of one that was normalised
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

    .npy: one kernel (h w), or several (n h w); see `_kernels_first` for MATLAB's order (h w n).
    .png: one kernel, grey, up to 16 bits.
    .mat, up to version 7.3: every array that is meant as a kernel, or as several; see `_meant_as_kernels`. A file holds other
    things as well (images, sizes, names, lists), which are ignored. What is meant as a kernel, but is none, is refused as in a
    .npy file. In a cell array, or in a field of a struct array, that has a kernel, every array of at least 3 px a side is
    meant as one.
    Hidden files of a folder, subfolders and files of other types are ignored. No file can make code run, lead to another
    file, or take more memory than `MOST_VALUES` need.
    Raises `ValueError` naming the file if it is broken or holds no kernel, naming the kernel if it is none, and if there is no
    file.
    """
    files = files_of(Path(path))
    if not files:
        raise ValueError(f"{path}: expected a file of kernels ({', '.join(_READERS)}) or a folder of such, found none")
    bank = []
    for file in files:
        try:
            found = _READERS[file.suffix.lower()](file)
        except MemoryError:
            raise
        except Exception as error:  # on broken files the three readers raise exceptions of many kinds
            reason = f"{error!s:.300}".partition("\n")[0]
            if isinstance(error, RecursionError):
                reason = "arrays in arrays, hundreds of levels deep"
            elif not isinstance(error, ValueError):
                reason = f"{type(error).__name__} ({reason})"
            raise ValueError(
                f"{file}: expected a readable {file.suffix} file, got {reason}; copy or export it again"
            ) from error
        kernels = [(place, kernel) for name, array in found for place, kernel in _split(file, name, array)]
        bank += [centred(kernel, f"{file}, {place}") for place, kernel in kernels]
        if not kernels:
            raise ValueError(f"{file}: expected at least one kernel ({_RULE}), found none; save them as .npy (n h w)")
    return bank


# ---------------------------------------------------------------- stacks of kernels


def _split(file: Path, name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the kernels of an array with their places. Raises `ValueError` for a stack whose order is unknown."""
    if array.ndim != 3 or not array.size or array.dtype.kind not in matlab.NUMBERS:
        return [(name, array)]
    beginning = "kernel" if name == "kernel 1" else f"{name}, kernel"
    return [(f"{beginning} {number}", kernel) for number, kernel in enumerate(_kernels_first(file, name, array), 1)]


def _kernels_first(file: Path, name: str, stack: np.ndarray) -> np.ndarray:
    """Return `stack` in the order (n h w).

    It is (n h w) or MATLAB's (h w n). The order in which each kernel has the sum 1 decides. If neither has, n is the side that
    differs from two equal ones, if that is the first. Raises `ValueError` if that does not decide either.
    """
    first, last = _distances_from_1(stack)
    if first <= _EXACT or first <= _NEAR < last or stack.shape[0] == 1:
        return stack
    if last <= _EXACT or last <= _NEAR < first or stack.shape[2] == 1:
        return np.moveaxis(stack, -1, 0)
    if min(first, last) > _NEAR and stack.shape[0] != stack.shape[1] == stack.shape[2]:
        return stack
    raise ValueError(
        f"{file}, {name}: expected kernels in the order (n h w), each of sum 1, got an array of shape {stack.shape} whose "
        "order its sums do not tell; np.moveaxis(kernels, -1, 0) turns MATLAB's order (h w n), and kernels / "
        "kernels.sum((1, 2), keepdims=True) makes the sums 1"
    )


def _distances_from_1(stack: np.ndarray) -> tuple[float, float]:
    """Return how far from 1 the sum of the median kernel is, for the orders (n h w) and (h w n).

    It is the lower median, because one kernel may be broken. Values that are not finite count as 0.
    """
    first, last = np.empty(stack.shape[0]), np.zeros(stack.shape[2])
    with np.errstate(over="ignore", invalid="ignore"):
        for number, slice_ in enumerate(stack):
            columns = _finite(slice_).sum(0)
            first[number] = columns.sum()
            last += columns
        return tuple(float(np.sort(np.abs(sums - 1))[(len(sums) - 1) // 2]) for sums in (first, last))  # type: ignore[return-value]


def _finite(array: np.ndarray) -> np.ndarray:
    """Return the real values of `array` in float64, with 0 for those that are not finite."""
    values = np.asarray(array.real, dtype=np.float64)
    return np.where(np.isfinite(values), values, 0.0)


# ---------------------------------------------------------------- kinds of files

Read = list[tuple[str, np.ndarray]]  # arrays that are meant as kernels, or as stacks of them, with their places


def _read_npy(path: Path) -> Read:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a forged header cannot claim memory
    if not isinstance(stored, np.ndarray):
        raise TypeError("an archive of several arrays")
    if stored.size > MOST_VALUES or max(stored.shape, default=0) > MOST_KERNELS:
        raise ValueError(f"shape {stored.shape}; at most {MOST_KERNELS:,} kernels and {MOST_VALUES:,} values are read")
    return [("kernel 1", stored)]


def _read_png(path: Path) -> Read:
    import cv2

    if path.stat().st_size > _LARGEST_PNG:
        raise ValueError(f"{path.stat().st_size:,} bytes; a kernel has at most {_LARGEST_PNG:,}")
    content = path.read_bytes()
    _check_png(content)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("pixels that OpenCV cannot decode")
    if image.ndim != 2:
        raise ValueError("a picture with colours or transparency; convert it to grey")
    return [("kernel 1", np.asarray(image))]


def _check_png(content: bytes) -> None:
    """Raise `ValueError` for a PNG that is cut short, damaged, or so large that unpacking it might take any memory."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise ValueError("no PNG")
    width, height = struct.unpack(">II", content[16:24].rjust(8))
    if max(width, height) > LARGEST_PX:
        raise ValueError(f"{height} x {width} px; a kernel has at most {LARGEST_PX} a side")
    at, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(content[at : at + 4], "big")
        kind, checksum = content[at + 4 : at + 8], content[at + 8 + length : at + 12 + length]
        if zlib.crc32(content[at + 4 : at + 8 + length]) != int.from_bytes(checksum, "big") or len(checksum) < 4:
            raise ValueError("a PNG that is cut short or damaged")
        at += 12 + length


def _read_mat(path: Path) -> Read:
    found = list(matlab.arrays_in(path, _has_sides_of_kernels))
    meant = [each for each in found if _meant_as_kernels(each.array)]
    groups = {each.group for each in meant}
    places = {each.place for each in meant}
    for each in found:
        array = each.array
        if each.group in groups and each.place not in places and not _is_number_or_list(array.shape):
            sum_ = f" and of sum {_finite(array).sum():g}" if _has_sides_of_kernels(array.shape) else ""
            got = f"{array.dtype} of shape {array.shape}{sum_}"
            raise ValueError(f"no kernel in {each.place}, beside kernels, but {got}; a kernel is {_RULE}")
    return [(each.place, each.array) for each in meant]


def _is_number_or_list(shape: tuple[int, ...]) -> bool:
    return math.prod(shape) > 0 and sum(side >= 3 for side in shape) < 2


def _has_sides_of_kernels(shape: tuple[int, ...]) -> bool:
    """Tell whether an array may be a kernel, or several, by its shape: kernels have 3 to `LARGEST_PX` pixels a side."""
    sides = {2: [shape], 3: [shape[1:], shape[:2]]}.get(len(shape), [])
    return any(min(each) >= 3 and max(each) <= LARGEST_PX for each in sides) and math.prod(shape) <= MOST_VALUES


def _meant_as_kernels(array: np.ndarray) -> bool:
    """Tell whether an array of a .mat file is meant as a kernel, or as several, also if something is wrong with it.

    The mark of a kernel is its sum of 1, within 5 %, which images, sizes and lists do not have; of several kernels the median
    counts. Values that are not finite count as what the sum lacks. A kernel that was estimated may have negative values, but
    a filter that sharpens has more than half of 1 in them.
    """
    if not _has_sides_of_kernels(array.shape):
        return False
    values = _finite(array)
    if array.ndim == 2:
        count, distance = 1, abs(float(values.sum()) - 1)
        if 0 < values.sum() < 1 and not np.isfinite(array).all():
            distance = 0.0
    else:
        distances = _distances_from_1(array)
        distance = min(distances)
        count = array.shape[0] if distances[0] <= distances[1] else array.shape[2]
    return distance <= _NEAR and -float(values[values < 0].sum()) <= 0.5 * count


_READERS: dict[str, Callable[[Path], Read]] = {".npy": _read_npy, ".png": _read_png, ".mat": _read_mat}

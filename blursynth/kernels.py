"""Blur kernels: random camera shake of three published families, and banks of measured kernels.

A kernel is a square float32 array of odd side, non-negative, of sum 1, its centroid on the centre pixel, so that the
blurred image stays registered with the sharp one. Kernels are convolved, not correlated: a point of light is imaged as
the kernel, unflipped. A trajectory is the path of that point, (y, x) at equal steps of time, in arbitrary units.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

Trajectory = Float64[np.ndarray, "points 2"]
Kernel = Float32[np.ndarray, "n n"]
Kernels = list[Float32[np.ndarray, "_ _"]]

# ---------------------------------------------------------------- trajectories

ANXIETIES = (
    0.003,
    0.005,
    0.007,
    0.008,
    0.009,
    0.01,
)  # Source: boracchi2012, DeblurGAN@af5ad45 (motion_blur/blur_image.py)


def boracchi_foi(
    rng: np.random.Generator, anxieties: Sequence[float] = ANXIETIES, points: int = 2000, length_px: float = 60.0
) -> Trajectory:
    """A hand that trembles, pulls back to where it started, and now and then jerks; its speed is constant.

        v <- v + J + e (s n - c x) step,    v <- v / |v| step,    x <- x + v,    step = length_px / (points - 1)

    from x = 0, v = e exp(i U[0, 2 pi]), as complex numbers; n is complex standard normal, and J = 2 v exp(i (pi + u)),
    u in U[-1/2, 1/2], with probability p e, else 0. Drawn once: e from `anxieties` (0 gives a straight line), the
    tremor s from U[0, 10], the pull c from U[0, 0.7], p from U[0, 0.2]. `length_px` is that of the whole path, in
    pixels of the published canvas of 64; against it the pull is measured.
    Raises `ValueError` for fewer than two points, a path without length, or a negative anxiety.
    Source: boracchi2012, DeblurGAN@3dbe63b (motion_blur/generate_trajectory.py)
    """
    _check_points("boracchi_foi", points)
    if not length_px > 0:
        raise ValueError(f"boracchi_foi: expected a path length above 0, got {length_px}")
    if not anxieties or min(anxieties) < 0:
        raise ValueError(f"boracchi_foi: expected one or more anxieties of at least 0, got {tuple(anxieties)}")
    anxiety = anxieties[int(rng.integers(len(anxieties)))]
    pull, jerk_probability, tremor, angle = rng.random(4) * (0.7, 0.2, 10.0, 2 * math.pi)
    normal = rng.standard_normal((2, points - 1))
    uniform = rng.random((2, points - 1))

    step = length_px / (points - 1)
    pushes = anxiety * step * tremor * (normal[0] + 1j * normal[1])
    jerks = 2 * np.exp(1j * (math.pi + uniform[1] - 0.5))
    turns = np.where(uniform[0] < jerk_probability * anxiety, 1 + jerks, 1)
    pull = float(pull) * anxiety * step
    # Sequential, since the velocity is normalised at every step; Python's own complex numbers are the fastest here.
    velocity = (anxiety or step) * complex(math.cos(angle), math.sin(angle))
    position = 0j
    path = [position]
    for turn, push in zip(turns.tolist(), pushes.tolist(), strict=True):
        velocity = turn * velocity + push - pull * position
        velocity *= step / abs(velocity)
        position += velocity
        path.append(position)
    complex_path = np.array(path)
    return np.stack((complex_path.imag, complex_path.real), axis=1)


def schmidt(rng: np.random.Generator, points: int = 250) -> Trajectory:
    """A camera drifting and turning in three dimensions, seen along the optical axis.

        r_t = (1 + g) r_(t-1) + g n_t / (t + 1),    v_t = v_(t-1) + m_t / (t + 1),    g = 2 pi / points
        x_t = x_(t-1) + Rz(r_t) Ry(r_t) Rx(r_t) v_t

    with n_t, m_t and v_0 standard normal in three dimensions, r_0 = 0, x_0 = 0. The angles grow by exp(2 pi), about
    500 times, over a trajectory, whatever the number of points: its end curls.
    Raises `ValueError` for fewer than two points.
    Source: schmidt2013, KAIR@f36c972 (utils/utils_deblur.py)
    """
    _check_points("schmidt", points)
    start = rng.standard_normal((3, 1))
    time = np.arange(1, points)
    turn_shocks, drift_shocks = rng.standard_normal((2, 3, points - 1)) / (time + 1)
    gain = 2 * math.pi / points
    growth = (1 + gain) ** time
    angles = growth * np.cumsum(gain * turn_shocks / growth, axis=1)
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(angles), np.cos(angles)
    v_x, v_y, v_z = start + np.cumsum(drift_shocks, axis=1)

    v_y, v_z = cos_x * v_y - sin_x * v_z, sin_x * v_y + cos_x * v_z
    v_x = cos_y * v_x + sin_y * v_z
    v_x, v_y = cos_z * v_x - sin_z * v_y, sin_z * v_x + cos_z * v_y
    trajectory = np.zeros((points, 2))
    np.cumsum(np.stack((v_y, v_x), axis=1), axis=0, out=trajectory[1:])
    return trajectory


def gaussian_process(
    rng: np.random.Generator, length_scale: float = 0.3, std: float = 0.25, period_points: int = 1000
) -> Trajectory:
    """A smooth path: y and x are independent Gaussian processes of Matern-5/2 covariance.

        k(d) = std^2 (1 + a + a^2 / 3) exp(-a),    a = sqrt(5) |d| / length_scale

    The unit of time is the exposure. A process of period 2 pi is sampled by FFT at `period_points` points, and those of
    one exposure are kept. `length_scale` in (0, 1]: the period distorts the covariance of longer ones.
    Raises `ValueError` for fewer than two points in the exposure, or a `length_scale` or `std` out of range.
    Source: schuler2016, deepinv@0252656 (deepinv/physics/generator/blur.py, which calls it Matern 3/2)
    """
    points = int(period_points / (2 * math.pi))
    _check_points("gaussian_process", points)
    if not 0 < length_scale <= 1:
        raise ValueError(f"gaussian_process: expected a length_scale in (0, 1] exposures, got {length_scale}")
    if not std > 0:
        raise ValueError(f"gaussian_process: expected a std above 0, got {std}")
    lag = 2 * math.pi / period_points * np.arange(period_points)
    a = math.sqrt(5) / length_scale * np.minimum(lag, 2 * math.pi - lag)
    covariance = std**2 * (1 + a + a**2 / 3) * np.exp(-a)
    # The kink of the covariance half a period away can push the smallest of its frequencies below 0.
    spectrum = np.fft.rfft(covariance).real.clip(min=0)
    noise = np.fft.rfft(rng.standard_normal((2, period_points)))
    return np.fft.irfft(noise * np.sqrt(spectrum), period_points)[:, :points].T


def _check_points(family: str, points: int) -> None:
    if points < 2:
        raise ValueError(f"{family}: expected at least 2 points of a trajectory, got {points}")


FAMILIES: dict[str, Callable[[np.random.Generator], Trajectory]] = {
    "boracchi_foi": boracchi_foi,
    "schmidt": schmidt,
    "gaussian_process": gaussian_process,
}

# ---------------------------------------------------------------- trajectory -> kernel

_SPACING_PX = 1 / 8  # at most, between splatted points: keeps an oblique line even within 1 %


def rasterise(trajectory: Trajectory, size: int) -> Kernel:
    """The kernel of a trajectory: how long its point of light stays on each of `size` x `size` pixels.

    The trajectory is moved and scaled, alike in y and x, until its centroid lies on the centre pixel and the point
    farthest from it (in y or in x) on the centre of a border pixel. The segments between its points take equal times,
    each spread evenly along the segment, with bilinear weights. Sum 1, centroid at the centre within 1e-5 px.
    Raises `ValueError` for a size that is not odd and at least 3, or a trajectory that does not move.
    """
    _check_size("rasterise", size)
    if len(trajectory) < 2 or not np.isfinite(trajectory).all() or not np.ptp(trajectory, axis=0).any():
        raise ValueError(
            f"rasterise: expected a trajectory of finite positions, at least two of them different, got "
            f"{len(trajectory)} that are not"
        )
    middles = (trajectory[1:] + trajectory[:-1]) / 2
    offsets = trajectory - middles.mean(axis=0)
    radius_px = (size - 1) / 2
    points_px = radius_px + offsets / np.abs(offsets).max() * radius_px

    segments_px = np.diff(points_px, axis=0)
    parts = np.maximum(np.ceil(np.hypot(*segments_px.T) / _SPACING_PX), 1).astype(np.intp)
    segment = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(segment)) - np.repeat(np.cumsum(parts) - parts, parts)
    fraction = (part + 0.5) / parts[segment]
    return _splat(points_px[segment] + fraction[:, None] * segments_px[segment], 1 / parts[segment], size)


def camera_shake(rng: np.random.Generator, family: str, size: int) -> Kernel:
    """A random kernel of one of `FAMILIES`, with its published parameters, that spans `size` pixels.

    Raises `ValueError` for an unknown family or a size that is not odd and at least 3.
    """
    _check_size("camera_shake", size)
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f"camera_shake: expected a family out of {', '.join(FAMILIES)}, got {family!r}{hint}")
    return rasterise(FAMILIES[family](rng), size)


def pad(kernel: Kernel, size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """The kernel amid zeros, `size` x `size`.

    Raises `ValueError` when the size is even or smaller than the kernel, or the kernel has an even side.
    """
    _check_size("pad", size)
    if len(kernel) > size or len(kernel) % 2 == 0:
        raise ValueError(f"pad: expected a kernel of odd side up to {size} px, got {len(kernel)} px")
    return np.pad(kernel, (size - len(kernel)) // 2)


def _check_size(of: str, size: int) -> None:
    if size < 3 or size % 2 == 0:
        raise ValueError(f"{of}: expected a kernel size in pixels that is odd and at least 3, got {size}")


def _splat(positions_px: Float64[np.ndarray, "k 2"], weights: Float64[np.ndarray, " k"], size: int) -> Kernel:
    """Points shared out among the four pixels around each, which keeps their centroid; normalised to sum 1."""
    positions_px = positions_px.clip(0, size - 1)  # rounding only
    corner = positions_px.astype(np.intp).clip(max=max(size - 2, 0))  # on the far border: the pixel before, share 0
    low_y, low_x = (1 - (positions_px - corner)).T
    index = corner[:, 0] * size + corner[:, 1]
    cells = np.concatenate((index, index + 1, index + size, index + size + 1))
    shares = np.concatenate((low_y * low_x, low_y * (1 - low_x), (1 - low_y) * low_x, (1 - low_y) * (1 - low_x)))
    times = np.bincount(cells, shares * np.tile(weights, 4), size * size)[: size * size].reshape(size, size)
    kernel: Kernel = (times / times.sum()).astype(np.float32)
    return kernel


# ---------------------------------------------------------------- measured kernels

LARGEST_PX = 255  # side of a measured kernel; also keeps photographs that lie beside the kernels out

_NUMBERS = "buif"  # kinds of dtype
_RULE = f"a 2-D array, finite, non-negative, of sum 1 within 5 %, 3 to {LARGEST_PX} px a side"


def centred(kernel: np.ndarray, of: str = "kernel") -> Kernel:
    """A measured kernel of any shape and scale, normalised, its centroid moved onto the centre pixel.

    The move is bilinear, which adds up to 1/4 px^2 of variance in y and in x. The result has the smallest odd side that
    holds every pixel above 0. `of` names the kernel in messages.
    Raises `ValueError` unless the array is 2-D, at most `LARGEST_PX` a side, finite, non-negative and not all zero.
    """
    if kernel.ndim != 2 or kernel.dtype.kind not in _NUMBERS or not kernel.size or max(kernel.shape) > LARGEST_PX:
        raise ValueError(
            f"{of}: expected a kernel as a 2-D array of numbers, 1 to {LARGEST_PX} px a side, got {kernel.dtype} "
            f"of shape {kernel.shape}; crop or convert it"
        )
    if not np.isfinite(kernel).all() or kernel.min() < 0 or kernel.max() == 0:
        raise ValueError(
            f"{of}: expected a kernel of finite, non-negative values that are not all 0, got values from "
            f"{kernel.min()} to {kernel.max()}; repair or remove it"
        )
    positions_px = np.argwhere(kernel)
    weights = kernel[kernel > 0].astype(np.float64)
    weights /= weights.max()  # the sum of the values as they came might overflow
    # Rounded, since an error in the last digit would give a symmetric kernel another rim of pixels.
    offsets_px = positions_px - np.round(weights @ positions_px / weights.sum(), 6)
    radius_px = math.ceil(np.abs(offsets_px).max())
    return _splat(offsets_px + radius_px, weights, 2 * radius_px + 1)


def read_bank(path: Path | str) -> Kernels:
    """Every kernel of a file, or of the .npy, .png and .mat files of a folder in the order of their names, `centred`.

    .npy: one kernel (h w) or several (n h w).  .png: one kernel, grey, 8 or 16 bit.  .mat, up to version 7.3: whatever
    in it, in cells and structs too, is a 2-D array, finite, non-negative, of sum 1 within 5 % and 3 to `LARGEST_PX`
    pixels a side; the rest of such a file (images, settings) is passed over, as are a folder's hidden files, folders
    and files of other types. No file can make code run.
    Raises `ValueError` that names the file if one is broken or holds no kernel, and if there is no file.
    """
    path = Path(path)
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in _READERS and f.is_file() and f.name[0] != "."]
    else:
        files = [path] if path.is_file() and path.suffix.lower() in _READERS else []
    if not files:
        raise ValueError(f"{path}: expected a file of kernels ({', '.join(_READERS)}) or a folder of such, found none")
    bank = []
    for file in files:
        try:
            arrays = _READERS[file.suffix.lower()](file)
        except Exception as error:  # on broken files the readers of all three formats raise whatever comes up
            raise ValueError(
                f"{file}: expected a readable {file.suffix} file, got {type(error).__name__} ({error}); "
                "copy or export it again"
            ) from error
        bank += [centred(array, f"{file}, kernel {place}") for place, array in enumerate(arrays, 1)]
        if not arrays:
            raise ValueError(f"{file}: expected at least one kernel ({_RULE}), found none; save them as .npy (n h w)")
    return bank


def _read_npy(path: Path) -> list[np.ndarray]:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a false header cannot claim memory
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
    """The arrays of numbers in a variable of a version 5 file, the cells in MATLAB's order."""
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
    """The arrays of numbers in a variable or group of a version 7.3 file; `seen` ends a circle of references."""
    address = h5py.h5o.get_info(node.id).addr
    if address in seen:
        return
    seen.add(address)
    if isinstance(node, h5py.Group):
        for name in node:
            # "#refs#" holds the cells, reached through their variables; soft and external links lead out of the file.
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
    """`_RULE`. From 3 px on, since a number 1 or a list of weights is no kernel."""
    if array.ndim != 2 or array.dtype.kind not in _NUMBERS or min(array.shape) < 3 or max(array.shape) > LARGEST_PX:
        return False
    return bool(np.isfinite(array).all() and array.min() >= 0 and abs(array.sum(dtype=np.float64) - 1) <= 0.05)


_READERS: dict[str, Callable[[Path], list[np.ndarray]]] = {".npy": _read_npy, ".png": _read_png, ".mat": _read_mat}

"""Banks of measured kernels: real, odd and broken files, none of which may run code."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from isp.light import raster
from isp.light.bank import centred, read_bank
from isp.rng import generator

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "kernels"
real_files = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real kernels are not at {DATA}")
seeds = st.integers(0, 2**32)


def measured(seed: int = 0, shape: tuple[int, int] = (9, 7)) -> np.ndarray:
    """A lopsided kernel of sum 1."""
    kernel = generator(seed, 0, "measured").random(shape)
    kernel[: shape[0] // 2] *= 4
    return np.asarray(kernel / kernel.sum())


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 20), st.integers(1, 20), st.sampled_from([1e-6, 1.0, 255.0]))
def test_centred_moves_the_centroid_and_nothing_else(
    assert_kernel: Callable[..., None], seed: int, height: int, width: int, scale: float
) -> None:
    given_kernel = measured(seed, (height, width))
    kernel = centred(given_kernel * scale)
    assert_kernel(kernel, len(kernel), centred_within_px=2e-5)
    assert kernel[1:-1, 1:-1].sum() < kernel.sum() or len(kernel) == 1
    for axis in (0, 1):  # variance grows by f (1 - f), f the sub-pixel part of the move
        place = np.arange(given_kernel.shape[axis])
        profile, moved = given_kernel.sum(axis=1 - axis), kernel.sum(axis=1 - axis, dtype=np.float64)
        mean = profile @ place
        before = profile @ (place - mean) ** 2
        after = moved @ (np.arange(len(kernel)) - len(kernel) // 2) ** 2
        assert after - before == pytest.approx((mean % 1) * (1 - mean % 1), abs=1e-3)


def test_centred_leaves_a_centred_kernel_alone() -> None:
    kernel = raster.camera_shake(generator(40, 0, "kernel"), "schmidt", 19)
    symmetric = kernel + kernel[::-1, ::-1]
    np.testing.assert_allclose(centred(symmetric), symmetric / symmetric.sum(), atol=1e-7)
    np.testing.assert_allclose(centred(raster.pad(symmetric, 31)), symmetric / symmetric.sum(), atol=1e-7)


def test_centred_moves_by_whole_pixels_exactly() -> None:
    kernel = np.zeros((8, 10))
    kernel[1, 2:5] = [0.25, 0.5, 0.25]
    assert centred(kernel).tolist() == [[0, 0, 0], [0.25, 0.5, 0.25], [0, 0, 0]]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.zeros((5, 5)), "of finite, non-negative values that are not all 0, got values from 0.0 to 0.0"),
        (np.eye(3) - 0.1, "of finite, non-negative values that are not all 0, got values from -0.1 to 0.9"),
        (np.full((3, 3), np.nan), "of finite, non-negative values that are not all 0, got values from nan to nan"),
        (np.array([[1, np.inf]]), "of finite, .* got values from 1.0 to inf"),
        (np.ones(5), r"as a 2-D array of numbers, 1 to 255 px a side, got float64 of shape \(5,\)"),
        (np.ones((5, 5, 3)), r"as a 2-D array of numbers, .* of shape \(5, 5, 3\); crop or convert it"),
        (np.ones((256, 3)), r"as a 2-D array of numbers, 1 to 255 px a side, got float64 of shape \(256, 3\)"),
        (np.ones((0, 3)), r"as a 2-D array of numbers, 1 to 255 px a side, got float64 of shape \(0, 3\)"),
        (np.ones((3, 3), complex), r"as a 2-D array of numbers, .* got complex128"),
    ],
)
def test_what_is_no_kernel_is_refused_by_name(kernel: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match="^bank.npy: expected a kernel " + message):
        centred(kernel, "bank.npy")


def write_npy(path: Path, kernel: np.ndarray) -> None:
    np.save(path, kernel)


def write_npy_stack(path: Path, kernel: np.ndarray) -> None:
    np.save(path, kernel[None])


def write_png_8(path: Path, kernel: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.round(kernel / kernel.max() * 255).astype(np.uint8))


def write_png_16(path: Path, kernel: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.round(kernel / kernel.max() * 65535).astype(np.uint16))


# What lies beside kernels in .mat files and is none: an image, numbers, lists, a matrix with a negative value, text.
BYSTANDERS = {
    "image": np.full((40, 40), 0.5),
    "version": np.ones((1, 1)),
    "weights": np.full((1, 4), 0.25),
    "laplacian": np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "large": np.full((256, 256), 1 / 65536),
}


def write_mat_5(path: Path, kernel: np.ndarray) -> None:
    scipy.io.savemat(path, BYSTANDERS | {"f": kernel, "note": "hand shake"})


def write_mat_5_cell(path: Path, kernel: np.ndarray) -> None:
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = np.ones((3, 2)), kernel
    scipy.io.savemat(path, BYSTANDERS | {"bank": {"kernels": cell, "n": 1}})


def write_mat_73(path: Path, kernel: np.ndarray) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in (BYSTANDERS | {"f": kernel}).items():
            file[name] = array.T
        file["note"] = np.frombuffer(b"hand shake", np.uint8).astype(np.uint16)[:, None]


def write_mat_73_cell(path: Path, kernel: np.ndarray) -> None:
    """A cell in a struct, as MATLAB writes it; it also holds itself and an empty reference."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["#refs#/a"] = kernel.T
        cell = file.create_dataset("bank/kernels", (3, 1), h5py.ref_dtype)
        cell[0, 0], cell[1, 0] = file["#refs#/a"].ref, cell.ref


WRITERS = {
    "8bit.png": (write_png_8, 4e-3),
    "16bit.png": (write_png_16, 2e-5),
    "one.npy": (write_npy, 1e-7),
    "stack.npy": (write_npy_stack, 1e-7),
    "five.mat": (write_mat_5, 1e-7),
    "five_cell.MAT": (write_mat_5_cell, 1e-7),
    "seven.mat": (write_mat_73, 1e-7),
    "seven_cell.mat": (write_mat_73_cell, 1e-7),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_kernel_is_read_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    """The right way up: the kernel is neither symmetric nor square."""
    write, tolerance = WRITERS[name]
    write(tmp_path / name, measured())
    bank = read_bank(str(tmp_path / name))
    assert len(bank) == 1
    np.testing.assert_allclose(bank[0], centred(measured()), atol=tolerance)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    write_npy(tmp_path / "b.npy", np.stack([measured(2), measured(3)]))
    write_mat_73(tmp_path / "c.mat", measured(4))
    write_png_16(tmp_path / "a.png", measured(1))
    (tmp_path / "README.txt").write_text("kernels")
    (tmp_path / "._a.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "folder.npy").mkdir()
    bank = read_bank(tmp_path)
    assert len(bank) == 4
    for seed, kernel in enumerate(bank, 1):
        np.testing.assert_allclose(kernel, centred(measured(seed)), atol=2e-5)


def test_cells_keep_their_order(tmp_path: Path) -> None:
    """The order of MATLAB, column by column; in version 7.3 the names of the cells say nothing about it."""
    cell = np.empty((2, 2), object)
    for place in range(4):
        cell.T.flat[place] = measured(place)
    scipy.io.savemat(tmp_path / "5.mat", {"kernels": cell})
    with h5py.File(tmp_path / "7.mat", "w", userblock_size=512) as file:
        references = file.create_dataset("kernels", (2, 2), h5py.ref_dtype)
        for place, name in enumerate("dacb"):
            file[f"#refs#/{name}"] = measured(place).T
            references[divmod(place, 2)] = file[f"#refs#/{name}"].ref
    for name in ("5.mat", "7.mat"):
        bank = read_bank(tmp_path / name)
        assert len(bank) == 4
        for place, kernel in enumerate(bank):
            np.testing.assert_allclose(kernel, centred(measured(place)), atol=1e-7)


def break_by_cutting(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def break_by_noise(whole: bytes) -> bytes:
    return generator(0, 0, "noise").bytes(len(whole))


def break_by_emptying(whole: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("break_file", [break_by_cutting, break_by_noise, break_by_emptying])
def test_a_broken_file_is_named(tmp_path: Path, name: str, break_file: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    WRITERS[name][0](path, measured())
    path.write_bytes(break_file(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected a readable {path.suffix} file, got ")) as caught:
        read_bank(path)
    assert str(caught.value).endswith("copy or export it again")


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("inside", ["an array of objects", "nothing but a pickle"])
def test_a_pickle_is_never_opened(tmp_path: Path, inside: str) -> None:
    trap = Trap(tmp_path / "sprung")
    if inside == "an array of objects":
        np.save(tmp_path / "trap.npy", np.array([[trap]], object), allow_pickle=True)
    else:
        (tmp_path / "trap.npy").write_bytes(pickle.dumps(trap))
    with pytest.raises(ValueError, match=r"trap.npy: expected a readable .npy file"):
        read_bank(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "trap.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # the trap is one


def test_an_archive_under_a_false_name_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bank.npz", measured())
    (tmp_path / "bank.npz").rename(tmp_path / "bank.npy")
    with pytest.raises(ValueError, match=r"bank.npy: expected a readable .npy file, got TypeError \(an archive"):
        read_bank(tmp_path)


@pytest.mark.parametrize("write", [write_mat_5, write_mat_73])
def test_a_mat_file_without_a_kernel_says_what_a_kernel_is(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    for kernel in (1.06 * measured(), 0.94 * measured()):
        write(tmp_path / "bank.mat", kernel)
        with pytest.raises(ValueError, match=r"bank.mat: expected at least one kernel .* of sum 1 within 5 %, 3 to"):
            read_bank(tmp_path)
    write(tmp_path / "bank.mat", 1.04 * measured())
    assert len(read_bank(tmp_path)) == 1


def test_a_bad_kernel_is_named_with_its_file_and_place(tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.stack([measured(), -measured()]))
    with pytest.raises(ValueError, match=r"bank.npy, kernel 2: expected a kernel of finite, non-negative values"):
        read_bank(tmp_path)


def test_a_colour_image_is_no_kernel(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "photo.png"), np.full((9, 9, 3), 7, np.uint8))
    with pytest.raises(
        ValueError, match=r"photo.png: expected a readable .png file, got a picture with colours or trans"
    ):
        read_bank(tmp_path)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no kernels")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing.npy"):
        expected = re.escape(f"{path}: expected a file of kernels (.npy, .png, .mat) or a folder of such, found none")
        with pytest.raises(ValueError, match=expected):
            read_bank(path)


@real_files
def test_levin_2009(assert_kernel: Callable[..., None], centroid_offset_px: Callable[[np.ndarray], np.ndarray]) -> None:
    """Eight kernels, off centre by up to 4.4 px as published and centred here."""
    bank = read_bank(DATA / "Levin09.mat")
    assert len(bank) == 8
    for kernel in bank:
        assert_kernel(kernel, len(kernel), centred_within_px=2e-5)
    with h5py.File(DATA / "Levin09.mat") as file:
        raw = [file[reference][()].T for reference in file["kernels"][()].ravel()]
    assert [len(kernel) for kernel in raw] == [19, 17, 15, 27, 13, 21, 23, 23]
    np.testing.assert_allclose(centroid_offset_px(raw[5]), [-3.3, 2.9], atol=0.05)
    for kernel, before in zip(bank, raw, strict=True):
        np.testing.assert_allclose(kernel, centred(before), atol=1e-7)


@real_files
def test_levin_2009_from_two_versions_of_mat() -> None:
    """The four kernels beside images (version 5) are the first four of the cell (version 7.3), the same way up."""
    from_cell = read_bank(DATA / "Levin09.mat")
    beside_images = read_bank(DATA / "levin32")
    assert len(beside_images) == 8
    for index, kernel in enumerate(beside_images):
        np.testing.assert_allclose(kernel, from_cell[index % 4], atol=1e-7)


@real_files
def test_twelve_kernels_of_a_cell(assert_kernel: Callable[..., None]) -> None:
    bank = read_bank(DATA / "kernels_12.mat")
    assert len(bank) == 12
    for kernel in bank:
        assert_kernel(kernel, len(kernel), centred_within_px=2e-5)

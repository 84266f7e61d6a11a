"""Files of `torch.save`: read whole, with their checksums, and without running anything in them.

`torch.load(weights_only=True)` is not strict enough for files from elsewhere: it does not look at the checksums in the file,
its older versions believe the sizes that the file claims, and what may be called beside tensors can take any memory. Here a
file holds tensors, plain containers, numbers, texts, and arrays and numbers of NumPy; all of them lie on the CPU.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isp.files import pickles, places
from isp.files.pickles import Unfinished, checked_key

MOST_BYTES = 2 * 2**30  # of the tensors in one file
_PIECE = 2**24  # bytes that are read at once
_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a file from before PyTorch 1.6
_MOST_DIMENSIONS = 32


def read(path: Path, expected: str, remedy: str) -> Any:
    """Return what `torch.save` wrote to `path`. Tensors are dense; they share memory if they did so when they were saved.

    `expected` says what should be in the file, and `remedy` what to do if it is not.
    Raises `FileNotFoundError` if there is no file, and `ValueError` if it is damaged, no file of `torch.save`, larger than
    `MOST_BYTES`, or if it holds anything else than its format allows.
    """
    size = places.check_regular(path, expected)
    try:
        if size > MOST_BYTES + pickles.MOST_BYTES:
            raise ValueError(f"{size:,} bytes; at most {MOST_BYTES:,} are read")
        with path.open("rb") as file:
            return _read_zip(file, size) if file.read(4) == b"PK\x03\x04" else _read_legacy(file, size)
    except MemoryError:
        raise
    except Exception as cause:  # a damaged file raises whatever its reader meets first
        raise ValueError(
            f"{path}: expected {expected} as torch.save writes it, got {_reason(cause)}; {remedy}"
        ) from cause


def _reason(cause: Exception) -> str:
    first_line = str(cause).partition("\n")[0]
    if isinstance(cause, OSError):
        return f"an error ({cause.strerror})"
    if isinstance(cause, EOFError):
        return "a file that ends too early"
    if isinstance(cause, zipfile.BadZipFile):
        return f"a damaged archive ({first_line})"
    return first_line if isinstance(cause, ValueError) else f"something else ({type(cause).__name__} {first_line:.80})"


# ---------------------------------------------------------------- the two kinds of files


class _Archive:
    """The members of a ZIP archive, none of which is larger than it is in the file."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        self.members = {member.filename: member for member in archive.infolist()}
        if any(name.endswith("/constants.pkl") for name in self.members):
            raise ValueError("a TorchScript program")
        for name, member in self.members.items():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"an archive with a compressed member, {name:.80}")
        # Members that overlap could make a small file large.
        if len(self.members) < len(archive.infolist()) or sum(map(self.size_of, self.members)) > size:
            raise ValueError("an archive whose members overlap")

    def size_of(self, name: str) -> int:
        return self.members[name].file_size

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the content of a member. Raises `zipfile.BadZipFile` after its last piece if its checksum differs."""
        with self.archive.open(self.members[name]) as stream:
            while piece := stream.read(_PIECE):
                yield piece


def _read_zip(file: io.BufferedReader, size: int) -> Any:
    """Read an archive: the pickle "NAME/data.pkl", and the values of each storage in "NAME/data/KEY"."""
    with zipfile.ZipFile(file) as opened:
        archive = _Archive(opened, size)
        pickle = next((name for name in archive.members if name.endswith("/data.pkl")), None)
        if pickle is None:
            raise ValueError("an archive without a data.pkl")
        if archive.size_of(pickle) > pickles.MOST_BYTES:
            raise ValueError(f"a pickle of {archive.size_of(pickle):,} bytes; at most {pickles.MOST_BYTES:,} are read")
        root = pickle.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.members and next(archive.pieces(order), b"") != b"little":
            raise ValueError("tensors in another order of bytes")
        storages: dict[str, _Storage] = {}

        def stored(place: Any) -> _Storage:
            key, dtype, count = _storage_place(place)
            name = f"{root}data/{key}"
            if name not in archive.members:
                raise ValueError(f"a tensor without its values, {name:.80}")
            if name not in storages:
                storages[name] = _Storage.empty(dtype, count, archive.size_of(name), exact=True)
                for number, piece in enumerate(archive.pieces(name)):
                    storages[name].buffer[number * _PIECE : number * _PIECE + len(piece)] = piece
            return storages[name].checked(dtype, count)

        found = _unpickled(io.BytesIO(b"".join(archive.pieces(pickle))), stored)
        for name in archive.members.keys() - storages.keys():  # nothing refers to them, but no damaged file passes
            for _ in archive.pieces(name):
                pass
    for storage in storages.values():
        storage.check_values()
    return found


def _read_legacy(file: io.BufferedReader, size: int) -> Any:
    """Read a file from before PyTorch 1.6: five pickles, then the values of each storage, which no checksum protects."""
    file.seek(0)
    head = io.BytesIO(file.read(pickles.MOST_BYTES))
    storages: dict[str, _Storage] = {}
    left = size

    def stored(place: Any) -> _Storage:
        nonlocal left
        key, dtype, count = _storage_place(place)
        if key not in storages:
            storages[key] = _Storage.empty(dtype, count, left, exact=False)
            left -= len(storages[key].buffer)
        return storages[key].checked(dtype, count)

    if _unpickled(head, stored) != _MAGIC:
        raise ValueError("another kind of file")
    _unpickled(head, stored)
    system = _unpickled(head, stored)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("tensors in another order of bytes")
    found = _unpickled(head, stored)
    keys = _unpickled(head, stored)
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise ValueError("another list of storages than its tensors have")
    file.seek(head.tell())
    for key in keys:
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.values.numel():
            raise ValueError(f"the storage {key:.80} in another size than its tensors have")
        if file.readinto(storage.buffer) < len(storage.buffer):
            raise ValueError(f"the storage {key:.80} cut short")
        storage.check_values()
    return found


def _storage_place(place: Any) -> tuple[str, torch.dtype, int]:
    """Return (key, type, number of values) of what a pickle leaves to the storages."""
    if (
        not isinstance(place, tuple)
        or len(place) not in (5, 6)
        or place[0] != "storage"
        or place[5:] not in ((), (None,))
    ):
        raise ValueError("a reference to something else than a storage")
    _, dtype, key, _device, count = place[:5]
    if not isinstance(key, str) or not isinstance(dtype, torch.dtype):
        raise ValueError("a storage without a name or a type")
    return key, dtype, _whole(count)


@dataclass(frozen=True)
class _Storage:
    """The memory of one or more tensors: `values` is a 1-D tensor over `buffer`."""

    buffer: bytearray
    values: Tensor

    @staticmethod
    def empty(dtype: torch.dtype, count: int, available: int, *, exact: bool) -> _Storage:
        """Return room for `count` values of `dtype`. Raises `ValueError` if the file has not that many bytes for them."""
        wanted = count * dtype.itemsize
        if wanted > available or (exact and wanted != available):
            raise ValueError(f"a storage of {wanted:,} bytes, for which the file has {available:,}")
        if wanted > MOST_BYTES:
            raise ValueError(f"a storage of {wanted:,} bytes; at most {MOST_BYTES:,} are read")
        buffer = bytearray(wanted)
        return _Storage(
            buffer, torch.frombuffer(buffer, dtype=dtype) if count else torch.empty(0, dtype=dtype, device="cpu")
        )

    def checked(self, dtype: torch.dtype, count: int) -> _Storage:
        """Return the storage. Raises `ValueError` if it was made with another type or number of values."""
        if self.values.dtype != dtype or self.values.numel() != count:
            raise ValueError("one storage in two types or sizes")
        return self

    def check_values(self) -> None:
        """Raise `ValueError` for truth values that are neither 0 nor 1."""
        if self.values.dtype == torch.bool and max(self.buffer, default=0) > 1:
            raise ValueError("truth values other than 0 and 1")


# ---------------------------------------------------------------- what a pickle may name


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{type(value).__name__} {value!r:.40} as a size")
    return value


def _wholes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _MOST_DIMENSIONS:
        raise ValueError(f"{type(values).__name__} as the shape of a tensor")
    return tuple(map(_whole, values))


def _tensor(storage: Any, offset: Any, shape: Any, steps: Any, *_rest: Any) -> Tensor:
    """Return the view of a storage that a tensor is. Raises `ValueError` if it reaches beyond the storage."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    start, sides, strides = _whole(offset), _wholes(shape), _wholes(steps)
    if len(sides) != len(strides):
        raise ValueError("a tensor with another number of steps than sides")
    last = start + sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
    if math.prod(sides) and last >= storage.values.numel():
        raise ValueError(f"a tensor of {last + 1:,} values in a storage of {storage.values.numel():,}")
    if start > storage.values.numel():
        raise ValueError("a tensor behind the end of its storage")
    return storage.values.as_strided(sides, strides, start)


def _tensor_of_type(
    storage: Any, offset: Any, shape: Any, steps: Any, _gradient: Any, _hooks: Any, dtype: Any, *_rest: Any
) -> Tensor:
    """Return a tensor whose storage has bytes, as newer types have."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype) or len(storage.buffer) % dtype.itemsize:
        raise ValueError("a tensor without a storage of its type")
    return _tensor(_Storage(storage.buffer, storage.values.view(dtype)), offset, shape, steps)


def _parameter(data: Any, *_rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError(f"a parameter out of {type(data).__name__}")
    return data


def _refused(kind: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise ValueError(kind)

    return refuse


def _mapping(content: Any = ()) -> dict[Any, Any]:
    """Return what an OrderedDict or a Counter holds."""
    if not isinstance(content, dict | list | tuple):
        raise ValueError(f"a dictionary out of {type(content).__name__}")
    items = list(content.items()) if isinstance(content, dict) else content
    if not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        raise ValueError("a dictionary out of something else than keys and values")
    return {checked_key(key): value for key, value in items}


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that older pickles hold as a text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown form")
    return text.encode("latin1")


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise ValueError(f"a set out of {type(items).__name__}")
    return set(map(checked_key, items))


def _complex(real: Any, imaginary: Any) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise ValueError("a complex number out of something else than two numbers")
    return complex(real, imaginary)


# ---------------------------------------------------------------- NumPy

_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_ORDERS = ("<", ">", "|", "=")


class _NumpyType(Unfinished):
    """A type of numbers; its order of bytes follows. It never becomes another type."""

    def __init__(self, code: Any = None, *_flags: Any) -> None:
        if code not in _CODES:
            raise ValueError(f"values of the NumPy type {code!r:.40}, which are no numbers")
        self.code = code

    def finished(self, state: Any) -> np.dtype[Any]:
        plain = (None, None, None, -1, -1, 0)  # no fields, no sub-array, no objects
        if type(state) is not tuple or state[:1] != (3,) or state[1:2] not in [(each,) for each in _ORDERS]:
            raise ValueError("a NumPy type in an unknown form")
        if state[2:] != plain:
            raise ValueError("a NumPy type that is no plain number")
        dtype: np.dtype[Any] = np.dtype(self.code).newbyteorder(state[1])
        return dtype


def _numbers(data: Any, dtype: Any, shape: Sequence[int], order: str = "C") -> np.ndarray:
    """Return an array over `data`. Raises `ValueError` unless the bytes are exactly as many as the array has."""
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes | bytearray):
        raise ValueError("an array of NumPy without bytes or without a type")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of NumPy of {math.prod(shape):,} numbers in {len(data):,} bytes")
    if not data:
        return np.empty(tuple(shape), dtype)
    return np.frombuffer(data, dtype).reshape(tuple(shape), order="F" if order == "F" else "C")


class _Array(Unfinished):
    """An array of NumPy whose shape, type and bytes follow."""

    def __init__(self, *_: Any) -> None:
        pass

    def finished(self, state: Any) -> np.ndarray:
        if type(state) is not tuple or len(state) != 5 or state[0] != 1:
            raise ValueError("an array of NumPy in an unknown form")
        _, shape, dtype, by_columns, data = state
        return _numbers(data, dtype, _wholes(shape), "F" if by_columns is True else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _numbers(data, dtype, _wholes(shape), order)


def _number(dtype: Any, data: Any) -> Any:
    return _numbers(data, dtype, ())[()]


_STORED_TYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
TYPES = (*_STORED_TYPES.values(), torch.uint16, torch.uint32, torch.uint64)

VALUES: dict[str, Any] = {
    **{f"torch.{name}Storage": dtype for name, dtype in _STORED_TYPES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
    **{str(dtype): dtype for dtype in TYPES},
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_sparse_tensor": _refused("a sparse tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refused("a tensor without values, of the device meta"),
    "torch._utils._rebuild_nested_tensor": _refused("a nested tensor"),
    "torch._utils._rebuild_wrapper_subclass": _refused("a tensor of a special class"),
    "torch._tensor._rebuild_from_type_v2": _refused("a tensor of a special class"),
    "torch.serialization._get_layout": lambda *_: None,  # beside a sparse tensor, which is refused
    "torch.Size": lambda sides=(): _wholes(sides),
    "torch.device": lambda *_: None,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "_codecs.encode": _encoded,
    **{f"{module}.bytes": lambda: b"" for module in ("builtins", "__builtin__")},
    **{f"{module}.set": _set for module in ("builtins", "__builtin__")},
    **{f"{module}.complex": _complex for module in ("builtins", "__builtin__")},
    "numpy.dtype": _NumpyType,
    "numpy.ndarray": _refused("an array of NumPy that the file makes by itself"),
    **{f"{module}.multiarray._reconstruct": _Array for module in ("numpy.core", "numpy._core")},
    **{f"{module}.multiarray.scalar": _number for module in ("numpy.core", "numpy._core")},
    **{f"{module}.numeric._frombuffer": _array for module in ("numpy.core", "numpy._core")},
}


def _unpickled(stream: io.BytesIO, stored: Callable[[Any], Any]) -> Any:
    return pickles.read(stream, VALUES, FUNCTIONS, stored)

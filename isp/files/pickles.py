"""Pickles, read without running anything in them.

A pickle is a program: it may call what it likes. Here `pickletools`, which only describes the operations of a pickle, reads
them, and `read` follows them with a table of our own functions in place of everything that a pickle may name.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Of one pickle. The published checkpoints of ParamISP take 0.1 MB and 6,000 operations.
MOST_BYTES = 16 * 2**20
_MOST_OPERATIONS = 2_000_000
_MOST_COPIED = 4 * MOST_BYTES  # characters and elements that calls may take, because a call may copy what it takes

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"BINGET", "LONG_BINGET"}
# Tuples are not among them, because hashing a tuple within tuples, a million levels deep, overflows the stack.
_KEYS = (str, bytes, int, float, type(None), np.generic)


class Unfinished:
    """What a function of the table returns for a value whose content follows later in the pickle."""

    def finished(self, state: Any) -> Any:
        """Return the value. Raises `ValueError` if `state` is not its content."""
        raise NotImplementedError


class _Named:
    """A function of the table on the stack."""

    def __init__(self, name: str) -> None:
        self.name = name


def read(
    stream: io.BytesIO,
    values: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    stored: Callable[[Any], Any],
) -> Any:
    """Return the value of the pickle that begins at the position of `stream`, and leave `stream` behind its end.

    `values` and `functions` hold all that the pickle may name ("torch.FloatStorage"). A call gets plain values, and what
    such calls returned. `stored` returns what the pickle leaves to its container. Keys and elements of sets are texts,
    bytes and numbers.

    Raises `ValueError`, `TypeError` or `LookupError`, each with a sentence of any form, for everything else.
    """
    machine = _Machine(values, functions, stored)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= _MOST_OPERATIONS:
            raise ValueError(f"more than {_MOST_OPERATIONS:,} operations")
        machine.follow(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(
        self, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]], stored: Callable[[Any], Any]
    ) -> None:
        self.values, self.functions, self.stored = values, functions, stored
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.places: dict[int, list[int]] = {}  # of unfinished values in the memo, by their id
        self.copied = 0

    def follow(self, name: str, argument: Any) -> None:
        """Follow one operation. Raises `ValueError` if no tensor, plain container or number needs it."""
        stack = self.stack
        if name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in _PUT:
            self._put(len(self.memo) if argument is None else argument)
        elif name in _GET:
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif name == "TUPLE":
            self._add(tuple(self._since_mark()))
        elif name == "APPEND":
            self._fill(list, [stack.pop()])
        elif name == "APPENDS":
            self._fill(list, self._since_mark())
        elif name == "ADDITEMS":
            self._fill(set, self._since_mark())
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._fill(dict, [key, value])
        elif name == "SETITEMS":
            self._fill(dict, self._since_mark())
        elif name == "GLOBAL":
            self._name(argument.replace(" ", "."))
        elif name == "STACK_GLOBAL":
            leaf, module = stack.pop(), stack.pop()
            self._name(f"{module}.{leaf}")
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._called(function, arguments))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name == "BINPERSID":
            stack.append(self.stored(stack.pop()))
        else:
            raise ValueError(f"the operation {name}, which tensors and plain values do not need")

    def _add(self, value: Any) -> None:
        self.stack.append(value)

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _put(self, place: int) -> None:
        value = self.memo[place] = self.stack[-1]
        if isinstance(value, Unfinished):
            self.places.setdefault(id(value), []).append(place)

    def _fill(self, kind: type, items: list[Any]) -> None:
        """Add `items` to the container on top of the stack; those of a dictionary are keys and values in turn."""
        container: Any = self.stack[-1]
        found = type(container)
        if found is not kind:
            raise ValueError(f"a {found.__name__} that is filled like a {kind.__name__}")
        if kind is list:
            container.extend(items)
        elif kind is set:
            container.update(map(checked_key, items))
        else:
            container.update(zip(map(checked_key, items[::2]), items[1::2], strict=True))

    def _name(self, name: str) -> None:
        if name in self.values:
            self.stack.append(self.values[name])
        elif name in self.functions:
            self.stack.append(_Named(name))
        else:
            raise ValueError(f"{name:.80}, which is neither a tensor nor a plain value")

    def _called(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Named or type(arguments) is not tuple:
            raise ValueError(f"a call of {type(function).__name__}, which is no function")
        self._charge(*arguments)
        return self.functions[function.name](*arguments)

    def _charge(self, *taken: Any) -> None:
        self.copied += 1 + sum(len(each) for each in taken if hasattr(each, "__len__") and not hasattr(each, "shape"))
        if self.copied > _MOST_COPIED:
            raise ValueError("the same values again and again")

    def _build(self, state: Any) -> None:
        """Finish the value on top of the stack, here and in the memo. Attributes of dictionaries are left out."""
        value = self.stack[-1]
        if isinstance(value, Unfinished):
            self._charge(*state)
            finished = self.stack[-1] = value.finished(state)
            for place in self.places.pop(id(value), ()):
                self.memo[place] = finished
        elif type(value) is not dict:
            raise ValueError(f"attributes of a {type(value).__name__}")


def checked_key(value: Any) -> Any:
    """Return `value`. Raises `ValueError` unless it is a text or a number, as keys and elements of sets are."""
    if not isinstance(value, _KEYS):
        raise ValueError(f"a {type(value).__name__} as a key; expected a text or a number")
    if isinstance(value, int) and abs(value) >= 2**63:  # many of them can share one hash, which takes for ever
        raise ValueError("a number of more than 64 bits as a key")
    return value

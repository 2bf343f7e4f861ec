"""Reading a foreign pickle without running it: numbers, text, containers and arrays come out, and nothing else can.

The opcodes are interpreted here, by a machine that has no way to import or call anything. A call is done only where
`_CALLS` has our own version of it (numpy's arrays, types and scalars); a few more give an inert `Record`. Any other is
refused, and named.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.errors import FileError
from nimbleq.files import read_bytes
from nimbleq.types import Array

_MAX_BYTES = 64 << 20
_BAD = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    AttributeError,
    MemoryError,
    RecursionError,
)
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16))")
_INERT = ("stable_baselines3.", "gymnasium.", "gym.", "numpy.random.")
"""Modules whose objects become a `Record`."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Record:
    """An object that was not made: what it is an object of, and the state that it would have been given."""

    name: Name
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Array:
    """An array whose bytes come later, with BUILD."""

    value: Array | None = None


class _Mark:
    """Start of the items of a container."""


_MARK = _Mark()


def read_pickle(path: Path) -> Any:
    """What a pickle holds; objects of known libraries as `Record`.

    Raises:
        FileError: missing, damaged, too large, or it would call or make something that is no plain value; names it.
    """
    data = read_bytes(path)
    if len(data) > _MAX_BYTES:
        raise FileError(f"{path} has {len(data):,} bytes, more than any file of this kind")
    machine = _Machine(path)
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            machine.step(opcode.name, argument)
        return _finished(machine.result())
    except _BAD as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FileError(f"{path} is no pickle, or a damaged one ({reason})") from error


class _Machine:
    """Stack and memo."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The one value that is left."""
        (value,) = self._stack
        return value

    def step(self, opcode: str, argument: Any) -> None:
        """One opcode."""
        if opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _PUTS:
            self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
        elif opcode in _GETS:
            self._stack.append(self._memo[argument])
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode not in _IGNORED:
            raise FileError(f"{self._path}: its pickle uses {opcode}, which no file of this kind needs: refused")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("its stack is empty")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _pop_mark(self) -> list[Any]:
        at = next((i for i in reversed(range(len(self._stack))) if self._stack[i] is _MARK), None)
        if at is None:
            raise ValueError("a mark is missing")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def tuple_of(self, count: int | None) -> None:
        """TUPLE, TUPLE1 …"""
        self._stack.append(tuple(self._pop_mark() if count is None else self._pop(count)))

    def container(self, kind: Callable[[list[Any]], Any]) -> None:
        """LIST, DICT, FROZENSET of the items after the mark."""
        self._stack.append(kind(self._pop_mark()))

    def extend(self, items: list[Any]) -> None:
        """APPEND and APPENDS."""
        target = self._stack[-1]
        if not isinstance(target, list):
            raise TypeError("an append to what is no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        """SETITEM and SETITEMS."""
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("an item of what is no dictionary")
        target.update(_pairs(items))

    def add_items(self, items: list[Any]) -> None:
        """ADDITEMS."""
        target = self._stack[-1]
        if not isinstance(target, set):
            raise TypeError("an item of what is no set")
        target.update(_plain_keys(items))

    def name(self, module: Any, name: Any) -> None:
        """GLOBAL and STACK_GLOBAL: a name, nothing is imported."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        self._stack.append(Name(module, name))

    def call(self) -> None:
        """REDUCE."""
        function, arguments = self._pop(2)
        if isinstance(function, Name) and isinstance(arguments, tuple):
            known = _CALLS.get(str(function))
            if known is not None:
                self._stack.append(known(*arguments))
                return
            if str(function).startswith("numpy.random."):
                self._stack.append(Record(function))
                return
        raise FileError(f"{self._path}: its pickle would call {_called(function)}: refused, nothing was run")

    def make(self, count: int) -> None:
        """NEWOBJ and NEWOBJ_EX: an object of a known library, as a record."""
        kind = self._pop(count)[0]
        if not isinstance(kind, Name) or not str(kind).startswith(_INERT):
            raise FileError(f"{self._path}: its pickle would make {_called(kind)}: refused, nothing was run")
        self._stack.append(Record(kind))

    def build(self) -> None:
        """BUILD: the state of what was made last."""
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, _Array):
            target.value = _filled(state)
        elif isinstance(target, np.dtype):
            self._stack[-1] = self._replaced(target, _ordered(target, state))
        elif isinstance(target, Record):
            target.state.update(state if isinstance(state, dict) else {})
        else:
            raise FileError(f"{self._path}: its pickle would change a {type(target).__name__}: refused")

    def _replaced(self, old: Any, new: Any) -> Any:
        """``new``, also wherever the memo has ``old``: a dtype cannot be changed in place."""
        for key, value in self._memo.items():
            if value is old:
                self._memo[key] = new
        return new

    def pop(self) -> None:
        """POP."""
        self._pop(1)

    def pop_mark(self) -> None:
        """POP_MARK."""
        self._pop_mark()

    def mark(self) -> None:
        """MARK."""
        self._stack.append(_MARK)

    def duplicate(self) -> None:
        """DUP."""
        self._stack.append(self._stack[-1])


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(_plain_keys(items[::2]), items[1::2], strict=True))


def _plain_keys(keys: list[Any]) -> list[Any]:
    """Keys that are cheap to hash: nested tuples that share their parts can take for ever."""
    if not all(key is None or isinstance(key, str | bytes | int | float | Name) for key in keys):
        raise TypeError("a key that is neither text nor number")
    return keys


def _called(value: Any) -> str:
    """A name for a message; what is no name is not printed, it may be of any size."""
    return ascii(str(value)[:100])[1:-1] if isinstance(value, Name) else f"a {type(value).__name__}"


def _dtype(text: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError("an array of something else than numbers")
    return np.dtype(text)


def _ordered(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """A dtype with the byte order that its state names."""
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
        raise ValueError("a dtype without byte order")
    return dtype if state[1] == "|" else dtype.newbyteorder(state[1])


def _filled(state: Any) -> Array:
    """The array of ``(version, shape, dtype, is_fortran, bytes)``."""
    _, shape, dtype, fortran, data = state
    return _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array that is no array of numbers")
    if any(not isinstance(extent, int) or extent < 0 for extent in shape) or prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of {len(data)} bytes that do not fit its shape")
    return np.frombuffer(bytes(data), dtype).reshape(shape, order=order).copy()


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (), "C")[()]


def _encoded(text: Any, encoding: Any) -> bytes:
    """``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("text in an unknown encoding")
    return text.encode("latin1")


def _same_record(kind: Any, base: Any, state: Any) -> Record:
    """``copyreg._reconstructor``, by which protocol 0 and 1 make objects."""
    if not isinstance(kind, Name) or not str(kind).startswith(_INERT):
        raise ValueError(f"it would make {_called(kind)}")
    return Record(kind)


_CALLS: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _Array() for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_bytes for core in ("core", "_core")},
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _same_record,
    "copy_reg._reconstructor": _same_record,
    "collections.OrderedDict": dict,
    "__builtin__.bytes": lambda: b"",  # protocol 2 writes empty bytes so
}
"""What REDUCE may call → our own version of it."""

_LITERALS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
        "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "STRING",
        "BINSTRING", "SHORT_BINSTRING",
    )
)  # fmt: skip
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "DUP": lambda machine, _: machine.duplicate(),
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.container(list),
    "DICT": lambda machine, _: machine.container(_pairs),
    "FROZENSET": lambda machine, _: machine.container(lambda items: frozenset(_plain_keys(items))),
    "APPEND": lambda machine, _: machine.extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine._pop_mark()),
    "SETITEM": lambda machine, _: machine.update(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine._pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine._pop_mark()),
    "GLOBAL": lambda machine, text: machine.name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine._pop(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.make(2),
    "NEWOBJ_EX": lambda machine, _: machine.make(3),
    "BUILD": lambda machine, _: machine.build(),
}


def _finished(value: Any) -> Any:
    """Records hold arrays, not the makers of arrays; only what hangs on attributes is followed."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    return value


def attribute(record: Record, name: str) -> Any:
    """An attribute of an object that was read.

    Raises:
        KeyError: there is none; ValueError: it is an array without content.
    """
    return _finished(record.state[name])

"""Reads a pickle without running it: it can give numbers, text, containers and arrays, and nothing else.

A machine of our own interprets the opcodes; it cannot import or call anything. A call happens only if `CALLS` has our
own version of it (numpy's arrays, types and scalars). A few more give an inert `Record`. Any other call is refused by
name.
"""

from __future__ import annotations

import io
import pickletools
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.bridge.checkpoints.pickle_values import (
    CALLS,
    INERT,
    Name,
    PendingArray,
    Record,
    filled,
    ordered,
    resolved,
    shown_name,
)
from nimbleq.errors import FileError
from nimbleq.files import read_bytes

_MAX_BYTES = 64 << 20
_ZIP = b"PK\x03\x04"
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


class _Mark:
    """Start of the items of a container."""


_MARK = _Mark()


def read_pickle(path: Path) -> Any:
    """The content of a pickle; objects of known libraries become `Record`.

    Raises:
        FileError: missing, damaged, too large, or it would call or make something other than a plain value; names it.
    """
    data = read_bytes(path)
    if len(data) > _MAX_BYTES:
        raise FileError(f"{path} has {len(data):,} bytes, more than any file of this kind")
    if data.startswith(_ZIP):  # its first letter would be the opcode PERSID
        raise FileError(f"{path} is not a pickle, but a zip archive")
    machine = _Machine(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in the texts of a damaged file
            for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
                machine.step(opcode.name, argument)
        return resolved(machine.result())
    except _BAD as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FileError(f"{path} is not a pickle, or is damaged ({reason})") from error


class _Machine:
    """Stack and memo of the pickle protocol."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The one value left on the stack."""
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
        """GLOBAL and STACK_GLOBAL: a name; nothing is imported."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        self._stack.append(Name(module, name))

    def call(self) -> None:
        """REDUCE."""
        function, arguments = self._pop(2)
        if isinstance(function, Name) and isinstance(arguments, tuple):
            known = CALLS.get(str(function))
            if known is not None:
                self._stack.append(known(*arguments))
                return
            if str(function).startswith("numpy.random."):
                self._stack.append(Record(function))
                return
        raise FileError(f"{self._path}: its pickle would call {shown_name(function)}: refused, nothing was run")

    def make(self, count: int) -> None:
        """NEWOBJ and NEWOBJ_EX: an object of a known library, as a record."""
        kind = self._pop(count)[0]
        if not isinstance(kind, Name) or not str(kind).startswith(INERT):
            raise FileError(f"{self._path}: its pickle would make {shown_name(kind)}: refused, nothing was run")
        self._stack.append(Record(kind))

    def build(self) -> None:
        """BUILD: the state of the last object."""
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, PendingArray):
            target.value = filled(state)
        elif isinstance(target, np.dtype):
            self._stack[-1] = self._replaced(target, ordered(target, state))
        elif isinstance(target, Record):
            target.state.update(state if isinstance(state, dict) else {})
        else:
            raise FileError(f"{self._path}: its pickle would change a {type(target).__name__}: refused")

    def _replaced(self, old: Any, new: Any) -> Any:
        """Put ``new`` wherever the memo has ``old``, as a dtype cannot be changed in place."""
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
    """Keys that are cheap to hash: nested tuples with shared parts can take exponential time."""
    if not all(key is None or isinstance(key, str | bytes | int | float | Name) for key in keys):
        raise TypeError("a key that is neither text nor number")
    return keys


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

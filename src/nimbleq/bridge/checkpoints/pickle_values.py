"""What a pickle may hold: plain values, arrays of numbers, and inert records of other objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from nimbleq.types import Array

_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16))")
INERT = ("stable_baselines3.", "gymnasium.", "gym.", "numpy.random.")
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
    """A stand-in for an object: its class, and the state that it would get."""

    name: Name
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class PendingArray:
    """An array whose bytes come later, with BUILD."""

    value: Array | None = None


def shown_name(value: Any) -> str:
    """A name for a message; anything else is not printed, as it may be of any size."""
    return ascii(str(value)[:100])[1:-1] if isinstance(value, Name) else f"a {type(value).__name__}"


def _dtype(text: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError("an array of something other than numbers")
    return np.dtype(text)


def ordered(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """A dtype with the byte order that its state names."""
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
        raise ValueError("a dtype without byte order")
    return dtype if state[1] == "|" else dtype.newbyteorder(state[1])


def filled(state: Any) -> Array:
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
    if not isinstance(kind, Name) or not str(kind).startswith(INERT):
        raise ValueError(f"it would make {shown_name(kind)}")
    return Record(kind)


CALLS: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: PendingArray() for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_bytes for core in ("core", "_core")},
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _same_record,
    "copy_reg._reconstructor": _same_record,
    "collections.OrderedDict": dict,
    "__builtin__.bytes": lambda: b"",  # protocol 2 writes empty bytes so
}
"""What REDUCE may call → our own version of it."""


def resolved(value: Any) -> Any:
    """The array itself, for an `PendingArray`; only attributes are resolved."""
    if isinstance(value, PendingArray):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    return value


def attribute(record: Record, name: str) -> Any:
    """An attribute of a record.

    Raises:
        KeyError: there is none; ValueError: it is an array without content.
    """
    return resolved(record.state[name])

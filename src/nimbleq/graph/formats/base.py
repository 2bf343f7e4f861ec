"""What a number format is: a row of `nimbleq.graph.formats.FORMATS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.types import Array


class Format(ABC):
    """A number format of weights or activations. A row is a frozen value without state.

    A weight is stored as codes; arithmetic uses the *values* that they decode to. Values of an integer format are
    integers, and sums of them accumulate in int32; values of a real format are float32.

    Attributes:
        bits: width of one code.
    """

    bits: int

    @property
    def native(self) -> str | None:
        """Type of safetensors that stores codes as they are; None: they are packed into bytes."""
        return None

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """numpy type of the values: float32, or an integer type."""

    @property
    @abstractmethod
    def low(self) -> float:
        """Smallest value."""

    @property
    @abstractmethod
    def high(self) -> float:
        """Largest value."""

    @abstractmethod
    def encode(self, values: Array) -> Array:
        """Codes of the nearest values of the format; exact for values from `decode`."""

    @abstractmethod
    def decode(self, codes: Array) -> Array:
        """Values, of type `dtype`, in the shape of ``codes``."""

    @abstractmethod
    def accept(self, array: Array) -> Array:
        """Values from outside (an observation) as float32 or int32.

        Raises:
            GraphError: the format cannot hold them; the message continues after the name of the values.
        """

    @property
    def shift_adds(self) -> int:
        """Shifts and adds that take the place of a multiplication by a value; 0 where it is a multiplication."""
        return 0

    @property
    def is_integer(self) -> bool:
        """Whether sums of values are exact integers."""
        return self.dtype.kind in "iu"

    @property
    def largest(self) -> float:
        """Largest magnitude of a value: what bounds sums."""
        return max(-self.low, self.high)

    def check(self, values: Array) -> None:
        """Raises `GraphError` unless every one of ``values`` is a value of this format (finite, of its type)."""
        if values.dtype != self.dtype:
            raise GraphError(f"is {values.dtype}, {self} has values of {self.dtype}")
        if not np.isfinite(values).all():
            raise GraphError("holds NaN or infinity")
        if not np.array_equal(self.decode(self.encode(values)), values):
            raise GraphError(f"holds numbers that {self} does not have")

    def nbytes(self, count: int) -> int:
        """Bytes of ``count`` codes, packed."""
        return (count * self.bits + 7) // 8

    def pack(self, codes: Array) -> bytes:
        """Codes as bytes: `bits` each (two's complement), the first in the lowest bits."""
        shifts = np.arange(self.bits, dtype=np.int64)
        bits = (codes.reshape(-1, 1).astype(np.int64) >> shifts) & 1
        return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()

    def unpack(self, data: bytes, count: int) -> Array:
        """``count`` codes, not negative, from what `pack` gave (as many bytes as `nbytes` says)."""
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * self.bits, bitorder="little")
        powers = np.int64(1) << np.arange(self.bits, dtype=np.int64)
        return np.asarray(bits.reshape(count, self.bits).astype(np.int64) @ powers)


class RealFormat(Format):
    """A format whose values are float32 numbers."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def accept(self, array: Array) -> Array:
        """See `Format`: real numbers of any type."""
        if array.dtype.kind not in "fiub":
            raise GraphError(f"is {array.dtype}, expected real numbers")
        with np.errstate(over="ignore"):
            single = array.astype(np.float32, copy=False)
        if array.dtype == np.float64 and not np.array_equal(np.isinf(single), np.isinf(array)):
            raise GraphError("holds values beyond float32")
        return single


class IntegerFormat(Format):
    """A format whose values are integers."""

    def accept(self, array: Array) -> Array:
        """See `Format`: integers of any type within the range."""
        if array.dtype == np.bool_:
            raise GraphError(f"is bool, expected integers ({self}): say which byte True is (255?)")
        if array.dtype.kind not in "iu":
            raise GraphError(f"is {array.dtype}, expected integers ({self})")
        inside = np.iinfo(array.dtype).min >= self.low and np.iinfo(array.dtype).max <= self.high
        if array.size and not inside and not self.low <= int(array.min()) <= int(array.max()) <= self.high:
            raise GraphError(f"holds values outside {self} ({self.low}..{self.high})")
        return array.astype(np.int32)

"""−1, 0 and 1, five in a byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.graph.formats.base import IntegerFormat
from nimbleq.types import Array

_PER_BYTE = 5
_PLACES = 3 ** np.arange(_PER_BYTE - 1, -1, -1)


@dataclass(frozen=True)
class Ternary(IntegerFormat):
    """−1, 0 and 1: 1.6 bits each. Codes are 0, 1 and 2.

    Five digits make a number ``v < 3⁵``, the first digit the highest. A byte holds ``⌈v·256 / 3⁵⌉``: digit ``k`` is the
    high byte of ``3·(byte·3ᵏ mod 256)``, so no target has to divide.
    """

    bits: int = field(default=2, init=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8."""
        return np.dtype(np.int8)

    @property
    def low(self) -> int:
        """−1."""
        return -1

    @property
    def high(self) -> int:
        """1."""
        return 1

    def encode(self, values: Array) -> Array:
        """The nearest of the three, plus 1."""
        return (np.clip(np.rint(values.astype(np.float64)), -1, 1) + 1).astype(np.uint8)

    def decode(self, codes: Array) -> Array:
        """See `Ternary`."""
        return (codes.astype(np.int16) - 1).astype(np.int8)

    def nbytes(self, count: int) -> int:
        """Five a byte."""
        return -(-count // _PER_BYTE)

    def pack(self, codes: Array) -> bytes:
        """See `Ternary`."""
        digits = np.ones(self.nbytes(codes.size) * _PER_BYTE, np.int64)
        digits[: codes.size] = codes.reshape(-1)
        numbers = digits.reshape(-1, _PER_BYTE) @ _PLACES
        held: Array = (-(-numbers * 256 // 3**_PER_BYTE)).astype(np.uint8)
        return held.tobytes()

    def unpack(self, data: bytes, count: int) -> Array:
        """See `pack`."""
        held = np.frombuffer(data, np.uint8).astype(np.int64).reshape(-1, 1)
        digits = (held * 3 ** np.arange(_PER_BYTE) % 256 * 3) >> 8
        return digits.reshape(-1)[:count]

    def __str__(self) -> str:
        return "ternary"

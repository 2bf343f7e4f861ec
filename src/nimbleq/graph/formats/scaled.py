"""int32 numbers in fewer bits, perhaps times a power of two: biases, shifts and zero points.

What adds to wide sums needs their size, not their precision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.graph.formats.base import IntegerFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class Scaled(IntegerFormat):
    """``code·2^shift`` as int32, with a code in two's complement.

    Attributes:
        bits: of the code, 2 to 32.
        shift: every value is a multiple of ``2^shift``, 0 to 24; ``bits + shift`` is at most 32.
    """

    bits: int
    shift: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """int32."""
        return np.dtype(np.int32)

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1 + self.shift))

    @property
    def high(self) -> int:
        """Largest value."""
        return ((1 << (self.bits - 1)) - 1) << self.shift

    def encode(self, values: Array) -> Array:
        """Two's complement: the nearest multiples, saturated."""
        top = 1 << (self.bits - 1)
        return np.clip(np.rint(np.ldexp(values.astype(np.float64), -self.shift)), -top, top - 1).astype(np.int64)

    def decode(self, codes: Array) -> Array:
        """The codes' lowest bits, with their sign, times ``2^shift``."""
        sign = 1 << (self.bits - 1)
        unsigned = codes.astype(np.int64) & ((1 << self.bits) - 1)
        return (((unsigned ^ sign) - sign) << self.shift).astype(np.int32)

    def __str__(self) -> str:
        return f"int{self.bits}x{1 << self.shift}"


def narrowest(values: Array) -> Scaled:
    """The format of the fewest bits that holds the int32 ``values`` exactly."""
    union = int(np.bitwise_or.reduce(values.reshape(-1).astype(np.int64))) if values.size else 0
    shift = min((union & -union).bit_length() - 1, 24) if union else 0
    codes = values.astype(np.int64) >> shift
    largest = max(int(codes.max(initial=0)), ~int(codes.min(initial=0)))
    return Scaled(max(largest.bit_length() + 1, 2), shift)


def parse_scaled(name: str) -> Scaled | None:
    """The format that ``str`` calls so; None if there is none."""
    found = re.fullmatch(r"int([1-9]\d?)x([1-9]\d{0,7})", name)
    if found is None:
        return None
    bits, factor = int(found[1]), int(found[2])
    shift = factor.bit_length() - 1
    return Scaled(bits, shift) if factor == 1 << shift and bits >= 2 and shift <= 24 and bits + shift <= 32 else None

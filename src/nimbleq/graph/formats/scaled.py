"""Integers times a power of two: what adds to wide sums needs their size, not their precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.formats.base import Format
from nimbleq.types import Array


@dataclass(frozen=True)
class Scaled(Format):
    """``code·2^shift`` with a code in two's complement: for a bias, whose sums are many bits wide.

    Attributes:
        bits: of the code.
        shift: every value is a multiple of ``2^shift``.
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
        return np.clip(np.rint(np.ldexp(values.astype(np.float64), -self.shift)), -top, top - 1).astype(np.int32)

    def decode(self, codes: Array) -> Array:
        """The codes' lowest bits, with their sign, times ``2^shift``."""
        sign = 1 << (self.bits - 1)
        unsigned = codes.astype(np.int64) & ((1 << self.bits) - 1)
        return (((unsigned ^ sign) - sign) << self.shift).astype(np.int32)

    def accept(self, array: Array) -> Array:
        """See `Format`: weights only."""
        raise GraphError(f"cannot be {self}, which is for weights")

    def __str__(self) -> str:
        return f"int{self.bits}x{1 << self.shift}"

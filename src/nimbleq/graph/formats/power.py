"""Powers of two: scales that cost no multiplication."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.graph.formats.base import RealFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class Power(RealFormat):
    """``2^(code + least)``: positive powers of two, for scales.

    Attributes:
        bits: of the code, which is not negative.
        least: the smallest exponent.
    """

    bits: int
    least: int

    @property
    def most(self) -> int:
        """The largest exponent."""
        return self.least + (1 << self.bits) - 1

    @property
    def low(self) -> float:
        """Smallest value."""
        return 2.0**self.least

    @property
    def high(self) -> float:
        """Largest value."""
        return 2.0**self.most

    def encode(self, values: Array) -> Array:
        """Exponents of the nearest powers by ratio, from ``least`` on."""
        exponents = np.rint(np.log2(np.maximum(values.astype(np.float64), self.low)))
        return (np.clip(exponents, self.least, self.most) - self.least).astype(np.int32)

    def decode(self, codes: Array) -> Array:
        """The powers."""
        return np.ldexp(np.float32(1), codes.astype(np.int32) + self.least).astype(np.float32)

    def __str__(self) -> str:
        return f"power{self.bits}"

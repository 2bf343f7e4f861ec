"""Two's-complement and unsigned integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.formats.base import IntegerFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class Int(IntegerFormat):
    """A two's-complement or unsigned integer; its scale and zero point belong to the op that makes it.

    Attributes:
        bits: width, 2 to 32 (31 when unsigned: every value fits an int32).
        signed: two's complement when true.

    Raises:
        GraphError: there is no such width.
    """

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= (32 if self.signed else 31):
            raise GraphError(f"integers have 2 to 32 bits (31 unsigned), not {self.bits}")

    @property
    def native(self) -> str | None:
        """Type of safetensors for a signed integer of whole bytes."""
        return {8: "I8", 32: "I32"}.get(self.bits) if self.signed else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest type of numpy that holds all values."""
        return np.min_scalar_type(self.low if self.signed else self.high)

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def encode(self, values: Array) -> Array:
        """Two's complement: the values, rounded to even and saturated."""
        if values.dtype == self.dtype and self.native is not None:
            return values
        return np.clip(np.rint(values.astype(np.float64)), self.low, self.high).astype(self.dtype)

    def decode(self, codes: Array) -> Array:
        """The codes' lowest bits, with their sign."""
        if codes.dtype == self.dtype:
            return codes
        sign = 1 << (self.bits - 1) if self.signed else 0
        unsigned = codes.astype(np.int64) & ((1 << self.bits) - 1)
        return ((unsigned ^ sign) - sign).astype(self.dtype)

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"

"""IEEE single precision."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nimbleq.graph.formats.base import RealFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class Float32(RealFormat):
    """IEEE single precision; codes are the values."""

    bits: int = field(default=32, init=False)

    @property
    def native(self) -> str | None:
        """See `Format`."""
        return "F32"

    @property
    def low(self) -> float:
        """Smallest value."""
        return -self.high

    @property
    def high(self) -> float:
        """Largest value."""
        return float(np.finfo(np.float32).max)

    def encode(self, values: Array) -> Array:
        """The values in single precision."""
        return np.asarray(values, np.float32)

    def decode(self, codes: Array) -> Array:
        """The codes themselves."""
        return codes

    def pack(self, codes: Array) -> bytes:
        """Little-endian."""
        return codes.astype("<f4").tobytes()

    def unpack(self, data: bytes, count: int) -> Array:
        """See `pack`."""
        return np.frombuffer(data, "<f4", count).astype(np.float32)

    def __str__(self) -> str:
        return "float32"

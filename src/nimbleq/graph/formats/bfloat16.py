"""bfloat16: float32 without its last 16 bits. For storing weights: arithmetic is in float32."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nimbleq.graph.formats.base import RealFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class BFloat16(RealFormat):
    """The upper half of a float32; codes are those 16 bits."""

    bits: int = field(default=16, init=False)

    @property
    def low(self) -> float:
        """Smallest value."""
        return -self.high

    @property
    def high(self) -> float:
        """Largest value."""
        return float(self.decode(np.array([0x7F7F], np.uint16))[0])

    def encode(self, values: Array) -> Array:
        """Rounded to even, as hardware does; what would become infinite is the largest value."""
        words = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = ((words + np.uint32(0x7FFF) + ((words >> 16) & 1)) >> 16).astype(np.uint16)
        overflows = (rounded & 0x7FFF) >= 0x7F80
        return np.where(overflows, (rounded & 0x8000) | 0x7F7F, rounded).astype(np.uint16)

    def decode(self, codes: Array) -> Array:
        """Zeros in place of the missing bits."""
        wide: Array = codes.astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)

    def __str__(self) -> str:
        return "bf16"

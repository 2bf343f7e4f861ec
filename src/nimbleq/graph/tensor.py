"""Number formats and tensor types."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nimbleq.errors import GraphError


@dataclass(frozen=True)
class Float32:
    """IEEE single precision."""

    def __str__(self) -> str:
        return "float32"


@dataclass(frozen=True)
class Int:
    """A two's-complement or unsigned integer; the op that makes it knows its scale and zero point.

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
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


QType = Float32 | Int

FLOAT32 = Float32()
UINT8 = Int(8, signed=False)
INT8 = Int(8, signed=True)
INT32 = Int(32, signed=True)


@dataclass(frozen=True)
class TensorType:
    """Shape without the batch axis, and number format.

    Images are ``(C, H, W)``. A scalar (an action) has shape ``()``.

    Raises:
        GraphError: an extent is below one, or there are 2³¹ elements or more.
    """

    shape: tuple[int, ...]
    qtype: QType = FLOAT32

    def __post_init__(self) -> None:
        if any(extent < 1 for extent in self.shape) or self.size >= 1 << 31:
            raise GraphError(f"{self.shape} is not a shape: extents are at least 1, elements fewer than 2³¹")

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes when stored with whole bytes per element."""
        bits = 32 if isinstance(self.qtype, Float32) else self.qtype.bits
        return self.size * ((bits + 7) // 8)

    def __str__(self) -> str:
        return f"{self.qtype}[{', '.join(map(str, self.shape))}]"

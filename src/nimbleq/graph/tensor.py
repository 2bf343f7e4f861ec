"""Tensor types: shape and number format."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nimbleq.errors import GraphError
from nimbleq.graph.formats import FLOAT32, INT8, INT32, UINT8, Float32, Int

__all__ = ["FLOAT32", "INT8", "INT32", "UINT8", "Float32", "Int", "QType", "TensorType"]


QType = Float32 | Int
"""Formats that tensors may have: real, or integers of any width."""


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
        return self.size * self.qtype.nbytes(1)

    def __str__(self) -> str:
        return f"{self.qtype}[{', '.join(map(str, self.shape))}]"

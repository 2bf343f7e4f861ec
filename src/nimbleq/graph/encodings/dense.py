"""Every entry, in C order."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Encoding, Parts
from nimbleq.graph.formats import Format
from nimbleq.types import Array


@dataclass(frozen=True)
class Dense(Encoding):
    """Every entry, in C order, without gaps."""

    def split(self, codes: Array, number: Format) -> Parts:
        """No indices."""
        return Parts((), codes.reshape(-1))

    def pack(self, codes: Array, number: Format) -> bytes:
        """See `Encoding`."""
        return number.pack(codes)

    def unpack(self, data: bytes, shape: tuple[int, ...], number: Format) -> Array:
        """See `Encoding`."""
        count = prod(shape)
        if len(data) != number.nbytes(count):
            raise GraphError(f"has {len(data)} bytes, {number}{list(shape)} needs {number.nbytes(count)}")
        return number.unpack(data, count).reshape(shape)

    def nbytes(self, codes: Array, number: Format) -> int:
        """See `Encoding`."""
        return number.nbytes(codes.size)

    def multiplied(self, codes: Array, number: Format) -> int:
        """All of them."""
        return codes.size

    def __str__(self) -> str:
        return "dense"

"""What the encodings share that leave zeros out: `Sparse`, and the reader of their bytes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import prod

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Encoding, Index
from nimbleq.graph.formats import Format
from nimbleq.types import Array

LARGEST = 1 << 24
"""Most entries of a sparse array: a few hostile bytes must not ask for gigabytes."""


def matrix(values: Array) -> Array:
    """``values`` as a matrix ``[outputs, rest]``: a vector is one row, and a convolution's channels are innermost."""
    inner = values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
    return inner.reshape(len(values) if values.ndim > 1 else 1, -1)


def from_matrix(values: Array, shape: tuple[int, ...]) -> Array:
    """The array of ``shape`` of which ``values`` is the `matrix`."""
    if len(shape) != 4:
        return values.reshape(shape)
    out, channels, rows, columns = shape
    return values.reshape(out, rows, columns, channels).transpose(0, 3, 1, 2)


def extent(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of `matrix` for an array of ``shape``."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, prod(shape) // rows


def nonzero(codes: Array, number: Format) -> Array:
    """``bool[outputs, rest]`` the entries whose value is not 0."""
    return matrix(np.asarray(number.decode(codes) != 0))


def pack_bits(values: Array, bits: int) -> bytes:
    """Unsigned ``values`` in ``bits`` each, the first in the lowest bits."""
    spread = (values.reshape(-1, 1).astype(np.int64) >> np.arange(bits)) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


class Sparse(Encoding):
    """An encoding that stores indices and the codes that they place."""

    def misfit(self, codes: Array, number: Format) -> str:
        """See `Encoding`."""
        return f"has more than {LARGEST} entries: {self} holds no more" if codes.size > LARGEST else ""

    def pack(self, codes: Array, number: Format) -> bytes:
        """The parts, each beginning with a whole byte."""
        self.check(codes, number)
        parts = self.split(codes, number)
        return b"".join(pack_bits(part.values, part.bits) for part in parts.indices) + number.pack(parts.codes)

    def nbytes(self, codes: Array, number: Format) -> int:
        """See `Encoding`."""
        self.check(codes, number)
        parts = self.split(codes, number)
        return sum(map(index_bytes, parts.indices)) + number.nbytes(len(parts.codes))

    def check(self, codes: Array, number: Format) -> None:
        """Raises `GraphError` if it cannot hold ``codes``."""
        if why := self.misfit(codes, number):
            raise GraphError(why)

    def unpack(self, data: bytes, shape: tuple[int, ...], number: Format) -> Array:
        """See `Encoding`."""
        if prod(shape) > LARGEST:
            raise GraphError(f"has more than {LARGEST} entries: {self} holds no more")
        read = Reader(data)
        places = self.places(read, *extent(shape))
        codes = read.codes(len(places), number)
        read.end()
        zero = number.encode(np.zeros(1))
        if len(places) < prod(shape) and number.decode(zero)[0] != 0:
            raise GraphError(f"leaves entries out, but {number} has no 0")
        whole = np.full(prod(shape), zero[0], np.result_type(zero, codes))
        whole[places] = codes
        return np.ascontiguousarray(from_matrix(whole, shape))

    @abstractmethod
    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """``int64[n]`` where each stored code belongs in the matrix, no place twice; takes the indices from ``read``.

        Raises:
            GraphError: the indices are not those of such an array.
        """


def index_bytes(index: Index) -> int:
    """Bytes of an index."""
    return (len(index.values) * index.bits + 7) // 8


@dataclass
class Reader:
    """Takes a packed array apart, from the front.

    Attributes:
        data: the bytes.
        at: how many were read.
    """

    data: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes; raises `GraphError` if there are fewer."""
        if size > len(self.data) - self.at:
            raise GraphError(f"is cut off: it has {len(self.data)} bytes and needs {self.at + size} or more")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, count: int, bits: int) -> Array:
        """``int64[count]`` numbers that `pack_bits` wrote."""
        raw = np.frombuffer(self.take((count * bits + 7) // 8), np.uint8)
        spread = np.unpackbits(raw, count=count * bits, bitorder="little").reshape(count, bits)
        return np.asarray(spread.astype(np.int64) @ (np.int64(1) << np.arange(bits, dtype=np.int64)))

    def codes(self, count: int, number: Format) -> Array:
        """The ``count`` codes that are left."""
        return number.unpack(self.take(number.nbytes(count)), count)

    def end(self) -> None:
        """Raises `GraphError` if anything is left."""
        if self.at != len(self.data):
            raise GraphError(f"has {len(self.data)} bytes and needs {self.at}")

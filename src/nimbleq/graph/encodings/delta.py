"""Distances between the entries that are not zero, in as few bits as pay [Deep Compression, 1510.00149]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Index, Parts
from nimbleq.graph.encodings.sparse import Reader, Sparse, matrix, nonzero
from nimbleq.graph.formats import Format
from nimbleq.types import Array

MOST_BITS = 8
"""Of a distance."""
_COUNT_BITS = 32


@dataclass(frozen=True)
class Delta(Sparse):
    """How many zeros come before each stored entry, row by row, in ``b`` bits.

    Where more than ``2ᵇ − 1`` zeros follow each other, a zero is stored among them; so is the last entry. ``b`` (1 to
    8, what takes the fewest bytes) and the number of stored entries come first.
    """

    def split(self, codes: Array, number: Format) -> Parts:
        """See `Encoding`."""
        flat, places = matrix(codes).reshape(-1), np.flatnonzero(nonzero(codes, number))
        whole = np.unique(np.append(places, flat.size - 1))
        zeros = np.diff(whole, prepend=-1) - 1
        bits = min(range(1, MOST_BITS + 1), key=lambda bits: (bits + number.bits) * _stored(zeros, bits))
        more = zeros >> bits  # zeros stored before each entry
        ends = np.cumsum(more + 1) - 1
        gaps = np.full(int(_stored(zeros, bits)), (1 << bits) - 1)
        gaps[ends] = zeros - (more << bits)
        stored = np.cumsum(gaps + 1) - 1
        header = Index("bits", np.array([bits]), 8), Index("stored", np.array([len(gaps)]), _COUNT_BITS)
        return Parts((*header, Index("zeros", gaps, bits)), flat[stored])

    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """See `Sparse`."""
        bits, count = int(read.numbers(1, 8)[0]), int(read.numbers(1, _COUNT_BITS)[0])
        if not 1 <= bits <= MOST_BITS or not 1 <= count <= rows * columns:
            raise GraphError(f"has {count} distances of {bits} bits, which {rows}×{columns} entries cannot have")
        places = np.cumsum(read.numbers(count, bits) + 1) - 1
        if places[-1] != rows * columns - 1:
            raise GraphError("has distances that do not lead to its last entry")
        return np.asarray(places)

    def __str__(self) -> str:
        return "delta"


def _stored(zeros: Array, bits: int) -> int:
    """Entries that are stored: those not zero, and those that bridge long gaps."""
    return int((zeros >> bits).sum()) + len(zeros)

"""One bit for each entry that says whether it is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.graph.encodings.base import Index, Parts
from nimbleq.graph.encodings.sparse import Reader, Sparse, matrix, nonzero
from nimbleq.graph.formats import Format
from nimbleq.types import Array


@dataclass(frozen=True)
class Bitmap(Sparse):
    """A bit for each entry, row by row (1: not zero), then the codes of those that are not zero."""

    def split(self, codes: Array, number: Format) -> Parts:
        """See `Encoding`."""
        present = nonzero(codes, number)
        return Parts((Index("present", present.reshape(-1).astype(np.int64), 1),), matrix(codes)[present])

    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """See `Sparse`."""
        return np.flatnonzero(read.numbers(rows * columns, 1))

    def __str__(self) -> str:
        return "bitmap"

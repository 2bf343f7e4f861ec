"""Blocks of neighbouring outputs that read one input: one index for several codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Index, Parts
from nimbleq.graph.encodings.csr import sorted_places, width
from nimbleq.graph.encodings.sparse import Reader, Sparse, matrix, nonzero
from nimbleq.graph.formats import Format
from nimbleq.types import Array


@dataclass(frozen=True)
class Block(Sparse):
    """`Csr` over blocks of ``height`` rows × 1 column: counts of each block row, columns, codes block by block.

    A block is left out where all of its entries are zero. The last block row may be lower.
    """

    height: int

    def split(self, codes: Array, number: Format) -> Parts:
        """See `Encoding`."""
        present = nonzero(codes, number)
        rows, columns = present.shape
        tall = np.pad(present, ((0, -rows % self.height), (0, 0)))
        blocks = tall.reshape(-1, self.height, columns).any(axis=1)
        at = self._places(np.flatnonzero(blocks), rows, columns)
        counts = Index("count", blocks.sum(axis=1), width(columns))
        return Parts(
            (counts, Index("column", np.nonzero(blocks)[1], width(columns - 1))), matrix(codes).reshape(-1)[at]
        )

    def _places(self, blocks: Array, rows: int, columns: int) -> Array:
        """Places of the entries of ``blocks``, themselves numbered row by row."""
        row = blocks[:, None] // columns * self.height + np.arange(self.height)
        places = row * columns + blocks[:, None] % columns
        return np.asarray(places[row < rows])

    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """See `Sparse`."""
        counts = read.numbers(-(-rows // self.height), width(columns))
        if (counts > columns).any():
            raise GraphError("has more blocks in a row than the row has columns")
        blocks = sorted_places(counts, read.numbers(int(counts.sum()), width(columns - 1)), columns)
        return self._places(blocks, rows, columns)

    def __str__(self) -> str:
        return f"block{self.height}"

"""Compressed sparse rows, with the narrowest indices that suffice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Index, Parts
from nimbleq.graph.encodings.sparse import Reader, Sparse, matrix, nonzero
from nimbleq.graph.formats import Format
from nimbleq.types import Array


def width(largest: int) -> int:
    """8, 16 or 32: bits of an index that goes up to ``largest``."""
    return 8 if largest < 1 << 8 else 16 if largest < 1 << 16 else 32


def sorted_places(counts: Array, columns: Array, extent: int) -> Array:
    """``int64[n]`` row · extent + column of each entry.

    Args:
        counts: entries of each row.
        columns: of all entries, row after row.
        extent: number of columns.

    Raises:
        GraphError: a column is outside, or those of a row do not rise.
    """
    places = np.repeat(np.arange(len(counts)), counts) * extent + columns
    if (columns >= extent).any() or (np.diff(places) <= 0).any():
        raise GraphError("has indices that are outside of their row or do not rise")
    return places


@dataclass(frozen=True)
class Csr(Sparse):
    """How many entries each row stores, their columns, their codes. Counts and columns have 8, 16 or 32 bits each."""

    def split(self, codes: Array, number: Format) -> Parts:
        """See `Encoding`."""
        present = nonzero(codes, number)
        extent = present.shape[1]
        counts = Index("count", present.sum(axis=1), width(extent))
        return Parts((counts, Index("column", np.nonzero(present)[1], width(extent - 1))), matrix(codes)[present])

    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """See `Sparse`."""
        counts = read.numbers(rows, width(columns))
        if (counts > columns).any():
            raise GraphError("has more entries in a row than the row has columns")
        return sorted_places(counts, read.numbers(int(counts.sum()), width(columns - 1)), columns)

    def __str__(self) -> str:
        return "csr"

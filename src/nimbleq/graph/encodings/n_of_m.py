"""N of every M neighbours: the same work for each group, positions of two bits [2104.08378]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.encodings.base import Index, Parts
from nimbleq.graph.encodings.sparse import Reader, Sparse, matrix, nonzero
from nimbleq.graph.formats import Format
from nimbleq.types import Array


@dataclass(frozen=True)
class NofM(Sparse):
    """``n`` codes of every ``m`` neighbouring columns, and the position of each in its group.

    Positions rise within a group. A last group that has fewer columns than ``n`` stores all of them.

    Attributes:
        n, m: ``m`` is a power of two.
    """

    n: int
    m: int

    def misfit(self, codes: Array, number: Format) -> str:
        """See `Encoding`."""
        present = nonzero(codes, number)
        most = int(_grouped(present, self.m).sum(axis=2).max())
        crowded = f"has {most} entries that are not zero among {self.m} neighbours: {self} holds {self.n}"
        return super().misfit(codes, number) or (crowded if most > self.n else "")

    def split(self, codes: Array, number: Format) -> Parts:
        """See `Encoding`."""
        self.check(codes, number)
        present = nonzero(codes, number)
        rows, columns = present.shape
        grouped = _grouped(present, self.m)
        # Entries that are not zero first, then zeros inside the array; places as they come among equals.
        rank = np.where(grouped, 0, 1) + 2 * (_grouped(np.ones_like(present), self.m) == 0)
        chosen = np.sort(np.argsort(rank, axis=2, kind="stable")[:, :, : self.n], axis=2)
        at = (chosen + self.m * np.arange(grouped.shape[1])[:, None]).reshape(rows, -1)[:, : self.slots(columns)]
        return Parts(
            (Index("position", (at % self.m).reshape(-1), self.bits),),
            np.take_along_axis(matrix(codes), at, axis=1).reshape(-1),
        )

    def slots(self, columns: int) -> int:
        """Codes of a row."""
        return columns // self.m * self.n + min(self.n, columns % self.m)

    @property
    def bits(self) -> int:
        """Of a position."""
        return (self.m - 1).bit_length()

    def places(self, read: Reader, rows: int, columns: int) -> Array:
        """See `Sparse`."""
        slots = self.slots(columns)
        at = read.numbers(rows * slots, self.bits).reshape(rows, slots) + np.arange(slots) // self.n * self.m
        if (np.diff(at, axis=1) <= 0).any() or (at >= columns).any():
            raise GraphError("has positions that are outside of their group or do not rise")
        return np.asarray(at + columns * np.arange(rows)[:, None]).reshape(-1)

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


def _grouped(present: Array, m: int) -> Array:
    """``bool[rows, groups, m]``, False appended to the last group."""
    rows, columns = present.shape
    return np.pad(present, ((0, 0), (0, -columns % m))).reshape(rows, -1, m)

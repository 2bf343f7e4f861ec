"""Layouts of weight arrays. A new one is a file in this folder and a line in `ENCODINGS`."""

from nimbleq.graph.encodings.base import Encoding, Index, Parts
from nimbleq.graph.encodings.bitmap import Bitmap
from nimbleq.graph.encodings.block import Block
from nimbleq.graph.encodings.csr import Csr
from nimbleq.graph.encodings.delta import Delta
from nimbleq.graph.encodings.dense import Dense
from nimbleq.graph.encodings.n_of_m import NofM
from nimbleq.graph.encodings.sparse import from_matrix, matrix
from nimbleq.graph.formats import Format
from nimbleq.types import Array

DENSE = Dense()

ENCODINGS: dict[str, Encoding] = {
    str(row): row
    for row in (
        DENSE,
        NofM(2, 4),
        NofM(1, 4),
        Block(4),
        Csr(),
        Bitmap(),
        Delta(),
    )
}
"""Name in files → encoding; of two that take as many bytes, the first is the faster."""


def cheapest(codes: Array, number: Format) -> Encoding:
    """The encoding that holds ``codes`` of the format ``number`` in the fewest bytes."""
    able = (row for row in ENCODINGS.values() if not row.misfit(codes, number))
    return min(able, key=lambda row: row.nbytes(codes, number))


__all__ = [
    "DENSE", "ENCODINGS", "Bitmap", "Block", "Csr", "Delta", "Dense", "Encoding", "Index", "NofM", "Parts", "cheapest",
    "from_matrix", "matrix",
]  # fmt: skip

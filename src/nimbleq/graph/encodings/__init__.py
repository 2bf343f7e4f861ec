"""Layouts of weight arrays. A new one is a file in this folder and a line in `ENCODINGS`."""

from nimbleq.graph.encodings.base import Encoding
from nimbleq.graph.encodings.dense import Dense

DENSE = Dense()

ENCODINGS: dict[str, Encoding] = {
    str(row): row
    for row in (
        DENSE,
    )
}  # fmt: skip
"""Name in files → encoding."""

__all__ = ["DENSE", "ENCODINGS", "Dense", "Encoding"]

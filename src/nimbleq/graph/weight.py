"""A weight as stored: codes in a number format, laid out by an encoding."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.errors import GraphError
from nimbleq.graph.encodings import DENSE, Encoding
from nimbleq.graph.formats import FORMATS, Format
from nimbleq.types import Array


@dataclass(frozen=True)
class Storage:
    """How a weight is stored.

    Attributes:
        format: of its numbers, a row of `FORMATS`.
        encoding: layout of its codes, a row of `ENCODINGS`.
    """

    format: Format
    encoding: Encoding = DENSE

    def __str__(self) -> str:
        return f"{self.encoding} {self.format}"


_OF_DTYPE = {row.dtype: Storage(row) for row in reversed(FORMATS.values()) if row.native is not None}


def default_storage(values: Array) -> Storage:
    """The default storage of ``values``: dense, in the format of their own type.

    Raises:
        GraphError: no format has that type; the message continues after the name of the weight.
    """
    if values.dtype not in _OF_DTYPE:
        raise GraphError(f"is {values.dtype}; a model has {', '.join(FORMATS)}")
    return _OF_DTYPE[values.dtype]


@dataclass(frozen=True, eq=False)
class Weight:
    """Attributes:
    codes: in the weight's shape.
    format, encoding: see `Storage`.
    """

    codes: Array
    format: Format
    encoding: Encoding

    @property
    def values(self) -> Array:
        """The values for arithmetic."""
        return self.format.decode(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes that a deployment needs for it, packed, indices included."""
        return self.encoding.nbytes(self.codes, self.format)

    @property
    def multiplied(self) -> int:
        """Multiplications in one use of the whole array."""
        return self.encoding.multiplied(self.codes, self.format)

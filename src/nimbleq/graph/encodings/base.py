"""What an encoding is: a row of `nimbleq.graph.encodings.ENCODINGS`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from nimbleq.graph.formats import Format
from nimbleq.types import Array


class Encoding(ABC):
    """How the codes of a weight array are laid out in bytes. Rows are frozen values without state."""

    @abstractmethod
    def pack(self, codes: Array, number: Format) -> bytes:
        """All bytes that a deployment needs of ``codes`` (of the format ``number``), indices included."""

    @abstractmethod
    def unpack(self, data: bytes, shape: tuple[int, ...], number: Format) -> Array:
        """The codes that `pack` gave ``data`` for, in ``shape``.

        Raises:
            GraphError: ``data`` is not such an array; the message goes on after the weight's name.
        """

    @abstractmethod
    def nbytes(self, codes: Array, number: Format) -> int:
        """Length of `pack`."""

    @abstractmethod
    def multiplied(self, codes: Array, number: Format) -> int:
        """How many entries of ``codes`` one use of the whole array multiplies with."""

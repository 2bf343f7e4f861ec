"""What an encoding is: a row of `nimbleq.graph.encodings.ENCODINGS`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from nimbleq.graph.formats import Format
from nimbleq.types import Array


class Encoding(ABC):
    """How the codes of a weight array are laid out in bytes. A row is a frozen value without state."""

    @abstractmethod
    def pack(self, codes: Array, number: Format) -> bytes:
        """All bytes that a deployment needs of ``codes`` (of the format ``number``), indices included."""

    @abstractmethod
    def unpack(self, data: bytes, shape: tuple[int, ...], number: Format) -> Array:
        """The codes that `pack` wrote as ``data``, in ``shape``.

        Raises:
            GraphError: ``data`` is not such an array; the message continues after the name of the weight.
        """

    @abstractmethod
    def nbytes(self, codes: Array, number: Format) -> int:
        """Length of `pack`."""

    @abstractmethod
    def multiplied(self, codes: Array, number: Format) -> int:
        """How many multiplications one use of the whole array takes."""

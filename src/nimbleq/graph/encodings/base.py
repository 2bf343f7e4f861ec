"""What an encoding is: a row of `nimbleq.graph.encodings.ENCODINGS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from nimbleq.graph.formats import Format
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Index:
    """One array that says where the stored codes belong.

    Attributes:
        name: what it holds, as a word of C.
        values: ``int64[n]``, not negative.
        bits: of each, packed without gaps.
    """

    name: str
    values: Array
    bits: int


@dataclass(frozen=True, eq=False)
class Parts:
    """A weight array taken apart: what `Encoding.pack` writes, in this order.

    Attributes:
        indices: where the codes belong.
        codes: ``[n]`` the codes that are stored.
    """

    indices: tuple[Index, ...]
    codes: Array


class Encoding(ABC):
    """How the codes of a weight array are laid out in bytes. A row is a frozen value without state.

    What is sparse is read as a matrix: one row for each output, inputs as columns; a convolution's window is taken row
    by row, channels innermost, as images are stored where it runs.
    """

    def misfit(self, codes: Array, number: Format) -> str:
        """Why it cannot hold ``codes`` (of the format ``number``); empty if it can. Follows the weight's name."""
        return ""

    @abstractmethod
    def split(self, codes: Array, number: Format) -> Parts:
        """``codes`` taken apart.

        Raises:
            GraphError: it cannot hold them, see `misfit`.
        """

    @abstractmethod
    def pack(self, codes: Array, number: Format) -> bytes:
        """All bytes that a deployment needs of ``codes``, indices included.

        Raises:
            GraphError: it cannot hold them, see `misfit`.
        """

    @abstractmethod
    def unpack(self, data: bytes, shape: tuple[int, ...], number: Format) -> Array:
        """The codes that `pack` wrote as ``data``, in ``shape``.

        Raises:
            GraphError: ``data`` is not such an array; the message continues after the name of the weight.
        """

    @abstractmethod
    def nbytes(self, codes: Array, number: Format) -> int:
        """Length of `pack`."""

    def multiplied(self, codes: Array, number: Format) -> int:
        """How many multiplications one use of the whole array takes: one for each stored code."""
        return len(self.split(codes, number).codes)

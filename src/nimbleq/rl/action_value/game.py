"""What a game has to be, and who sits at its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from nimbleq.types import Array


class Table(Protocol):
    """A game under way; one seat is to move until it is over."""

    @property
    def seat(self) -> int | None:
        """Who is to move; None when the game is over."""
        ...

    def rows(self) -> Array:
        """``bool[L, F]`` features of what the seat knows and of each of its L ≥ 1 legal actions."""
        ...

    def play(self, action: int) -> None:
        """Play the legal action of this row."""
        ...

    def results(self) -> Sequence[float]:
        """The share of the win of each seat, between 0 and 1, once the game is over."""
        ...


Choose = Callable[[Table], int]
"""A way of playing: the row of the action that the seat to move takes."""


class Seat(NamedTuple):
    """Who sits somewhere.

    Attributes:
        choose: a given player; None: the network that learns.
        recorded: what this seat does is learnt from.
    """

    choose: Choose | None = None
    recorded: bool = True


Deal = Callable[[int], tuple[Table, Sequence[Seat]]]
"""The game of a number: the same number, the same cards and the same players."""

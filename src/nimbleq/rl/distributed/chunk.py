"""What an actor sends: the steps of its environments, numbered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nimbleq.types import Array, Step


class Chunk(NamedTuple):
    """``L`` steps of ``N`` environments. In its last step every episode counts as cut, so that a chunk stands alone.

    Attributes:
        actor: who played it.
        sequence: its number among the chunks of this actor.
        version: updates of the learner whose weights played it.
        began: the environments were made for it: the actor was started, or started again.
        play: `Step` whose arrays have a leading axis ``L``.
        abs_td: ``float32[L·N]`` initial priorities, in the order in which a replay stores the transitions (None: the
            replay is uniform).
        finished: ``(return, length)`` of the episodes that ended in it.
    """

    actor: int
    sequence: int
    version: int
    began: bool
    play: Step
    abs_td: Array | None
    finished: list[tuple[float, int]]

    def steps(self) -> Iterator[Step]:
        """One after the other."""
        for time in range(len(self.play.action)):
            masks = (None if mask is None else mask[time] for mask in self.play[6:])
            yield Step(*(array[time] for array in self.play[:6]), *masks)

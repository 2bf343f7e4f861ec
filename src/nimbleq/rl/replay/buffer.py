"""What training asks of a replay, wherever its transitions lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, Step


class ReplayBuffer(Protocol):
    """Transitions to learn from."""

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        ...

    def add(self, step: Step) -> None:
        """Remember one step of all environments; a part of that work may wait for the next `settle`."""
        ...

    def settle(self) -> None:
        """Finish what `add` put off."""
        ...

    def prioritize(self, first: int, abs_td: Array) -> None:
        """Give the transitions from number ``first`` on priorities: ``|TD error|: float32[K]`` (ignored if uniform)."""
        ...

    def settled(self) -> Replay:
        """Every transition, on the host: what checkpoints are written from, and loaded into."""
        ...

    def mirror(self, arrays: Mapping[str, Array]) -> None:
        """Take over what was loaded into `settled`; ``arrays`` are those that `arrays` returned."""
        ...

    def arrays(self) -> dict[str, Array]:
        """State beside the transitions, see `Replay.arrays`."""
        ...


class Collecting(Protocol):
    """A replay that can `ReplayBuffer.settle` beside the next `ReplayBuffer.add`, in another thread."""

    def collect(self) -> Callable[[], None]:
        """Take what was added so far; the call finishes it, without what is added in between."""
        ...

"""What a network has to know about its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from nimbleq.graph.branches import combinations
from nimbleq.graph.interface import Interface
from nimbleq.types import ObsSpec


@dataclass(frozen=True)
class EnvSpec:
    """Sizes and types of an environment's observations and actions.

    Attributes:
        obs: one observation.
        actions: ``A``, how many values a network gives: one of each action, or of each choice of each of ``branches``.
        masked: the environment says which actions are legal.
        branches: sizes of the action's dimensions (empty: it is a single choice, 0 … A−1).
        interface: how its observations become ``obs``, and an index its action (None: not a Gymnasium environment).
    """

    obs: ObsSpec
    actions: int
    masked: bool = False
    branches: tuple[int, ...] = ()
    interface: Interface | None = field(default=None, compare=False)

    @property
    def choices(self) -> int:
        """How many actions there are: 0 … `choices` − 1 (see `nimbleq.graph.branches`)."""
        return combinations(self.actions, self.branches)

"""What a network has to know about its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from nimbleq.graph.interface import Interface
from nimbleq.types import ObsSpec


@dataclass(frozen=True)
class EnvSpec:
    """Sizes and types of an environment's observations and actions.

    Attributes:
        obs: one observation.
        actions: ``A``; they are 0 … A−1.
        masked: the environment says which actions are legal.
        interface: how its observations become ``obs``, and an index its action (None: not a Gymnasium environment).
    """

    obs: ObsSpec
    actions: int
    masked: bool = False
    interface: Interface | None = field(default=None, compare=False)

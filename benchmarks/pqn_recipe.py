"""PQN's published recipe for MinAtar [2407.04811, appendix; purejaxql's pqn_minatar]: what both sides learn with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    steps: of a whole run.
    envs: stepped side by side.
    rollout: steps of each between two rounds of learning.
    epochs: passes over a rollout.
    batch: transitions of an update.
    lr: at the start; it falls linearly to 0.
    exploring: share of the run in which ε falls from 1 to ``epsilon``.
    clip: of gradients.
    """

    steps: int = 10_000_000
    envs: int = 128
    rollout: int = 32
    epochs: int = 2
    batch: int = 128
    gamma: float = 0.99
    trace_decay: float = 0.65
    lr: float = 5e-4
    epsilon: float = 0.05
    exploring: float = 0.1
    clip: float = 10.0

    @property
    def iteration(self) -> int:
        """Environment steps of one rollout."""
        return self.envs * self.rollout

    def updates(self, steps: int) -> int:
        """Gradient steps in so many steps."""
        return steps // self.iteration * self.epochs * self.iteration // self.batch


PQN = Recipe()
LIMIT = 1_000
"""Steps of an episode, as in gymnax."""
EPISODES = 100
"""Behind a return."""

"""A source's policy in another environment: what it would do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.rl.learners.imitation import gap_temperature, soft_policy
from nimbleq.rl.masks import best_legal
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate

_EPISODES, _STATES = 20, 2_000


@dataclass(frozen=True)
class Teacher:
    """Attributes:
    graph: of the source.
    columns: of the target's observation that it reads (None: all, in their order).
    index: ``int64[A_source]`` the target's index of each of its actions.
    actions: of the target.
    """

    graph: Graph
    columns: Array | None
    index: Array
    actions: int

    def q(self, obs: Array) -> Array:
        """``float32[B, A]`` its values of the target's actions in ``obs [B, *O]``; −∞ for those it does not have."""
        seen = obs if self.columns is None else np.ascontiguousarray(obs[:, self.columns])
        values = np.full((len(obs), self.actions), -np.inf, np.float32)
        values[:, self.index] = interpret(without_mask(self.graph), seen)[Q]
        return values

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        """Its greedy (legal) actions, ``int64[B]``."""
        q = self.q(obs)
        found: Array = q.argmax(axis=1) if mask is None else best_legal(q, mask)
        return found

    def policy(self, obs: Array, temperature: float, mask: Array | None) -> tuple[Array, Array]:
        """``softmax(Q/τ) float32[B, A]``, −1 where illegal, and ``bool[B]`` where it knows a legal action."""
        q = self.q(obs)
        among: Array = q if mask is None else np.where(mask, q, -np.inf)
        known: Array = among.max(axis=1) > -np.inf
        q[~known] = 0
        return soft_policy(q, temperature, mask), known


class Standing(NamedTuple):
    """How good a teacher is in the target, over the same episodes.

    Attributes:
        teacher: mean return of its greedy play.
        random: of random play.
        temperature: τ of its policy: a share of the median action gap in the states that it visits.
    """

    teacher: float
    random: float
    temperature: float


def standing_of(teacher: Teacher, evaluate: Evaluate, seed: int, share: float) -> Standing:
    """Play the teacher and random actions in the target."""
    seeds = episode_seeds("probe", seed, _EPISODES).tolist()
    played = evaluate(teacher, seeds, keep_obs=_STATES)
    chance = evaluate(_first_action, seeds, epsilon=1.0)
    assert played.obs is not None
    tau = gap_temperature(teacher.q(played.obs), share, played.masks)
    return Standing(float(played.returns.mean()), float(chance.returns.mean()), tau)


def _first_action(obs: Array, mask: Array | None = None) -> Array:
    """Played with ε = 1 it is random play."""
    return np.zeros(len(obs), np.int64)

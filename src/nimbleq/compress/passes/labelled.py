"""States with the teacher's action values: what a student learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.states import States, q_values, visit
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate


@dataclass(frozen=True)
class Labelled:
    """States with the teacher's values: ``states`` of K, ``q float32[K, A]``; ``branches`` as of its graph."""

    states: States
    q: Array
    branches: tuple[int, ...] = ()

    @property
    def obs(self) -> Array:
        """``[K, *O]``."""
        return self.states.obs

    def join(self, other: Labelled) -> Labelled:
        """Both, one after the other."""
        return Labelled(self.states.joined(other.states), np.concatenate([self.q, other.q]), self.branches)


def label(teacher: Graph, states: States) -> Labelled:
    """``states`` with the teacher's values."""
    return Labelled(states, q_values(teacher, states.obs), teacher.branches)


def teacher_states(teacher: Graph, evaluate: Evaluate, config: DistillConfig, nonce: int) -> Labelled:
    """States that the teacher visits, with its values there; the same for all students of a search."""
    seeds = episode_seeds("distill", nonce, 2 * config.episodes)
    return label(teacher, visit(GraphPolicy(teacher), evaluate, seeds, 2 * config.states, config.epsilon))

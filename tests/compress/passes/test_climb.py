"""A student that climbs a known gradient: it arrives, and its integers return what was kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from nimbleq.compress.passes.climb import Climb
from nimbleq.compress.passes.context import Context
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.branches import with_branches
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array, Episodes


@dataclass(frozen=True)
class Chain:
    """Six states in a row, from the first; action 0 goes on and action 1 leaves with a reward; the last pays most.

    With a chance of 0.9 to arrive at the next state, going on is always worth more. In state 2 one may only go on.
    """

    states: int = 6
    arrive: float = 0.9
    obs: Array = field(default_factory=lambda: np.eye(6, dtype=np.float32))

    @property
    def mask(self) -> Array:
        legal = np.ones((self.states, 2), bool)
        legal[2, 1] = False
        return legal

    def paid(self) -> Array:
        """``[S, 2]``."""
        wins = np.zeros((self.states, 2))
        wins[:, 1], wins[-1, 0] = 0.3, 1.0
        return wins

    def q(self, values: Array) -> Array:
        found = self.paid()
        found[:-1, 0] = self.arrive * values[1:]
        return found

    def values(self, choice: Array) -> Array:
        found = np.zeros(self.states)
        for state in reversed(range(self.states)):
            found[state] = choice[state] @ self.q(found)[state]
        return found

    def returned(self, choice: Array) -> float:
        return float(self.values(choice)[0])

    def gradient(self, choice: Array) -> Array:
        values, visits = self.values(choice), np.ones(self.states)
        for state in range(1, self.states):
            visits[state] = visits[state - 1] * choice[state - 1, 0] * self.arrive
        return np.asarray(visits[:, None] * (self.q(values) - values[:, None]))

    def __call__(self, policy: object, seeds: object, *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        return Episodes(np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int64), self.obs, self.mask)


def chosen(chain: Chain, policy: GraphPolicy) -> Array:
    return np.eye(2)[policy(chain.obs, mask=chain.mask)]


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_it_finds_the_best_policy_and_the_integers_return_what_was_kept(weights: str) -> None:
    chain = Chain()
    graph = mlp_student(TensorType((6,)), (8,), 2, chain.obs, np.random.default_rng(0))
    made = Climb(chain, weights, steps=300)(graph, Context(graph, chain))
    best = chain.arrive ** (chain.states - 1)
    assert chain.returned(chosen(chain, GraphPolicy(with_mask(made)))) == pytest.approx(best)
    assert all(value.dtype.kind == "i" for name, value in made.weights.items() if "weight" in name)


def test_it_never_returns_less_than_it_began_with() -> None:
    chain = Chain()
    for seed in range(4):
        graph = mlp_student(TensorType((6,)), (8,), 2, chain.obs, np.random.default_rng(seed))
        began = chain.returned(chosen(chain, GraphPolicy(with_mask(graph))))
        made = Climb(chain, "int8", steps=1)(graph, Context(graph, chain))
        assert chain.returned(chosen(chain, GraphPolicy(with_mask(made)))) >= began - 1e-9


def test_the_gradient_of_the_chain_is_that_of_small_changes() -> None:
    chain, rng = Chain(), np.random.default_rng(0)
    logits = np.where(chain.mask, rng.standard_normal((6, 2)), -np.inf)

    def soft(values: Array) -> Array:
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    choice = soft(logits)
    of_logits = choice * chain.gradient(choice)
    for state in range(6):
        moved = logits.copy()
        moved[state, 0] += 1e-5
        change = (chain.returned(soft(moved)) - chain.returned(choice)) / 1e-5
        assert of_logits[state, 0] == pytest.approx(change, abs=1e-4)


def test_what_cannot_climb_is_told_so() -> None:
    chain = Chain()
    graph = with_branches(mlp_student(TensorType((6,)), (8,), 4, chain.obs, np.random.default_rng(0)), (2, 2))
    with pytest.raises(ConfigError, match="a single choice"):
        Climb(chain)(graph, Context(graph, chain))

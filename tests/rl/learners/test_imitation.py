"""Imitation and frozen layers: the C learner against the PyTorch learner, and both against the gradient by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.learners.imitation import Imitation, gap_temperature, soft_policy
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.types import Array
from tests.rl.learners.test_native_learner import (
    CONFIG,
    largest_difference,
    one,
    pair,
    pytestmark,
    spec_of,
    stacked_batches,
)

__all__ = ["pytestmark"]

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dueling": {"network.dueling": True, "network.layer_norm": True},
    "clipped": {"learner.max_grad_norm": 0.05, "learner.target": "polyak"},
    "linear": {"network.hidden": ()},
    "c51": {"network.head": "c51", "network.atoms": 7, "network.dueling": True},
    "hl-gauss": {"network.head": "hl-gauss", "network.atoms": 9},
    "qr": {"network.head": "qr", "network.atoms": 5, "network.dueling": True},
}


def towards(size: int, actions: int, seed: int = 1) -> Imitation:
    """A random policy; an action in five is illegal, never the first."""
    rng = np.random.default_rng(seed)
    legal = rng.random((size, actions)) > 0.2
    legal[:, 0] = True
    return Imitation(
        soft_policy(rng.normal(size=(size, actions)), 0.7, legal), rng.random(size).astype(np.float32), 0.5
    )


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("frozen", [0, 1])
def test_engines_agree(changes: dict[str, Any], frozen: int) -> None:
    config: TrainConfig = with_changes(CONFIG, changes)
    frozen = min(frozen, len(config.network.hidden))
    spec = spec_of(actions=4)
    theirs, ours = pair(config, spec)
    batches = stacked_batches(12, 21, spec)
    for update in range(12):
        for learner in (theirs, ours):
            learner.freeze(frozen if update < 6 else 0)
            policy = towards(21, 4, update)
            if update % 2:
                learner.update_towards(one(batches, update), policy)
            else:
                learner.imitate(one(batches, update).obs, policy)
        assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5
    assert theirs.updates == ours.updates == 12


@pytest.mark.parametrize("engine", [0, 1])
def test_frozen_layers_stay_and_the_others_move(engine: int) -> None:
    learner = pair(with_changes(CONFIG, {"learner.target": "polyak", "learner.max_grad_norm": 1.0}), spec_of())[engine]
    before = learner.weights()
    learner.freeze(1)
    for update in range(3):
        learner.update(one(stacked_batches(3, 32, spec_of()), update))
    after = learner.weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith("body.0.")}


@pytest.mark.parametrize("engine", [0, 1])
def test_the_policy_comes_out(engine: int) -> None:
    """Four states, four known policies: softmax(Q/τ) of the learner becomes each of them."""
    obs = np.eye(4, 7, dtype=np.float32)
    wanted = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [1, 0, 0]], np.float32)
    learner = pair(with_changes(CONFIG, {"learner.lr": 1e-2, "learner.lr_end": 1e-2}), spec_of())[engine]
    for _ in range(600):
        learner.imitate(obs, Imitation(wanted, np.ones(4, np.float32), 0.5))
    assert soft_policy(learner.q(obs), 0.5) == pytest.approx(wanted, abs=0.02)


def test_an_illegal_action_gets_no_gradient_and_no_probability() -> None:
    q = np.array([[1.0, 5.0, 2.0]])
    soft = soft_policy(q, 1.0, np.array([[True, False, True]]))
    assert soft == pytest.approx(np.array([[1 / (1 + np.e), -1, np.e / (1 + np.e)]]))
    learner = TorchLearner(with_changes(CONFIG, {"network.hidden": ()}), spec_of(), 0)
    before = learner.weights()["advantage.bias"]
    learner.imitate(np.ones((1, 7), np.float32), Imitation(soft, np.ones(1, np.float32), 1.0))
    change: Array = learner.weights()["advantage.bias"] - before
    assert change[1] == 0
    assert (change[[0, 2]] != 0).all()


def test_the_temperature_is_a_share_of_the_median_gap() -> None:
    q = np.array([[0.0, 1.0, 5.0], [3.0, 1.0, 9.0], [0.0, 0.0, 2.0]])  # gaps 4, 6, 2
    assert gap_temperature(q, 0.5) == 2.0
    mask = np.array([[False, False, True], [True, True, False], [True, False, True]])  # no choice, 2, 2
    assert gap_temperature(q, 0.5, mask) == 1.0
    assert gap_temperature(q[:, :1], 0.5) == 1.0

"""Losses by hand, and a chain whose Q* is known."""

from typing import Literal

import numpy as np
import pytest
import torch

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.nets import losses
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec


def test_bellman_target_of_greedy_double_and_terminal_transitions() -> None:
    next_q = torch.tensor([[1.0, 5.0], [7.0, 2.0], [99.0, 98.0]])
    selector = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    reward, discount = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.5, 0.0])

    def target(policy: losses.NextPolicy) -> list[float]:
        return losses.bellman_values(reward, discount, next_q[..., None], policy).squeeze(1).tolist()

    assert target(losses.greedy(next_q)) == [3.5, 5.5, 3.0]
    assert target(losses.greedy(selector)) == [1.5, 5.5, 3.0]


def test_squared_and_huber_weigh_each_error() -> None:
    error, weight = torch.tensor([0.5, -3.0]), torch.tensor([1.0, 0.5])
    assert losses.weighted_mean(losses.squared(error), weight).item() == pytest.approx((0.25 + 0.5 * 9) / 2)
    assert losses.weighted_mean(losses.huber(error), weight).item() == pytest.approx((0.125 + 0.5 * 2.5) / 2)


@pytest.mark.parametrize(
    ("target", "double", "dueling"),
    [("none", False, False), ("none", False, True), ("hard", False, False), ("polyak", True, False)],
)
def test_a_chain_of_three_states_is_solved_exactly(
    target: Literal["none", "hard", "polyak"], double: bool, dueling: bool
) -> None:
    """Action 1 leads 0 → 1 → 2 → end (reward 1), action 0 stays: Q*(s, 1) = γ^(2−s), Q*(s, 0) = γ·Q*(s, 1)."""
    gamma = 0.5
    config = TrainConfig(
        network=NetworkConfig(hidden=(32,), layer_norm=False, dueling=dueling, normalize_obs=False),
        learner=LearnerConfig(
            gamma=gamma, double=double, target=target, target_every=20, tau=0.1, lr=1e-2, lr_end=1e-3, lr_updates=400
        ),
    )
    learner = make_learner(config, EnvSpec(ObsSpec((3,)), 2), seed=0)
    one_hot = np.eye(3, dtype=np.float32)
    state, action = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    following = np.minimum(state + action, 2)
    ends = (state == 2) & (action == 1)
    batch = Batch(
        one_hot[state],
        action,
        ends.astype(np.float32),
        (gamma * ~ends).astype(np.float32),
        one_hot[following],
        np.ones(6, np.float32),
        np.arange(6),
    )
    for _ in range(400):
        learner.update(batch)
    value = np.array([gamma**2, gamma, 1.0])
    assert learner.q(one_hot) == pytest.approx(np.stack([gamma * value, value], axis=1), abs=0.02)
    assert learner.act(one_hot).tolist() == [1, 1, 1]

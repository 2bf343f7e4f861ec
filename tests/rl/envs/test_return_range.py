"""What the table of known ranges says is never left, by good play or bad."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.states import ConstantPolicy
from nimbleq.config import EnvConfig
from nimbleq.rl.envs.return_range import RULES, known_range
from nimbleq.rl.training.evaluate import Evaluator


@pytest.mark.parametrize(
    ("env", "ends"),
    [
        (EnvConfig("CartPole-v1"), (0, 500)),
        (EnvConfig("CartPole-v1", max_episode_steps=80), (0, 80)),
        (EnvConfig("CartPole-v1", kwargs=("sutton_barto_reward=True",)), None),
        (EnvConfig("FrozenLake-v1", kwargs=("is_slippery=False",)), (0, 1)),
        (EnvConfig("FrozenLake-v1", kwargs=("reward_schedule=(10,0,0)",)), None),
        (EnvConfig("MountainCar-v0"), (-200, 0)),
        (EnvConfig("Acrobot-v1"), (-500, 0)),
        (EnvConfig("Taxi-v4"), (-2000, 20)),
        (EnvConfig("Blackjack-v1"), (-1, 1)),
        (EnvConfig("Blackjack-v1", kwargs=("natural=True",)), None),
        (EnvConfig("LunarLander-v3"), None),
    ],
)
def test_known_ranges(env: EnvConfig, ends: tuple[float, float] | None) -> None:
    found = known_range(env)
    assert (None if found is None else found[:2]) == ends
    assert found is None or env.id in found[2]


@pytest.mark.parametrize("name", RULES)
def test_no_episode_leaves_its_range(name: str) -> None:
    env = EnvConfig(name, discretize=3 if name == "Pendulum-v1" else None)
    found = known_range(env)
    assert found is not None
    low, high, _ = found
    with Evaluator(env) as evaluate:
        returns = [evaluate(ConstantPolicy(), range(20), epsilon=1.0).returns]
        returns += [evaluate(ConstantPolicy(action), range(5)).returns for action in range(evaluate.spec.actions)]
    everything = np.concatenate(returns)
    assert everything.min() >= low
    assert everything.max() <= high

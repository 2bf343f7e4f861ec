"""What DQN peers are asked for, with the settings that rl-baselines3-zoo publishes for it.

github.com/DLR-RM/rl-baselines3-zoo, ``hyperparams/dqn.yml``. Its LunarLander entry is for v2: v3 repeats episodes
exactly and mends the wind, which is off. The zoo trains sbx from the same entries. What they do not name is the
library's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """What has to be reached, the zoo's settings for it, and steps between checks.

    Attributes:
        score: mean return of 100 greedy episodes.
        budget: the zoo's ``n_timesteps``.
        cadence: steps between checks.
        settings: arguments of the DQN classes.
    """

    score: float
    budget: int
    cadence: int
    settings: dict[str, Any]


TASKS = {
    "CartPole-v1": Task(
        score=475.0,
        budget=50_000,
        cadence=1_000,
        settings={
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
    "LunarLander-v3": Task(
        score=200.0,
        budget=100_000,
        cadence=2_500,
        settings={
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "buffer_size": 50_000,
            "learning_starts": 0,
            "gamma": 0.99,
            "target_update_interval": 250,
            "train_freq": 4,
            "gradient_steps": -1,
            "exploration_fraction": 0.12,
            "exploration_final_eps": 0.1,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
}

"""Small, fast settings for tests of training."""

import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.presets import preset


@pytest.fixture
def small() -> TrainConfig:
    """CartPole with a tiny network and short episodes: 1,000 steps, 200 updates, six checks."""
    config: TrainConfig = with_changes(
        preset("CartPole-v1"),
        {
            "env.max_episode_steps": 40,
            "network.hidden": (16,),
            "replay.capacity": 1_000,
            "learner.batch_size": 16,
            "explore.updates": 20,
            "evaluation.every": 33,
            "evaluation.episodes": 4,
            "evaluation.final_episodes": 8,
            "evaluation.stop_return": None,
            "steps": 1_000,
            "envs": 4,
            "learn_start": 200,
            "checkpoint_seconds": 1e9,
        },
    )
    return config

"""RLlib's DQN on environments that sleep: ``python -m benchmarks.peers.rllib_dqn --actors 4``; prints one JSON object.

Fragments of 16 steps of one environment an actor, updates of 64 every 8 steps, its prioritised replay, 64-64.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.meter import CHUNK, SAMPLES_PER_INSERT, FinishedError, Meter, options
from benchmarks.sleeping import Sleeping


def rates(actors: int, delays_ms: list[float], seconds: float, windows: int) -> dict[str, Any]:
    """Steps a second in each window of each delay."""
    from ray.rllib.algorithms.dqn.dqn import DQNConfig
    from ray.tune.registry import register_env

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meter = Meter(folder, actors, delays_ms, seconds, windows)
        register_env("sleeping", lambda settings: Sleeping(settings["folder"]))
        replay = {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 200_000, "alpha": 0.6, "beta": 0.4}
        config = (
            DQNConfig()
            .environment("sleeping", env_config={"folder": name})
            .env_runners(num_env_runners=actors, num_cpus_per_env_runner=0, rollout_fragment_length=CHUNK)
            .training(
                train_batch_size=64, training_intensity=SAMPLES_PER_INSERT, replay_buffer_config=replay,
                num_steps_sampled_before_learning_starts=64, model={"fcnet_hiddens": [64, 64]},
            )
            .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=1)
        )  # fmt: skip
        algorithm = config.build_algo()
        try:
            while True:
                meter(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        except FinishedError:
            return meter.result()
        finally:
            algorithm.stop()


if __name__ == "__main__":
    print(json.dumps(rates(*options(__doc__))))

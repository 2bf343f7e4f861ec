"""The DQN recipe of highway-env's maintainers for Stable-Baselines3, stepped by what steps our own training.

``python -m benchmarks.peers.sb3_driving ROAD STEPS SEED MODEL`` trains, saves ``MODEL.zip`` and prints one JSON object.
The recipe is that of the package's ``scripts/sb3_highway_dqn.py``; only what steps the road may be another: envpool's
copy, where it is one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

RECIPE: dict[str, Any] = {
    "policy_kwargs": {"net_arch": [256, 256]}, "learning_rate": 5e-4, "buffer_size": 15_000, "learning_starts": 200,
    "batch_size": 32, "gamma": 0.8, "train_freq": 1, "gradient_steps": 1, "target_update_interval": 50,
    "exploration_fraction": 0.7,
}  # fmt: skip


class Pool(gymnasium.Env[Any, Any]):  # type: ignore[misc]  # (gymnasium is untyped here)
    """One environment of envpool as Gymnasium's."""

    def __init__(self, road: str, limit: int, seed: int) -> None:
        import envpool

        self.pool = envpool.make_gymnasium(road, num_envs=1, seed=seed, max_episode_steps=limit)
        self.observation_space, self.action_space = self.pool.observation_space, gymnasium.spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """See Gymnasium."""
        return self.pool.reset()[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """See Gymnasium."""
        obs, reward, terminated, truncated, _ = self.pool.step(np.array([action], np.int32))
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


def predictor(model: Path) -> Callable[[Any], int]:
    """What a saved model does, greedily."""
    from stable_baselines3 import DQN

    loaded = DQN.load(model, device="cpu")
    return lambda obs: int(loaded.predict(obs, deterministic=True)[0])


def main(road: str, steps: str, seed: str, model: str) -> None:
    """Train, save, print the seconds; what is saved already is not trained again."""
    from stable_baselines3 import DQN

    from examples import driving

    saved = Path(f"{model}.json")
    if not saved.exists():
        start = time.monotonic()
        in_copy = "envpool" in driving.train_words(road)
        env = Pool(road, driving.ROADS[road].limit, int(seed)) if in_copy else driving.made(road)
        learner = DQN("MlpPolicy", env, seed=int(seed), device="cpu", **RECIPE)
        learner.learn(int(steps))
        seconds = time.monotonic() - start
        learner.save(model)
        saved.write_text(json.dumps({"seconds": seconds}))
    print(saved.read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Environments that misbehave, registered with Gymnasium as ``broken_envs:…``."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Broken(gymnasium.Env[Any, Any]):
    """Fine for ``good_steps`` steps, then NaN in ``where``."""

    observation_space = Box(-1.0, 1.0, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str, good_steps: int = 700) -> None:
        self.where, self.good_steps, self.count = where, good_steps, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        bad = self.count > self.good_steps
        obs = np.full(3, np.nan if bad and self.where == "obs" else 0.5, np.float32)
        reward = float("nan") if bad and self.where == "reward" else 1.0
        return obs, reward, bool(self.count % 20 == 0), False, {}


for place in ("obs", "reward"):
    gymnasium.register(f"Nan{place.title()}-v0", entry_point=Broken, kwargs={"where": place})

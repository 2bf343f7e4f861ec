"""Small environments with entries, actions and pictures of several layouts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Cue(gymnasium.Env[Any, Any]):
    """Ten steps; in each the better action is whether the cue is positive. Entries in the order of ``names``."""

    def __init__(self, names: str = "cue,noise", actions: int = 2, good: float = 1.0, length: int = 10) -> None:
        self.names, self.good, self.length = names.split(","), good, length
        entries = OrderedDict((name, spaces.Box(-1, 1, (1,), np.float32)) for name in self.names)
        self.observation_space = spaces.Dict(entries)
        self.action_space = spaces.Discrete(actions)

    def _observed(self) -> dict[str, Any]:
        self.now = {name: self.np_random.uniform(-1, 1, 1).astype(np.float32) for name in self.names}
        return self.now

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = self.length
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = int(action) == int(self.now["cue"][0] > 0)
        self.left -= 1
        return self._observed(), self.good if right else -self.good, self.left == 0, False, {}

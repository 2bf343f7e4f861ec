"""Environments whose answers are known, reached as ``tests.rl.own_envs:…``."""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env[Any, Any]):
    """Counts. Terminates at 3 when the seed is even, at 8 when odd; pays its count; one legal action per count."""

    action_space = spaces.Discrete(3, start=1)
    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, masks: str = "none") -> None:
        self.masks = masks
        if masks == "dict":
            self.observation_space = spaces.Dict(
                {"observation": self.observation_space, "action_mask": spaces.MultiBinary(3)}
            )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seed, self.count = seed, 0
        return self._observed()

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        obs = np.array([self.seed % 1000, self.count], np.float32)
        mask = np.arange(3) == self.count % 3
        if self.masks == "dict":
            return {"observation": obs, "action_mask": mask.astype(np.int8)}, {}
        return obs, {"action_mask": mask} if self.masks == "info" else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.masks == "none" or action - 1 == self.count % 3, "an illegal action was played"
        self.count += 1
        obs, info = self._observed()
        return obs, float(self.count), self.count == (8 if self.seed % 2 else 3), False, info


class Mixed(gymnasium.Env[Any, Any]):
    """A nested Dict observation with a mask; ends by termination or by truncation of its own."""

    action_space = spaces.Discrete(4)
    observation_space = spaces.Dict(
        {
            "where": spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2, 2)))),
            "flags": spaces.MultiBinary(2),
            "digits": spaces.MultiDiscrete([2, 3]),
            "action_mask": spaces.Box(0, 1, (4,), np.int8),
        }
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.last = 0, 0
        return self._observed(), {}

    def _observed(self) -> dict[str, Any]:
        self.mask = np.array([1, *self.np_random.integers(2, size=3)], np.int8)
        return {
            "where": (self.count % 3 - 1, np.full((2, 2), self.count / 30, np.float32)),
            "flags": np.array([self.last % 2, 1], np.int8),
            "digits": np.array([self.count % 2, self.count % 3]),
            "action_mask": self.mask,
        }

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.mask[action], "an illegal action was played"
        self.count, self.last = self.count + 1, int(action)
        reward = 1.0 if action == 3 else 0.0
        return self._observed(), reward, bool(self.np_random.random() < 0.05), self.count == 25, {}


number = 7


def nothing() -> None:
    """Returns no environment."""


def needs_size(size: int) -> gymnasium.Env[Any, Any]:
    return Counter("none" if size else "info")


class Fragile(Counter):
    """A `Counter` whose fifth step goes wrong: ``how`` is ``raise``, ``exit`` or ``nan``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.count == 5 and self.how == "raise":
            raise ZeroDivisionError("the motor has no current")
        if self.count == 5 and self.how == "exit":
            os._exit(7)
        if self.count == 5 and self.how == "nan":
            reward = float("nan")
        return obs, reward, terminated, truncated, info

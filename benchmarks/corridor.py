"""A corridor to walk along: an environment that needs nothing but Gymnasium, as numbers with a mask or as pictures."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

_LONG, _STEPS = 8, 20


class Corridor(gymnasium.Env[Any, Any]):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Walk to the right end, which pays 1; at a wall one cannot go on.

    Args:
        side: pixels of the pictures that are seen, ``uint8[4, side, side]``, the last four; 0: the place as a number,
            ``float32[2]``, with an action mask.
    """

    action_space = spaces.Discrete(3)

    def __init__(self, side: int) -> None:
        self.side = side
        vector = spaces.Dict({"place": spaces.Box(0, 1, (2,)), "action_mask": spaces.MultiBinary(3)})
        self.observation_space = spaces.Box(0, 255, (4, side, side), np.uint8) if side else vector

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.time = int(self.np_random.integers(1, _LONG - 2)), 0
        self.stack = np.zeros((4, self.side, self.side), np.uint8)
        return self._observed(), {}

    def _observed(self) -> Any:
        if not self.side:
            mask = np.array([self.place > 0, self.place < _LONG - 1, True], np.int8)
            return {"place": np.array([self.place / (_LONG - 1), 0.5], np.float32), "action_mask": mask}
        frame, wide = np.zeros((self.side, self.side), np.uint8), self.side // _LONG
        frame[:, wide * self.place : wide * (self.place + 1)] = self.np_random.integers(100, 255)
        self.stack = np.concatenate([self.stack[1:], frame[None]])
        return self.stack

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place, self.time = int(np.clip(self.place + (-1, 1, 0)[action], 0, _LONG - 1)), self.time + 1
        there = self.place == _LONG - 1
        return self._observed(), float(there), there, self.time >= _STEPS, {}


def masked() -> Corridor:
    """Numbers with an action mask."""
    return Corridor(0)


def pictures() -> Corridor:
    """36 × 36 pixels: for the convolutions of Nature 2015."""
    return Corridor(36)


def small_pictures() -> Corridor:
    """10 × 10 pixels, as MinAtar's."""
    return Corridor(10)

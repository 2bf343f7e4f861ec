"""Catch on pictures of 84 × 84: what a large convolutional network can learn on two cores in minutes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

_CELLS, _SIDE, _BALLS, _FRAMES = 7, 12, 10, 4


class Catch(gymnasium.Env[Any, Any]):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Ten balls fall one after the other, a row in each step; a paddle at the bottom catches them, 1 for each.

    The observation is the last four pictures, ``uint8[4, 84, 84]``; the actions are left, stay, right. Balls and walls
    are of another brightness every time.
    """

    observation_space = spaces.Box(0, 255, (_FRAMES, _CELLS * _SIDE, _CELLS * _SIDE), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.paddle, self.left = int(self.np_random.integers(_CELLS)), _BALLS
        self.frames = np.zeros(self.observation_space.shape, np.uint8)
        self._drop()
        return self._seen(), {}

    def _drop(self) -> None:
        self.row, self.column = 0, int(self.np_random.integers(_CELLS))
        self.left -= 1

    def _seen(self) -> Any:
        cells = np.zeros((_CELLS, _CELLS), np.uint8)
        cells[self.row, self.column] = self.np_random.integers(120, 255)
        cells[-1, self.paddle] = self.np_random.integers(120, 255)
        picture = np.kron(cells, np.ones((_SIDE, _SIDE), np.uint8))
        self.frames = np.concatenate([self.frames[1:], picture[None]])
        return self.frames

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.paddle = int(np.clip(self.paddle + action - 1, 0, _CELLS - 1))
        self.row += 1
        landed = self.row == _CELLS - 1
        reward, over = float(landed and self.column == self.paddle), landed and self.left == 0
        if landed and not over:
            self._drop()
        return self._seen(), reward, over, False, {}

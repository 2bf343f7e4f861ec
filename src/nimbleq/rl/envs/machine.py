"""A Gymnasium environment as the machine of a real-time loop: every action is one step, one period of its time."""

from __future__ import annotations

from typing import Any

from nimbleq.config import EnvConfig
from nimbleq.graph.interface import Interface, mask_of
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array


class EnvMachine:
    """Observations as the environment gives them, actions as it takes them; see `nimbleq.serve.loop.machine.Machine`.

    An episode that ends is followed by the next one at once.
    """

    def __init__(self, config: EnvConfig, seed: int = 0) -> None:
        self._env = make_env(config)
        self._seed, self._episode = seed, 0
        self._return = 0.0
        self._finished: float | None = None
        self._obs: Any
        self._begin()

    @property
    def interface(self) -> Interface:
        """What the environment gives and takes."""
        return self._env.interface

    def _begin(self) -> None:
        seed = int(episode_seeds("loop", self._seed, 1, start=self._episode)[0])
        self._episode += 1
        self._return = 0.0
        self._obs, self._info = self._env.env.reset(seed=seed)

    def read(self) -> Any:
        """The observation."""
        return self._obs

    def write(self, action: Any) -> None:
        """One step."""
        self._obs, reward, terminated, truncated, self._info = self._env.env.step(action)
        self._return += float(reward)
        if terminated or truncated:
            self._finished = self._return
            self._begin()

    def mask(self) -> Array | None:
        """The legal actions."""
        return mask_of(self._env.interface, self._obs, self._info, self._env.env)

    def finished(self) -> float | None:
        """The return of the episode that has ended since the last call."""
        total, self._finished = self._finished, None
        return total

    def close(self) -> None:
        """Release the environment."""
        self._env.close()

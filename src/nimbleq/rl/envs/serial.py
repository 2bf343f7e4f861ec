"""Any Gymnasium environments, stepped one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.batch import Outcome, check_finite
from nimbleq.rl.envs.gymnasium import env_spec, make_env
from nimbleq.rl.envs.pictures import as_rgb
from nimbleq.rl.envs.uniform import UniformEnv
from nimbleq.types import Array


class SerialEnvBatch:
    """An `EnvBatch` of any Gymnasium environments, stepped one after the other."""

    def __init__(self, config: EnvConfig, count: int, pictures: bool = False) -> None:
        self.name = config.id
        first = make_env(config, pictures)
        self.spec = env_spec(first)
        self.envs: list[UniformEnv] = [first, *(make_env(config, pictures, first.interface) for _ in range(1, count))]
        for index, env in enumerate(self.envs):
            env.name = f"{config.id} (environment {index})"
        self.mask = np.ones((count, self.spec.actions), bool) if self.spec.masked else None

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        row, info = self.envs[index].reset(seed=int(seed))
        self.begun(index, info)
        check_finite(self.name, np.array([index]), row[None], np.zeros(1))
        if self.mask is not None:
            self._note_mask(index, over=False)
        return row

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        count = len(indices)
        next_obs = np.empty((count, *self.spec.obs.shape), self.spec.obs.dtype)
        reward: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        envs, masked = self.envs, self.mask is not None
        for row, (index, action) in enumerate(zip(indices.tolist(), actions.tolist(), strict=True)):
            next_obs[row], gain, end, cut, info = envs[index].step(action)
            reward.append(self.gain(index, gain, end or cut, info))
            terminated.append(end)
            truncated.append(cut)
            if masked:
                self._note_mask(index, over=end or cut)
        with np.errstate(over="ignore"):  # infinity is reported below
            rewards = np.array(reward, np.float32)
        check_finite(self.name, indices, next_obs, rewards)
        return next_obs, rewards, np.array(terminated, bool), np.array(truncated, bool)

    def begun(self, index: int, info: Mapping[str, Any]) -> None:
        """An episode has begun."""

    def gain(self, index: int, reward: float, over: bool, info: Mapping[str, Any]) -> float:
        """What a step counts: its reward."""
        return reward

    def _note_mask(self, index: int, over: bool) -> None:
        mask = self.envs[index].mask
        assert self.mask is not None
        if mask is not None and mask.any():
            self.mask[index] = mask
        elif mask is None or over:
            self.mask[index] = True
        else:
            raise EnvError(
                f"{self.envs[index].name} says that no action is legal (1 is legal in a mask), but its episode goes on"
            )

    def picture(self, index: int) -> Array | None:
        """See `EnvBatch`."""
        env = self.envs[index]
        drawn: Array = np.asarray(env.render() if env.render_mode == "rgb_array" else None)
        return as_rgb(drawn)

    @property
    def render_fps(self) -> float | None:
        """Steps a second that its author would show; None where nothing says so."""
        fps = self.envs[0].metadata.get("render_fps")
        return float(fps) if isinstance(fps, int | float) and fps > 0 else None

    def close(self) -> None:
        """See `EnvBatch`."""
        for env in self.envs:
            env.close()

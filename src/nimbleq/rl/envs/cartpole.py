"""CartPole-v1 many at a time: in C, or through Gymnasium's own vector entry point where that was not compiled.

Both start an episode from the state that the scalar environment draws from the same seed, and go on like it, but for
the last bit of a sine where numpy and the C library differ.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.batch import EnvBatch, Outcome
from nimbleq.rl.envs.extension import environment_extension
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


def make_cartpole(config: EnvConfig, count: int) -> EnvBatch:
    """``count`` environments CartPole-v1 without arguments and drawing."""
    extension = environment_extension()
    return VectorEntryEnvBatch(config, count) if extension is None else NativeEnvBatch(config, count, extension)


class _CartPole:
    """What both have in common; see `EnvBatch`."""

    mask: Array | None = None
    spec: EnvSpec

    def __init__(self, config: EnvConfig) -> None:
        scalar = make_env(config)
        self.spec = env_spec(scalar)
        self.limit = time_limit(scalar)

    def picture(self, index: int) -> Array | None:
        """None: it draws nothing (`make_env_batch` with ``pictures`` makes some that do)."""
        return None

    def close(self) -> None:
        """There is nothing to release."""


class NativeEnvBatch(_CartPole):
    """The equations of motion in C."""

    def __init__(self, config: EnvConfig, count: int, extension: ModuleType) -> None:
        super().__init__(config)
        self._step, self._reset = extension.cartpole_step, extension.cartpole_reset
        self._state = np.zeros((count, 4))
        self._time = np.zeros(count, np.int64)
        self._reward = np.ones(count, np.float32)
        self._reward.flags.writeable = False  # returned every time

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        obs = np.empty(4, np.float32)
        self._reset(self._state, self._time, int(index), int(seed), obs)
        return obs

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        count = len(indices)
        obs = np.empty((count, 4), np.float32)
        terminated, truncated = np.empty(count, bool), np.empty(count, bool)
        self._step(self._state, self._time, indices, actions, self.limit, obs, terminated, truncated)
        return obs, self._reward[:count], terminated, truncated


class VectorEntryEnvBatch(_CartPole):
    """Gymnasium's vectorised implementation, whose automatic resets touch only those that are not stepped any more."""

    def __init__(self, config: EnvConfig, count: int) -> None:
        super().__init__(config)
        vector = gymnasium.make_vec(config.id, num_envs=count, vectorization_mode="vector_entry_point")
        self.vector = vector.unwrapped
        self.vector.max_episode_steps = self.limit
        self.vector.reset(seed=0)
        self.actions = np.zeros(count, np.int64)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        state = _first_state(seed)
        self.vector.state[:, index] = state
        self.vector.steps[index] = 0
        self.vector.prev_done[index] = False
        return state.astype(np.float32)

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        self.actions[indices] = actions
        obs, reward, terminated, truncated, _ = self.vector.step(self.actions)
        return obs[indices], reward[indices], terminated[indices], truncated[indices]


def _first_state(seed: int) -> Array:
    return cast(Array, seeding.np_random(int(seed))[0].uniform(-0.05, 0.05, 4))

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
from nimbleq.rl.envs.batch import Lanes, Outcome
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.explore import environment_extension
from nimbleq.types import Array


def make_cartpole(config: EnvConfig, count: int) -> Lanes:
    """``count`` lanes of CartPole-v1 without arguments, which nobody draws."""
    extension = environment_extension()
    return VectorEntryLanes(config, count) if extension is None else NativeLanes(config, count, extension)


class _CartPole:
    """What both have in common; see `Lanes`."""

    mask: Array | None = None
    spec: EnvSpec

    def __init__(self, config: EnvConfig) -> None:
        scalar = make_env(config)
        self.spec = env_spec(scalar)
        self.limit = time_limit(scalar)

    def picture(self, lane: int) -> Array | None:
        """None: it draws nothing (`make_lanes` with ``pictures`` makes lanes that do)."""
        return None

    def close(self) -> None:
        """There is nothing to let go of."""


class NativeLanes(_CartPole):
    """The equations of motion in C."""

    def __init__(self, config: EnvConfig, count: int, extension: ModuleType) -> None:
        super().__init__(config)
        self._step = extension.cartpole_step
        self._state = np.zeros((count, 4))
        self._time = np.zeros(count, np.int64)
        self._reward = np.ones(count, np.float32)
        self._reward.flags.writeable = False  # handed out every time

    def reset(self, lane: int, seed: int) -> Array:
        """See `Lanes`."""
        state = self._state[lane] = _first_state(seed)
        self._time[lane] = 0
        return state.astype(np.float32)

    def step(self, lanes: Array, actions: Array) -> Outcome:
        """See `Lanes`."""
        count = len(lanes)
        obs = np.empty((count, 4), np.float32)
        terminated, truncated = np.empty(count, bool), np.empty(count, bool)
        self._step(self._state, self._time, lanes, actions, self.limit, obs, terminated, truncated)
        return obs, self._reward[:count], terminated, truncated


class VectorEntryLanes(_CartPole):
    """Gymnasium's vectorised implementation, whose automatic resets touch only lanes that nobody steps any more."""

    def __init__(self, config: EnvConfig, count: int) -> None:
        super().__init__(config)
        vector = gymnasium.make_vec(config.id, num_envs=count, vectorization_mode="vector_entry_point")
        self.vector = vector.unwrapped
        self.vector.max_episode_steps = self.limit
        self.vector.reset(seed=0)
        self.actions = np.zeros(count, np.int64)

    def reset(self, lane: int, seed: int) -> Array:
        """See `Lanes`."""
        state = _first_state(seed)
        self.vector.state[:, lane] = state
        self.vector.steps[lane] = 0
        self.vector.prev_done[lane] = False
        return state.astype(np.float32)

    def step(self, lanes: Array, actions: Array) -> Outcome:
        """See `Lanes`."""
        self.actions[lanes] = actions
        obs, reward, terminated, truncated, _ = self.vector.step(self.actions)
        return obs[lanes], reward[lanes], terminated[lanes], truncated[lanes]


def _first_state(seed: int) -> Array:
    return cast(Array, seeding.np_random(int(seed))[0].uniform(-0.05, 0.05, 4))

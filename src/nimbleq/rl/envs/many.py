"""Environments of yours that step many episodes at once, such as simulators in JAX: one call in place of N.

A class that is given as ``--env package.module:Class`` may have a class method ``many(count, **kwargs)``: what that
returns plays ``count`` episodes side by side (`Many`), in training, checks and certificates alike. The class itself
still says what is observed and which actions there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.graph.interface import Interface
from nimbleq.rl.envs.batch import Outcome, check_finite
from nimbleq.rl.envs.find import factory_of, keyword_arguments
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.uniform import guarded
from nimbleq.types import Array


class Many(Protocol):
    """``count`` independent episodes. Nothing restarts by itself."""

    def reset(self, index: int, seed: int) -> Array:
        """Start an episode that depends on ``seed`` only; its first observation."""
        ...

    def step(self, indices: Array, actions: Array) -> Outcome:
        """Step ``indices: int64[L]`` with ``actions: int64[L]``: observations, rewards, terminated, truncated.

        The others lose their episode.
        """
        ...


def many_of(config: EnvConfig) -> Callable[..., Many] | None:
    """The function that makes many at once; None where the environment has none, or cannot be imported."""
    try:
        factory = factory_of(config)
    except EnvError:  # said by whoever makes the environment
        return None
    made = getattr(factory, "many", None)
    return made if callable(made) else None


class ManyEnvBatch:
    """See `nimbleq.rl.envs.batch.EnvBatch`.

    Raises:
        EnvError: it observes or does what only single environments can: see `make_env`.
    """

    mask: Array | None = None

    def __init__(self, config: EnvConfig, count: int) -> None:
        self.name = config.id
        one = make_env(config)
        self.spec, self.limit, interface = env_spec(one), time_limit(one), one.interface
        one.close()
        _check_plain(config, interface)
        make = many_of(config)
        assert make is not None
        self._many: Many = guarded(self.name, "many", lambda: make(count, **keyword_arguments(config)))
        self._time = np.zeros(count, np.int64)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        obs = guarded(self.name, "reset", lambda: self._many.reset(index, int(seed)))
        self._time[index] = 0
        first: Array = self._checked(np.asarray(obs)[None], np.array([index]), np.zeros(1, np.float32))[0]
        return first

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        answer = guarded(self.name, "step", lambda: self._many.step(indices, actions))
        obs, reward, terminated, truncated = (np.asarray(part) for part in answer)
        self._time[indices] += 1
        reward = reward.astype(np.float32)
        cut = truncated.astype(bool) | (self._time[indices] >= self.limit)
        return self._checked(obs, indices, reward), reward, terminated.astype(bool), cut

    def _checked(self, obs: Array, indices: Array, reward: Array) -> Array:
        wanted = (len(indices), *self.spec.obs.shape)
        if obs.shape != wanted or obs.dtype != self.spec.obs.dtype:
            raise EnvError(
                f"{self.name}: many gives observations {obs.dtype} {obs.shape}, its observation_space says "
                f"{self.spec.obs.dtype} {wanted}"
            )
        check_finite(self.name, indices, obs, reward)
        return obs

    def picture(self, index: int) -> Array | None:
        """None: it draws nothing (`make_env_batch` with ``pictures`` makes some that do)."""
        return None

    def close(self) -> None:
        """There is nothing to release."""


def _check_plain(config: EnvConfig, interface: Interface) -> None:
    """Raise `EnvError` where an observation or an action would have to be translated one by one."""
    if not interface.plain or interface.mask is not None:
        raise EnvError(
            f"{config.id} has a method many, which takes float32 vectors or pixels as they are, actions from 0 on and "
            "no masks: leave many out, and it is stepped one by one"
        )

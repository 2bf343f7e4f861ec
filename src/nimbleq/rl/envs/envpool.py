"""Training on envpool: environments in C++ on threads of their own [2206.10558], where envpool has them.

What envpool plays differs from Gymnasium in its random numbers, and in that an episode that ends by itself in its last
possible step counts as cut. Students of what was trained so are taught on it, too; checks, certificates and everything
else that is claimed of a policy are played on Gymnasium's environment.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.batch import Outcome, check_finite
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.uniform import quiet
from nimbleq.rl.envs.vector_engine import VectorEngine
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Step

_GENERATION = 1 << 14  # steps after which all environments are made anew (see `PoolEnv`)


class PoolEnv:
    """As `nimbleq.rl.envs.batch.VectorEnv`, for the environments of envpool.

    envpool takes seeds when environments are made, not for each episode. So the state is what was done since then: the
    seed and all actions, and going on means doing them again. To keep that short, the environments are made anew after
    16,384 steps; the episodes that run then are cut, like those that reach their time limit.

    Raises:
        EnvError: envpool is not installed or has no such environment, or it observes something else than Gymnasium's;
            or ``config`` has arguments, which mean different things in both.
    """

    mask: Array | None = None

    def __init__(self, config: EnvConfig, envs: int, seed: int) -> None:
        self.config, self.count, self.seed = config, envs, seed
        self.spec, self.limit = _known(config)
        self.finished: list[tuple[float, int]] = []
        self._generation = 0
        self._actions: list[Array] = []
        self._begin()

    def _begin(self) -> None:
        """Make the environments of this generation."""
        self.pool = _make(self.config.id, self.count, self.limit, self.seed * 65_537 + self._generation)
        self._actions.clear()
        self._returns = np.zeros(self.count)
        self._lengths = np.zeros(self.count, np.int64)
        with quiet():
            obs, _ = self.pool.reset()
        _check_the_same(self.config.id, self.spec, obs)
        self.obs: Array = _read(self.spec, obs)

    def step(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; those whose episode ends start the next one.

        Raises:
            EnvError: an environment returned NaN or infinity.
        """
        obs = self.obs
        raw, reward, terminated, truncated, _ = self.pool.step(action.astype(np.int32))
        next_obs = _read(self.spec, raw)
        check_finite(self.config.id, np.arange(self.count), next_obs, reward)
        self._actions.append(np.array(action, np.int32))
        self._returns += reward
        self._lengths += 1
        last = len(self._actions) == _GENERATION
        truncated = (truncated | last) & ~terminated
        ended = np.flatnonzero(terminated | truncated)
        self.finished = [(float(self._returns[index]), int(self._lengths[index])) for index in ended]
        self.obs = next_obs
        if last:
            self._generation += 1
            self._begin()
        elif ended.size:
            self.obs = next_obs.copy()
            self.obs[ended] = _read(self.spec, self.pool.reset(ended.astype(np.int32))[0])
            self._returns[ended], self._lengths[ended] = 0.0, 0
        return Step(obs, action, reward, terminated, truncated, next_obs, None)

    def arrays(self) -> dict[str, Array]:
        """Complete state: the actions of this generation, and the current observations to check a rebuild against."""
        actions = np.array(self._actions, np.int32).reshape(-1, self.count)
        return {"generation": np.array([self._generation]), "actions": actions, "obs": self.obs.copy()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Play this generation again up to where it was.

        Raises:
            EnvError: the environments do not repeat themselves, so the run cannot go on from there.
        """
        self._generation = int(arrays["generation"][0])
        self._begin()
        for action in arrays["actions"]:
            self.step(action)
        if not np.array_equal(self.obs, arrays["obs"]):
            raise EnvError(
                f"envpool's {self.config.id} does not repeat itself from its seed and actions, so this run cannot be "
                "resumed exactly; train again without resuming"
            )

    def close(self) -> None:
        """Release the environments."""
        self.pool.close()


def is_installed() -> bool:
    """Whether envpool can be asked for."""
    return find_spec("envpool") is not None


class PoolBatch:
    """A `nimbleq.rl.envs.batch.EnvBatch` for searches: its episodes follow from the first seed that it is asked for and
    from what it played before, not from the seed of each.

    Raises:
        EnvError: see `PoolEnv`.
    """

    mask: Array | None = None

    def __init__(self, config: EnvConfig, count: int) -> None:
        self.name, self.count = config.id, count
        self.spec, self._limit = _known(config)
        self._pool: Any = None

    def reset(self, index: int, seed: int) -> Array:
        """The first observation of an episode of environment ``index``."""
        if self._pool is None:
            self._pool = _make(self.name, self.count, self._limit, seed)
            with quiet():
                _check_the_same(self.name, self.spec, self._pool.reset()[0])
        first: Array = _read(self.spec, self._pool.reset(np.array([index], np.int32))[0])[0]
        return first

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `nimbleq.rl.envs.batch.EnvBatch`."""
        raw, reward, terminated, truncated, _ = self._pool.step(actions.astype(np.int32), indices.astype(np.int32))
        next_obs, reward = _read(self.spec, raw), reward.astype(np.float32)
        check_finite(self.name, indices, next_obs, reward)
        return next_obs, reward, terminated, truncated & ~terminated

    def picture(self, index: int) -> Array | None:
        """It draws nothing."""
        return None

    def close(self) -> None:
        """Release the environments."""
        if self._pool is not None:
            self._pool.close()


def _known(config: EnvConfig) -> tuple[EnvSpec, int]:
    """What a network has to know of an environment, and the limit of its steps, as Gymnasium has them."""
    if config.kwargs or config.discretize is not None:
        raise EnvError("envpool takes no --env-kwargs and no --discretize: leave out --env-engine")
    env = make_env(config)
    found = env_spec(env), time_limit(env)
    env.close()
    return found


def _check_the_same(name: str, spec: EnvSpec, obs: Array) -> None:
    space = spec.interface.space if spec.interface is not None else None
    shape = getattr(space, "shape", spec.obs.shape)
    if obs.shape[1:] != shape or obs.dtype != spec.obs.dtype:
        raise EnvError(
            f"envpool's {name} observes {obs.dtype} {obs.shape[1:]}, Gymnasium's {spec.obs.dtype} {shape}: leave out "
            "--env-engine"
        )


def _read(spec: EnvSpec, obs: Array) -> Array:
    """``[L, *O]`` what the network reads: the same numbers in C order."""
    return obs.reshape(len(obs), *spec.obs.shape)


def _make(name: str, envs: int, limit: int, seed: int) -> Any:
    try:
        envpool = importlib.import_module("envpool")
    except ImportError:
        raise EnvError("envpool is not installed: pip install 'nimbleq[envpool]', or leave out --env-engine") from None
    name = name.rpartition(":")[2]  # the module that registers it with Gymnasium is of no use here
    if name not in envpool.list_all_envs():
        raise EnvError(f"envpool has no environment {name!r}: leave out --env-engine")
    threads = min(envs, len(os.sched_getaffinity(0)))
    with quiet():
        return envpool.make_gymnasium(
            name, num_envs=envs, num_threads=threads, seed=seed % (1 << 31), max_episode_steps=limit
        )


ENGINE = VectorEngine(PoolEnv, no_workers="which has threads of its own")

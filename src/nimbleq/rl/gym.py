"""Gymnasium made uniform: one kind of observation, one kind of action, one-line errors, no warnings on the terminal."""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.find import find_env
from nimbleq.rl.observe import observer
from nimbleq.types import Array, EnvSpec

CUT_STEPS = 10_000  # of episodes of environments without a time limit of their own: an evaluation has to end
_MAX_ACTIONS = 4_096  # of a discretisation
MASK = "action_mask"
"""Entry of ``info``, or of a Dict observation, that says which actions are legal."""


class UniformEnv(gymnasium.Wrapper):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Observes a float32 vector or a uint8 image ``(C, H, W)`` and takes actions 0 … A−1.

    Attributes:
        name: for messages.
        obs_spec: of the observations (see `nimbleq.rl.observe.observer`).
        actions: ``A``.
        mask: ``bool[A]`` the actions that are legal now, or None when the environment does not say.
        masked: a Dict observation has the entry ``action_mask``, so that ``mask`` is always known.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name
        self.mask: Array | None = None
        space = env.observation_space
        self.masked = isinstance(space, spaces.Dict) and MASK in space.spaces
        self._only: Any = None  # the one entry that is left of the Dict without its mask: it needs no flattening
        if self.masked:
            space, self._only = _without_mask(space)
        try:
            self.obs_spec, self._observe = observer(space)
        except TypeError as error:
            raise EnvError(
                f"{name} observes {error}, which has no fixed-size array form: leave it out in a wrapper, or make a "
                "Box of it"
            ) from None
        box = (-np.inf, np.inf, self.obs_spec.shape, np.float32)
        self.observation_space = spaces.Box(
            *(box if self.obs_spec.dtype == "float32" else (0, 255, self.obs_spec.shape, np.uint8))
        )
        assert isinstance(env.action_space, spaces.Discrete)
        self.actions, self._first_action = int(env.action_space.n), int(env.action_space.start)
        self.action_space = spaces.Discrete(self.actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Gymnasium's ``reset``; raises `EnvError` for an observation of another shape, or when it fails."""
        try:
            obs, info = self.env.reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            raise failure(self.name, "reset", error) from error
        return self._uniform(obs, info), info

    def step(self, action: Any) -> tuple[Array, SupportsFloat, bool, bool, dict[str, Any]]:
        """Gymnasium's ``step``; raises `EnvError` for an observation of another shape, or when it fails."""
        try:
            obs, reward, terminated, truncated, info = self.env.step(action + self._first_action)
        except (Exception, SystemExit) as error:
            raise failure(self.name, "step", error) from error
        return self._uniform(obs, info), reward, terminated, truncated, info

    def _uniform(self, obs: Any, info: dict[str, Any]) -> Array:
        mask = obs[MASK] if self.masked else info.get(MASK)
        if mask is not None:
            mask = np.asarray(mask, bool)
            if mask.shape != (self.actions,):
                raise EnvError(
                    f"{self.name} returned an action mask of shape {mask.shape} for its {self.actions} actions"
                )
        self.mask = mask
        try:
            return self._observe(obs if self._only is None else obs[self._only])
        except ValueError as error:
            raise EnvError(f"{self.name} returned {error}") from None


def failure(name: str, doing: str, error: BaseException) -> EnvError:
    """What an environment's own code raised, in one line that says where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return EnvError(f"{name} failed in {doing}: {what} ({Path(frame.filename).name}, line {frame.lineno})")


def make_env(config: EnvConfig, pictures: bool = False) -> UniformEnv:
    """An environment of any kind, made uniform, with a time limit.

    Args:
        config: which; see `find_env`.
        pictures: ``render()`` gives RGB pictures where the environment can draw any.

    Raises:
        EnvError: unknown id or factory, missing dependency, continuous actions without ``discretize``, observations
            that cannot become an array.
    """
    for name, value, least in (
        ("max_episode_steps", config.max_episode_steps, 1),
        ("discretize", config.discretize, 2),
    ):
        if value is not None and value < least:
            raise EnvError(f"{name} must be at least {least}, not {value}")
    with quiet():
        env = find_env(config, pictures)
        return UniformEnv(_with_discrete_actions(_with_time_limit(env, config), config), config.id)


def env_spec(env: UniformEnv) -> EnvSpec:
    """What a network has to know of an environment from `make_env`; starts an episode to see whether masks come."""
    with quiet():
        env.reset(seed=0)
    return EnvSpec(env.obs_spec, env.actions, env.mask is not None)


def time_limit(env: gymnasium.Env[Any, Any]) -> int:
    """Steps after which an episode is cut."""
    return int(env.get_wrapper_attr("_max_episode_steps"))


@contextmanager
def quiet() -> Iterator[None]:
    """Gymnasium and the libraries behind it warn about their own matters; people read what nimbleq says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _with_time_limit(env: gymnasium.Env[Any, Any], config: EnvConfig) -> gymnasium.Env[Any, Any]:
    wanted, limit = config.max_episode_steps, _own_limit(env)
    if limit is None or (wanted is not None and wanted < limit):
        return gymnasium.wrappers.TimeLimit(env, wanted or CUT_STEPS)
    if wanted is not None and wanted > limit:
        raise EnvError(f"{config.id} cuts its episodes itself after {limit} steps, so they cannot last {wanted}")
    return env


def _own_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return time_limit(env)
        env = env.env
    return None


def _with_discrete_actions(env: gymnasium.Env[Any, Any], config: EnvConfig) -> gymnasium.Env[Any, Any]:
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        if config.discretize is not None:
            raise EnvError(f"{config.id} has {space.n} discrete actions already: leave out --discretize")
        return env
    if not isinstance(space, spaces.Box):
        raise EnvError(
            f"{config.id} takes {type(space).__name__} actions and a Q-network chooses among discrete ones; wrap it"
        )
    if config.discretize is None:
        raise EnvError(
            f"{config.id} takes continuous actions and a Q-network chooses among discrete ones; --discretize 5 makes "
            f"{5 ** math.prod(space.shape):,} of them (5 per dimension)"
        )
    if not np.isfinite([space.low, space.high]).all():
        raise EnvError(f"{config.id} takes continuous actions without bounds, which cannot be discretised")
    count = config.discretize ** math.prod(space.shape)
    if count > _MAX_ACTIONS:
        raise EnvError(
            f"{config.id} with {config.discretize} bins in each of {math.prod(space.shape)} dimensions has {count:,} "
            f"actions, more than {_MAX_ACTIONS:,}: take fewer bins or another environment"
        )
    return gymnasium.wrappers.DiscretizeAction(env, config.discretize)


def _without_mask(space: spaces.Dict) -> tuple[spaces.Space[Any], Any]:
    """The Dict without its mask; a single entry that remains stands for itself and is named."""
    rest = {name: part for name, part in space.spaces.items() if name != MASK}
    if len(rest) == 1:
        [(name, part)] = rest.items()
        return part, name
    return spaces.Dict(list(rest.items())), None

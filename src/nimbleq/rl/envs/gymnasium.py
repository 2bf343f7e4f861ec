"""Gymnasium environments of any kind made uniform: found, cut by a time limit, and behind their `Interface`."""

from __future__ import annotations

from typing import Any

import gymnasium

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.graph.interface import Interface
from nimbleq.rl.envs.find import find_env
from nimbleq.rl.envs.interfaces import interface_of
from nimbleq.rl.envs.uniform import UniformEnv, quiet
from nimbleq.rl.spec import EnvSpec

CUT_STEPS = 10_000  # of episodes of environments without a time limit of their own: an evaluation has to end


def make_env(config: EnvConfig, pictures: bool = False, interface: Interface | None = None) -> UniformEnv:
    """An environment of any kind, made uniform, with a time limit.

    Args:
        config: which; see `find_env`.
        pictures: ``render()`` gives RGB pictures where the environment can draw any.
        interface: of another environment of ``config`` (None: found out, by starting an episode).

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
        env = _with_time_limit(find_env(config, pictures), config)
        return UniformEnv(env, config.id, interface or interface_of(env, config))


def env_spec(env: UniformEnv) -> EnvSpec:
    """What a network has to know of an environment from `make_env`."""
    interface = env.interface
    return EnvSpec(interface.obs, interface.actions, interface.mask is not None, interface.branches, interface)


def time_limit(env: gymnasium.Env[Any, Any]) -> int:
    """Steps after which an episode is cut."""
    return int(env.get_wrapper_attr("_max_episode_steps"))


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

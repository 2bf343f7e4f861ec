"""Gymnasium made uniform: one kind of observation, one kind of action, one-line errors, no warnings on the terminal."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.types import EnvSpec, ObsSpec

_CUT_STEPS = 10_000  # of episodes of environments without a time limit of their own: an evaluation has to end
_IMAGE_MIN_PIXELS = 36
_COLOURS = (1, 3, 4)  # a last axis of this length holds the channels


def make_env(config: EnvConfig) -> gymnasium.Env[Any, Any]:
    """A Gymnasium environment that observes a float32 vector or a uint8 image ``(C, H, W)`` and takes actions 0 … A−1.

    Dictionaries, tuples and discrete observations are flattened (one-hot); small or float images too.

    Raises:
        EnvError: unknown id, missing dependency, continuous actions, observations that cannot become an array.
    """
    with _quiet():
        env = _made(config)
        if env.spec is not None and env.spec.max_episode_steps is None:
            env = gymnasium.wrappers.TimeLimit(env, _CUT_STEPS)
        env = _with_array_observations(env, config.id)
    if not isinstance(env.action_space, spaces.Discrete):
        raise EnvError(
            f"{config.id} takes {_described(env.action_space)} actions and a Q-network chooses among discrete ones; "
            "choose another environment or wrap it (gymnasium.wrappers.DiscretizeAction)"
        )
    first = int(env.action_space.start)
    if first != 0:
        actions = spaces.Discrete(int(env.action_space.n))
        env = gymnasium.wrappers.TransformAction(env, lambda action: action + first, actions)
    return env


def env_spec(env: gymnasium.Env[Any, Any]) -> EnvSpec:
    """What a network has to know of an environment from `make_env`."""
    dtype = "uint8" if env.observation_space.dtype == np.uint8 else "float32"
    shape = tuple(int(side) for side in cast(tuple[int, ...], env.observation_space.shape))
    return EnvSpec(ObsSpec(shape, dtype), int(cast(spaces.Discrete, env.action_space).n))


def time_limit(env: gymnasium.Env[Any, Any]) -> int:
    """Steps after which an episode is cut."""
    return int(env.get_wrapper_attr("_max_episode_steps"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Gymnasium and the libraries behind it warn about their own matters; people read what nimbleq says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _made(config: EnvConfig) -> gymnasium.Env[Any, Any]:
    if config.max_episode_steps is not None and config.max_episode_steps < 1:
        raise EnvError(f"max_episode_steps must be at least 1, not {config.max_episode_steps}")
    try:
        return gymnasium.make(config.id, max_episode_steps=config.max_episode_steps, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvError(f"{config.id} needs something that is not installed: {_one_line(error)}") from error
    except ImportError as error:
        raise EnvError(f"{config.id} needs the Python package {error.name or error}, which is not installed") from error
    except gymnasium.error.Error as error:
        raise EnvError(f"there is no environment {config.id!r} in Gymnasium{_suggestion(config.id)}") from error


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else "; gymnasium.pprint_registry() lists what there is"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _described(space: spaces.Space[Any]) -> str:
    return "continuous" if isinstance(space, spaces.Box) else type(space).__name__


def _with_array_observations(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    space = env.observation_space
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        image = _channels_first(env)
        if min(cast(tuple[int, ...], image.observation_space.shape)[1:]) >= _IMAGE_MIN_PIXELS:
            return image
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype != np.uint8:
        return env
    if not space.is_np_flattenable or math.prod(gymnasium.spaces.flatten_space(space).shape or ()) == 0:
        raise EnvError(
            f"{name} observes {type(space).__name__}, which has no fixed-size array form; wrap it into a Box"
        )
    flat = gymnasium.wrappers.FlattenObservation(env)
    size = gymnasium.spaces.flatdim(space)
    return gymnasium.wrappers.TransformObservation(
        flat, lambda obs: obs.astype(np.float32), spaces.Box(-np.inf, np.inf, (size,), np.float32)
    )


def _channels_first(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    shape = cast(tuple[int, ...], env.observation_space.shape)
    if len(shape) == 2:
        return gymnasium.wrappers.ReshapeObservation(env, (1, *shape))
    if shape[2] in _COLOURS and shape[0] not in _COLOURS:
        swapped = spaces.Box(0, 255, (shape[2], *shape[:2]), np.uint8)
        return gymnasium.wrappers.TransformObservation(env, lambda obs: obs.transpose(2, 0, 1), swapped)
    return env

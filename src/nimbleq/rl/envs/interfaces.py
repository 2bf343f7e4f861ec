"""The `Interface` of a Gymnasium environment: from its spaces, its first observation and where its masks come from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError, ObservationError
from nimbleq.graph.branches import MOST
from nimbleq.graph.interface import MASKS, Interface
from nimbleq.graph.reading import as_array
from nimbleq.graph.space import Box, Space, leaves
from nimbleq.rl.envs.observe import space_of
from nimbleq.rl.envs.offsets import with_offsets
from nimbleq.rl.envs.uniform import reset
from nimbleq.types import Array

_MAX_ACTIONS = 4_096  # of a discretisation
LIKE_MASK = re.compile(r"masks?$|(legal|valid|avail|admissible|allowed|possible|feasible)\w*(action|move)", re.I)
"""Names of what may say which actions are legal."""


def interface_of(env: gymnasium.Env[Any, Any], config: EnvConfig) -> Interface:
    """What ``env`` gives and takes; starts an episode to see whether its ``info`` has masks.

    Raises:
        EnvError: it has no spaces, or other ones than a Q-network can do with; it failed.
    """
    observed, acts = _space(env, "observation_space", config), _space(env, "action_space", config)
    branches, starts = _branches(acts, config)
    start, commands = (0, None) if branches else _actions(acts, config)
    actions = sum(branches) if branches else int(acts.n) if commands is None else len(commands)
    space = _observations(observed, config)
    mask = _mask_source(env, observed, actions, start, config)
    interface = Interface(space, actions, start, commands, mask, branches=branches, starts=starts)
    if isinstance(observed, spaces.Dict) and mask is not None and mask.startswith("obs:") and len(observed) == 1:
        raise EnvError(f"{config.id} observes nothing but {mask.removeprefix('obs:')}")
    return interface


def _space(env: gymnasium.Env[Any, Any], which: str, config: EnvConfig) -> Any:
    try:
        space = getattr(env, which)
    except Exception:  # noqa: BLE001 (a property of the environment's; reported below)
        space = None
    if not isinstance(space, spaces.Space):
        raise EnvError(f"{config.id} has no {which}: its __init__ must set self.{which} to a space of gymnasium.spaces")
    return space


def _observations(space: spaces.Space[Any], config: EnvConfig) -> Space:
    try:
        seen = space_of(space, config.channels)
    except TypeError as error:
        raise EnvError(
            f"{config.id} observes {error}, which has no fixed-size array form: leave it out in a wrapper, or make a "
            "Box of it"
        ) from None
    if seen.size == 0:
        raise EnvError(f"{config.id} observes nothing: its observation space is empty")
    if config.channels in ("first", "last") and not any(
        isinstance(leaf, Box) and leaf.picture is not None and len(leaf.shape) > 2 for _, leaf in leaves(seen)
    ):
        raise EnvError(
            f"{config.id} observes no picture with channels {config.channels}, of at least 8 × 8 pixels: leave out "
            "--channels"
        )
    return with_offsets(seen, config)


def _branches(space: spaces.Space[Any], config: EnvConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of an action's dimensions, and the first choice of each; empty where it is a single choice."""
    if not isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return (), ()
    if len(space.shape) != 1:
        raise EnvError(f"{config.id} takes actions of shape {space.shape}: make one row of them in a wrapper")
    if config.discretize is not None:
        raise EnvError(f"{config.id} has discrete actions already: leave out --discretize")
    count = space.shape[0]
    sizes = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [2] * count
    starts = space.start.tolist() if isinstance(space, spaces.MultiDiscrete) else [0] * count
    if math.prod(sizes) > MOST:
        raise EnvError(f"{config.id} has {math.prod(sizes):,} actions, more than {MOST:,}: take fewer dimensions")
    return tuple(sizes), tuple(starts)


def _actions(space: spaces.Space[Any], config: EnvConfig) -> tuple[int, Array | None]:
    """The first action, and the commands that stand for actions without numbers."""
    if isinstance(space, spaces.Discrete):
        if config.discretize is not None:
            raise EnvError(f"{config.id} has {space.n} discrete actions already: leave out --discretize")
        return int(space.start), None
    if not isinstance(space, spaces.Box):
        raise EnvError(
            f"{config.id} takes {type(space).__name__} actions and a Q-network chooses among discrete ones; wrap it"
        )
    dimensions = math.prod(space.shape)
    if config.discretize is None:
        raise EnvError(
            f"{config.id} takes continuous actions and a Q-network chooses among discrete ones; --discretize 5 makes "
            f"{5**dimensions:,} of them (5 per dimension)"
        )
    if not np.isfinite([space.low, space.high]).all():
        raise EnvError(f"{config.id} takes continuous actions without bounds, which cannot be discretised")
    count = config.discretize**dimensions
    if count > _MAX_ACTIONS:
        raise EnvError(
            f"{config.id} with {config.discretize} bins in each of {dimensions} dimensions has {count:,} "
            f"actions, more than {_MAX_ACTIONS:,}: take fewer bins or another environment"
        )
    return 0, _bins(space, config.discretize)


def _bins(space: spaces.Box, bins: int) -> Array:
    """``[bins^D, *shape]`` the middles of ``bins`` equal parts of each dimension; the last dimension changes first."""
    low, high = np.ravel(space.low), np.ravel(space.high)
    middles = []
    for least, most in zip(low, high, strict=True):
        edges = np.linspace(least, most, bins + 1)
        middles.append(0.5 * (edges[:-1] + edges[1:]))
    grid = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)
    commands: Array = grid.reshape(-1, *space.shape).astype(space.dtype)
    return commands


def _mask_source(env: gymnasium.Env[Any, Any], space: Any, actions: int, start: int, config: EnvConfig) -> str | None:
    """The most usual place (see `MASKS`) where ``env`` says which actions are legal."""
    entries = space.spaces if isinstance(space, spaces.Dict) else {}
    observed_now, info = reset(env, config.id, seed=0)
    for where in MASKS:
        place, _, name = where.partition(":")
        if place == "obs" and name in entries:
            if getattr(entries[name], "shape", None) != (actions,):
                raise EnvError(
                    f"{config.id} observes {name!r} of shape {getattr(entries[name], 'shape', None)}: it must have a "
                    f"flag for each of {actions} actions"
                )
            return where
        if place == "info" and name in info:
            return where
        if place == "method" and callable(_method(env, name)):
            return where
    for where, value in (*_named(observed_now, "the observation's entry"), *_named(info, "info")):
        if _marks_actions(value, actions, start):
            raise EnvError(
                f"{config.id} gives {where}, which looks like a mask of its actions but has no name that is read, so "
                "illegal actions would be played: call it action_mask, at the top of a Dict observation or in info, or "
                "leave it out in a wrapper"
            )
    return None


def _named(held: Any, where: str) -> Iterator[tuple[str, Any]]:
    """What is called like a mask in ``held``, at any depth: where it is, and its value."""
    for name, value in held.items() if isinstance(held, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _named(value, f"{where} {name!r}")
        elif isinstance(name, str) and LIKE_MASK.search(name):
            yield f"{where} {name!r}", value


def _marks_actions(value: Any, actions: int, start: int) -> bool:
    """Whether ``value`` has a flag for each action, or lists some of them."""
    try:
        array = as_array(list(value) if isinstance(value, set | frozenset) else value)
    except ObservationError:
        return False
    if array.size == actions and np.isin(array, (0, 1)).all():
        return True
    listed = array.dtype.kind in "iu" and array.ndim == 1 and len(np.unique(array)) == len(array) > 0
    return bool(listed and ((array >= start) & (array < start + actions)).all())


def _method(env: gymnasium.Env[Any, Any], name: str) -> Any:
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return None

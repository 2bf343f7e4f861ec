"""Variants of CartPole that Gymnasium has no argument for, as factories: ``benchmarks.variants:cartpole``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

NAMES = ("position", "velocity", "angle", "rate")


def cartpole(length: float = 0.5, force_mag: float = 10.0) -> gymnasium.Env[Any, Any]:
    """CartPole-v1 with another half-length of the pole (in metres) or another push (in newtons)."""
    env = gymnasium.make("CartPole-v1")
    physics: Any = env.unwrapped
    physics.length, physics.force_mag = length, force_mag
    physics.polemass_length = physics.masspole * length
    return env


class Named(gymnasium.ObservationWrapper[Any, Any, Any]):  # type: ignore[misc]
    """CartPole's four numbers under their names, in the order of ``names``; others are noise that means nothing."""

    def __init__(self, env: gymnasium.Env[Any, Any], names: tuple[str, ...]) -> None:
        super().__init__(env)
        self.names = names
        entries = OrderedDict((name, spaces.Box(-np.inf, np.inf, (1,), np.float32)) for name in names)
        self.observation_space = spaces.Dict(entries)

    def observation(self, observation: Any) -> dict[str, Any]:
        """See Gymnasium."""
        known = dict(zip(NAMES, observation, strict=True))
        noise = self.unwrapped.np_random
        return {name: np.array([known.get(name, noise.normal())], np.float32) for name in self.names}


def named(names: str = "position,velocity,angle,rate", force_mag: float = 10.0) -> gymnasium.Env[Any, Any]:
    """CartPole whose observation is a Dict of these ``names``."""
    return Named(cartpole(force_mag=force_mag), tuple(names.split(",")))

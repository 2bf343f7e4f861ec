"""ε-greedy exploration."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np

from nimbleq.config import ExploreConfig
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.types import Array


def environment_extension() -> ModuleType | None:
    """The compiled half of exploration and of CartPole, or None."""
    try:
        return importlib.import_module("nimbleq.native._envs")
    except ModuleNotFoundError:
        return None


_NATIVE = environment_extension()


def epsilon_at(config: ExploreConfig, updates: int) -> float:
    """ε after ``updates`` gradient steps: a linear ramp, constant after it."""
    done = min(1.0, updates / config.updates) if config.updates > 0 else 1.0
    return config.start + (config.end - config.start) * done


def epsilon_greedy(
    rng: np.random.Generator, greedy: Array, actions: int, epsilon: float, mask: Array | None = None
) -> Array:
    """Each of ``greedy: int64[N]`` replaced by a uniformly random one of ``actions`` with probability ``epsilon``.

    With ``mask: bool[N, A]`` the random ones come from the legal actions.
    """
    if epsilon <= 0:
        return greedy
    draw = rng.random(len(greedy))
    if mask is None and _NATIVE is not None:
        chosen = greedy.copy()
        _NATIVE.epsilon_greedy(draw, chosen, actions, epsilon)
        return chosen
    random = (draw < epsilon).nonzero()[0]
    chosen, share = greedy.copy(), draw[random] / epsilon  # uniform in [0, 1) once more
    if mask is None:
        chosen[random] = np.minimum(share * actions, actions - 1)
    else:
        chosen[random] = nth_legal(mask[random], (share * MANY).astype(np.int64))
    return chosen

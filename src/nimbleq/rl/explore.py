"""ε-greedy exploration."""

from __future__ import annotations

import numpy as np

from nimbleq.config import ExploreConfig
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.types import Array


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
    draw = rng.random(len(greedy))
    explores = draw < epsilon
    if not np.count_nonzero(explores):
        return greedy
    random = explores.nonzero()[0]
    chosen, share = greedy.copy(), draw[random] / epsilon  # uniform in [0, 1) once more
    if mask is None:
        chosen[random] = np.minimum(share * actions, actions - 1)
    else:
        chosen[random] = nth_legal(mask[random], (share * MANY).astype(np.int64))
    return chosen

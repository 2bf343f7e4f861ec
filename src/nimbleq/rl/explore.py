"""ε-greedy exploration, with random actions held for a while where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nimbleq.config import ExploreConfig
from nimbleq.graph.branches import places
from nimbleq.rl.envs.extension import environment_extension
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.rl.ramp import ramp
from nimbleq.types import Array

_NATIVE = environment_extension()


class Explorer:
    """Which actions are played to learn from; all of its randomness is ``rng``'s.

    Where ``config.hold`` is above 1, a random action lasts for n steps with a probability in proportion to n⁻²
    (εz-greedy, Dabney et al. 2021 [2006.01782]), also across the end of an episode, and ends early where it is illegal.

    Args:
        config: of exploration.
        rng: of this purpose only.
        envs: environments side by side, N.
        actions: of each.
        branches: sizes of their dimensions (empty: an action is a single choice).
    """

    def __init__(
        self, config: ExploreConfig, rng: np.random.Generator, envs: int, actions: int, branches: Sequence[int] = ()
    ) -> None:
        self.config, self.rng, self.actions, self.branches = config, rng, actions, branches
        self._held = np.zeros(envs, np.int64)
        self._left = np.zeros(envs, np.int64)
        chances = np.arange(1, config.hold + 1, dtype=np.float64) ** -2
        self._ends = np.cumsum(chances / chances.sum())[:-1]

    def epsilon(self, updates: int) -> float:
        """ε after ``updates`` gradient steps."""
        return epsilon_at(self.config, updates)

    def choose(self, greedy: Array, epsilon: float, mask: Array | None = None) -> Array:
        """Actions ``int64[N]`` in place of ``greedy: int64[N]``, legal by ``mask: bool[N, A]`` (None: all are)."""
        if self.config.hold == 1:
            return epsilon_greedy(self.rng, greedy, self.actions, epsilon, mask, self.branches)
        random = epsilon_greedy(self.rng, np.full(len(greedy), -1), self.actions, epsilon, mask, self.branches)
        steps = 1 + np.searchsorted(self._ends, self.rng.random(len(greedy)), side="right")
        lasts = self._left > 0
        if mask is not None:
            lasts &= np.take_along_axis(mask, places(self._held, self.branches), axis=1).all(axis=1)
        begins = (random >= 0) & ~lasts
        self._held = np.where(begins, random, self._held)
        self._left = np.where(begins, steps, np.where(lasts, self._left, 0))
        explores = self._left > 0
        self._left -= explores
        return np.where(explores, self._held, greedy)

    def arrays(self) -> dict[str, Array]:
        """Complete state but for ``rng``."""
        return {"held": self._held, "left": self._left}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self._held, self._left = arrays["held"].copy(), arrays["left"].copy()


def epsilon_at(config: ExploreConfig, updates: int) -> float:
    """ε after ``updates`` gradient steps: a linear ramp, constant after it."""
    return ramp(config.start, config.end, updates / config.updates if config.updates > 0 else 1.0)


def epsilon_greedy(
    rng: np.random.Generator,
    greedy: Array,
    actions: int,
    epsilon: float,
    mask: Array | None = None,
    branches: Sequence[int] = (),
) -> Array:
    """Each of ``greedy: int64[N]`` replaced by a uniformly random one of ``actions`` with probability ``epsilon``.

    With ``mask: bool[N, A]`` the random ones come from the legal actions, in dimensions of the sizes ``branches``
    (empty: an action is a single choice).
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
        chosen[random] = nth_legal(mask[random], (share * MANY).astype(np.int64), branches)
    return chosen

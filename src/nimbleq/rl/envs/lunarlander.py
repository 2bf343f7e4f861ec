"""LunarLander-v3 many at a time: Gymnasium's worlds and episodes in C++, without Python in a step.

The worlds are Box2D's own (`nimbleq.native._lander`). What comes out is the same to the last bit as from Gymnasium's
environment, which `make_lunarlander` tries out first.
"""

from __future__ import annotations

import importlib
from functools import cache

import numpy as np
from gymnasium.utils import seeding

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.batch import EnvBatch, Outcome
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.uniform import quiet
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

_PEAKS, _PAD = 11, slice(3, 8)  # of the ground; which of them the landing pad levels
_BEFORE = np.arange(-1, _PEAKS - 1)
_HEIGHT = 400 / 30.0
_PUSH = 1_000.0  # the first push, at most
_FEATURES = 8
_TRIED = (0, 1)  # seeds of the episodes that are compared


def make_lunarlander(config: EnvConfig, count: int) -> EnvBatch:
    """``count`` environments LunarLander-v3 without arguments and drawing.

    Without the extension, or where the installed Gymnasium's environment does something else, it is Gymnasium's own,
    called once per index.
    """
    return LunarLanderEnvBatch(config, count) if agrees() else SerialEnvBatch(config, count)


@cache
def agrees() -> bool:
    """Whether the extension is there, and both step alike: two whole episodes of random actions, bit for bit."""
    config = EnvConfig("LunarLander-v3")
    theirs = SerialEnvBatch(config, 1)
    with quiet():
        from gymnasium.envs.box2d.lunar_lander import LunarLander  # there, as one was made
    if type(theirs.envs[0].unwrapped) is not LunarLander:
        return False
    try:
        ours = LunarLanderEnvBatch(config, 1)
    except ModuleNotFoundError:
        return False
    actions = np.random.default_rng(0)
    index = np.zeros(1, np.int64)
    for seed in _TRIED:
        if not np.array_equal(ours.reset(0, seed), theirs.reset(0, seed)):
            return False
        over = False
        while not over:
            action = actions.integers(4, size=1)
            stepped, expected = ours.step(index, action), theirs.step(index, action)
            if not all(np.array_equal(a, b) for a, b in zip(stepped, expected, strict=True)):
                return False
            over = bool(stepped[2][0] or stepped[3][0])
    return True


class LunarLanderEnvBatch:
    """See `EnvBatch`. A step lets other threads run; they leave these environments alone meanwhile.

    Raises:
        ModuleNotFoundError: the extension was not built.
    """

    mask: Array | None = None
    spec: EnvSpec

    def __init__(self, config: EnvConfig, count: int) -> None:
        self._worlds = importlib.import_module("nimbleq.native._lander").Landers(count)
        scalar = make_env(config)
        self.spec = env_spec(scalar)
        self.limit = time_limit(scalar)
        scalar.close()

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`; draws in the order in which Gymnasium does."""
        rng = seeding.np_random(int(seed))[0]
        height = rng.uniform(0, _HEIGHT / 2, size=_PEAKS + 1)
        height[_PAD] = _HEIGHT / 4
        smooth = 0.33 * (height[_BEFORE] + height[:-1] + height[1:])
        push = rng.uniform(-_PUSH, _PUSH), rng.uniform(-_PUSH, _PUSH)
        obs = np.empty(_FEATURES, np.float32)
        self._worlds.reset(index, smooth, *push, rng.random(2 * (self.limit + 1)), obs)
        return obs

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        count = len(indices)
        obs, reward = np.empty((count, _FEATURES), np.float32), np.empty(count, np.float32)
        terminated, truncated = np.empty(count, bool), np.empty(count, bool)
        self._worlds.step(indices, actions, self.limit, obs, reward, terminated, truncated)
        return obs, reward, terminated, truncated

    def picture(self, index: int) -> Array | None:
        """None: it draws nothing (`make_env_batch` with ``pictures`` makes some that do)."""
        return None

    def close(self) -> None:
        """There is nothing to release."""

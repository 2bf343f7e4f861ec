"""What a moment of random play says of an environment that nobody tuned: what it observes, and how large returns are.

A learning rate, a clipped gradient and the support of a distribution all mean something for values of order one only;
Pendulum pays −1,000 an episode and FrozenLake 1 at best.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs import Lanes, make_lanes
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, EnvSpec

_STEPS = 1_000
_PATIENCE = 20.0  # seconds
_GAMMA = 0.99


@dataclass(frozen=True)
class Probe:
    """What was seen.

    Attributes:
        spec: of the environment.
        spread: standard deviation of the discounted returns that followed the visited states (0: of no reward, or of
            too few steps).
    """

    spec: EnvSpec
    spread: float

    @property
    def reward_scale(self) -> float:
        """Makes the spread about 1, with one digit: 0.006 for Pendulum, 7 for FrozenLake. 1 where there is none."""
        return float(f"{1 / self.spread:.0e}") if self.spread > 0 else 1.0


@cache
def probe(env: EnvConfig) -> Probe:
    """Play 1,000 random steps; the same environment always gives the same answer.

    But for slow ones: after 20 seconds what was seen until then has to do.

    Raises:
        EnvError: see `nimbleq.rl.gym.make_env`.
    """
    lanes = make_lanes(env, 1)
    rewards: list[float] = []
    ends: list[bool] = []
    try:
        _play(lanes, rewards, ends)
    except EnvError:
        pass  # training will meet it too, and tell, and save what it has
    finally:
        lanes.close()
    return Probe(lanes.spec, float(discounted(rewards, ends, _GAMMA).std()) if rewards else 0.0)


def _play(lanes: Lanes, rewards: list[float], ends: list[bool]) -> None:
    """Random legal steps; what they gave is appended."""
    rng, only = np.random.default_rng(0), np.array([0])
    seeds = iter(episode_seeds("probe", 0, _STEPS + 1).tolist())
    end = time.monotonic() + _PATIENCE
    legal = np.ones((1, lanes.spec.actions), bool)
    lanes.reset(0, next(seeds))
    for draw in rng.integers(MANY, size=_STEPS):
        action = nth_legal(legal if lanes.mask is None else lanes.mask, draw[None])
        _, reward, terminated, truncated = lanes.step(only, action)
        rewards.append(float(reward[0]))
        ends.append(bool(terminated[0] | truncated[0]))
        if time.monotonic() > end:
            return
        if ends[-1]:
            lanes.reset(0, next(seeds))


def discounted(rewards: list[float], ends: list[bool], gamma: float) -> Array:
    """``G_t = r_t + γ·G_{t+1}``, 0 after the end of an episode and after the last step: ``float64[T]``."""
    returns, later = np.zeros(len(rewards)), 0.0
    for at in reversed(range(len(rewards))):
        later = returns[at] = rewards[at] + (0.0 if ends[at] else gamma * later)
    return returns

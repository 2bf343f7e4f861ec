"""A short random play of an environment without tuned settings: what it observes, and how large its returns are.

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
from nimbleq.graph.space import Box, Path
from nimbleq.rl.envs.batch import EnvBatch
from nimbleq.rl.envs.engines import env_engine, make_env_batch
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.offsets import large, offsets_of, values_of, wide
from nimbleq.rl.envs.uniform import UniformEnv
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.rl.spec import EnvSpec
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array

_STEPS = 1_000
_PATIENCE = 20.0  # seconds
_GAMMA = 0.99
_EPISODES, _EPISODE_STEPS = 8, 32  # in which large numbers are looked at


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

    But for slow ones, which play for 20 seconds.

    Raises:
        EnvError: see `nimbleq.rl.envs.gymnasium.make_env`.
    """
    batch = make_env_batch(env, 1)
    rewards: list[float] = []
    ends: list[bool] = []
    try:
        _play(batch, rewards, ends)
    except EnvError:
        pass  # training will meet it too, report it, and save what it has
    finally:
        batch.close()
    return Probe(batch.spec, float(discounted(rewards, ends, _GAMMA).std()) if rewards else 0.0)


@cache
def find_offsets(env: EnvConfig) -> tuple[str, ...]:
    """Large numbers that ``env`` observes, as a setting of it: see `nimbleq.rl.envs.offsets`.

    Raises:
        EnvError: see `nimbleq.rl.envs.gymnasium.make_env`.
    """
    if env_engine(env).tuned:
        return ()
    one = make_env(env)
    found = wide(one.interface.space)
    try:
        return offsets_of(found, _values(one, found)) if found else ()
    finally:
        one.close()


def _values(env: UniformEnv, found: list[tuple[Path, Box]]) -> Array:
    """``float64[T, V]`` of the first steps of a few episodes; one row where none of it is large."""
    rng, seeds = np.random.default_rng(0), episode_seeds("probe", 0, _EPISODES).tolist()
    rows = []
    for seed in seeds:
        env.reset(seed=seed)
        rows.append(values_of(env.raw, found))
        if not large(rows[0]):
            break
        for draw in rng.integers(MANY, size=_EPISODE_STEPS):
            legal = np.ones(env.actions, bool) if env.mask is None else env.mask
            *_, terminated, truncated, _ = env.step(int(nth_legal(legal[None], draw[None], env.interface.branches)[0]))
            rows.append(values_of(env.raw, found))
            if terminated or truncated:
                break
    return np.stack(rows)


def _play(batch: EnvBatch, rewards: list[float], ends: list[bool]) -> None:
    """Random legal steps; what they gave is appended."""
    rng, only = np.random.default_rng(0), np.array([0])
    seeds = iter(episode_seeds("probe", 0, _STEPS + 1).tolist())
    end = time.monotonic() + _PATIENCE
    legal = np.ones((1, batch.spec.actions), bool)
    batch.reset(0, next(seeds))
    for draw in rng.integers(MANY, size=_STEPS):
        action = nth_legal(legal if batch.mask is None else batch.mask, draw[None], batch.spec.branches)
        _, reward, terminated, truncated = batch.step(only, action)
        rewards.append(float(reward[0]))
        ends.append(bool(terminated[0] | truncated[0]))
        if time.monotonic() > end:
            return
        if ends[-1]:
            batch.reset(0, next(seeds))


def discounted(rewards: list[float], ends: list[bool], gamma: float) -> Array:
    """``G_t = r_t + γ·G_{t+1}``, 0 after the end of an episode and after the last step: ``float64[T]``."""
    returns, later = np.zeros(len(rewards)), 0.0
    for at in reversed(range(len(rewards))):
        later = returns[at] = rewards[at] + (0.0 if ends[at] else gamma * later)
    return returns

"""Playing seeded episodes in environments side by side, one batched policy call per step of all of them.

Imports no torch, so that worker processes start fast and stay small.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from nimbleq.rl.envs.batch import EnvBatch, expect
from nimbleq.rl.explore import epsilon_greedy
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.rl.spec import EnvSpec
from nimbleq.seeds import moment_keys
from nimbleq.types import Array, Policy

_NOISE_BLOCK = 256  # steps of exploration noise drawn at once


class Played:
    """Outcome of `play`: as `Episodes`, with the sampling keys of the observations in it.

    Attributes:
        returns: ``float64[E]``.
        lengths: ``int64[E]``.
        obs: ``[K, *O]`` those of the lowest keys.
        masks: ``bool[K, A]`` the actions that were legal in them; None where all are, always.
        keys: ``uint64[K]`` a hash of (episode seed, time).
    """

    def __init__(self, episodes: int, spec: EnvSpec) -> None:
        self.returns = np.zeros(episodes)
        self.lengths = np.zeros(episodes, np.int64)
        self.obs = np.zeros((0, *spec.obs.shape), spec.obs.dtype)
        self.masks = np.zeros((0, spec.actions), bool) if spec.masked else None
        self.keys = np.zeros(0, np.uint64)


def play(
    batch: EnvBatch, count: int, policy: Policy, seeds: Array, epsilon: float, keep_obs: int, start: int
) -> Played:
    """Play one episode per seed in ``count`` environments, each of which starts the next as soon as its own ends.

    ``start`` is the place of the first of ``seeds`` among all that were asked for.
    """
    played = Played(len(seeds), batch.spec)
    sample = _Sample(keep_obs)
    begin = getattr(policy, "begin", None)
    policy = policy if begin is None else begin(start + len(seeds))
    by_episode = getattr(policy, "by_episode", False)
    noise = _Noise(min(count, len(seeds)), batch.spec, epsilon)
    # Row by row, the environments at work: which one, which episode it plays, and what came of that so far.
    active = np.arange(min(count, len(seeds)))
    episode, following = active.copy(), len(active)
    obs = np.zeros((len(active), *batch.spec.obs.shape), batch.spec.obs.dtype)
    returns, time = np.zeros(len(active)), np.zeros(len(active), np.int64)
    expect(batch, seeds.tolist())
    for index in active.tolist():
        obs[index] = batch.reset(index, seeds[index])
    while active.size:
        mask = None if batch.mask is None else batch.mask[active]
        if keep_obs:
            sample.offer(obs, mask, seeds[episode], time)
        told = {} if mask is None else {"mask": mask}
        action = policy(obs, **told, **({"episode": episode + start} if by_episode else {}))
        if epsilon > 0:
            action = noise.apply(action, active, seeds[episode], time, mask)
        obs, reward, terminated, truncated = batch.step(active, np.asarray(action, np.int64))
        returns += reward
        time += 1
        over = (terminated | truncated).nonzero()[0]
        if over.size == 0:
            continue
        played.returns[episode[over]], played.lengths[episode[over]] = returns[over], time[over]
        fresh = over[: len(seeds) - following]  # rows that get another episode; the others are done
        obs = obs.copy()
        for row in fresh.tolist():
            episode[row], following = following, following + 1
            obs[row] = batch.reset(int(active[row]), seeds[episode[row]])
        returns[fresh], time[fresh] = 0.0, 0
        done = over[len(fresh) :]
        if done.size:
            active, episode, time = (np.delete(rows, done) for rows in (active, episode, time))
            obs, returns = np.delete(obs, done, axis=0), np.delete(returns, done)
    sample.trim()
    played.obs, played.masks, played.keys = sample.taken(played.obs, played.masks)
    return played


class _Noise:
    """Random actions with probability ε, drawn per episode from a generator that the episode's seed starts.

    Args:
        envs: how many.
        spec: of one of them.
        epsilon: ε.
    """

    def __init__(self, envs: int, spec: EnvSpec, epsilon: float) -> None:
        self.epsilon, self.branches = epsilon, spec.branches
        self.actions = MANY if spec.masked else spec.choices  # draws are below it
        self.generators: list[np.random.Generator | None] = [None] * envs
        self.random = np.full((envs, _NOISE_BLOCK), -1)  # the random action of a step, −1: the policy's

    def apply(self, action: Array, indices: Array, seeds: Array, time: Array, mask: Array | None) -> Array:
        """``action: int[L]`` of ``indices`` at step ``time: int[L]`` of the episodes from ``seeds``.

        With ``mask: bool[L, A]`` a draw chooses among the legal actions.
        """
        column = time % _NOISE_BLOCK
        for row in np.flatnonzero(column == 0).tolist():
            index = int(indices[row])
            if time[row] == 0:
                self.generators[index] = np.random.default_rng([int(seeds[row]), 1])
            generator = cast(np.random.Generator, self.generators[index])
            self.random[index] = epsilon_greedy(generator, np.full(_NOISE_BLOCK, -1), self.actions, self.epsilon)
        random = self.random[indices, column]
        return np.where(random >= 0, random if mask is None else nth_legal(mask, random, self.branches), action)


class _Sample:
    """A uniform sample without replacement: the ``keep`` visited observations with the lowest hash of (seed, time)."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.limit = np.uint64(np.iinfo(np.uint64).max)  # keys above it cannot be among the lowest any more
        self.obs: list[Array] = []
        self.masks: list[Array] = []
        self.keys: list[Array] = []
        self.held = 0

    def offer(self, obs: Array, mask: Array | None, seeds: Array, time: Array) -> None:
        keys = moment_keys(seeds, time)
        low = keys <= self.limit
        if low.any():
            self.obs.append(obs[low])
            if mask is not None:
                self.masks.append(mask[low])
            self.keys.append(keys[low])
            self.held += int(low.sum())
            if self.held > 2 * self.keep + 1_000:
                self.trim()

    def trim(self) -> None:
        if self.held > self.keep:
            obs, keys = np.concatenate(self.obs), np.concatenate(self.keys)
            lowest = np.argsort(keys)[: self.keep]
            self.masks = [np.concatenate(self.masks)[lowest]] if self.masks else []
            self.obs, self.keys, self.held = [obs[lowest]], [keys[lowest]], self.keep
            self.limit = keys[lowest[-1]]

    def taken(self, obs: Array, masks: Array | None) -> tuple[Array, Array | None, Array]:
        """Observations, masks and keys, after the empty arrays given."""
        keys = np.concatenate([np.zeros(0, np.uint64), *self.keys])
        return np.concatenate([obs, *self.obs]), None if masks is None else np.concatenate([masks, *self.masks]), keys

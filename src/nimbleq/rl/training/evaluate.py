"""Playing policies: many seeded episodes side by side, one batched policy call per step of all of them.

Imports no torch, so that worker processes start fast and stay small.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from types import TracebackType
from typing import Self, cast

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.batch import EnvBatch
from nimbleq.rl.envs.engines import make_env_batch, spec_of
from nimbleq.rl.masks import MANY, nth_legal
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.explore import epsilon_greedy
from nimbleq.types import Array, Episodes, Policy

_NOISE_BLOCK = 256  # steps of exploration noise drawn at once
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Evaluator:
    """`nimbleq.types.Evaluate` for one environment; a context manager.

    An episode depends on its seed and the policy only, not on the number of environments or workers
    (as far as the policy's own arithmetic does not depend on the size of its batch).

    Args:
        env: what to play.
        workers: processes that share the episodes; with more than 1 the policy has to pickle (`GraphPolicy` does).
        envs: environments, and so episodes, side by side in a process.

    Raises:
        EnvError: see `make_env`; when called, also that the environment failed, or took its process down.
    """

    def __init__(self, env: EnvConfig, workers: int = 1, envs: int = 128) -> None:
        self.env, self.workers, self.count = env, workers, envs
        self.spec: EnvSpec = spec_of(env)
        self._batch: EnvBatch | None = None
        self._made = 0  # environments in ``_batch``
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """See `nimbleq.types.Evaluate`."""
        every = np.asarray(seeds, np.int64)
        if self.workers <= 1:
            batch = self._batch_for(len(every))
            return _joined([play(batch, self._made, policy, every, epsilon, keep_obs)], every, keep_obs)
        if self._pool is None:
            self._pool = _start_pool(self.workers)
        chunks = [chunk for chunk in np.array_split(every, self.workers) if chunk.size]
        job = partial(_play_in_worker, self.env, self.count, policy, epsilon=epsilon, keep_obs=keep_obs)
        try:
            return _joined(list(self._pool.map(job, chunks)), every, keep_obs)
        except BrokenProcessPool:
            raise EnvError(
                f"a process that played {self.env.id} died: did the environment end it, or was memory short?"
            ) from None

    def _batch_for(self, episodes: int) -> EnvBatch:
        """As many as are of use: a few episodes need few environments."""
        wanted = min(self.count, episodes)
        if self._batch is None or self._made < wanted:
            if self._batch is not None:
                self._batch.close()
            self._batch, self._made = make_env_batch(self.env, wanted), wanted
        return self._batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release environments and processes; the next call makes new ones."""
        if self._batch is not None:
            self._batch.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._batch = self._pool = None


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


def play(batch: EnvBatch, count: int, policy: Policy, seeds: Array, epsilon: float, keep_obs: int) -> Played:
    """Play one episode per seed in ``count`` environments, each of which starts the next as soon as its own ends."""
    played = Played(len(seeds), batch.spec)
    sample = _Sample(keep_obs)
    noise = _Noise(min(count, len(seeds)), MANY if batch.spec.masked else batch.spec.actions, epsilon)
    # Row by row, the environments at work: which one, which episode it plays, and what came of that so far.
    active = np.arange(min(count, len(seeds)))
    episode, following = active.copy(), len(active)
    obs = np.zeros((len(active), *batch.spec.obs.shape), batch.spec.obs.dtype)
    returns, time = np.zeros(len(active)), np.zeros(len(active), np.int64)
    for index in active.tolist():
        obs[index] = batch.reset(index, seeds[index])
    while active.size:
        mask = None if batch.mask is None else batch.mask[active]
        if keep_obs:
            sample.offer(obs, mask, seeds[episode], time)
        action = policy(obs) if mask is None else policy(obs, mask=mask)
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
        actions: draws come from 0 … actions − 1.
        epsilon: ε.
    """

    def __init__(self, envs: int, actions: int, epsilon: float) -> None:
        self.epsilon, self.actions = epsilon, actions
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
        return np.where(random >= 0, random if mask is None else nth_legal(mask, random), action)


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
        keys = _hash(seeds, time)
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


def _hash(seeds: Array, time: Array) -> Array:
    """SplitMix64 of (seed, time): ``uint64[L]``."""
    key = (seeds.astype(np.uint64) << np.uint64(32)) + time.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _joined(parts: list[Played], seeds: Array, keep_obs: int) -> Episodes:
    returns = np.concatenate([part.returns for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    if keep_obs == 0:
        return Episodes(seeds, returns, lengths)
    order = np.argsort(np.concatenate([part.keys for part in parts]))[:keep_obs]
    masks = [part.masks for part in parts if part.masks is not None]
    return Episodes(
        seeds, returns, lengths, np.concatenate([part.obs for part in parts])[order],
        np.concatenate(masks)[order] if masks else None,
    )  # fmt: skip


@cache
def _batch_of_worker(env: EnvConfig, count: int) -> EnvBatch:
    return make_env_batch(env, count)


def _play_in_worker(
    env: EnvConfig, count: int, policy: Policy, seeds: Array, *, epsilon: float, keep_obs: int
) -> Played:
    return play(_batch_of_worker(env, count), count, policy, seeds, epsilon, keep_obs)


def _start_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes (spawned: no inherited threads or locks), one arithmetic thread each, and Ctrl-C ignored."""
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    with _environment(dict.fromkeys(_THREADS, "1")):
        list(pool.map(abs, range(workers)))  # starts them all while the variables are set
    return pool


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def interval95(returns: Array, resamples: int = 2_000) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of the mean of ``returns: float64[E]`` (Efron 1979), repeatable."""
    rng = np.random.default_rng(0)
    means = returns[rng.integers(len(returns), size=(resamples, len(returns)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def check_return(evaluate: Callable[[Array], Array], seeds: Array, needed: float) -> tuple[float, int]:
    """Mean return over ``seeds``, given up after a quarter of them when it is clearly below ``needed``.

    Args:
        evaluate: seeds → returns.
        seeds: one per episode.
        needed: a mean that would matter (the best so far).

    Returns:
        The mean, and of how many episodes it is.
    """
    first = evaluate(seeds[: max(1, len(seeds) // 4)])
    error = first.std(ddof=1) / len(first) ** 0.5 if len(first) > 1 else np.inf
    if first.mean() + 3 * error < needed or len(first) == len(seeds):
        return float(first.mean()), len(first)
    returns = np.concatenate([first, evaluate(seeds[len(first) :])])
    return float(returns.mean()), len(returns)

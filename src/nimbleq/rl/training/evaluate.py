"""Evaluating policies: seeded episodes, in this process or shared by several, and the statistics of their returns.

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
from dataclasses import dataclass
from functools import cache, partial
from types import TracebackType
from typing import Self

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.batch import EnvBatch
from nimbleq.rl.envs.engines import make_env_batch, make_low_fidelity_batch, spec_of
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.play import Played, play
from nimbleq.types import Array, Episodes, Policy

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

    by_episode = True
    """It tells policies that ask for it which episode an observation is of."""

    def __init__(self, env: EnvConfig, workers: int = 1, envs: int = 128) -> None:
        self.env, self.workers, self.count = env, workers, envs
        self.spec: EnvSpec = spec_of(env)
        self._batches: dict[bool, tuple[EnvBatch, int]] = {}  # of low fidelity, or not: with their number
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """See `nimbleq.types.Evaluate`."""
        return self._play(policy, seeds, epsilon, keep_obs, low_fidelity=False)

    @property
    def low_fidelity(self) -> LowFidelity:
        """Plays nearly the same several times as fast, where there is a way to: for searches, not for verdicts."""
        return LowFidelity(self)

    def _play(
        self, policy: Policy, seeds: Sequence[int], epsilon: float, keep_obs: int, low_fidelity: bool
    ) -> Episodes:
        every = np.asarray(seeds, np.int64)
        if self.workers <= 1:
            batch, made = self._batch_for(len(every), low_fidelity)
            return _joined([play(batch, made, policy, every, epsilon, keep_obs, 0)], every, keep_obs)
        if self._pool is None:
            self._pool = _start_pool(self.workers)
        chunks = [chunk for chunk in np.array_split(every, self.workers) if chunk.size]
        starts = np.cumsum([0, *map(len, chunks)])[:-1].tolist()
        job = partial(
            _play_in_worker, self.env, self.count, low_fidelity, policy, epsilon=epsilon, keep_obs=keep_obs
        )  # fmt: skip
        try:
            return _joined(list(self._pool.map(job, chunks, starts)), every, keep_obs)
        except BrokenProcessPool:
            raise EnvError(
                f"a process that played {self.env.id} died: did the environment end it, or was memory short?"
            ) from None

    def _batch_for(self, episodes: int, low_fidelity: bool) -> tuple[EnvBatch, int]:
        """As many as are of use: a few episodes need few environments."""
        wanted = min(self.count, episodes)
        known = self._batches.get(low_fidelity)
        if known is not None and known[1] >= wanted:
            return known
        if known is not None:
            known[0].close()
        self._batches[low_fidelity] = made = _MAKE[low_fidelity](self.env, wanted), wanted
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release environments and processes; the next call makes new ones."""
        for batch, _ in self._batches.values():
            batch.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._batches, self._pool = {}, None


_MAKE = {False: make_env_batch, True: make_low_fidelity_batch}
"""Whether of low fidelity → what makes environments."""


@dataclass(frozen=True)
class LowFidelity:
    """`nimbleq.types.Evaluate` by the environments of low fidelity of an evaluator."""

    evaluator: Evaluator
    by_episode = True

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """See `nimbleq.types.Evaluate`."""
        return self.evaluator._play(policy, seeds, epsilon, keep_obs, low_fidelity=True)


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
def _batch_of_worker(env: EnvConfig, count: int, low_fidelity: bool) -> EnvBatch:
    return _MAKE[low_fidelity](env, count)


def _play_in_worker(
    env: EnvConfig, count: int, low_fidelity: bool, policy: Policy, seeds: Array, start: int, *, epsilon: float,
    keep_obs: int,
) -> Played:  # fmt: skip
    return play(_batch_of_worker(env, count, low_fidelity), count, policy, seeds, epsilon, keep_obs, start)


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


def check_return(
    evaluate: Callable[[Array], Array], seeds: Array, needed: float, at_once: bool = False
) -> tuple[float, int]:
    """Mean return over ``seeds``, given up after a quarter of them when it is clearly below ``needed``.

    Args:
        evaluate: seeds → returns.
        seeds: one per episode.
        needed: a mean that would matter (the best so far).
        at_once: there is no look after a quarter: all of them take as long as a few, on a GPU.

    Returns:
        The mean, and of how many episodes it is.
    """
    first = evaluate(seeds[: len(seeds) if at_once else max(1, len(seeds) // 4)])
    error = first.std(ddof=1) / len(first) ** 0.5 if len(first) > 1 else np.inf
    if first.mean() + 3 * error < needed or len(first) == len(seeds):
        return float(first.mean()), len(first)
    returns = np.concatenate([first, evaluate(seeds[len(first) :])])
    return float(returns.mean()), len(returns)

"""Episodes that threads start before they are asked for, where starting one takes long."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from nimbleq.types import Array

T = TypeVar("T")


class StartedAhead(Generic[T]):
    """Spare environments beside those in use; each starts one of the episodes that are expected next.

    An environment whose episode ended changes places with the spare that has the next episode ready, and becomes a
    spare itself. An episode depends on its seed only, so it makes no difference which environment plays it.

    Args:
        start: ``(environment, seed) → (environment, first observation)``; it makes an environment where it gets None.
            Threads call it, and gain where it releases Python's lock.
        spares: how many environments there are beside those in use.
    """

    def __init__(self, start: Callable[[T | None, int], tuple[T, Array]], spares: int) -> None:
        self._start = start
        self._threads = ThreadPoolExecutor(min(spares, os.cpu_count() or 1))
        self._idle: list[T | None] = [None] * spares
        self._expected: deque[int] = deque()
        self._started: dict[int, Future[tuple[T, Array]]] = {}

    def expect(self, seeds: Sequence[int]) -> None:
        """Say with which seeds, in about which order, `take` will be called; what was said before is void."""
        wanted = set(seeds)
        for seed in [seed for seed in self._started if seed not in wanted]:
            self._idle.append(self._started.pop(seed).result()[0])
        self._expected = deque(seeds)
        self._begin()

    def take(self, seed: int, own: T | None) -> tuple[T, Array]:
        """The environment in which the episode from ``seed`` has begun, in place of ``own``; the first observation.

        ``own`` may be None: there was none before.
        """
        ready = self._started.pop(seed, None)
        if ready is None:
            if seed in self._expected:
                self._expected.remove(seed)
            return self._start(own, seed)
        self._idle.append(own)
        self._begin()
        return ready.result()

    def _begin(self) -> None:
        while self._idle and self._expected:
            seed = self._expected.popleft()
            if seed not in self._started:
                self._started[seed] = self._threads.submit(self._start, self._idle.pop(), seed)

    def close(self) -> None:
        """End the threads, and let go of the spares."""
        self._expected.clear()
        self._threads.shutdown()
        self._idle, self._started = [], {}

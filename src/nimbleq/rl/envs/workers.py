"""Environments in worker processes: for those whose steps cost more than a few round trips of a pipe.

Observations, rewards and masks pass through memory that the processes share; pipes carry the requests.
Environments are independent, so what they do does not depend on their process: the outcome is the same bits.
"""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import weakref
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Self

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError, NimbleqError
from nimbleq.rl.envs.batch import Outcome, expect
from nimbleq.rl.envs.engines import env_engine, make_env_batch, spec_of
from nimbleq.rl.spec import EnvSpec
from nimbleq.stopping import ignore_stop_signals
from nimbleq.types import Array

_ALIGN = 64  # bytes: no two arrays share a line of cache
_PATIENCE = 1.0  # seconds after which a waiting worker checks whether its parent still runs


class _Shared(NamedTuple):
    """One row per environment."""

    wanted: Array  # bool: is it to be stepped now?
    action: Array
    obs: Array
    reward: Array
    terminated: Array
    truncated: Array
    mask: Array  # bool[N, A], without columns where there are no masks

    @classmethod
    def make(cls, spec: EnvSpec, count: int) -> Self:
        """In memory that forked processes share; nothing is left of it when the last of them ends."""
        kinds: list[tuple[tuple[int, ...], Any]] = [
            ((), bool), ((), np.int64), (spec.obs.shape, spec.obs.dtype), ((), np.float32), ((), bool), ((), bool),
            ((spec.actions if spec.masked else 0,), bool),
        ]  # fmt: skip
        sizes = [count * int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize for shape, kind in kinds]
        starts = np.cumsum([0, *(-(-size // _ALIGN) * _ALIGN for size in sizes)]).tolist()
        memory = mmap.mmap(-1, starts[-1])
        return cls(*(
            np.ndarray((count, *shape), kind, memory, start)
            for (shape, kind), start in zip(kinds, starts, strict=False)
        ))  # fmt: skip

    def rows(self, part: slice) -> _Shared:
        """The same for some of the environments."""
        return _Shared(*(array[part] for array in self))


class WorkerEnvBatch:
    """`nimbleq.rl.envs.batch.EnvBatch` in ``config.workers`` forked processes.

    Raises:
        EnvError: see `make_env`; or the platform cannot fork. From `reset` and `step` also when an environment raised
            anything, or took its process down.
    """

    def __init__(self, config: EnvConfig, count: int) -> None:
        if not hasattr(os, "fork"):
            raise EnvError("worker processes are forked, which this platform cannot: leave out --workers")
        if not env_engine(config).forks:
            raise EnvError(f"{config.id} steps many at once, in threads that a worker would lose: leave out --workers")
        self.name, self.spec = config.id, spec_of(config)
        self._shared = _Shared.make(self.spec, count)
        self.mask = self._shared.mask if self.spec.masked else None
        bounds = np.linspace(0, count, min(config.workers, count) + 1).astype(int).tolist()
        self._parts = [slice(low, high) for low, high in pairwise(bounds)]
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        # Also when this object is forgotten, and when Python exits: it would ask them to end, and they ignore that.
        self._end = weakref.finalize(self, _end, self._pipes, self._processes)
        context = multiprocessing.get_context("fork")
        for part in self._parts:
            ours, theirs = context.Pipe()
            arguments = config, self._shared.rows(part), theirs, os.getpid()
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            for worker in range(len(self._pipes)):
                self._answer(worker)
        except EnvError:
            self.close()
            raise

    def expect(self, seeds: Sequence[int]) -> None:
        """See `Expecting`. Of several workers, nobody knows which will start the next episode."""
        if len(self._pipes) == 1:
            self._ask(0, ("expect", list(seeds)))
            self._answer(0)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        worker = next(number for number, part in enumerate(self._parts) if index < part.stop)
        self._ask(worker, ("reset", index - self._parts[worker].start, int(seed)))
        self._answer(worker)
        row: Array = self._shared.obs[index].copy()
        return row

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        shared = self._shared
        shared.wanted[:] = False
        shared.wanted[indices], shared.action[indices] = True, actions
        asked = [worker for worker, part in enumerate(self._parts) if shared.wanted[part].any()]
        for worker in asked:
            self._ask(worker, ("step",))
        failed = ""
        for worker in asked:  # all of them, so that no answer is left for the next request
            try:
                self._answer(worker)
            except EnvError as error:
                failed = failed or str(error)
        if failed:
            raise EnvError(failed)
        return shared.obs[indices], shared.reward[indices], shared.terminated[indices], shared.truncated[indices]

    def picture(self, index: int) -> Array | None:
        """None: workers draw nothing."""
        return None

    def close(self) -> None:
        """See `EnvBatch`."""
        self._end()

    def _ask(self, worker: int, question: tuple[Any, ...]) -> None:
        try:
            self._pipes[worker].send(question)
        except OSError:
            raise self._died(worker) from None

    def _answer(self, worker: int) -> None:
        try:
            problem = self._pipes[worker].recv()
        except (EOFError, OSError):
            raise self._died(worker) from None
        if problem is not None:
            raise EnvError(problem)

    def _died(self, worker: int) -> EnvError:
        self._processes[worker].join(_PATIENCE)
        part = self._parts[worker]
        return EnvError(
            f"the worker process with the environments {part.start} to {part.stop - 1} of {self.name} died "
            f"(exit code {self._processes[worker].exitcode}): did the environment end it, or was memory short?"
        )


def _end(pipes: list[Connection], processes: list[BaseProcess]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()
        process.join()


def _work(config: EnvConfig, shared: _Shared, pipe: Connection, parent: int) -> None:
    """What a worker does: receive requests, send None or an error's message, until the parent is gone."""
    gc.freeze()  # see `nimbleq.rl.training.check`
    ignore_stop_signals()
    batch = None
    question: tuple[Any, ...] = ("make",)
    while True:
        try:
            match question:
                case ("make",):
                    batch = make_env_batch(config, len(shared.wanted))
                case ("expect", seeds) if batch is not None:
                    expect(batch, seeds)
                case ("reset", index, seed) if batch is not None:
                    shared.obs[index] = batch.reset(index, seed)
                case _ if batch is not None:
                    wanted = np.flatnonzero(shared.wanted)
                    outcome = batch.step(wanted, shared.action[wanted])
                    for stored, new in zip(shared[2:6], outcome, strict=True):
                        stored[wanted] = new
            if batch is not None and batch.mask is not None:
                shared.mask[:] = batch.mask
            problem = None
        except NimbleqError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 (the parent raises it, which ends the run)
            problem = f"{config.id} failed: {type(error).__name__}: {error}"
        try:
            pipe.send(problem)
            while not pipe.poll(_PATIENCE):
                if os.getppid() != parent:
                    return
            question = pipe.recv()
        except (EOFError, OSError):
            return

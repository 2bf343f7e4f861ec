"""Greedy checks during training, played in a process of their own so that training goes on.

The outcome of a check depends only on the weights and the seeds, not on when it is played; and training reads it at
moments that do not depend on it either (`train`). So runs repeat, with and without a second process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.errors import EnvError, NimbleqError
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.envs.engines import env_engine
from nimbleq.rl.learners.engines import ENGINES, for_playing
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.policy_value.pair import checking_engine
from nimbleq.rl.training.evaluate import Evaluator, check_return
from nimbleq.seeds import episode_seeds
from nimbleq.stopping import held_back, ignore_stop_signals
from nimbleq.types import Array, Policy

if TYPE_CHECKING:
    from multiprocessing.context import ForkContext, SpawnContext

_PATIENCE = 0.1  # seconds between two looks at Ctrl-C while waiting


@dataclass(frozen=True)
class EvalJob:
    """A greedy check to play: weights, and seeds.

    Attributes:
        updates, steps: of training when the weights were copied.
        seeds_from: number of the first check episode (`episode_seeds`).
        best: mean return to beat (−inf: any counts).
        weights: of the online network.
        transferred: it is the learner that starts from a source (see `nimbleq.rl.training.race`).
    """

    updates: int
    steps: int
    seeds_from: int
    best: float
    weights: dict[str, Array]
    transferred: bool = False


@dataclass(frozen=True)
class EvalResult:
    """The outcome of an `EvalJob`.

    Attributes:
        mean: of the returns of its episodes.
        seeds: episodes whose seeds are used up.
        solved: ``stop_return`` was reached and fresh episodes confirmed it.
    """

    mean: float
    seeds: int
    solved: bool


class Checker:
    """Plays one `EvalJob` at a time: in a process of its own where there is a core for it, otherwise in `start`.

    A context manager. Make it early: the process is forked with all memory that the parent has by then. What plays on a
    GPU plays in a fresh process, which a fork could not.

    Args:
        config: of the run.
        interrupted: called while this process plays or waits; where it returns True, `KeyboardInterrupt` is raised.
    """

    def __init__(self, config: TrainConfig, interrupted: Callable[[], bool]) -> None:
        self.config, self.interrupted = config, interrupted
        self._player: _Player | None = None
        self._result: EvalResult | None = None
        self._playing = False  # in the other process
        self._process: BaseProcess | None = None
        forks = hasattr(os, "fork") and env_engine(config.env).forks
        if config.evaluation.beside and forks and len(os.sched_getaffinity(0)) > 1:
            context = _context(config)
            self._pipe, theirs = context.Pipe()
            inherited = self._pipe if context.get_start_method() == "fork" else None
            arguments = config, theirs, inherited, os.getpid()
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            with warnings.catch_warnings(), held_back():
                warnings.filterwarnings(
                    "ignore", r"os\.fork\(\) was called", RuntimeWarning
                )  # JAX, which it never uses
                self._process.start()
            theirs.close()

    def start(self, check: EvalJob) -> None:
        """Begin to play; the check before has to be over.

        Raises:
            EnvError, KeyboardInterrupt: see `result`.
        """
        self._result = None
        if self._process is not None:
            try:
                self._pipe.send(check)
            except OSError:
                raise self._died() from None
            self._playing = True
        else:
            self._player = self._player or _Player(self.config, self.interrupted)
            self._result = self._player.play(check)

    def result(self, wait: bool) -> EvalResult | None:
        """Of the check that was started last; None while it is played, unless the caller wants to ``wait``.

        Raises:
            EnvError: the environment failed, or the process died.
            KeyboardInterrupt: while waiting.
        """
        if self._result is None and (wait or self._pipe.poll()):
            while not self._pipe.poll(_PATIENCE):
                if self.interrupted():
                    raise KeyboardInterrupt
            self._result = self._received()
        return self._result

    def forget(self) -> None:
        """Wait for the check that is being played, if there is one: nobody asks for its result any more.

        Raises:
            EnvError, KeyboardInterrupt: see `result`.
        """
        if self._playing:
            self.result(wait=True)

    def _received(self) -> EvalResult:
        self._playing = False
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(answer, Exception):
            raise answer
        return cast(EvalResult, answer)

    def _died(self) -> EnvError:
        return EnvError(
            f"the process that played {self.config.env.id} for a check died: did the environment end it, "
            "or was memory short?"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        if self._player is not None:
            self._player.evaluate.close()


def _context(config: TrainConfig) -> ForkContext | SpawnContext:
    row = ENGINES.get(config.learner.engine)
    on_gpu = row is not None and row.on_gpu(config)
    return multiprocessing.get_context("spawn") if on_gpu else multiprocessing.get_context("fork")


class _Player:
    """Plays checks in the process it is in."""

    def __init__(self, config: TrainConfig, interrupted: Callable[[], bool]) -> None:
        self.config, self.interrupted = config, interrupted
        self.evaluate = Evaluator(config.env)
        engine = checking_engine(config, self.evaluate.spec)
        self.learner: Learner = engine.make(for_playing(config), self.evaluate.spec, config.seed)
        self.remembers = engine.remembers
        self.at_once = engine.on_gpu(config)

    def play(self, check: EvalJob) -> EvalResult:
        """A check that reaches ``stop_return`` is confirmed by a larger one: policies swing between checks."""
        settings, stop = self.config.evaluation, self.config.evaluation.stop_return
        self.learner.set_weights(check.weights)
        self.policy: Policy = GraphPolicy(self.learner.graph()) if self.remembers else self._act

        def seeds(first: int, count: int) -> Array:
            return episode_seeds("check", self.config.seed, count, start=check.seeds_from + first)

        mean, played = check_return(self._returns, seeds(0, settings.episodes), check.best, self.at_once)
        if stop is None or mean < stop:
            return EvalResult(mean, settings.episodes, False)
        confirmed, more = check_return(
            self._returns, seeds(settings.episodes, settings.final_episodes), stop, self.at_once
        )
        solved = more == settings.final_episodes and confirmed >= stop
        mean = (mean * played + confirmed * more) / (played + more)
        return EvalResult(mean, settings.episodes + settings.final_episodes, solved)

    def _returns(self, seeds: Array) -> Array:
        return self.evaluate(self.policy, seeds.tolist()).returns

    def _act(self, obs: Array, mask: Array | None = None) -> Array:
        if self.interrupted():
            raise KeyboardInterrupt
        return self.learner.act(obs, mask)


def _serve(config: TrainConfig, pipe: Connection, inherited: Connection | None, parent: int) -> None:
    """What the process does: receive checks, send results or errors, until the other end is closed."""
    gc.freeze()  # the garbage of the parent is not ours to collect: its threads are not here, so waiting for them hangs
    ignore_stop_signals()
    if inherited is not None:
        inherited.close()  # the parent's end: or the parent's own end would go unnoticed
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # threads of the parent do not live on in a fork: more than one would wait for them
    player: _Player | None = None
    while True:
        try:
            check = pipe.recv()
        except (EOFError, OSError):  # training ended, or was killed
            return
        try:
            player = player or _Player(config, lambda: os.getppid() != parent)
            answer: EvalResult | Exception = player.play(check)
        except KeyboardInterrupt:  # training was killed: nobody waits for this check
            return
        except NimbleqError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 (the parent raises it, which ends the run)
            answer = EnvError(f"{config.env.id} failed in a check: {type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except OSError:  # killed after the last look
            return


def check_arrays(check: EvalJob | None) -> dict[str, Array]:
    """For a checkpoint; empty without a check."""
    if check is None:
        return {}
    numbers = np.array([check.updates, check.steps, check.seeds_from, check.transferred], np.int64)
    return {"numbers": numbers, "best": np.array([check.best])} | {
        f"weights.{name}": value for name, value in check.weights.items()
    }


def check_of(arrays: dict[str, Array], weights: dict[str, Array]) -> EvalJob | None:
    """The way back from `check_arrays`; ``weights`` are the arrays named ``weights.<name>``, by ``name``."""
    if not arrays:
        return None
    updates, steps, seeds_from, *transferred = arrays["numbers"].tolist()
    return EvalJob(updates, steps, seeds_from, float(arrays["best"][0]), weights, transferred == [1])

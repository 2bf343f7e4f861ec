"""The row type of the table of engines: everything in which one engine differs from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.replay.buffer import ReplayBuffer
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch

L = TypeVar("L", bound=Learner)
R = TypeVar("R", bound=ReplayBuffer)

Measure = Callable[[], dict[str, float]]
"""Computes what is logged about one update, by name: ``loss`` and ``q_mean`` of its batch, and what an engine adds."""


def host_replay(config: TrainConfig, spec: EnvSpec, learner: Learner) -> Replay:
    """An empty replay in the host's memory."""
    masks = spec.actions if spec.masked else 0
    return Replay(config.replay, config.learner.gamma, config.envs, spec.obs, masks)


def never(config: TrainConfig) -> bool:
    """Most engines compute on the host."""
    return False


def nothing_held(learner: Learner) -> None:
    """Most learners hold nothing."""


def sampled_updates(
    config: TrainConfig, learner: Learner, replay: Replay, rng: np.random.Generator, beta: float
) -> Iterator[Measure]:
    """``config.updates_per_step`` updates, each from a new batch; ``beta`` is the exponent of importance weights."""
    for _ in range(config.updates_per_step):
        batch = replay.sample(rng, config.learner.batch_size, beta)
        abs_td = learner.update(batch)
        replay.reprioritize(batch.index, abs_td)
        yield partial(measured, learner, batch, abs_td)


@runtime_checkable
class Monitored(Protocol):
    """A learner with more to log than the loss and the values."""

    def monitored(self, batch: Batch) -> dict[str, float]:
        """What is logged about a batch, by name."""
        ...


def measured(learner: Learner, batch: Batch, abs_td: Array) -> dict[str, float]:
    """The `Measure` of an update that returned ``abs_td: float32[B]`` for ``batch``."""
    with np.errstate(over="ignore"):  # infinity stops training where it is logged
        loss = float((batch.weight * np.square(abs_td)).mean())
    more = learner.monitored(batch) if isinstance(learner, Monitored) else {}
    return {"loss": loss, "q_mean": float(learner.q(batch.obs).mean()), **more}


def no_program(config: TrainConfig, learner: Learner, envs: Environments, replay: ReplayBuffer | None) -> None:
    """The host plays."""


class Beside(NamedTuple):
    """What training keeps beside the learner, as arrays; None: it does not.

    Attributes:
        stats: of `nimbleq.rl.training.stats.ObsStats`.
        average: of `nimbleq.rl.training.average.WeightAverage`.
    """

    stats: Mapping[str, Array] | None
    average: Mapping[str, Array] | None


class Program(Protocol):
    """Rounds of playing and learning, environments included, that run without the host.

    Attributes:
        steps: environment steps of a round.
        updates: gradient steps of a round.
    """

    steps: int
    updates: int

    def run(self, rounds: int, beside: Beside) -> tuple[Measure, Beside]:
        """Play and learn; learner and environments, of which each says the last episode that ended, are changed.

        Returns:
            The `Measure` of the last update, and what has become of ``beside``.
        """
        ...


@dataclass(frozen=True)
class Engine(Generic[L, R]):
    """One way to compute updates. A new engine is one file that makes this value and one line in `ENGINES`.

    Attributes:
        name: in ``--learner.engine`` and in reports.
        purpose: what it is for, in a few words.
        why_not: why it cannot train with these settings on this environment (None: not known yet), and what to do
            instead, in one line; None when it can.
        make: a fresh learner; the same seed gives the same initial weights on every engine.
        replay: an empty replay for that learner.
        updates: the updates of one step, each yielding its `Measure` once it is done.
        overlaps: updates run while the environments step, so they draw from the steps before that one.
        learns: the algorithms that it computes updates of.
        remembers: it trains networks with a memory, and only those; their checks play the graph.
        settings: dotted names of the settings that only this engine reads.
        checks: the engine, on the CPU, that plays the greedy checks of its runs.
        on_gpu: it computes on a GPU, and plays the greedy checks of its runs there: the host's cores are for the
            environments, and a forked process could not use it.
        imitates: its learners are `nimbleq.rl.learners.imitation.Imitator`.
        program: plays and learns without the host; None where it cannot, so the loops of the host do.
        shares: it shares the batches of an update among ``--learners`` processes.
        close: releases what a learner holds beside memory.
    """

    name: str
    purpose: str
    why_not: Callable[[TrainConfig, EnvSpec | None], str | None]
    make: Callable[[TrainConfig, EnvSpec, int], L]
    replay: Callable[[TrainConfig, EnvSpec, L], R] = host_replay  # type: ignore[assignment]
    updates: Callable[[TrainConfig, L, R, np.random.Generator, float], Iterator[Measure]] = sampled_updates  # type: ignore[assignment]
    overlaps: bool = False
    learns: tuple[str, ...] = ("dqn", "pqn")
    remembers: bool = False
    settings: tuple[str, ...] = ()
    checks: str = "auto"
    on_gpu: Callable[[TrainConfig], bool] = never
    imitates: bool = False
    program: Callable[[TrainConfig, L, Environments, R | None], Program | None] = no_program
    shares: bool = False
    close: Callable[[L], None] = nothing_held

"""What a run that starts from another policy does differently: QDagger [2206.01626], or fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.engine import Engine, Measure, measured
from nimbleq.rl.learners.engines import ENGINES
from nimbleq.rl.learners.imitation import Imitation, Imitator
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.transfer.layers import take_layers
from nimbleq.rl.transfer.mapping import observed_columns, same_actions
from nimbleq.rl.transfer.source import Source
from nimbleq.rl.transfer.teacher import Standing, Teacher, standing_of
from nimbleq.types import Array, Batch, Evaluate

NOISE = 0.05
"""Share of random actions while the teacher fills the replay."""
_ROUNDS = 20
"""Rounds of updates of a turn in the offline phase."""


class Transfer:
    """A run's way to learn from its source; see `nimbleq.config.TransferConfig` for the methods.

    Attributes:
        standing: of the teacher in the target (None: not measured, or it is no teacher).
        student_return: mean return of the last greedy check.

    Raises:
        ConfigError: observations, actions or layers of the source do not fit; in one line.
    """

    def __init__(self, config: TrainConfig, source: Source, spec: EnvSpec) -> None:
        theirs, ours = source.artefact.interface, spec.interface
        if ours is None:
            raise ConfigError(f"{config.env.id} has no interface that the source's could be compared with")
        self.config, self.seed = config.transfer, config.seed
        self.graph = source.artefact.graph
        self.columns = observed_columns(theirs, ours)
        self.fill = round(config.transfer.teacher_share * config.steps)
        self.standing: Standing | None = None
        self.student_return: float | None = None
        self.teacher: Teacher | None = None
        if config.transfer.method == "qdagger":
            index = same_actions(theirs, ours)
            if index is None:
                raise ConfigError(
                    f"the source has {theirs.actions} actions and {config.env.id} has {ours.actions}, and nothing says "
                    "which are the same: use --transfer finetune, which makes a new head"
                )
            self.teacher = Teacher(self.graph, self.columns, index, ours.actions)

    def start(self, learner: Learner) -> None:
        """Give a fresh ``learner`` what it starts with."""
        if self.teacher is None:
            layers = take_layers(learner, self.graph, self.columns)
            if self.config.method == "frozen" and not 1 <= self.config.frozen_layers <= layers:
                raise ConfigError(
                    f"the setting transfer.frozen_layers must be within 1 and {layers}, the layers before the head, "
                    f"not {self.config.frozen_layers}"
                )

    def measure(self, evaluate: Evaluate) -> None:
        """Measure the teacher by ``evaluate`` in the target, unless that was done."""
        if self.teacher is not None and self.standing is None:
            self.standing = standing_of(self.teacher, evaluate, self.seed, self.config.temperature)

    @property
    def weight(self) -> float:
        """λ = clip((G_T − G_π) / (G_T − G_random), 0, 1): 1 until the first check, 0 from the teacher's return on."""
        if self.standing is None:
            return 0.0
        gain = self.standing.teacher - self.standing.random
        if gain <= 0:
            return 0.0
        student = self.standing.random if self.student_return is None else self.student_return
        return float(np.clip((self.standing.teacher - student) / gain, 0, 1))

    def plays(self, steps: int, updates: int) -> bool:
        """Whether the teacher plays: until the replay is filled and the offline phase is over."""
        return self.teacher is not None and (steps < self.fill or updates < self.config.offline_updates)

    def act(self, obs: Array, mask: Array | None) -> Array:
        """The teacher's actions."""
        assert self.teacher is not None
        return self.teacher(obs, mask)

    def rounds(self, steps: int, updates: int) -> int:
        """Rounds of updates of a turn: none while the replay is filled, many in the offline phase, else one."""
        if self.teacher is None:
            return 1
        if steps < self.fill:
            return 0
        return _ROUNDS if updates < self.config.offline_updates else 1

    def engine(self, row: Engine[Any, Any]) -> Engine[Any, Any]:
        """``row`` with the updates of the method."""
        updates = {"qdagger": _imitating, "frozen": _thawing, "finetune": None}[self.config.method]
        return row if updates is None else replace(row, updates=partial(updates, self))

    def towards(self, batch: Batch, weight: float) -> Imitation:
        """The teacher's policy in the states of ``batch``."""
        assert self.teacher is not None
        assert self.standing is not None
        soft, known = self.teacher.policy(batch.obs, self.standing.temperature, batch.mask)
        return Imitation(soft, (weight * known).astype(np.float32), self.standing.temperature)

    def values(self) -> dict[str, Any]:
        """What changes, as JSON values."""
        return {"standing": None if self.standing is None else list(self.standing), "student": self.student_return}

    def load(self, values: dict[str, Any]) -> None:
        """The way back from `values`."""
        self.standing = None if values["standing"] is None else Standing(*values["standing"])
        self.student_return = values["student"]


def _imitating(
    transfer: Transfer, config: TrainConfig, learner: Imitator, replay: Replay, rng: np.random.Generator, beta: float
) -> Iterator[Measure]:
    """As `sampled_updates`, with ``λ·KL(π_T ‖ π)`` in the loss."""
    for _ in range(config.updates_per_step):
        batch = replay.sample(rng, config.learner.batch_size, beta)
        weight = transfer.weight
        abs_td = learner.update_towards(batch, transfer.towards(batch, weight)) if weight > 0 else learner.update(batch)
        replay.reprioritize(batch.index, abs_td)
        yield partial(_with_weight, weight, learner, batch, abs_td)


def _with_weight(weight: float, learner: Learner, batch: Batch, abs_td: Array) -> dict[str, float]:
    return {**measured(learner, batch, abs_td), "teacher_weight": weight}


def _thawing(
    transfer: Transfer, config: TrainConfig, learner: Imitator, replay: Replay, rng: np.random.Generator, beta: float
) -> Iterator[Measure]:
    """As `sampled_updates`, early layers frozen at first."""
    for _ in range(config.updates_per_step):
        learner.freeze(transfer.config.frozen_layers if learner.updates < transfer.config.frozen_updates else 0)
        batch = replay.sample(rng, config.learner.batch_size, beta)
        abs_td = learner.update(batch)
        replay.reprioritize(batch.index, abs_td)
        yield partial(measured, learner, batch, abs_td)


def check_transfer(config: TrainConfig) -> None:
    """Refuse settings with which nothing can be transferred.

    Raises:
        ConfigError: names the setting and what it has to be.
    """
    transfer = config.transfer
    if not transfer.source:
        return
    if config.policy.network:
        raise ConfigError("--from and --policy-network do not go together: train a policy beside a value network alone")
    if config.distributed.actors > 0 or config.distributed.learners > 1:
        raise ConfigError("--from does not go with --actors or --learners: start from another policy in one process")
    if transfer.method == "finetune":
        return
    if config.algorithm != "dqn":
        raise ConfigError(f"--transfer {transfer.method} learns from a replay, which pqn has not: use finetune")
    engine = ENGINES.get(config.learner.engine)
    if engine is not None and not engine.imitates:
        able = " or ".join(["auto", *(row.name for row in ENGINES.values() if row.imitates)])
        raise ConfigError(f"with --transfer {transfer.method} learner.engine must be {able}, not {engine.name}")

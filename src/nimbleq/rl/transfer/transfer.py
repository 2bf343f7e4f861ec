"""What a run that starts from another policy does differently: QDagger [2206.01626], or fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from nimbleq.rl.transfer.layers import take_layers, taken_stats
from nimbleq.rl.transfer.mapping import observed_columns, same_actions
from nimbleq.rl.transfer.source import Source
from nimbleq.rl.transfer.teacher import Standing, Teacher, standing_of
from nimbleq.types import Array, Batch, Evaluate

NOISE = 0.05
"""Share of random actions while the teacher plays."""
_ROUNDS = 100
"""Rounds of updates of a turn in the offline phase."""


class Transfer:
    """A run's way to learn from its source; see `nimbleq.config.TransferConfig` for the methods.

    Attributes:
        standing: of the teacher in the target (None: not measured, or it is no teacher).
        stats: mean and deviation that normalise the observations of its learner (None: those of what was seen).
        student_return: mean return of the last greedy check.

    Raises:
        ConfigError: observations, actions or layers of the source do not fit; in one line.
    """

    def __init__(self, config: TrainConfig, source: Source, spec: EnvSpec) -> None:
        theirs, ours = source.artefact.interface, spec.interface
        if ours is None:
            raise ConfigError(f"{config.env.id} has no interface that the source's could be compared with")
        self.config, self.seed = config.transfer, config.seed
        self.graph, self._size = source.artefact.graph, math.prod(spec.obs.shape)
        self.columns = observed_columns(theirs, ours)
        index = same_actions(theirs, ours)
        self._same_actions = index is not None and index.tolist() == list(range(ours.actions))
        self.stats: tuple[Array, Array] | None = None
        self._teacher_steps = round(config.transfer.teacher_share * config.steps)
        self._weight_steps = round(config.transfer.weight_share * config.steps)
        self.standing: Standing | None = None
        self.student_return: float | None = None
        self.teacher: Teacher | None = None
        if config.transfer.method == "qdagger":
            if index is None:
                raise ConfigError(
                    f"the source has {theirs.actions} actions and {config.env.id} has {ours.actions}, and nothing says "
                    "which are the same: use --transfer finetune, which makes a new head"
                )
            self.teacher = Teacher(self.graph, self.columns, index, ours.actions)

    @property
    def knows(self) -> bool:
        """Its learner has a policy before it acts: a taught one, or the source's head."""
        return self.teacher is not None or self._same_actions

    def start(self, learner: Learner) -> None:
        """Give a fresh ``learner`` what it starts with."""
        if self.teacher is None:
            layers = take_layers(learner, self.graph, self.columns, self._same_actions)
            self.stats = taken_stats(self.graph, self.columns, self._size)
            if self.stats is not None:
                learner.set_obs_stats(*self.stats)
            if self.config.method == "frozen" and not 1 <= self.config.frozen_layers <= layers:
                raise ConfigError(
                    f"the setting transfer.frozen_layers must be within 1 and {layers}, the layers before the head, "
                    f"not {self.config.frozen_layers}"
                )

    def measure(self, evaluate: Evaluate) -> None:
        """Measure the teacher by ``evaluate`` in the target, unless that was done."""
        if self.teacher is not None and self.standing is None:
            self.standing = standing_of(self.teacher, evaluate, self.seed, self.config.temperature)

    def weight(self, steps: int) -> float:
        """λ = clip((G_T − G_π) / (G_T − G_random), 0, 1), times a ramp that ends after a share of the steps.

        The first factor is 1 until the first check, and 0 once the student is as good as the teacher; the second lets
        the student become better than a teacher that it would never leave otherwise.
        """
        if self.standing is None or steps >= self._weight_steps:
            return 0.0
        gain = self.standing.teacher - self.standing.random
        student = self.standing.random if self.student_return is None else self.student_return
        needed = np.clip((self.standing.teacher - student) / gain, 0, 1) if gain > 0 else 0.0
        return float(needed * (1 - steps / self._weight_steps))

    def teaches(self, steps: int, updates: int) -> bool:
        """Whether the teacher plays in place of its student: for some steps, and until the offline phase is over."""
        return self.teacher is not None and (steps < self._teacher_steps or updates < self.config.offline_updates)

    def act(self, obs: Array, mask: Array | None) -> Array:
        """The teacher's actions."""
        assert self.teacher is not None
        return self.teacher(obs, mask)

    def rounds(self, updates: int) -> int:
        """Rounds of updates of a turn: many in the offline phase, else one."""
        return _ROUNDS if self.teacher is not None and updates < self.config.offline_updates else 1

    def updates(
        self, row: Engine[Any, Any], config: TrainConfig, learner: Any, replay: Any, rng: np.random.Generator,
        beta: float, steps: int,
    ) -> Iterator[Measure]:  # fmt: skip
        """Those of ``row``; of qdagger with ``λ·KL(π_T ‖ π)`` in the loss, of frozen with early layers frozen."""
        if self.config.method == "frozen":
            learner.freeze(self.config.frozen_layers if learner.updates < self.config.frozen_updates else 0)
        weight = self.weight(steps)
        return self._imitating(config, learner, replay, rng, beta, weight) if weight > 0 else row.updates(
            config, learner, replay, rng, beta
        )  # fmt: skip

    def thaw(self, learner: Any) -> None:
        """Let all layers learn."""
        if self.config.method == "frozen":
            learner.freeze(0)

    def _imitating(
        self, config: TrainConfig, learner: Imitator, replay: Replay, rng: np.random.Generator, beta: float,
        weight: float,
    ) -> Iterator[Measure]:  # fmt: skip
        for _ in range(config.updates_per_step):
            batch = replay.sample(rng, config.learner.batch_size, beta)
            abs_td = learner.update_towards(batch, self.towards(batch, weight))
            replay.reprioritize(batch.index, abs_td)
            yield partial(measured, learner, batch, abs_td)

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

"""The engine ``recurrent``: its row in the table, which can be read without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.learners.engine import Engine, Measure
from nimbleq.rl.replay.sequences import SequenceReplay, Sequences
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Step

if TYPE_CHECKING:
    from nimbleq.rl.learners.recurrent.learner import RecurrentLearner


class RememberedSteps(SequenceReplay):
    """A `SequenceReplay` that gets the network's memory from the learner that acts, and tells it where episodes end."""

    def __init__(self, config: TrainConfig, spec: EnvSpec, learner: RecurrentLearner) -> None:
        masks = spec.actions if spec.masked else 0
        super().__init__(config.replay.capacity, config.envs, spec.obs, config.network.memory, masks)
        self._learner = learner

    def add(self, step: Step) -> None:
        """Remember one step of all environments."""
        self.remember(step, self._learner.before)
        self._learner.forget(step.terminated | step.truncated)


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    for name, holds, wanted in (
        ("network.noisy", not config.network.noisy, "off"),
        ("network.sparsity", not config.network.sparsity, "0"),
        ("replay.prioritized", not config.replay.prioritized, "off"),
        ("policy.network", not config.policy.network, "left out"),
        ("transfer.source", not config.transfer.source, "left out"),
        ("distributed.actors", not config.distributed.actors, "0"),
    ):
        if not holds:
            return f"the setting {name} must be {wanted} with network.memory"
    return None


def _make(config: TrainConfig, spec: EnvSpec, seed: int) -> RecurrentLearner:
    from nimbleq.rl.learners.recurrent.learner import RecurrentLearner

    return RecurrentLearner(config, spec, seed)


def length_of(config: TrainConfig) -> int:
    """Steps of a sequence: those that refresh the memory, those that are learnt from, and what these look ahead."""
    return config.replay.burn_in + config.replay.sequence + config.replay.n_step - 1


def _updates(
    config: TrainConfig, learner: RecurrentLearner, replay: RememberedSteps, rng: np.random.Generator, beta: float
) -> Iterator[Measure]:
    length, count = length_of(config), max(1, config.learner.batch_size // config.replay.sequence)
    if replay.stretches(length) == 0:
        return
    for _ in range(config.updates_per_step):
        drawn: Sequences = replay.sample(rng, count, length)
        yield partial(learner.measures, *learner.update_sequences(drawn))


ENGINE: Engine[RecurrentLearner, RememberedSteps] = Engine(
    "recurrent",
    "networks that remember (a GRU), in PyTorch on the CPU",
    _why_not,
    _make,
    RememberedSteps,
    _updates,
    learns=("dqn",),
    checks="recurrent",
    remembers=True,
)

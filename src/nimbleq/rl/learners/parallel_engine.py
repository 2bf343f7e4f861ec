"""The engine ``parallel``: its row in the table, which can be read without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import TrainConfig
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec

if TYPE_CHECKING:
    from nimbleq.rl.learners.parallel import ParallelLearner


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    return None if config.distributed.learners > 1 else "learner.engine parallel needs --learners 2 or more"


def _make(config: TrainConfig, spec: EnvSpec, seed: int) -> ParallelLearner:
    from nimbleq.rl.learners.parallel import ParallelLearner

    return ParallelLearner(config, spec, seed)


ENGINE: Engine[ParallelLearner, Replay] = Engine(
    "parallel",
    "batches shared by several processes (--learners)",
    _why_not,
    _make,
    checks="torch",
    shares=True,
    close=lambda learner: learner.leave(),
)

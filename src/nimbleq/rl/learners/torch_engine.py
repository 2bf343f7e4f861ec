"""The engine ``torch``: its row in the table, which can be read without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import TrainConfig
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec

if TYPE_CHECKING:
    from nimbleq.rl.learners.torch import TorchLearner


def _make(config: TrainConfig, spec: EnvSpec, seed: int) -> TorchLearner:
    from nimbleq.rl.learners.torch import TorchLearner

    return TorchLearner(config, spec, seed)


ENGINE: Engine[TorchLearner, Replay] = Engine(
    "torch",
    "every network, in PyTorch on the CPU",
    lambda config, spec: None,
    _make,
    checks="torch",
    imitates=True,
)

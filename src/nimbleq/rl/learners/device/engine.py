"""The engine ``device``: its row in the table, which can be read without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.learners.engine import Engine, Measure
from nimbleq.rl.spec import EnvSpec

if TYPE_CHECKING:
    from nimbleq.rl.learners.device.learner import DeviceLearner
    from nimbleq.rl.learners.device.replay import DeviceReplay


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    if config.network.head == "branching":
        return "learner.engine device has no branching head; use --learner.engine torch"
    if config.algorithm != "dqn":
        return (
            f"learner.engine device learns from a replay, which {config.algorithm} has not: use auto, native or torch"
        )
    if config.network.sparsity:
        return "learner.engine device trains no sparse weights (network.sparsity): use torch"
    if spec is not None and spec.obs.pictures:
        return "learner.engine device learns from one picture or numbers, not both: use torch"
    from nimbleq.rl.learners.device.transfer import missing_device

    return missing_device(config.learner)


def _on_gpu(config: TrainConfig) -> bool:
    from nimbleq.rl.learners.device.transfer import choose_device

    return choose_device(config.learner).type == "cuda"


def _make(config: TrainConfig, spec: EnvSpec, seed: int) -> DeviceLearner:
    from nimbleq.rl.learners.device.learner import DeviceLearner

    return DeviceLearner(config, spec, seed)


def _replay(config: TrainConfig, spec: EnvSpec, learner: DeviceLearner) -> DeviceReplay:
    from nimbleq.rl.learners.device.replay import DeviceReplay

    masks = spec.actions if spec.masked else 0
    return DeviceReplay(config.replay, config.learner.gamma, config.envs, spec.obs, masks, learner.device)


def _updates(
    config: TrainConfig, learner: DeviceLearner, replay: DeviceReplay, rng: np.random.Generator, beta: float
) -> Iterator[Measure]:
    replay.beta.fill_(beta)
    for _ in range(config.updates_per_step):
        learner.learn(replay)
        yield learner.measures


ENGINE: Engine[DeviceLearner, DeviceReplay] = Engine(
    "device",
    "replay and learner together on a GPU",
    _why_not,
    _make,
    _replay,
    _updates,
    overlaps=True,
    on_gpu=_on_gpu,
    settings=("learner.device", "learner.precision", "learner.compile"),
)

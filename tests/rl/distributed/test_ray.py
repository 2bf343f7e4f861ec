"""Actors and learners on Ray, on this machine: they may be killed, and no step is lost or repeated."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.learners.parallel import ParallelLearner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Batch, ObsSpec
from tests.rl.distributed.numbered import check_every_transition_once, settings


class Killer:
    """A `Tick` that ends an actor's process once both have sent a chunk, and the run when it is back."""

    def __init__(self, pids: Path) -> None:
        self.pids, self.killed, self.notes = pids, 0, list[str]()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        self.notes.append(note)
        actors = [int(path.name) for path in self.pids.iterdir() if int(path.name) != os.getpid()]
        if not self.killed and len(actors) == 2 and done > 400:
            self.killed = actors[0]
            os.kill(self.killed, signal.SIGKILL)
        if "1 restarts" in note:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("ray")
def test_an_actor_is_killed_and_no_step_is_lost_or_counted_twice(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    config, run, killer = settings(tmp_path / "pids", 100_000), RunDir(tmp_path / "run"), Killer(tmp_path / "pids")
    with pytest.raises(KeyboardInterrupt):
        train(config, run, killer)
    assert killer.killed
    state = load_state(config, run.checkpoint)
    ledger, counters = state.envs, state.counters
    assert isinstance(ledger, Ledger)
    assert state.replay is not None
    check_every_transition_once(state.replay.settled(), counters.steps, int(ledger.counted.sum()), config)
    assert (ledger.counted > 1).all()
    assert state.learner.updates == (counters.steps - 100) // config.envs + 1
    record = json.loads(run.metrics.read_text().splitlines()[-1])
    assert {"weight_age", "queued", "restarts"} <= record.keys()


SPEC = EnvSpec(ObsSpec((4,)), 3)


def batches(count: int, size: int) -> list[Batch]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return [
        Batch(
            normal(size, 4), rng.integers(3, size=size), normal(size), np.full(size, 0.9, np.float32), normal(size, 4),
            rng.random(size).astype(np.float32), np.arange(size),
        )
        for _ in range(count)
    ]  # fmt: skip


@pytest.mark.usefixtures("ray")
def test_two_learners_with_half_a_batch_each_are_one_with_all_of_it() -> None:
    changes = {
        "network.hidden": (16,), "learner.max_grad_norm": 0.1, "learner.target": "polyak", "learner.batch_size": 8,
        "distributed.learners": 2,
    }  # fmt: skip
    config: TrainConfig = with_changes(TrainConfig(), changes)
    one, two = TorchLearner(config, SPEC, 0), ParallelLearner(config, SPEC, 0)
    for number, batch in enumerate(batches(6, 8)):
        mean, std = np.full(4, number, np.float32), np.full(4, 2.0, np.float32)
        for learner in (one, two):
            learner.set_obs_stats(mean, std)
        np.testing.assert_allclose(two.update(batch), one.update(batch), rtol=1e-4, atol=1e-5)
    for name, value in one.arrays().items():
        np.testing.assert_allclose(two.arrays()[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    two.leave()

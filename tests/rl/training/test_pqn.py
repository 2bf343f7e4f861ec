"""PQN: Q(λ) by hand, its batches, and that a run repeats and resumes bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.pqn import lambda_returns, rollout_batches
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, ObsSpec, Step
from tests.rl.training.test_train import Stop, assert_same_run

PQN = {
    "algorithm": "pqn",
    "learner.optimizer": "radam",
    "learner.target": "none",
    "learner.engine": "torch",
    "learner.batch_size": 16,
    "pqn.rollout": 8,
    "pqn.epochs": 2,
}


def column(*values: float) -> Array:
    return np.array(values, np.float32)[:, None]


def test_lambda_returns_by_hand() -> None:
    no = column(0, 0, 0) > 0
    reward, value = column(1, 2, 3), column(10, 20, 30)

    def returns(terminated: Array, truncated: Array, decay: float) -> list[float]:
        found: list[float] = lambda_returns(reward, terminated, truncated, value, 0.5, decay)[:, 0].tolist()
        return found

    assert returns(no, no, 0.0) == [6, 12, 18], "λ = 0: one step"
    assert returns(no, no, 1.0) == [1 + 0.5 * (2 + 0.5 * 18), 2 + 0.5 * 18, 18], "λ = 1: to the end of the rollout"
    # λ = ½: G2 = 3 + ½·30; G1 = 2 + ½·(½·18 + ½·20); G0 = 1 + ½·(½·11.5 + ½·10).
    assert returns(no, no, 0.5) == [6.375, 11.5, 18]
    middle = column(0, 1, 0) > 0
    assert returns(middle, no, 1.0) == [1 + 0.5 * 2, 2, 18], "a termination is worth nothing more"
    assert returns(no, middle, 1.0) == [1 + 0.5 * 12, 2 + 0.5 * 20, 18], (
        "a truncation bootstraps from its true successor"
    )


def test_batches_hold_the_masks_of_their_observations() -> None:
    """A policy network that learns from them must not look at illegal actions."""
    config = with_changes(TrainConfig(envs=4), {**PQN, "network.hidden": (8,)})
    learner = make_learner(config, EnvSpec(ObsSpec((2,)), 3, masked=True), 0)
    rng = np.random.default_rng(0)
    steps, legal = [], {}
    for _ in range(8):
        obs, next_obs = rng.normal(size=(2, 4, 2)).astype(np.float32)
        mask, next_mask = rng.random((2, 4, 3)) < 0.6
        mask[:, 0] = next_mask[:, 0] = True
        none = np.zeros(4, bool)
        steps.append(Step(obs, np.zeros(4, np.int64), np.ones(4, np.float32), none, none, next_obs, next_mask, mask))
        legal.update({row.tobytes(): flags for row, flags in zip(obs, mask, strict=True)})
    for batch in rollout_batches(config, learner, steps, rng):
        assert batch.mask is not None
        assert all(
            np.array_equal(legal[row.tobytes()], flags) for row, flags in zip(batch.obs, batch.mask, strict=True)
        )
        assert np.isfinite(learner.update(batch)).all()


def test_an_epoch_holds_every_step_once_with_its_return() -> None:
    config = with_changes(TrainConfig(envs=4), {**PQN, "network.hidden": (8,), "learner.reward_scale": 0.5})
    learner = make_learner(config, EnvSpec(ObsSpec((2,)), 3), 0)
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(8):
        obs, next_obs = rng.normal(size=(2, 4, 2)).astype(np.float32)
        reward, ends = rng.normal(size=4).astype(np.float32), rng.random((2, 4)) < 0.2
        steps.append(Step(obs, rng.integers(3, size=4), reward, ends[0], ends[1], next_obs))
    reward, terminated, truncated = (np.stack([step[i] for step in steps]) for i in (2, 3, 4))
    value = np.stack([learner.q(step.next_obs).max(1) for step in steps]) / 0.5
    expected = lambda_returns(reward, terminated, truncated, value, config.learner.gamma, config.pqn.trace_decay)
    batches = list(rollout_batches(config, learner, steps, np.random.default_rng(1)))
    assert len(batches) == 4
    for epoch in (batches[:2], batches[2:]):
        index = np.concatenate([batch.index for batch in epoch])
        assert sorted(index.tolist()) == list(range(32))
        target = np.concatenate([batch.reward for batch in epoch])
        assert target == pytest.approx(expected.reshape(-1)[index], abs=1e-5)
        obs = np.concatenate([step.obs for step in steps])
        assert np.array_equal(np.concatenate([batch.obs for batch in epoch]), obs[index])
    assert all((batch.discount == 0).all() for batch in batches)
    assert not np.array_equal(batches[0].index, batches[2].index)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.long),
        {"network.noisy": True},
        {"learner.engine": "auto", "learner.optimizer": "adam"},
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    small: TrainConfig, tmp_path: Path, changes: dict[str, object]
) -> None:
    config = with_changes(small, {**PQN, **changes})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    assert expected.updates == 1_000 // 32 * 4 + 4
    for stop in (3, 12):
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(stop), resume=True)
    trained = train(config, parts, resume=True)
    assert_same_run(whole, parts)
    assert np.array_equal(expected.final.returns, trained.final.returns)


def test_a_run_too_short_for_a_check_keeps_what_it_learnt(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, {**PQN, "steps": 64, "evaluation.every": 1_000_000, "evaluation.network": "online"})
    trained = train(config, RunDir(tmp_path))
    arrays, _ = load_checkpoint(RunDir(tmp_path).checkpoint)
    assert trained.best_return is not None
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(value, arrays[f"learner.online.{name}"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learner.batch_size": 7}, r"batch_size must be a divisor of envs · pqn\.rollout, 32"),
        ({"network.head": "c51"}, r"network\.head must be q"),
        ({"learner.munchausen": True}, r"learner\.munchausen must be off"),
    ],
)
def test_what_pqn_cannot_do_is_refused(
    small: TrainConfig, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(with_changes(small, {**PQN, **changes}), RunDir(tmp_path))

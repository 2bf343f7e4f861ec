"""Training environments of envpool: the same dynamics, true last observations, repeatable from the actions alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs import envpool as pool
from nimbleq.rl.envs.cartpole import VectorEntryEnvBatch
from nimbleq.rl.envs.envpool import PoolEnv
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from tests.rl.training.test_train import Stop, assert_same_run

CARTPOLE = EnvConfig("CartPole-v1", max_episode_steps=30)


def test_without_envpool_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(EnvError, match="envpool is not installed"):
        PoolEnv(CARTPOLE, 2, 0)


def test_it_steps_as_gymnasium_does_and_restarts_what_ended() -> None:
    pytest.importorskip("envpool")
    envs, oracle = PoolEnv(CARTPOLE, 4, seed=1), VectorEntryEnvBatch(CARTPOLE, 4)
    for index in range(4):
        oracle.reset(index, 0)
    rng = np.random.default_rng(0)
    lengths, ends = np.zeros(4, int), 0
    for _ in range(300):
        oracle.vector.state[:] = envs.obs.T  # each step from the same point: rounding does not add up
        oracle.vector.steps[:] = lengths
        oracle.vector.prev_done[:] = False
        step = envs.step(rng.integers(2, size=4))
        obs, reward, terminated, truncated = oracle.step(np.arange(4), step.action)
        lengths += 1
        assert np.allclose(step.next_obs, obs, atol=1e-5)
        assert np.array_equal(step.reward, reward)
        assert np.array_equal(step.terminated, terminated & ~truncated), "envpool calls the last possible step cut"
        assert np.array_equal(step.truncated, truncated)
        ended = step.terminated | step.truncated
        assert sorted(length for _, length in envs.finished) == sorted(lengths[ended])
        assert (np.abs(envs.obs[ended]) <= 0.05).all(), "the next episode has begun"
        assert np.array_equal(envs.obs[~ended], step.next_obs[~ended])
        lengths[ended], ends = 0, ends + int(ended.sum())
    assert ends > 20


def test_all_environments_are_made_anew_after_a_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("envpool")
    monkeypatch.setattr(pool, "_GENERATION", 7)
    envs = PoolEnv(CARTPOLE, 3, seed=1)
    steps = [envs.step(np.zeros(3, np.int64)) for _ in range(7)]
    assert not np.any([step.truncated for step in steps[:6]])
    assert (steps[6].truncated | steps[6].terminated).all()
    assert (np.abs(envs.obs) <= 0.05).all()
    assert len(envs.arrays()["actions"]) == 0


def test_training_on_it_resumes_bit_for_bit(small: TrainConfig, tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    config = with_changes(small, {"env.engine": "envpool"})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(config, whole)
    for stop in (30, 77):
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(stop), resume=True)
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(EnvError, match="no --env-kwargs"):
        PoolEnv(EnvConfig("CartPole-v1", kwargs=("a=1",)), 2, 0)
    pytest.importorskip("envpool")
    with pytest.raises(EnvError, match="has no environment 'test/Nothing-v0'"):
        pool._make("test/Nothing-v0", 2, 10, 0)

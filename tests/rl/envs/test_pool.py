"""Training environments of envpool: the same dynamics, true last observations, repeatable from the actions alone."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs import envpool as pool
from nimbleq.rl.envs.cartpole import VectorEntryEnvBatch
from nimbleq.rl.envs.engines import make_low_fidelity_batch
from nimbleq.rl.envs.envpool import PoolBatch, PoolEnv
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


class Cars(gymnasium.Env):
    """Observes an array of two rows."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2, 3), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 3), np.float32), {}

    def step(self, action):
        return np.zeros((2, 3), np.float32), 0.0, False, False, {}


class FakePool:
    """Two environments whose first episode ends in the first step."""

    shape = (2, 3)

    def reset(self, which=(0, 1)):
        return np.full((len(which), *self.shape), 7, np.float32), {}

    def step(self, action):
        obs = np.arange(2 * np.prod(self.shape), dtype=np.float32).reshape(2, *self.shape)
        return obs, np.ones(2, np.float32), np.array([True, False]), np.zeros(2, bool), {}


def test_an_array_becomes_a_vector_and_the_registering_module_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def make(name: str, **settings: object) -> FakePool:
        asked.append(name)
        return FakePool()

    names = ["Cars-v0", "CartPole-v1"]
    monkeypatch.setitem(sys.modules, "envpool", SimpleNamespace(list_all_envs=lambda: names, make_gymnasium=make))
    monkeypatch.setitem(gymnasium.registry, "Cars-v0", EnvSpec("Cars-v0", Cars))
    envs = PoolEnv(EnvConfig("gymnasium:Cars-v0", max_episode_steps=5), 2, 0)
    assert envs.spec.obs.shape == (6,)
    assert np.array_equal(envs.obs, np.full((2, 6), 7))
    step = envs.step(np.zeros(2, np.int64))
    assert np.array_equal(step.next_obs, np.arange(12).reshape(2, 6))
    assert np.array_equal(envs.obs, [[7] * 6, list(range(6, 12))]), "the first has begun its next episode"
    assert asked == ["Cars-v0"]
    with pytest.raises(EnvError, match=r"observes float32 \(2, 3\), Gymnasium's float32 \(4,\)"):
        PoolEnv(EnvConfig("CartPole-v1", max_episode_steps=5), 2, 0)


def test_searches_play_gymnasium_without_envpool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    batch = make_low_fidelity_batch(replace(CARTPOLE, id="gymnasium:CartPole-v1", engine="envpool"), 2)
    assert batch.reset(0, 3).shape == (4,)


def test_some_of_them_step_each_where_it_is_and_searches_play_there() -> None:
    pytest.importorskip("envpool")
    batch = make_low_fidelity_batch(replace(CARTPOLE, id="gymnasium:CartPole-v1", engine="envpool"), 6)
    assert isinstance(batch, PoolBatch)
    obs = np.stack([batch.reset(index, 3) for index in range(6)])
    rng, lengths, ends = np.random.default_rng(0), np.zeros(6, int), 0
    for _ in range(300):
        indices = rng.permutation(6)[: rng.integers(1, 7)]
        next_obs, reward, terminated, truncated = batch.step(indices, rng.integers(2, size=len(indices)))
        assert np.allclose(next_obs[:, 0], obs[indices, 0] + 0.02 * obs[indices, 1], atol=1e-5)
        assert (reward == 1).all()
        obs[indices] = next_obs
        lengths[indices] += 1
        assert np.array_equal(truncated, (lengths[indices] == 30) & ~terminated)
        for index in indices[terminated | truncated]:
            obs[index], lengths[index], ends = batch.reset(int(index), 0), 0, ends + 1
            assert (np.abs(obs[index]) <= 0.05).all()
    assert ends > 20
    batch.close()
    with pytest.raises(EnvError, match="takes no --env-kwargs"):
        PoolBatch(replace(CARTPOLE, kwargs=("sutton_barto_reward=True",)), 2)

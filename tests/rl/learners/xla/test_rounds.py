"""PQN as one program: Q(λ) and statistics as on the host, a chain whose values are known, resuming bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.replay.ring import Replay, Transitions
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.average import WeightAverage
from nimbleq.rl.training.pqn import lambda_returns
from nimbleq.rl.training.stats import ObsStats
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, ObsSpec, Step
from tests.rl.saved import assert_same_run
from tests.rl.training.test_train import Stop

jax = pytest.importorskip("jax")
jnp = jax.numpy

from nimbleq.rl.envs.jax_env import JaxEnv, Moment  # noqa: E402
from nimbleq.rl.learners.engine import Beside  # noqa: E402
from nimbleq.rl.learners.xla import averages  # noqa: E402
from nimbleq.rl.learners.xla.learner import XlaLearner  # noqa: E402
from nimbleq.rl.learners.xla.ring import RingReplay  # noqa: E402
from nimbleq.rl.learners.xla.rounds import Rounds, q_lambda  # noqa: E402


class Params(NamedTuple):
    max_steps_in_episode: int = 5


class Place(NamedTuple):
    at: Any
    time: Any


class Chain:
    """Three places in a row, in the manner of gymnax: right of the last one there is a reward of 1 and the end."""

    def reset_env(self, key: Any, params: Params) -> tuple[Any, Place]:
        return jax.nn.one_hot(0, 3), Place(0, 0)

    def step_env(
        self, key: Any, state: Place, action: Any, params: Params
    ) -> tuple[Any, Place, Any, Any, dict[str, Any]]:
        at = jnp.maximum(state.at + 2 * action - 1, 0)
        over = at == 3
        return jax.nn.one_hot(at, 3), Place(at, state.time + 1), over.astype(jnp.float32), over, {}

    def is_truncated(self, state: Place, params: Params) -> Any:
        return state.time >= params.max_steps_in_episode


SPEC = EnvSpec(ObsSpec((3,)), 2)


def chain(envs: int, limit: int = 50) -> JaxEnv:
    return JaxEnv("chain", SPEC, Chain(), Params(limit), envs, seed=0)


def settings(**changes: Any) -> TrainConfig:
    small = {
        "algorithm": "pqn", "learner.target": "none", "learner.batch_size": 16, "learner.gamma": 0.5, "envs": 8,
        "pqn.rollout": 8, "pqn.epochs": 2, "pqn.trace_decay": 0.5, "network.hidden": (16,), "explore.end": 0.5,
        "explore.updates": 10, "learner.lr": 3e-3, "learner.lr_end": 1e-4, "learner.lr_updates": 1500,
    }  # fmt: skip
    config: TrainConfig = with_changes(TrainConfig(), {**small, **changes})
    return config


def start(config: TrainConfig) -> Beside:
    average = {"updates": np.zeros(1, np.int64)} if config.evaluation.network == "average" else None
    return Beside(ObsStats(3).arrays() if config.network.normalize_obs else None, average)


@pytest.mark.tpu
@pytest.mark.parametrize("normalize", [False, True])
def test_it_learns_the_values_of_a_chain(normalize: bool) -> None:
    config = settings(**{"network.normalize_obs": normalize})
    envs, learner = chain(config.envs), XlaLearner(config, SPEC, seed=0)
    _, after = Rounds(config, learner, envs).run(300, start(config))
    q = learner.q(np.eye(3, dtype=np.float32))
    assert q[:, 1] == pytest.approx([0.25, 0.5, 1.0], abs=0.05)
    assert learner.updates == 300 * 8
    assert all(total == 1 for total, _ in envs.finished)
    assert (after.stats is not None) == normalize
    if after.stats is not None:
        assert after.stats["count"][0] == 300 * 64
        assert after.stats["mean"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.tpu
def test_rounds_one_by_one_and_all_at_once_are_the_same_bits() -> None:
    config = settings(**{"evaluation.network": "average", "evaluation.average_updates": 40})
    found = []
    for turns in ([1, 1, 1], [3]):
        envs, learner, beside = chain(config.envs), XlaLearner(config, SPEC, seed=0), start(config)
        program = Rounds(config, learner, envs)
        for rounds in turns:
            _, beside = program.run(rounds, beside)
        assert beside.stats is not None
        assert beside.average is not None
        found.append([learner.arrays(), envs.arrays(), beside.stats, beside.average])
    for once, more in zip(*found, strict=True):
        assert once.keys() == more.keys()
        assert all(np.array_equal(value, more[name]) for name, value in once.items())


def test_lambda_returns_are_the_hosts() -> None:
    config, rng = settings(**{"learner.reward_scale": 0.5, "network.normalize_obs": False}), np.random.default_rng(0)
    learner = XlaLearner(config, SPEC, seed=0)
    next_obs = rng.normal(size=(6, 5, 3)).astype(np.float32)
    reward = rng.normal(size=(6, 5)).astype(np.float32)
    terminated, truncated = rng.random((2, 6, 5)) < 0.2
    value = learner.q(next_obs.reshape(-1, 3)).max(1).reshape(6, 5) / 0.5
    none = np.zeros((6, 5), np.float32)
    moments = Moment(next_obs, none, reward, terminated, truncated, next_obs, none, none)
    found = q_lambda(config, learner.state.weights, moments)
    assert np.asarray(found) == pytest.approx(lambda_returns(reward, terminated, truncated, value, 0.5, 0.5), abs=1e-5)


@pytest.mark.tpu
def test_statistics_and_average_are_the_hosts() -> None:
    rng = np.random.default_rng(0)
    theirs, ours = ObsStats(3), averages.stats_of(ObsStats(3).arrays())
    for _ in range(5):
        obs = (rng.normal(size=(40, 3)) * [1.0, 1e-5, 30] + [0, 2, 100]).astype(np.float32)
        theirs.add(obs)
        ours = ours.add(obs)
    mean, std = theirs.mean_std()
    assert np.asarray(ours.buffers()["prepare.mean"]) == pytest.approx(mean, rel=1e-5, abs=1e-5)
    assert np.asarray(ours.buffers()["prepare.inverse_std"])[[0, 2]] == pytest.approx(1 / std[[0, 2]], rel=1e-3)

    class Fake:
        updates = 0
        values = np.zeros(1, np.float32)

        def parameters(self) -> Array:
            return self.values

        def weights(self) -> dict[str, Array]:
            return {"w": self.values}

        def unpack(self, values: Array) -> dict[str, Array]:
            return {"w": values}

    learner = Fake()
    host = WeightAverage(60, learner)  # type: ignore[arg-type]
    device = averages.average_of({"updates": np.zeros(1, np.int64)}, {"w": np.zeros(1, np.float32)})
    for update in range(1, 40):
        learner.updates, learner.values = update, rng.normal(size=1).astype(np.float32)
        host.follow()
        device = device.follow({"w": learner.values}, jnp.int32(update), 60)
        assert averages.average_arrays(device)["updates"] == host.updates
        if host.updates == 0:
            assert "weights.w" not in averages.average_arrays(device)
            continue
        assert np.asarray(device.weights["w"]) == pytest.approx(host.weights()["w"], abs=1e-6)


@pytest.mark.tpu
def test_a_time_limit_truncates_and_an_end_terminates() -> None:
    envs = chain(2, limit=4)
    for time in range(4):
        step = envs.step(np.array([1, 0]))
        assert step.terminated.tolist() == [time == 2, False]
        assert step.truncated.tolist() == [False, time == 3]
        if time == 2:
            assert envs.finished == [(1.0, 3)]
            assert envs.obs[0].tolist() == [1, 0, 0]
            assert step.next_obs[0].tolist() == [0, 0, 0], "the true successor, not the next episode's first"
    assert envs.finished == [(0.0, 4)]


GYMNAX = {
    "algorithm": "pqn", "learner.engine": "xla", "env.engine": "gymnax", "learner.target": "none",
    "pqn.rollout": 8, "pqn.epochs": 2, "evaluation.beside": False,
}  # fmt: skip


@pytest.mark.tpu
def test_cartpole_trains_and_resumes_bit_for_bit(small: TrainConfig, tmp_path: Path) -> None:
    pytest.importorskip("gymnax")
    config, whole, parts = with_changes(small, GYMNAX), RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    trained = train(config, whole)
    assert trained.learner == "xla"
    assert trained.steps >= 1000
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, Stop(3), resume=True)
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


def replay_settings(**changes: Any) -> TrainConfig:
    return settings(**{
        "algorithm": "dqn", "learner.target": "polyak", "learner.tau": 0.1, "replay.n_step": 2,
        "replay.capacity": 400, "learn_start": 64, "updates_per_step": 2, **changes,
    })  # fmt: skip


@pytest.mark.tpu
@pytest.mark.parametrize("normalize", [False, True])
def test_a_program_with_a_replay_learns_the_values_of_a_chain(normalize: bool) -> None:
    # Of one step: longer windows hold random actions, which are worth less than the best ones.
    config = replay_settings(**{"network.normalize_obs": normalize, "replay.n_step": 1})
    envs, learner, replay = chain(config.envs), XlaLearner(config, SPEC, seed=0), RingReplay(config, SPEC)
    _, after = Rounds(config, learner, envs, replay).run(1000, start(config))
    q = learner.q(np.eye(3, dtype=np.float32))
    assert q[:, 1] == pytest.approx([0.25, 0.5, 1.0], abs=0.05)
    assert learner.updates == (1000 - 7) * 2, "none in the first 64 steps, which take 8 rounds of 8"
    assert (after.stats is not None) == normalize
    assert len(replay) == 8000


@pytest.mark.long
def test_its_windows_are_the_hosts() -> None:
    """Every transition that the ring can give is one that `NStepWindows` makes of the same steps."""
    config, rng = replay_settings(envs=3, **{"replay.capacity": 3 * 40, "replay.n_step": 3}), np.random.default_rng(0)
    replay, host = RingReplay(config, SPEC), Replay(config.replay, 0.5, 3, SPEC.obs)
    for t in range(30):
        obs = rng.normal(size=(2, 3, 3)).astype(np.float32)
        ends = rng.random((2, 3)) < 0.2
        step = Step(
            obs[0], np.full(3, t % 2), rng.normal(size=3).astype(np.float32), ends[0], ends[1] & ~ends[0], obs[1]
        )
        host.add(step)
        moment = Moment(*step[:6], returns=np.zeros(3), lengths=np.zeros(3))
        replay.ring = replay.ring.add(Moment(*(jnp.asarray(value) for value in moment)))
    known = {row.obs.tobytes(): row for row in (Transitions(*(f[at] for f in host.store)) for at in range(host.size))}
    sample = replay.ring.sample(jax.random.key(0), 200, 3, 0.5)
    assert len({obs.tobytes() for obs in np.asarray(sample.obs)}) > 60
    for at in range(200):
        obs, action, reward, discount, next_obs = (np.asarray(field)[at] for field in sample[:5])
        row = known[obs.tobytes()]
        assert action == row.action
        assert np.array_equal(next_obs, row.next_obs)
        assert [reward, discount] == pytest.approx([row.reward, row.discount], rel=1e-5)


def test_a_ring_goes_to_the_host_and_back() -> None:
    config, rng = replay_settings(envs=3, **{"replay.capacity": 30}), np.random.default_rng(0)
    first, second = RingReplay(config, SPEC), RingReplay(config, SPEC)
    for _ in range(14):
        values = (rng.normal(size=(3, 3)), np.zeros(3), rng.normal(size=3), *(rng.random((2, 3)) < 0.2))
        moment = Moment(*(jnp.asarray(value) for value in (*values, rng.normal(size=(3, 3)), np.zeros(3), np.zeros(3))))
        first.ring = first.ring.add(moment)
    saved, other = first.settled(), second.settled()
    other.load_arrays(first.arrays())
    other.load_rows(saved.added - saved.size, saved.rows(saved.added - saved.size, saved.size))
    second.mirror(first.arrays())
    assert all(np.array_equal(a, b) for a, b in zip(first.ring, second.ring, strict=True))

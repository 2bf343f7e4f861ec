"""Networks that remember: sequences, burn-in and n-step windows are right, and memory is cleared where episodes end."""

from pathlib import Path

import numpy as np
import pytest

from nimbleq.config import EnvConfig, NetworkConfig, ReplayConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import ACTION, NEXT_STATE, STATE, Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.rl.learners.engines import engine_for
from nimbleq.rl.learners.recurrent.engine import ENGINE, RememberedSteps, length_of
from nimbleq.rl.learners.recurrent.learner import returns
from nimbleq.rl.replay.sequences import SequenceReplay
from nimbleq.rl.rules import check_settings
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import ObsSpec, Step

SPEC = EnvSpec(ObsSpec((2,)), 3)
CONFIG = TrainConfig(
    EnvConfig("tests.rl.own_envs:Corridor"), NetworkConfig(hidden=(8,), memory=6, normalize_obs=False),
    ReplayConfig(capacity=4_000, n_step=3, burn_in=2, sequence=4), envs=4, steps=600, learn_start=100,
)  # fmt: skip
CONFIG = with_changes(
    CONFIG,
    {"evaluation.every": 100, "evaluation.episodes": 8, "evaluation.final_episodes": 8, "learner.batch_size": 32},
)


def _step(t: int, rng: np.random.Generator) -> Step:
    obs = np.stack([np.full(2, 10 * t + env, np.float32) for env in range(4)])
    ends = rng.random((2, 4)) < 0.2
    return Step(obs, np.full(4, t % 3), rng.normal(size=4).astype(np.float32), ends[0], ends[1] & ~ends[0], obs + 0.5)


def test_sequences_are_consecutive_steps_of_one_environment() -> None:
    replay, rng = SequenceReplay(43, 4, SPEC.obs, 2), np.random.default_rng(0)
    assert replay.capacity == 40
    for t in range(25):
        replay.remember(_step(t, rng), np.full((4, 2), t, np.float32))
    assert replay.stretches(7) == 4 * 4
    drawn = replay.sample(rng, 200, 7)
    assert (np.diff(drawn.obs[..., 0], axis=0) == 10).all()
    assert np.unique(drawn.obs[0, :, 0] % 10).tolist() == [0, 1, 2, 3]
    assert np.unique(drawn.obs[0, :, 0] // 10).tolist() == [15, 16, 17, 18]
    assert np.array_equal(drawn.state[:, 0], drawn.obs[0, :, 0] // 10)
    other = SequenceReplay(43, 4, SPEC.obs, 2)
    other.load_arrays(replay.arrays())
    other.load_rows(replay.added - replay.size, replay.rows(replay.added - replay.size, replay.size))
    again = other.sample(np.random.default_rng(5), 50, 3)
    for mine, theirs in zip(replay.sample(np.random.default_rng(5), 50, 3), again, strict=True):
        assert mine is theirs is None or np.array_equal(mine, theirs)


def test_windows_are_cut_where_episodes_end() -> None:
    reward = np.array([[1], [2], [4], [8], [16]], np.float32)
    terminated = np.array([[False], [False], [False], [True], [False]])
    ended = np.array([[False], [True], [False], [True], [False]])
    total, discount, last = returns(reward, terminated, ended, 2, 4, 0.5)
    assert total[:, 0].tolist() == [1 + 1, 2, 4 + 4, 8]
    assert discount[:, 0].tolist() == [0.25, 0.5, 0, 0]  # truncated: bootstraps; terminated: does not
    assert last[:, 0].tolist() == [1, 1, 3, 3]


def test_an_update_is_the_td_step_of_a_network_that_is_unrolled_by_hand() -> None:
    """Without bootstrapping over a stored memory that is wrong: the burn-in makes up for it."""
    learner = ENGINE.make(CONFIG, SPEC, 0)
    replay, rng = RememberedSteps(CONFIG, SPEC, learner), np.random.default_rng(1)
    for t in range(30):
        learner.act(_step(t, rng).obs / 300, explore=True)
        step = _step(t, rng)
        replay.add(step._replace(obs=step.obs / 300, next_obs=step.next_obs / 300))
        assert (learner.state[step.terminated | step.truncated] == 0).all()
    length = length_of(CONFIG)
    assert length == 2 + 4 + 2
    drawn = replay.sample(rng, 3, length)
    graph = learner.graph()
    expected = []
    for k in range(3):
        state, before, after = drawn.state[k : k + 1], [], []
        for t in range(length):
            made = interpret(graph, {"obs": drawn.obs[t, k : k + 1], STATE: state})
            before.append(made[Q][0])
            follow = interpret(graph, {"obs": drawn.next_obs[t, k : k + 1], STATE: made[NEXT_STATE]})
            after.append(follow[Q][0])
            ended = drawn.terminated[t, k] | drawn.truncated[t, k]
            state = np.zeros_like(state) if ended else made[NEXT_STATE]
        for t in range(2, 6):
            total, discount = 0.0, 1.0
            for age in range(3):
                total += discount * drawn.reward[t + age, k]
                discount *= 0.99 * (not drawn.terminated[t + age, k])
                if drawn.terminated[t + age, k] or drawn.truncated[t + age, k]:
                    break
            expected.append(abs(before[t][drawn.action[t, k]] - total - discount * after[t + age].max()))
    made, _ = learner.update_sequences(drawn)
    np.testing.assert_allclose(made.reshape(4, 3).T.reshape(-1), expected, rtol=1e-4, atol=1e-5)


def test_the_graph_remembers_as_the_learner_does() -> None:
    learner = ENGINE.make(CONFIG, SPEC, 3)
    policy, rng = GraphPolicy(learner.graph()).begin(4), np.random.default_rng(0)
    for _ in range(12):
        obs = rng.normal(size=(4, 2)).astype(np.float32)
        assert np.array_equal(policy(obs, episode=np.arange(4)), learner.act(obs, explore=True))
        np.testing.assert_allclose(policy.state, learner.state, atol=1e-6)


@pytest.mark.long
def test_it_learns_what_cannot_be_seen(tmp_path: Path) -> None:
    """The corridor's signal is shown in the first step only: by the present observation alone, half is the most."""
    config = with_changes(
        CONFIG, {"steps": 12_000, "envs": 8, "network.memory": 12, "learner.lr": 3e-3, "explore.updates": 600,
                 "evaluation.every": 250, "evaluation.stop_return": 0.95, "evaluation.final_episodes": 40},
    )  # fmt: skip
    trained = train(config, RunDir(tmp_path))
    assert trained.learner == "recurrent"
    assert trained.final.returns.mean() > 0.9
    with Evaluator(config.env) as evaluate:
        again = evaluate(GraphPolicy(trained.graph), trained.final.seeds[:7].tolist()).returns
    assert np.array_equal(again, trained.final.returns[:7])  # each episode begins with a cleared memory


def test_it_stops_and_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(CONFIG, whole)
    train(CONFIG, parts, seconds=0.15)
    train(CONFIG, parts, resume=True)
    mine, theirs = (load_state(CONFIG, run.checkpoint).learner.arrays() for run in (whole, parts))
    assert all(np.array_equal(theirs[name], value) for name, value in mine.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replay.prioritized": True}, "replay.prioritized must be off with network.memory"),
        ({"learner.engine": "native"}, "only recurrent trains a network that remembers"),
        ({"network.memory": 0, "learner.engine": "recurrent"}, "recurrent trains nothing else"),
        ({"replay.capacity": 20}, "the steps of a sequence"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_settings(with_changes(CONFIG, changes))


def test_heads_and_dueling_work_over_a_memory() -> None:
    for head, dueling in (("c51", True), ("qr", False), ("iqn", True)):
        config = with_changes(CONFIG, {"network.head": head, "network.atoms": 5, "network.dueling": dueling})
        learner = engine_for(config, SPEC).make(config, SPEC, 0)
        replay, rng = RememberedSteps(config, SPEC, learner), np.random.default_rng(1)
        for t in range(20):
            step = _step(t, rng)
            learner.act(step.obs, explore=True)
            replay.add(step)
        before = learner.weights()["memory_cell.weight_hh"]
        learner.update_sequences(replay.sample(rng, 4, length_of(config)))
        assert not np.array_equal(before, learner.weights()["memory_cell.weight_hh"])
        made = interpret(learner.graph(), {"obs": step.obs, STATE: np.zeros((4, 6), np.float32)})
        np.testing.assert_allclose(made[Q], learner.q(step.obs), rtol=1e-4, atol=1e-4)
        assert np.array_equal(made[ACTION], made[Q].argmax(axis=1))

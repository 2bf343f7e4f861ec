"""Environments of one's own, masks, discretisation: the exact stream of steps, and training end to end."""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.envs.engines import make_env_batch, spec_of
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.explore import epsilon_greedy
from nimbleq.rl.masks import best_legal, nth_legal
from nimbleq.rl.presets import preset
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, ObsSpec
from tests.rl.saved import assert_same_run

HERE = "tests.rl.own_envs"
LIMIT = 5


@pytest.mark.parametrize("masks", ["none", "info", "dict"])
def test_the_exact_stream_of_a_counter(masks: str) -> None:
    """Lengths 3 (terminated) and 5 (truncated at the limit) alternate as the seeds say; every field is known."""
    envs = VectorEnv(EnvConfig(f"{HERE}:Counter", LIMIT, (f"masks={masks}",)), 4, seed=0)
    assert envs.spec == EnvSpec(ObsSpec((2,)), 3, masked=masks != "none")
    seeds, started, count = episode_seeds("train", 0, 400), 4, np.zeros(4, int)
    current = seeds[:4].copy()
    kinds = set()
    for _ in range(60):
        step = envs.step(count % 3)
        finished = []
        for index in range(4):
            n, seed = count[index], current[index]
            terminated = n + 1 == 3 and seed % 2 == 0
            truncated = n + 1 == LIMIT
            assert step.obs[index].tolist() == [seed % 1000, n]
            assert step.next_obs[index].tolist() == [seed % 1000, n + 1]
            assert (step.reward[index], step.terminated[index], step.truncated[index]) == (n + 1, terminated, truncated)
            if masks == "none":
                assert step.next_mask is None
            else:
                assert step.next_mask[index].tolist() == [(n + 1) % 3 == a for a in range(3)]
            count[index] += 1
            if terminated or truncated:
                kinds.add((bool(terminated), bool(truncated)))
                finished.append((sum(range(1, n + 2)), n + 1))
                current[index], started, count[index] = seeds[started], started + 1, 0
            assert envs.obs[index].tolist() == [current[index] % 1000, count[index]]
            if envs.mask is not None:
                assert envs.mask[index].tolist() == [count[index] % 3 == a for a in range(3)]
        assert envs.finished == finished
    assert kinds == {(True, False), (False, True)}


def test_masks_survive_restoring() -> None:
    config = EnvConfig(f"{HERE}:Mixed")
    envs, other = VectorEnv(config, 3, seed=1), VectorEnv(config, 3, seed=2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        envs.step(nth_legal(envs.mask, rng.integers(100, size=3)))
    other.seed = envs.seed
    other.load_arrays(envs.arrays())
    for _ in range(40):
        action = nth_legal(envs.mask, rng.integers(100, size=3))
        assert all(np.array_equal(a, b) for a, b in zip(envs.step(action), other.step(action), strict=True))
        assert np.array_equal(envs.mask, other.mask)


def test_random_actions_are_legal_and_uniform() -> None:
    mask = np.array([[True, False, True, True]] * 30_000)
    rng = np.random.default_rng(0)
    actions = epsilon_greedy(rng, np.zeros(30_000, np.int64), 4, 1.0, mask)
    assert np.bincount(actions, minlength=4) / 30_000 == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)
    q = np.array([[5.0, 9.0, 5.0, -np.inf], [-1e30, 3.0, 0.0, 0.0]])
    assert best_legal(q, np.array([[1, 0, 1, 1], [1, 0, 0, 0]], bool)).tolist() == [0, 0]


def test_evaluation_plays_legal_actions_and_lanes_do_not_matter() -> None:
    def worst(obs: Array, mask: Array) -> Array:
        return np.array([np.flatnonzero(row)[-1] for row in mask])

    played = []
    for envs in (1, 7):  # `Mixed` itself refuses illegal actions
        with Evaluator(EnvConfig(f"{HERE}:Mixed"), envs=envs) as evaluate:
            played.append([evaluate(worst, range(20), epsilon=e).returns.tolist() for e in (0.0, 0.5, 1.0)])
    assert played[0] == played[1]
    assert np.mean(played[0][0]) > np.mean(played[0][2])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EnvConfig("no_such_module:make"), r"no Python module 'no_such_module'.*run from the folder"),
        (EnvConfig("tests.rl.no_such:make"), r"no Python module 'tests.rl.no_such'"),
        (EnvConfig(f"{HERE}:absent"), r"has no 'absent'"),
        (EnvConfig(f"{HERE}:number"), r"own_envs:number is a int, which cannot be called"),
        (EnvConfig(f"{HERE}:nothing"), r"own_envs:nothing returned None, not a gymnasium.Env"),
        (EnvConfig(f"{HERE}:needs_size"), r"cannot be called with no arguments: missing a required argument: 'size'"),
        (EnvConfig(f"{HERE}:needs_size", None, ("4",)), r"NAME=VALUE, not '4'"),
        (EnvConfig("Pendulum-v1"), r"continuous actions.*--discretize 5 makes 5 of them"),
        (EnvConfig("Pendulum-v1", discretize=1), r"discretize must be at least 2"),
        (EnvConfig("CartPole-v1", discretize=5), r"discrete actions already"),
        (EnvConfig("LunarLander-v3", None, ("continuous=True",), 100), r"10,000 actions, more than 4,096"),
        (EnvConfig("FrozenLake-v1", None, ("colour=red",)), r"FrozenLake-v1 does not take colour=red"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: EnvConfig, words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        make_env(config)
    assert "\n" not in str(caught.value)


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # restores sys.path afterwards
    (tmp_path / "lonely_env.py").write_text("import gymnasium\ndef make(): return gymnasium.make('CartPole-v1')\n")
    assert spec_of(EnvConfig("lonely_env:make")) == EnvSpec(ObsSpec((4,)), 2)
    with pytest.raises(EnvError, match="cuts its episodes itself after 500"):
        make_env(EnvConfig("lonely_env:make", 900))


def test_continuous_actions_in_bins() -> None:
    env = make_env(EnvConfig("Pendulum-v1", discretize=5))
    assert env.actions == 5
    env.reset(seed=0)
    other = gymnasium.make("Pendulum-v1")
    other.reset(seed=0)
    for action, torque in enumerate((-1.6, -0.8, 0.0, 0.8, 1.6)):  # middles of fifths of −2 … 2
        assert np.allclose(env.step(action)[0], other.step(np.array([torque], np.float32))[0])


def small(env: EnvConfig) -> TrainConfig:
    changes = {
        "network.hidden": (16,), "replay.capacity": 1_000, "learner.batch_size": 16, "explore.updates": 20,
        "evaluation.every": 40, "evaluation.episodes": 2, "evaluation.final_episodes": 3,
        "evaluation.stop_return": None, "steps": 400, "envs": 4, "learn_start": 100, "checkpoint_seconds": 1e9,
        "updates_per_step": 1,
    }  # fmt: skip
    base = preset(env.id, "dqn", env.max_episode_steps, env.kwargs, env.discretize)
    config: TrainConfig = with_changes(base, changes)
    return config


class Stop:
    """A `Tick` that interrupts the ``n``-th step."""

    def __init__(self, n: int) -> None:
        self.calls, self.n = 0, n

    def __call__(self, done: float, total: float, note: str = "") -> None:
        self.calls += 1
        if self.calls == self.n:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("env", "engine"),
    [
        (EnvConfig("Acrobot-v1", 40), "auto"),
        pytest.param(EnvConfig("MountainCar-v0", 40), "auto", marks=pytest.mark.long),
        (EnvConfig("FrozenLake-v1", 40, ("is_slippery=False",)), "auto"),
        (EnvConfig("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", 40), "auto"),  # masks in info
        pytest.param(EnvConfig("Blackjack-v1"), "auto", marks=pytest.mark.long),
        (EnvConfig("Pendulum-v1", 40, (), 5), "auto"),
        (EnvConfig(f"{HERE}:Mixed"), "auto"),
        (EnvConfig(f"{HERE}:Mixed"), "torch"),
    ],
    ids=lambda value: value.id if isinstance(value, EnvConfig) else value,
)
def test_training_end_to_end_and_resumed(env: EnvConfig, engine: str, tmp_path: Path) -> None:
    config = with_changes(small(env), {"learner.engine": engine})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, Stop(63), resume=True)
    trained = train(config, parts, resume=True)
    assert trained.steps == 400
    assert np.array_equal(expected.final.returns, trained.final.returns)
    assert_same_run(whole, parts)
    replay = load_state(config, whole.checkpoint).replay
    assert replay is not None
    assert (replay.store.next_mask.shape[1] > 0) == expected.spec.masked


def test_dict_observations_with_masks_and_truncation_are_learnt_with_the_defaults(tmp_path: Path) -> None:
    """`Mixed` pays for action 3 where that is legal: nothing is better than always taking it then."""
    env, seeds = EnvConfig(f"{HERE}:Mixed"), range(100)

    def takes_it(obs: Array, mask: Array) -> Array:
        return np.where(mask[:, 3], 3, 0)

    def never_does(obs: Array, mask: Array) -> Array:
        return np.zeros(len(obs), np.int64)

    config = with_changes(preset(env.id), {"network.hidden": (32,), "steps": 16_000, "explore.updates": 300})
    trained = train(config, RunDir(tmp_path))
    with Evaluator(env) as evaluate:
        best, learnt = (evaluate(policy, seeds).returns for policy in (takes_it, GraphPolicy(trained.graph)))
        assert evaluate(never_does, seeds).returns.mean() == 0
    assert learnt.mean() > 0.97 * best.mean()


def test_minatar(tmp_path: Path) -> None:
    pytest.importorskip("minatar")
    config = EnvConfig("MinAtar/Breakout-v1", 50)
    assert spec_of(config) == EnvSpec(ObsSpec((4, 10, 10), "uint8"), 3)
    assert train(small(config), RunDir(tmp_path)).steps == 400
    batch = make_env_batch(config, 1, pictures=True)
    batch.reset(0, 1)
    picture = batch.picture(0)
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((10, 10, 3), np.uint8)


@pytest.mark.parametrize("name", ["MinAtar/Breakout-v1", "ALE/Pong-v5"])
def test_optional_engines_repeat_an_episode_from_its_seed(name: str) -> None:
    pytest.importorskip("minatar" if name.startswith("MinAtar") else "ale_py")
    config, rng = EnvConfig(name, 30), np.random.default_rng(0)
    envs, other = VectorEnv(config, 2, seed=1), VectorEnv(config, 2, seed=2)
    actions = rng.integers(envs.spec.actions, size=(80, 2))
    ends = 0
    for action in actions[:50]:
        step = envs.step(action)
        ends += int((step.terminated | step.truncated).sum())
    assert ends > 0
    other.seed = envs.seed
    other.load_arrays(envs.arrays())
    for action in actions[50:]:
        mine, its = envs.step(action), other.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(mine[:6], its[:6], strict=True))
    envs.close()
    other.close()


def test_atari_is_preprocessed() -> None:
    pytest.importorskip("ale_py")
    batch = make_env_batch(EnvConfig("ALE/Pong-v5"), 1)
    assert batch.spec == EnvSpec(ObsSpec((4, 84, 84), "uint8"), 6)
    with pytest.raises(EnvError, match=r"no environment 'ALE/Pongg-v5'.*Pong-v5"):
        make_env_batch(EnvConfig("ALE/Pongg-v5"), 1)
    batch.close()


@pytest.mark.parametrize(("name", "extra"), [("MinAtar/Breakout-v1", "minatar"), ("ALE/Pong-v5", "atari")])
def test_missing_packages_are_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium, "registry", {})
    for module in ("minatar", "minatar.gym") if extra == "minatar" else ("ale_py",):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvError, match=rf"nimbleq\[{extra}\]"):
        make_env_batch(EnvConfig(name), 1)

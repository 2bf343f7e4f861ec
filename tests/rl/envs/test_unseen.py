"""Environments that no preset knows: what random play says of them, and one whose exact answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.config import EnvConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.probe import Probe, discounted, probe
from nimbleq.rl.presets import preset
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, ObsSpec
from tests.rl.own_envs import Mine

MINE = EnvConfig("tests.rl.own_envs:Mine")
STATES = [(place, full) for place in range(Mine.LENGTH) for full in (0, 1)]
LEGAL = np.array([Mine.legal(state) for state in STATES])


def exact(gamma: float, cut: float = 0.0) -> Array:
    """Q* of `Mine` by dynamic programming, ``float64[S, A]``, −∞ where illegal; a step ends it all with ``cut``."""
    value = dict.fromkeys(STATES, 0.0)
    for _ in range(1_000):
        q = [
            [
                _backed_up(Mine.outcome(state, a), value, gamma * (1 - cut)) if ok else -np.inf
                for a, ok in enumerate(row)
            ]
            for state, row in zip(STATES, LEGAL, strict=True)
        ]
        value = dict(zip(STATES, np.max(q, axis=1).tolist(), strict=True))
    return np.array(q)


def _backed_up(outcome: tuple[tuple[int, int], float], value: dict[tuple[int, int], float], gamma: float) -> float:
    return outcome[1] + gamma * value[outcome[0]]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dqn", {"replay.n_step": 1, "env.workers": 2}),
        pytest.param("pqn", {"explore.updates": 200}, marks=pytest.mark.long),
        pytest.param("rainbow", {"envs": 8, "steps": 6_000}, marks=pytest.mark.long),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_exact_answer_of_work_that_only_the_clock_cuts(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """A Dict observation, masks that change (illegal actions raise), and truncation that changes the best policy."""
    gamma = 0.9
    base = with_changes(preset(MINE.id, name), {"steps": 24_000, "learner.gamma": gamma})
    config = with_changes(base, changes | {"evaluation.final_episodes": 20, "checkpoint_seconds": 1e9})
    trained = train(config, RunDir(tmp_path))
    state = load_state(config, RunDir(tmp_path).checkpoint)
    state.envs.close()
    obs = np.array([[full, *np.eye(Mine.LENGTH)[place]] for place, full in STATES], np.float32)
    q = np.where(LEGAL, state.learner.q(obs) / config.learner.reward_scale, -np.inf)
    wanted, ended = exact(gamma), exact(gamma, cut=1 / Mine.CUT)
    assert ended.argmax(axis=1)[0] == Mine.STAY, "who takes the cut for an end begs"
    assert wanted.argmax(axis=1)[0] == Mine.RIGHT
    regret = wanted.max(axis=1) - wanted[np.arange(len(STATES)), q.argmax(axis=1)]
    if name == "dqn":  # one step and all actions: Q* itself
        assert q.max(axis=1) == pytest.approx(wanted.max(axis=1), abs=0.06)
        assert regret == pytest.approx(0.0)
    else:  # longer windows hold what exploration paid: begging once is nearly as good
        assert regret.max() < Mine.BEG
    assert trained.final.returns.mean() == pytest.approx(1.0, abs=0.1), "eight steps are once round, from anywhere"


@pytest.mark.long
def test_a_goal_that_noise_never_meets_is_learnt(tmp_path: Path) -> None:
    """MountainCarContinuous pays for standing still until the goal was met; Gymnasium counts 90 as solved."""
    config = with_changes(preset("MountainCarContinuous-v0", discretize=5), {"steps": 100_000, "seed": 1})
    assert config.explore.hold > 1
    trained = train(with_changes(config, {"checkpoint_seconds": 1e9}), RunDir(tmp_path))
    assert trained.final.returns.mean() >= 90


def test_discounted_returns_by_hand() -> None:
    returns = discounted([1.0, 2.0, 4.0, 8.0], [False, True, False, False], 0.5)
    assert returns.tolist() == [2.0, 2.0, 8.0, 8.0]


def test_rewards_are_brought_to_order_one() -> None:
    spec = EnvSpec(ObsSpec((2,)), 3)
    assert [Probe(spec, spread).reward_scale for spread in (0.0, 0.131, 1.0, 168.6)] == [1.0, 8.0, 1.0, 0.006]
    assert probe(EnvConfig("tests.rl.own_envs:Nothing")) == Probe(EnvSpec(ObsSpec((1,)), 2), 0.0), "it never pays"
    pendulum = EnvConfig("Pendulum-v1", discretize=5)
    assert probe(pendulum) == probe(EnvConfig("Pendulum-v1", discretize=5))
    assert preset(pendulum.id, discretize=5).learner.reward_scale == probe(pendulum).reward_scale < 0.02
    assert preset("CartPole-v1").learner.reward_scale == 0.1, "what was tuned stays"


def test_an_environment_that_breaks_is_probed_as_far_as_it_goes() -> None:
    """Training meets the same, and says so."""
    assert probe(EnvConfig("tests.rl.own_envs:Fragile", None, ("how=raise",))).spread > 0


def test_a_slow_environment_does_not_keep_people_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nimbleq.rl.envs.probe._PATIENCE", 0.0)
    assert probe.__wrapped__(MINE) == Probe(probe(MINE).spec, 0.0), "one step has no spread"


def test_what_has_no_array_form_is_named() -> None:
    with pytest.raises(EnvError, match=r"observes Text in its entry 'mission', .*leave it out in a wrapper"):
        make_env(EnvConfig("tests.rl.own_envs:worded"))

"""Direct search of the last layer: it returns more, by a change of the last layer alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.config import EnvConfig, EvolveConfig, TrainConfig, validate, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrite import fold
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.evolve import Components, Heads, evolved
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array

ENV = EnvConfig("CartPole-v1", max_episode_steps=120)
SHORT = EvolveConfig(generations=6, population=8, episodes=6, features=4, sigma=1.0)


@pytest.fixture(scope="module")
def poor() -> tuple[Graph, Array]:
    """A network that was never trained, and observations."""
    from nimbleq.rl.learners.engines import checking_engine
    from nimbleq.rl.presets import preset

    config = with_changes(preset("CartPole-v1"), {"network.hidden": (16,), "env": ENV})
    with Evaluator(ENV) as evaluate:
        learner = checking_engine(config, evaluate.spec).make(config, evaluate.spec, 3)
        graph = network_graph(evaluate.spec, config.network, learner.weights())
    return graph, np.random.default_rng(0).normal(0, 0.2, (500, 4)).astype(np.float32)


def test_a_change_is_what_the_candidates_play(poor: tuple[Graph, Array]) -> None:
    graph, obs = fold(poor[0]), poor[1]
    parts = Components.of(graph, obs, 5)
    vector = np.random.default_rng(1).normal(0, 1, (2, parts.dimension(2)))
    assert vector.shape == (2, 5), "four features and a bias"
    weight, bias = parts.change(vector, 2)
    heads = Heads(graph, parts, weight.astype(np.float32), bias.astype(np.float32), 3)
    played = heads(obs, episode=np.arange(500) % 6)
    for who in range(2):
        rows = np.arange(500) % 6 // 3 == who
        changed = parts.changed(graph, vector[who])
        assert (played[rows] == GraphPolicy(changed)(obs[rows])).mean() > 0.99, "float32 rounds in another order"
    moved = interpret(changed, obs)[Q] - interpret(graph, obs)[Q]
    assert abs(moved[:, 1]).max() < 1e-5, "argmax does not see what all actions have in common"
    mask = np.array([[False, True]] * 500)
    assert heads(obs, mask, episode=np.zeros(500, int)).tolist() == [1] * 500


def test_a_change_moves_the_values_with_a_feature(poor: tuple[Graph, Array]) -> None:
    graph, obs = fold(poor[0]), poor[1]
    parts, before = Components.of(graph, obs, 4), interpret(graph, obs)[Q]
    for feature in range(4):
        changed = parts.changed(graph, np.eye(5)[feature])
        moved = (interpret(changed, obs)[Q] - before)[:, 0].astype(float)
        assert np.isclose(moved.std(), parts.unit, rtol=1e-3)
        assert np.corrcoef(moved, obs[:, feature])[0, 1] > 0.7
    assert Components.of(graph, obs, 3).dimension(2) == 4, "three principal components and a bias"


def test_it_returns_more(poor: tuple[Graph, Array]) -> None:
    with Evaluator(ENV) as evaluate:
        better = evolved(poor[0], evaluate, SHORT, 0)
        again = evolved(poor[0], evaluate, SHORT, 0)
        before, after = (evaluate(GraphPolicy(graph), range(40)).returns.mean() for graph in (poor[0], better))
    assert after > 1.5 * before
    same, made = fold(poor[0]), better
    changed = {name for name, array in made.weights.items() if not np.array_equal(array, same.weights[name])}
    assert len(changed) == 2
    assert all(np.array_equal(array, again.weights[name]) for name, array in made.weights.items()), "the seed decides"


def test_what_cannot_be_better_stays(poor: tuple[Graph, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    with Evaluator(EnvConfig("CartPole-v1", max_episode_steps=2)) as evaluate:
        assert evolved(poor[0], evaluate, EvolveConfig(generations=1, population=4, episodes=2), 0) is poor[0]


def test_training_ends_with_it(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, {"evolve": SHORT, "steps": 300, "evaluation.beside": False})
    trained = train(config, RunDir(tmp_path))
    plain = train(with_changes(config, {"evolve.generations": 0}), RunDir(tmp_path / "plain"))
    assert all(np.array_equal(array, plain.weights[name]) for name, array in trained.weights.items())
    assert trained.final.returns.mean() >= plain.final.returns.mean()
    assert not np.array_equal(
        interpret(trained.graph, np.ones((1, 4), np.float32))[Q], interpret(plain.graph, np.ones((1, 4), np.float32))[Q]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network.head": "qr"}, "evolve.generations must be 0 but with the head q"),
        ({"policy.network": "8"}, "evolve.generations must be 0 but with the head q"),
        ({"network.memory": 4}, "evolve.generations must be 0 but with the head q"),
        ({"evolve.population": 3}, "evolve.population must be at least 4"),
        ({"evolve.sigma": 0.0}, "evolve.sigma must be positive"),
    ],
)
def test_what_it_cannot_do(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(with_changes(TrainConfig(), {"evolve.generations": 3, **changes}))

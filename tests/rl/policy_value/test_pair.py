"""A policy network beside a value network: it learns, acts, is checked and saved; a stop changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrites.floats import with_float_weights
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.policy_value.graphs import graphs_of
from nimbleq.rl.policy_value.networks import policy_widths
from nimbleq.rl.policy_value.pair import Pair, training_engine
from nimbleq.rl.policy_value.rounding import codes_and_scale, rounded
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.best import best_graphs, load_best
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Batch
from tests.rl.saved import assert_same_run, records
from tests.rl.training.test_train import Stop
from tests.rows import rows

VARIANTS: dict[str, dict[str, Any]] = {
    "value collects": {"policy.collects": "value"},
    "policy collects": {"policy.collects": "policy", "learner.target": "none"},
    "int8": {"policy.format": "int8", "policy.collects": "policy"},
    "advantage": {"policy.loss": "advantage", "replay.prioritized": True},
    "torch": {"learner.engine": "torch", "network.head": "c51", "network.atoms": 5, "steps": 640},
    "linear": {"policy.network": "linear", "policy.layer_norm": True, "evaluation.network": "online"},
}


def paired(small: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    config: TrainConfig = with_changes(small, {"policy.network": "6-5", **changes})
    return config


def pair_of(config: TrainConfig) -> Pair:
    spec = spec_of(config.env)
    learner = training_engine(config, spec).make(config, spec, 3)
    assert isinstance(learner, Pair)
    return learner


def batch_for(size: int = 64) -> Batch:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, size, 4)).astype(np.float32)
    action = rng.integers(2, size=size)
    reward = np.where(action == (obs[0, :, 0] > 0), 1, 0).astype(np.float32)
    nothing = np.zeros(size, np.float32)
    return Batch(obs[0], action, reward, nothing, obs[1], nothing + 1, action)


@pytest.mark.parametrize("changes", rows(VARIANTS, {"policy collects", "linear"}))
def test_interrupted_and_resumed_equals_uninterrupted(
    small: TrainConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = paired(small, changes)
    check_settings(config)
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, Stop(config.steps // 8), resume=True)
    trained = train(config, parts, resume=True)
    assert_same_run(whole, parts)
    assert np.array_equal(expected.final.returns, trained.final.returns)
    logged = [line for line in records(whole) if "loss" in line]
    assert logged
    assert all(0 <= line["policy_agreement"] <= 1 and line["policy_regret"] >= 0 for line in logged)


def test_both_networks_are_saved_and_the_policy_is_the_small_one(small: TrainConfig, tmp_path: Path) -> None:
    config, run = paired(small, {}), RunDir(tmp_path / "run")
    trained = train(config, run)
    assert trained.value_graph is not None
    assert trained.graph.weights["body.0.weight"].shape == (6, 4)
    assert trained.value_graph.weights["body.0.weight"].shape == (16, 4)
    spec = spec_of(config.env)
    again = best_graphs(config, spec, run.best)
    obs = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    for made, loaded in zip((trained.graph, trained.value_graph), again, strict=True):
        assert loaded is not None
        assert np.array_equal(interpret(made, obs)[Q], interpret(loaded, obs)[Q])
    assert load_best(config, spec, run.best).config.hidden == (6, 5)


@pytest.mark.parametrize("loss", ["kl", "advantage"])
def test_the_policy_learns_what_the_value_network_knows(small: TrainConfig, loss: str) -> None:
    """A task of one step, whose better action is the sign of the first number."""
    sizes = {"policy.network": "16", "network.normalize_obs": False, "learner.target": "none"}
    steps = {"policy.lr": 1e-2, "learner.lr": 1e-2, "learner.lr_end": 1e-2}
    config = paired(small, {"policy.loss": loss, **sizes, **steps})
    learner, batch = pair_of(config), batch_for(512)
    better = batch.obs[:, 0] > 0

    def right() -> float:
        return float((learner.act(batch.obs) == better).mean())

    assert right() < 0.8
    for _ in range(200):
        learner.update(batch)
    found = learner.monitored(batch)
    assert right() > 0.9
    assert found["policy_agreement"] > 0.9
    assert found["policy_regret"] < 0.05


def test_who_collects_and_who_is_checked(small: TrainConfig) -> None:
    for who in ("policy", "value"):
        learner = pair_of(paired(small, {"policy.collects": who}))
        obs = batch_for(200).obs
        by_policy, by_value = learner.policy.act(obs), learner.value.act(obs)
        assert not np.array_equal(by_policy, by_value)
        assert np.array_equal(learner.act(obs), by_policy)
        assert np.array_equal(learner.act(obs, explore=True), by_policy if who == "policy" else by_value)


def test_int8_acts_as_it_is_saved(small: TrainConfig) -> None:
    config = paired(small, {"policy.format": "int8", "policy.collects": "policy"})
    learner, batch = pair_of(config), batch_for(500)
    for _ in range(20):
        learner.update(batch)
    graph = graphs_of(config, spec_of(config.env), learner.weights()).policy
    assert [array.dtype for array in graph.weights.values()].count(np.dtype(np.int8)) == 3
    assert interpret(with_float_weights(graph), batch.obs)[Q] == pytest.approx(interpret(graph, batch.obs)[Q], abs=1e-6)
    assert {array.dtype for array in with_float_weights(graph).weights.values()} == {np.dtype(np.float32)}
    same = GraphPolicy(graph)(batch.obs) == learner.act(batch.obs, explore=True)
    assert same.mean() > 0.99  # but for sums in another order
    weight = learner.policy.weights()["body.0.weight"]
    codes, scale = codes_and_scale(weight)
    assert np.abs(codes * scale[:, None] - weight).max() <= scale.max() * 1.02
    assert not np.array_equal(rounded({"w": weight})["w"], weight)
    assert codes_and_scale(np.zeros((2, 3), np.float32))[0].tolist() == [[0] * 3] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy.network": "6-x"}, "--policy-network must be widths"),
        ({"policy.network": "0"}, "--policy-network must be widths"),
        ({"policy.network": "", "policy.format": "int8"}, "--policy-format is of a policy network"),
        ({"policy.network": "", "policy.loss": "advantage"}, "--policy.loss is of a policy network"),
        ({"learner.engine": "device"}, "learner.engine must be auto or native or torch"),
        ({"network.noisy": True, "policy.collects": "policy"}, "no noise to explore with"),
        ({"policy.temperature": 0.0}, "policy.temperature must be positive"),
        (
            {"algorithm": "pqn", "policy.loss": "advantage", "envs": 16, "learner.batch_size": 64},
            "policy.loss must be kl",
        ),
    ],
)
def test_what_cannot_be_is_refused(small: TrainConfig, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_settings(paired(small, changes))
    assert policy_widths("linear") == ()

"""The table of heads: a head that is one row trains, acts, is exported and has its choice on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nimbleq import cli
from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Q
from nimbleq.graph.interpret import interpret
from nimbleq.rl.learners.engines import engine_for
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Errors, Head, Sample
from nimbleq.rl.nets.heads.headed import HeadedNetwork
from nimbleq.rl.nets.heads.table import HEADS
from nimbleq.rl.nets.heads.td_target import next_policy, reward_of
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir


def heads_loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Several values per action, each regressed on its own target (a bootstrapped ensemble without its masks)."""
    with torch.no_grad():
        next_z = target.outputs(target.features(sample.next_obs))  # [B, A, N]
        policy = next_policy(online, target, sample, config, next_z.mean(2))
        td_target = losses.bellman_values(reward_of(sample, config, target), sample.discount, next_z, policy)  # [B, N]
    td_error = losses.chosen(online.outputs(online.features(sample.obs)), sample.action) - td_target
    return Errors(td_error.square().mean(1), td_error.detach().mean(1).abs())


def mean_q(network: HeadedNetwork, features: Tensor) -> Tensor:
    weight, bias = network.joined()
    return F.linear(features, weight.mean(1), bias.mean(1))


def mean_graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    weight, bias = build.joined(actions, config.atoms, config.dueling)
    build.linear(features, Q, weight.mean(axis=1), bias.mean(axis=1))


def why_not(config: NetworkConfig) -> str | None:
    return "an ensemble has at least 3 network.atoms" if config.atoms < 3 else None


TOY = Head("ensemble", heads_loss, mean_q, mean_graph, lambda config: config.atoms, why_not=why_not)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "ensemble", TOY)  # type: ignore[arg-type]  # (one line of the table)


@pytest.mark.parametrize("engine", ["auto", "torch", "device"])
@pytest.mark.parametrize("dueling", [False, True])
def test_a_head_that_is_one_row_trains_and_is_exported(
    small: TrainConfig, tmp_path: Path, engine: str, dueling: bool
) -> None:
    changes = {"network.head": "ensemble", "network.atoms": 5, "network.dueling": dueling, "learner.engine": engine}
    trained = train(with_changes(small, {**changes, "steps": 400, "evaluation.beside": False}), RunDir(tmp_path))
    assert trained.learner == ("torch" if engine == "auto" else engine), "C has no such head"
    assert trained.weights["advantage.weight"].shape == (2 * 5, 16)
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    checker = engine_for(with_changes(small, {**changes, "learner.engine": "torch"}), trained.spec)
    learner = checker.make(with_changes(small, changes), trained.spec, 0)
    learner.set_weights(trained.weights)
    np.testing.assert_allclose(interpret(trained.graph, obs)[Q], learner.q(obs), rtol=1e-4, atol=1e-5)


def test_the_command_line_takes_it_and_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "{q,c51,hl-gauss,qr,iqn,branching,ensemble}" in capsys.readouterr().out
    assert cli.main(["train", "--network.head", "ensemble", "--network.atoms", "2", "--out", out]) == 2
    assert capsys.readouterr().err == "nimbleq: an ensemble has at least 3 network.atoms\n"
    assert cli.main(["train", "--network.head", "ensembel", "--out", out]) == 2
    assert "'ensembel'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network.head": "c51", "network.atoms": 1}, r"network\.atoms must be at least 2 with c51, not 1"),
        ({"network.head": "iqn", "network.atoms": 0}, r"network\.atoms must be at least 1, not 0"),
        (
            {"network.head": "ensemble", "algorithm": "pqn"},
            r"network\.head must be q or hl-gauss or branching, which is what pqn learns",
        ),
        (
            {"network.head": "none"},
            r"no network\.head 'none'; choose from q, c51, hl-gauss, qr, iqn, branching, ensemble",
        ),
    ],
)
def test_settings_that_a_head_cannot_have_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_settings(with_changes(TrainConfig(), changes))

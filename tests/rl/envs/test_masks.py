"""Action masks in all of the family: illegal actions are neither played nor valued, whatever the head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.heads.table import HEADS
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.pqn import lambda_returns, rollout_batches
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Batch, ObsSpec, Step

MIXED = EnvConfig("tests.rl.own_envs:Mixed")  # it refuses illegal actions itself
PLAIN = [name for name, head in HEADS.items() if not head.branches]  # the others: tests/rl/test_branches.py
PQN = {"algorithm": "pqn", "learner.target": "none", "pqn.rollout": 8, "pqn.epochs": 1}


def test_a_soft_policy_leaves_illegal_actions_out() -> None:
    q = torch.tensor([[1.0, 9.0, 2.0], [3.0, 1.0, 2.0]])
    mask = torch.tensor([[True, False, True], [False, False, True]])
    probability, gain = losses.soft(losses.legal(q, mask), tau=0.5)
    first, its_gain = losses.soft(torch.tensor([[1.0, 2.0]]), tau=0.5)
    assert probability[0].tolist() == pytest.approx([first[0, 0].item(), 0.0, first[0, 1].item()])
    assert gain[0].tolist() == pytest.approx([its_gain[0, 0].item(), 0.0, its_gain[0, 1].item()])
    assert (probability[1].tolist(), gain[1].tolist()) == ([0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    following = losses.bellman_values(torch.zeros(2), torch.ones(2), q[..., None], (probability, gain)).squeeze(1)
    assert following.tolist() == pytest.approx([0.5 * np.log(np.exp(2) + np.exp(4)), 2.0], abs=1e-5)


@pytest.mark.parametrize("munchausen", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("head", PLAIN)
def test_targets_do_not_depend_on_values_of_illegal_actions(head: str, double: bool, munchausen: bool) -> None:
    """With α = 0 Munchausen leaves the reward alone, so that only the next state's policy is looked at."""
    changes = {
        "network.hidden": (8,), "network.head": head, "network.atoms": 5, "network.normalize_obs": False,
        "learner.double": double, "learner.target": "hard", "learner.engine": "torch",
        "learner.munchausen": munchausen, "learner.munchausen_alpha": 0.0,
    }  # fmt: skip
    config = with_changes(TrainConfig(), changes)
    learner = TorchLearner(config, EnvSpec(ObsSpec((2,)), 3), 0)
    draw = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randn(2, 6, 2, generator=draw)
    mask = torch.tensor([[True, True, False]] * 6)
    sample = Sample(obs, torch.tensor([0, 1] * 3), torch.ones(6), torch.full((6,), 0.9), next_obs, mask)

    def loss(sample: Sample) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)  # the same fractions each time
        return HEADS[head].loss(learner.online, learner.target, sample, config.learner, generator).loss.detach()

    masked, unmasked = loss(sample), loss(sample._replace(next_mask=None))
    for network in (learner.online, learner.target):  # the illegal action becomes the best by far
        bias = network.advantage.bias.data.view(3, -1)
        bias[2] += 50 * torch.arange(1, bias.shape[1] + 1) / bias.shape[1]
    assert masked.isfinite().all()
    assert torch.allclose(loss(sample), masked, atol=1e-5)
    assert not torch.allclose(loss(sample._replace(next_mask=None)), unmasked), "the mask changes nothing"


def test_the_munchausen_bonus_is_over_the_legal_actions_of_s() -> None:
    """Q = (1, 9, 0), the second action is not legal, τ = 1: π = (e, 0, 1)/(e + 1), as if it were not there."""
    q, mask = torch.tensor([[1.0, 9.0, 0.0]] * 2), torch.tensor([[True, False, True]] * 2)
    bonus = losses.munchausen_bonus(losses.legal(q, mask), torch.tensor([0, 2]), tau=1.0, clip=-10.0)
    assert bonus.tolist() == pytest.approx([1 - np.log(np.e + 1), -np.log(np.e + 1)])


def test_a_munchausen_learner_regresses_on_the_masked_target() -> None:
    changes = {"network.hidden": (8,), "learner.munchausen": True, "learner.double": False}
    config = with_changes(TrainConfig(), changes)
    learner = TorchLearner(config, EnvSpec(ObsSpec((5,)), 3, masked=True), 0)
    rng, rows, tau, alpha = np.random.default_rng(0), np.arange(64), 0.03, 0.9
    obs, next_obs = rng.normal(size=(2, 64, 5)).astype(np.float32)
    mask, next_mask = rng.random((2, 64, 3)) < 0.5
    action = rng.integers(3, size=64)
    mask[rows, action], next_mask[rows, rng.integers(3, size=64)] = True, True
    reward, discount = rng.normal(size=64).astype(np.float32), np.full(64, 0.9, np.float32)
    batch = Batch(obs, action, reward, discount, next_obs, np.ones(64, np.float32), rows, next_mask, mask)
    q, next_q = (learner.q(part).astype(np.float64) for part in (obs, next_obs))

    def log_sum(values: Array, legal: Array) -> float:  # τ·log Σ exp(Q/τ), over the legal ones
        kept = values[legal] / tau
        return float(tau * (kept.max() + np.log(np.exp(kept - kept.max()).sum())))

    expected = np.empty(64)
    for i in rows:  # the soft value is τ·log Σ exp(Q/τ), and τ·log π(a) is Q(a) less that
        bonus = max(q[i, action[i]] - log_sum(q[i], mask[i]), -1.0)
        target = reward[i] + alpha * bonus + 0.9 * log_sum(next_q[i], next_mask[i])
        expected[i] = abs(q[i, action[i]] - target)
    assert learner.update(batch) == pytest.approx(expected, abs=1e-4)


def test_values_of_a_rollout_are_of_legal_actions() -> None:
    changes = {"envs": 4, "network.hidden": (8,), "learner.batch_size": 16, "pqn.rollout": 4, "pqn.epochs": 1}
    config = with_changes(TrainConfig(), changes)
    learner = make_learner(config, EnvSpec(ObsSpec((2,)), 3, masked=True), 0)
    rng, no = np.random.default_rng(0), np.zeros(4, bool)
    steps = []
    for _ in range(4):
        obs, next_obs = rng.normal(size=(2, 4, 2)).astype(np.float32)
        mask = np.arange(3) != learner.q(next_obs).argmax(1)[:, None]  # the best action is not legal
        steps.append(Step(obs, rng.integers(3, size=4), np.ones(4, np.float32), no, no, next_obs, mask))
    second = np.stack([np.sort(learner.q(step.next_obs))[:, 1] for step in steps])
    ends = np.zeros((4, 4), bool)
    expected = lambda_returns(
        np.ones((4, 4), np.float32), ends, ends, second, config.learner.gamma, config.pqn.trace_decay
    )
    (batch,) = rollout_batches(config, learner, steps, rng)
    assert batch.reward == pytest.approx(expected.reshape(-1)[batch.index], abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        *({"network.head": head} for head in PLAIN),
        {"network.head": PLAIN[0], "learner.munchausen": True},
        *(
            pytest.param({"network.head": head, "learner.munchausen": True}, marks=pytest.mark.long)
            for head in PLAIN[1:]
        ),
        {"network.head": "c51", "network.noisy": True, "network.dueling": True, "replay.prioritized": True},
        PQN,
        {**PQN, "learner.engine": "torch", "learner.optimizer": "radam"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_a_masked_environment_trains(changes: dict[str, Any], small: TrainConfig, tmp_path: Path) -> None:
    always = {
        "env": MIXED, "steps": 320, "learn_start": 100, "explore.end": 0.1, "network.atoms": 7,
        "evaluation.every": 20, "evaluation.episodes": 2, "evaluation.final_episodes": 3,
    }  # fmt: skip
    trained = train(with_changes(small, always | changes), RunDir(tmp_path))
    assert trained.spec.masked
    assert trained.updates >= 20
    assert all(np.isfinite(value).all() for value in trained.weights.values())
    assert np.isfinite(trained.final.returns).all()

"""Stream Q(λ) in C: each step is what the paper's formulas give, and learning resumes to the bit."""

import numpy as np
import pytest
import torch

from nimbleq.config import EnvConfig, ExploreConfig, NetworkConfig, StreamConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Q
from nimbleq.graph.interpret import interpret
from nimbleq.rl.learners.engines import engine_for, make_learner
from nimbleq.rl.learners.stream import StreamLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import ObsSpec, Step

CONFIG = TrainConfig(
    EnvConfig("CartPole-v1"), NetworkConfig(hidden=(8, 6)), algorithm="stream", envs=1, steps=400,
    explore=ExploreConfig(end=0.1, updates=200),
)  # fmt: skip
CONFIG = with_changes(CONFIG, {"learner.lr": 1.0, "evaluation.every": 200, "evaluation.final_episodes": 2})
SPEC = EnvSpec(ObsSpec((3,)), 4)


def _steps(count, masked=False):
    rng = np.random.default_rng(3)
    obs = rng.normal(2, 3, (count + 1, 3)).astype(np.float32)
    masks = rng.random((count + 1, 1, 4)) < 0.7
    masks[..., 0] = True
    for at in range(count):
        ends = rng.random(2) < 0.05
        legal = (masks[at + 1], masks[at]) if masked else (None, None)
        choices = np.flatnonzero(masks[at, 0]) if masked else np.arange(4)
        yield Step(
            obs[at : at + 1], rng.choice(choices, 1), rng.normal(1, 2, 1).astype(np.float32), ends[:1], ends[1:],
            obs[at + 1 : at + 2], *legal,
        )  # fmt: skip


class Paper:
    """[2410.14606], algorithms 1, 3, 4 and 5, in float64 with PyTorch's gradients."""

    def __init__(self, learner, layer_norm):
        self.layer_norm = layer_norm
        self.weights = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for name, value in learner.weights().items()
            if not name.startswith("prepare")
        }
        self.traces = [torch.zeros_like(weight) for weight in self.weights.values()]
        self.seen, self.trace, self.returns = [], 0.0, []

    def q(self, obs):
        seen = np.array(self.seen)
        std = np.where(seen.std(axis=0) > 0, seen.std(axis=0), np.inf)
        x = torch.tensor(((obs - seen.mean(axis=0)) / std).clip(-6, 6))
        names = list(self.weights)
        for weight, bias in zip(names[::2], names[1::2], strict=True):
            x = torch.nn.functional.linear(x, self.weights[weight], self.weights[bias])
            if not weight.startswith("advantage"):
                x = torch.relu(torch.nn.functional.layer_norm(x, x.shape) if self.layer_norm else x)
        return x

    def learn(self, step, gamma=0.99, decay=0.8, kappa=2.0):
        obs, next_obs = step.obs[0].astype(float), step.next_obs[0].astype(float)
        over = step.terminated[0] or step.truncated[0]
        self.seen.append(obs)
        self.trace = (0 if over else gamma * self.trace) + float(step.reward[0])
        self.returns.append(self.trace)
        scale = np.std(self.returns) if len(self.returns) > 1 else 1.0
        legal, next_legal = (np.ones(4, bool) if mask is None else mask[0] for mask in (step.mask, step.next_mask))
        with torch.no_grad():
            later = 0.0 if step.terminated[0] else float(self.q(next_obs)[torch.tensor(next_legal)].max())
        q = self.q(obs)
        best = int(np.where(legal, q.detach().numpy(), -np.inf).argmax())
        error = float(step.reward[0]) / scale + gamma * later - float(q[step.action[0]].detach())
        gradients = torch.autograd.grad(q[step.action[0]], list(self.weights.values()))
        self.traces = [gamma * decay * z + g for z, g in zip(self.traces, gradients, strict=True)]
        reach = kappa * max(abs(error), 1) * sum(float(z.abs().sum()) for z in self.traces)
        with torch.no_grad():
            for weight, z in zip(self.weights.values(), self.traces, strict=True):
                weight += (1 / reach if reach > 1 else 1.0) * error * z
        if over or best != step.action[0]:
            self.traces = [torch.zeros_like(z) for z in self.traces]
        return error


@pytest.mark.parametrize(("masked", "layer_norm"), [(False, True), (True, True), (False, False)])
def test_a_step_is_the_papers(masked, layer_norm):
    learner = make_learner(with_changes(CONFIG, {"network.layer_norm": layer_norm}), SPEC, 0)
    paper = Paper(learner, layer_norm)
    for step in _steps(120, masked):
        expected = paper.learn(step)
        assert learner.learn(step) == pytest.approx(expected, rel=2e-3, abs=2e-3)
    for name, weight in paper.weights.items():
        np.testing.assert_allclose(learner.weights()[name], weight.detach().numpy(), rtol=5e-3, atol=5e-4)


def test_its_graph_gives_its_values():
    learner = make_learner(CONFIG, SPEC, 1)
    for step in _steps(50):
        learner.learn(step)
    obs = np.random.default_rng(0).normal(2, 3, (20, 3)).astype(np.float32)
    np.testing.assert_allclose(interpret(learner.graph(), obs)[Q], learner.q(obs), rtol=1e-4, atol=1e-5)
    other = make_learner(CONFIG, SPEC, 2)
    other.set_weights(learner.weights())
    np.testing.assert_allclose(other.q(obs), learner.q(obs), rtol=1e-4, atol=1e-5)
    same = other.unpack(learner.pack(learner.weights()))
    assert all(np.array_equal(same[name], learner.weights()[name]) for name in same if "prepare" not in name)


def test_most_weights_start_at_zero():
    weights = StreamLearner(with_changes(CONFIG, {"stream.sparsity": 0.5}), SPEC, 0).weights()
    assert all(
        (weights[name] != 0).sum(axis=1).max() <= weights[name].shape[1] / 2
        for name in weights
        if name.startswith("body") and name.endswith("weight")
    )
    assert StreamConfig().sparsity == 0.9
    few = StreamLearner(CONFIG, SPEC, 0).weights()["body.0.weight"]
    assert (few != 0).sum(axis=1).tolist() == [1] * 8, "a layer of zeros would never learn"


def test_it_stops_and_resumes_to_the_bit(tmp_path):
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(CONFIG, whole)
    train(CONFIG, parts, seconds=0.01)
    assert 0 < train(CONFIG, parts, resume=True).steps == 400
    mine, theirs = (load_state(CONFIG, run.checkpoint).learner.arrays() for run in (whole, parts))
    assert all(np.array_equal(theirs[name], value) for name, value in mine.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network.head": "c51"}, "network.head must be q with stream"),
        ({"learner.engine": "torch"}, "torch does not learn stream: use stream"),
        ({"algorithm": "dqn", "learner.engine": "stream"}, "stream does not learn dqn"),
    ],
)
def test_what_it_cannot_do_is_said(changes, words):
    with pytest.raises(ConfigError, match=words):
        engine_for(with_changes(CONFIG, changes), None)

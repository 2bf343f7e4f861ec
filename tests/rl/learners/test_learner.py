"""The PyTorch learner: state in, state out; ramps, targets, statistics."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.learners.learner import learning_rate
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.nets.network import QNetwork, greedy_policy
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec

SPEC = EnvSpec(ObsSpec((5,)), 3)
CONFIG = TrainConfig(
    network=NetworkConfig(hidden=(8, 8), dueling=True),
    learner=LearnerConfig(batch_size=16, target="polyak", tau=0.25, lr=1e-2, lr_end=1e-3, lr_updates=10),
)


def batch(seed: int, size: int = 16) -> Batch:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(2, size, 5)).astype(np.float32)
    reward, ones = rng.normal(size=size).astype(np.float32), np.ones(size, np.float32)
    return Batch(normal[0], rng.integers(3, size=size), reward, 0.9 * ones, normal[1], ones, np.arange(size))


def test_saved_and_loaded_it_goes_on_bit_for_bit() -> None:
    learner = make_learner(CONFIG, SPEC, seed=1)
    for seed in range(5):
        learner.update(batch(seed))
    other = make_learner(CONFIG, SPEC, seed=2)
    other.load_arrays(learner.arrays())
    for seed in range(5, 10):
        assert np.array_equal(learner.update(batch(seed)), other.update(batch(seed)))
    mine, its = learner.arrays(), other.arrays()
    assert mine.keys() == its.keys()
    assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, same, other = (make_learner(CONFIG, SPEC, seed).weights() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["body.0.weight"], other["body.0.weight"])


def test_returned_td_errors_are_those_before_the_step() -> None:
    learner = make_learner(replace(CONFIG, learner=replace(CONFIG.learner, target="none", reward_scale=2.0)), SPEC, 0)
    sample = batch(0)
    target = 2 * sample.reward + sample.discount * learner.q(sample.next_obs).max(axis=1)
    expected = np.abs(learner.q(sample.obs)[np.arange(16), sample.action] - target)
    assert learner.update(sample) == pytest.approx(expected, abs=1e-5)


def test_polyak_target_moves_by_tau_and_hard_target_by_copies() -> None:
    learner = TorchLearner(CONFIG, SPEC, 0)
    old = learner.arrays()["target.body.0.weight"]
    learner.update(batch(0))
    new = learner.arrays()
    assert new["target.body.0.weight"] == pytest.approx(0.75 * old + 0.25 * new["online.body.0.weight"], abs=1e-6)
    hard = TorchLearner(replace(CONFIG, learner=replace(CONFIG.learner, target="hard", target_every=2)), SPEC, 0)
    start = hard.arrays()["target.body.0.weight"]
    hard.update(batch(0))
    assert np.array_equal(hard.arrays()["target.body.0.weight"], start)
    hard.update(batch(1))
    assert np.array_equal(hard.arrays()["target.body.0.weight"], hard.arrays()["online.body.0.weight"])


def test_the_gradient_is_clipped_globally() -> None:
    """With Adam's ε huge, the first step is lr·g/ε: its norm shows the clip."""
    config = replace(CONFIG, learner=LearnerConfig(max_grad_norm=0.5, adam_eps=1e6, lr=1e6, lr_end=1e6))
    learner = make_learner(config, SPEC, 0)
    before = learner.weights()
    learner.update(batch(0)._replace(reward=np.full(16, 100, np.float32)))
    after = learner.weights()
    moved = np.sqrt(sum(np.square(after[name] - before[name]).sum() for name in before))
    assert moved == pytest.approx(0.5, rel=1e-3)


def test_the_learning_rate_is_a_ramp() -> None:
    assert [learning_rate(CONFIG.learner, done) for done in (0, 5, 10, 99)] == pytest.approx([1e-2, 5.5e-3, 1e-3, 1e-3])


def test_observation_statistics_normalise_and_clip() -> None:
    learner = make_learner(CONFIG, SPEC, 0)
    obs = np.full((1, 5), 3.0, np.float32)
    plain = learner.q((obs - 1) / 2)
    learner.set_obs_stats(np.ones(5, np.float32), np.full(5, 2.0, np.float32))
    assert learner.q(obs) == pytest.approx(plain, abs=1e-6)
    assert np.array_equal(learner.q(np.full((1, 5), 1e4, np.float32)), learner.q(np.full((1, 5), 1e6, np.float32)))


def test_greedy_policy_is_the_learners() -> None:
    learner = TorchLearner(CONFIG, SPEC, 0)
    network = QNetwork(SPEC, CONFIG.network)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in learner.weights().items()})
    obs = batch(0, 100).obs
    assert np.array_equal(greedy_policy(network)(obs), learner.act(obs))

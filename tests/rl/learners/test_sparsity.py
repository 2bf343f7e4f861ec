"""Sparse training: as many zeros as asked, that stay or move by the rule, through checkpoints, and that learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig, validate
from nimbleq.errors import ConfigError
from nimbleq.rl.learners import sparsity
from nimbleq.rl.learners.engines import engine_for, make_learner
from nimbleq.rl.learners.sparse_masks import densities
from nimbleq.rl.learners.sparsity import Sparsity
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec

SPEC = EnvSpec(ObsSpec((5,)), 3)
NETWORK = NetworkConfig(hidden=(32, 32), sparsity=0.8)
CONFIG = TrainConfig(network=NETWORK, learner=LearnerConfig(batch_size=16, target="polyak", tau=0.25, lr=1e-2))
DYNAMIC = replace(CONFIG, network=replace(NETWORK, sparsity_mode="dynamic"))


def batch(seed: int, size: int = 16) -> Batch:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(2, size, 5)).astype(np.float32)
    reward, ones = rng.normal(size=size).astype(np.float32), np.ones(size, np.float32)
    return Batch(normal[0], rng.integers(3, size=size), reward, 0.9 * ones, normal[1], ones, np.arange(size))


def zeros(learner):
    return {name: array == 0 for name, array in learner.weights().items() if array.ndim >= 2}


def test_densities_follow_the_rule_and_add_up():
    shapes = {"a": (32, 5), "b": (32, 32), "c": (3, 32)}
    found = densities(shapes, 0.8)
    kept = sum(found[name] * np.prod(shape) for name, shape in shapes.items())
    assert kept == pytest.approx(0.2 * sum(np.prod(shape) for shape in shapes.values()))
    assert found["b"] < found["a"] < found["c"] <= 1
    assert found["a"] / found["b"] == pytest.approx((37 / 160) / (64 / 1024))
    assert densities(shapes, 0.1)["c"] == 1.0


@pytest.mark.parametrize("clip", [0.0, 10.0])
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_static_zeros_stay_where_they_are(engine, clip):
    learner = make_learner(replace(CONFIG, learner=replace(CONFIG.learner, engine=engine, max_grad_norm=clip)), SPEC, 0)
    before = zeros(learner)
    share = sum(int(z.sum()) for z in before.values()) / sum(z.size for z in before.values())
    assert share == pytest.approx(0.8, abs=0.01)
    for seed in range(30):
        learner.update(batch(seed))
    for name, where in before.items():
        for network in ("online", "target"):
            assert ((learner.arrays()[f"{network}.{name}"] == 0) == where).all()
        assert ((learner.arrays()[f"mask.{name}"] == 0) == where).all()


def test_dynamic_zeros_move_to_where_the_gradient_is(monkeypatch):
    monkeypatch.setattr(sparsity, "EVERY", 10)
    learner = make_learner(DYNAMIC, SPEC, 0)
    before = zeros(learner)
    for seed in range(10):
        learner.update(batch(seed))
    assert all((zeros(learner)[name] == before[name]).all() for name in before)
    masks = {name: mask.clone() for name, mask in learner.sparsity.masks.items()}
    learner.update(batch(10))
    for name, mask in learner.sparsity.masks.items():
        assert mask.sum() == masks[name].sum(), "a layer keeps as many weights"
        assert (learner.sparsity.parameters[name][~mask] == 0).all()
    moved = sum(int((mask & ~masks[name]).sum()) for name, mask in learner.sparsity.masks.items())
    assert moved > 0


def test_the_smallest_go_and_the_largest_gradients_come():
    layer = torch.nn.Linear(4, 2, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    layer.weight.sum().backward()
    optimizer.step()
    made = Sparsity(layer, replace(NETWORK, sparsity=0.5, sparsity_mode="dynamic"), 0)
    made.masks["weight"] = torch.tensor([[True, True, True, True], [False, False, False, False]])
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -0.1, 3.0, 2.0], [0, 0, 0, 0]]))
    layer.weight.grad = torch.tensor([[9.0, 9, 9, 9], [1, -5, 2, 3]])
    made._move("weight", layer.weight, 0.25, optimizer)
    assert made.masks["weight"].tolist() == [[True, False, True, True], [False, True, False, False]]
    assert layer.weight.tolist() == [[4, 0, 3, 2], [0, 0, 0, 0]]
    assert optimizer.state[layer.weight]["exp_avg"][1, 1] == optimizer.state[layer.weight]["exp_avg"][0, 1] == 0


@pytest.mark.parametrize("config", [CONFIG, DYNAMIC], ids=["static", "dynamic"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(config, monkeypatch):
    monkeypatch.setattr(sparsity, "EVERY", 4)
    learner = make_learner(config, SPEC, seed=1)
    for seed in range(5):
        learner.update(batch(seed))
    other = make_learner(config, SPEC, seed=2)
    other.load_arrays(learner.arrays())
    for seed in range(5, 12):
        assert np.array_equal(learner.update(batch(seed)), other.update(batch(seed)))
    mine, its = learner.arrays(), other.arrays()
    assert mine.keys() == its.keys()
    assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_engines_that_cannot_say_so():
    assert engine_for(DYNAMIC, SPEC).name == "torch"
    for config, engine in ((DYNAMIC, "native"), (CONFIG, "device")):
        with pytest.raises(ConfigError, match=r"sparse weights[^\n]*torch"):
            engine_for(replace(config, learner=replace(config.learner, engine=engine)), SPEC)


@pytest.mark.parametrize("change", [{"sparsity": 1.0}, {"sparsity": -0.1}, {"noisy": True}])
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(ConfigError, match="network"):
        validate(replace(CONFIG, network=replace(NETWORK, **change)))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_sparse_network_learns_a_regression(mode, monkeypatch):
    """Q-values without bootstrapping are a regression: a fifth of the weights fits it as its own minimum allows."""
    monkeypatch.setattr(sparsity, "EVERY", 50)
    config = replace(CONFIG, network=replace(NETWORK, sparsity_mode=mode))
    learner = make_learner(config, SPEC, 0)
    sample = batch(0, 64)
    target = sample.obs[:, 0] - np.abs(sample.obs[:, 1])
    sample = sample._replace(reward=target.astype(np.float32), discount=np.zeros(64, np.float32))
    first = learner.update(sample).mean()
    for _ in range(400):
        last = learner.update(sample).mean()
    assert last < 0.2 * first

"""Sparse training: as many zeros as asked, that stay or move by the rule, through checkpoints, and that learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig, validate, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.learners import sparse_masks
from nimbleq.rl.learners.engines import engine_for, make_learner
from nimbleq.rl.learners.sparse_masks import (
    EVERY,
    MOVED,
    NEVER,
    PREFIX,
    UNTIL,
    densities,
    moved,
    next_move,
    share_moved,
)
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


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_dynamic_zeros_move_to_where_the_gradient_is(engine, monkeypatch):
    monkeypatch.setattr(sparse_masks, "EVERY", 10)
    learner = make_learner(with_changes(DYNAMIC, {"learner.engine": engine}), SPEC, 0)
    before = learner.arrays()
    names = [name for name in before if name.startswith(PREFIX)]
    for update in range(10):
        learner.update(batch(update))
    assert all((learner.arrays()[name] == before[name]).all() for name in names)
    learner.update(batch(10))
    after, moved = learner.arrays(), 0
    for name in names:
        mask = after[name] != 0
        assert mask.sum() == before[name].sum(), "a layer keeps as many weights"
        for group in ("online", "adam_m", "adam_v"):
            assert not after[f"{group}.{name.removeprefix(PREFIX)}"][~mask].any(), group
        moved += int((mask & (before[name] == 0)).sum())
    assert moved > 0


def test_the_smallest_go_and_the_largest_gradients_come():
    kept = np.array([[True, True, True, True], [False, False, False, False]])
    weight = np.array([[4.0, -0.1, 3.0, 2.0], [0, 0, 0, 0]], np.float32)
    drop, grow = moved(kept, weight, np.array([[9.0, 9, 9, 9], [1, -5, 2, 3]], np.float32), 0.25)
    assert np.argwhere(drop).tolist() == [[0, 1]]
    assert np.argwhere(grow).tolist() == [[1, 1]]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 0.3))
def test_as_many_come_as_go(seed, density, share):
    """Many weights and gradients are equal: then the first ones move."""
    rng = np.random.default_rng(seed)
    kept = rng.random((5, 7)) < density
    weight, gradient = kept * rng.integers(-2, 3, (5, 7)), rng.integers(-2, 3, (5, 7))
    drop, grow = moved(kept, weight, gradient, share)
    assert drop.sum() == grow.sum() == min(int(share * kept.sum()), (~kept).sum())
    assert not (drop & ~kept).any()
    assert not (grow & kept).any()
    for chosen, among, order in ((drop, kept, np.abs(weight)), (grow, ~kept, -np.abs(gradient))):
        last, rest = order[chosen], order[among & ~chosen]
        assert not chosen.any() or not rest.size or last.max() <= rest.min()
        equal = np.flatnonzero(among & (order == last.max())) if chosen.any() else []
        assert (np.diff(chosen.ravel()[equal].astype(int)) <= 0).all()


def test_the_schedule():
    moves = [updates for updates in range(0, UNTIL + 2 * EVERY, EVERY // 2) if share_moved(updates) > 0]
    assert moves == list(range(EVERY, UNTIL, EVERY))
    assert share_moved(EVERY) > share_moved(UNTIL // 2) == pytest.approx(MOVED / 2)
    assert [next_move(updates) for updates in (0, EVERY, EVERY + 1, UNTIL + 1)] == [EVERY, EVERY, 2 * EVERY, NEVER]


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("config", [CONFIG, DYNAMIC], ids=["static", "dynamic"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(config, engine, monkeypatch):
    config = with_changes(config, {"learner.engine": engine})
    monkeypatch.setattr(sparse_masks, "EVERY", 4)
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
    assert engine_for(DYNAMIC, SPEC).name == "native"
    with pytest.raises(ConfigError, match=r"sparse weights[^\n]*torch"):
        engine_for(with_changes(CONFIG, {"learner.engine": "device"}), SPEC)


@pytest.mark.parametrize("change", [{"sparsity": 1.0}, {"sparsity": -0.1}, {"noisy": True}])
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(ConfigError, match="network"):
        validate(replace(CONFIG, network=replace(NETWORK, **change)))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_sparse_network_learns_a_regression(mode, monkeypatch):
    """Q-values without bootstrapping are a regression: a fifth of the weights fits it as its own minimum allows."""
    monkeypatch.setattr(sparse_masks, "EVERY", 50)
    config = replace(CONFIG, network=replace(NETWORK, sparsity_mode=mode))
    learner = make_learner(config, SPEC, 0)
    sample = batch(0, 64)
    target = sample.obs[:, 0] - np.abs(sample.obs[:, 1])
    sample = sample._replace(reward=target.astype(np.float32), discount=np.zeros(64, np.float32))
    first = learner.update(sample).mean()
    for _ in range(400):
        last = learner.update(sample).mean()
    assert last < 0.2 * first

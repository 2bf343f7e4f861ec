"""Schedules, ε-greedy choice, observation statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import ExploreConfig
from nimbleq.rl import explore
from nimbleq.rl.explore import epsilon_at, epsilon_greedy
from nimbleq.rl.stats import ObsStats


def test_epsilon_is_a_ramp() -> None:
    config = ExploreConfig(start=1.0, end=0.1, updates=100)
    assert [epsilon_at(config, done) for done in (0, 50, 100, 1_000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert epsilon_at(ExploreConfig(updates=0, end=0.2), 0) == pytest.approx(0.2)


def test_a_share_of_epsilon_is_random() -> None:
    rng = np.random.default_rng(0)
    greedy = np.full(40_000, 2)
    assert (epsilon_greedy(rng, greedy, 4, 0.0) == 2).all()
    action = epsilon_greedy(rng, greedy, 4, 0.4)
    assert np.bincount(action) / 40_000 == pytest.approx([0.1, 0.1, 0.7, 0.1], abs=0.01)


def test_c_explores_as_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = np.arange(500) % 7
    for epsilon in (1e-9, 0.05, 0.7, 1.0):
        mine = epsilon_greedy(np.random.default_rng(3), greedy, 7, epsilon)
        with monkeypatch.context() as patch:
            patch.setattr(explore, "_NATIVE", None)
            assert np.array_equal(mine, epsilon_greedy(np.random.default_rng(3), greedy, 7, epsilon))
    assert np.array_equal(greedy, np.arange(500) % 7), "the caller's actions are left alone"


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_running_statistics_equal_those_of_everything(sizes: list[int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.normal(5, [1, 10], size=(size, 2)).astype(np.float32) for size in sizes]
    stats = ObsStats(2)
    for part in parts:
        stats.add(part)
    every = np.concatenate(parts).astype(np.float64)
    mean, std = stats.mean_std()
    assert mean == pytest.approx(every.mean(axis=0), rel=1e-5)
    assert std == pytest.approx(np.maximum(every.std(axis=0), 1e-4), rel=1e-5)

"""Schedules, ε-greedy choice, observation statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import ExploreConfig
from nimbleq.rl import explore
from nimbleq.rl.explore import Explorer, epsilon_at, epsilon_greedy
from nimbleq.rl.nets.network import ObsNorm
from nimbleq.rl.training.stats import ObsStats


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


def explorer(hold: int, envs: int = 4, actions: int = 3) -> Explorer:
    return Explorer(ExploreConfig(hold=hold), np.random.default_rng(7), envs, actions)


def test_without_a_hold_it_is_epsilon_greedy() -> None:
    greedy, mine, other = np.array([0, 1, 2, 0]), explorer(1), np.random.default_rng(7)
    for _ in range(20):
        assert np.array_equal(mine.choose(greedy, 0.5), epsilon_greedy(other, greedy, 3, 0.5))


def test_random_actions_last_as_long_as_published() -> None:
    """n steps with a probability in proportion to n^-2: runs whose next random action begins at once."""
    mine = explorer(hold=4, envs=20_000)
    begun, lengths = np.zeros(20_000, np.int64), []
    for step in range(12):
        ends = mine.arrays()["left"] == 0
        if step > 0:
            lengths.extend((step - begun)[ends])
        begun[ends] = step
        mine.choose(np.full(20_000, -1), 1.0)
    first = np.bincount(lengths, minlength=5)[1:]
    # Long runs are as likely to begin as any, but of twelve steps fewer end: compare with what renewal predicts.
    chances = np.array([1, 1 / 4, 1 / 9, 1 / 16])
    chances /= chances.sum()
    renewal = [1.0]
    for step in range(1, 12):
        renewal.append(sum(chances[n - 1] * renewal[step - n] for n in range(1, min(4, step) + 1)))
    expected = [20_000 * chances[n - 1] * sum(renewal[: 12 - n]) for n in range(1, 5)]
    assert first == pytest.approx(expected, rel=0.05)


def test_a_held_action_stays_and_the_others_are_greedy() -> None:
    mine = explorer(hold=50, envs=1)
    mine.load_arrays({"held": np.array([2]), "left": np.array([3])})
    played = [int(mine.choose(np.array([0]), 0.0)[0]) for _ in range(5)]
    assert played == [2, 2, 2, 0, 0]


def test_an_illegal_action_is_not_held() -> None:
    mine = explorer(hold=50, envs=1)
    mine.load_arrays({"held": np.array([2]), "left": np.array([3])})
    assert mine.choose(np.array([0]), 0.0, np.array([[True, True, False]])) == [0]
    assert mine.choose(np.array([0]), 0.0, np.array([[True, True, True]])) == [0], "and it does not come back"
    rng = np.random.default_rng(0)
    for _ in range(500):
        mask = rng.random((1, 3)) < 0.5
        mask[0, 0] = True
        assert mask[0, mine.choose(np.array([0]), 0.7, mask)[0]]


def test_held_actions_are_resumed() -> None:
    greedy, mine = np.zeros(4, np.int64), explorer(hold=9)
    for _ in range(10):
        mine.choose(greedy, 0.5)
    again = explorer(hold=9)
    again.load_arrays(mine.arrays())
    again.rng.bit_generator.state = mine.rng.bit_generator.state
    for _ in range(10):
        assert np.array_equal(mine.choose(greedy, 0.5), again.choose(greedy, 0.5))


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
    assert std == pytest.approx(every.std(axis=0) if len(every) > 1 else [np.inf, np.inf], rel=1e-4)


def test_a_feature_that_never_varied_moves_no_value_later() -> None:
    rng = np.random.default_rng(0)
    seen = np.stack([rng.uniform(-1, 1, 5000), np.full(5000, 0.1), np.full(5000, 1e6)], axis=1).astype(np.float32)
    stats = ObsStats(3)
    for part in np.split(seen, 50):
        stats.add(part)
    norm = ObsNorm(3, clip=6.0)
    mean, std = stats.mean_std()
    norm.mean.copy_(torch.from_numpy(mean))
    norm.inverse_std.copy_(torch.from_numpy(1 / std))
    later = seen[:100] + np.float32([0, 1.0, 1.0])
    assert torch.allclose(norm(torch.from_numpy(later)), norm(torch.from_numpy(seen[:100])), atol=1e-3)
    assert norm(torch.from_numpy(seen))[:, 0].std() == pytest.approx(1, abs=0.01)

"""Replay against a naive oracle, and prioritised sampling against its formulas."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimbleq.config import ReplayConfig
from nimbleq.rl.replay import ring as replay_module
from nimbleq.rl.replay.priority import Priorities, SumTree, make_tree, replay_extension
from nimbleq.rl.replay.ring import NStepWindows, Replay
from nimbleq.types import ObsSpec, Step
from tests.rl.saved import through_disk

GAMMA = 0.9
OBS = ObsSpec((1,))
Life = tuple[bool, bool]  # terminated, truncated


def steps_of(lives: list[list[Life]], rewards: np.ndarray) -> list[Step]:
    """``lives[t][n]`` says how step t of environment n ends; observations number the steps so that each is unique."""
    envs = len(lives[0])
    made = []
    for time, ends in enumerate(lives):
        obs = np.array([[1_000 * env + time] for env in range(envs)], np.float32)
        terminated, truncated = np.array(ends).T
        made.append(Step(obs, np.arange(envs) + time, rewards[time], terminated, truncated, obs + 0.5))
    return made


def oracle(steps: list[Step], n: int) -> set[tuple[float, int, float, float, float]]:
    """Every n-step transition, written down as slowly and plainly as possible."""
    found = set()
    for env in range(len(steps[0].action)):
        for start in range(len(steps)):
            total = 0.0
            for k, step in enumerate(steps[start:], start=1):
                total += GAMMA ** (k - 1) * step.reward[env]
                over = step.terminated[env] or step.truncated[env]
                if k == n or over:
                    discount = 0.0 if step.terminated[env] else GAMMA**k
                    first = steps[start]
                    key = float(first.obs[env, 0]), int(first.action[env])
                    found.add((*key, round(total, 3), round(discount, 3), float(step.next_obs[env, 0])))
                    break
    return found


@settings(max_examples=80, deadline=None)
@given(data=st.data(), n=st.integers(1, 5), envs=st.integers(1, 3), length=st.integers(1, 25))
def test_n_step_transitions_equal_the_oracles(data: st.DataObject, n: int, envs: int, length: int) -> None:
    life = st.sampled_from([(False, False)] * 4 + [(True, False), (False, True), (True, True)])
    lives = data.draw(st.lists(st.lists(life, min_size=envs, max_size=envs), min_size=length, max_size=length))
    rewards = np.random.default_rng(length).normal(size=(length, envs)).astype(np.float32)
    steps = steps_of(lives, rewards)
    windows = NStepWindows(n, GAMMA, envs, OBS)
    closed = [transitions for step in steps for transitions in windows.push(step)]
    rows = [row for transitions in closed for row in zip(*transitions, strict=True)]
    mine = {(float(o[0]), int(a), round(float(r), 3), round(float(d), 3), float(x[0])) for o, a, r, d, x, *_ in rows}
    assert len(mine) == len(rows), "a transition was emitted twice"
    expected = oracle(steps, n)
    assert {row[:2] + row[4:] for row in mine} == {row[:2] + row[4:] for row in expected}
    assert np.array(sorted(mine)) == pytest.approx(np.array(sorted(expected)), abs=2e-3)


def test_a_truncated_window_bootstraps_from_the_true_last_observation() -> None:
    alive, cut = [(False, False)], [(False, True)]
    steps = steps_of([alive, cut, alive], np.ones((3, 1), np.float32))
    windows = NStepWindows(3, GAMMA, 1, OBS)
    closed = [t for step in steps for t in windows.push(step)]
    assert [t.next_obs[0, 0] for t in closed] == [1.5, 1.5]
    assert [t.discount[0] for t in closed] == pytest.approx([GAMMA**2, GAMMA])
    assert [t.reward[0] for t in closed] == pytest.approx([1 + GAMMA, 1.0])


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 5), envs=st.integers(1, 4), capacity=st.integers(20, 60), masks=st.sampled_from([0, 3]))
def test_c_remembers_and_gathers_what_python_does(
    monkeypatch: pytest.MonkeyPatch, n: int, envs: int, capacity: int, masks: int
) -> None:
    rng = np.random.default_rng([n, envs, capacity])
    native, plain = (Replay(ReplayConfig(capacity, n), GAMMA, envs, OBS, masks) for _ in range(2))
    for time in range(50):
        obs, next_obs = rng.normal(size=(2, envs, 2)).astype(np.float32)[:, :, ::2]  # with strides
        legal, next_legal = rng.random((2, envs, 3)) < 0.5
        step = Step(
            obs,
            rng.integers(3, size=envs),
            rng.normal(size=envs).astype(np.float32),
            rng.random(envs) < 0.1,
            rng.random(envs) < 0.1,
            next_obs,
            *((next_legal, legal) if masks else (None, None)),
        )
        native.add(step)
        with monkeypatch.context() as patch:
            patch.setattr(replay_module, "_NATIVE", None)
            plain.add(step)
        assert native.added == plain.added
        assert np.array_equal(native.windows.open, plain.windows.open)
        if time > 10:
            index = np.arange(len(native))
            assert np.array_equal(
                native.sample(np.random.default_rng(0), 9).obs, plain.sample(np.random.default_rng(0), 9).obs
            )
            for mine, its in zip(native.store, plain.store, strict=True):
                assert np.allclose(mine[index], its[index], rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
def test_c_refuses_fields_that_do_not_fit() -> None:
    replay = filled(False)
    step = steps_of([[(False, False)] * 3], np.ones((1, 3), np.float32))[0]
    with pytest.raises(ValueError, match="disagree"):
        replay.add(step._replace(action=step.action.astype(np.int32)))
    with pytest.raises(ValueError, match="disagree"):
        replay.add(step._replace(reward=step.reward[:2]))
    extension = replay_extension()
    assert extension is not None
    for index in (-1, 50):
        with pytest.raises(IndexError, match="no such transition"):
            extension.gather(replay.store, np.array([index]))


def filled(prioritized: bool, steps: int = 30, capacity: int = 50) -> Replay:
    replay = Replay(ReplayConfig(capacity=capacity, n_step=2, prioritized=prioritized), GAMMA, 3, OBS)
    for step in steps_of([[(False, False)] * 3] * steps, np.ones((steps, 3), np.float32)):
        replay.add(step)
    return replay


def test_the_ring_forgets_the_oldest() -> None:
    replay = filled(prioritized=False)
    assert len(replay) == 50
    times = replay.store.obs[:, 0] % 1_000
    assert times.min() == 28 - 16  # 87 transitions were made, three per step; the last 50 are kept


@pytest.mark.parametrize("prioritized", [False, True])
def test_saved_and_loaded_it_goes_on_bit_for_bit(prioritized: bool, tmp_path: Path) -> None:
    replay, other = filled(prioritized), filled(prioritized, steps=4)
    if prioritized:
        replay.reprioritize(np.arange(10), np.linspace(0, 5, 10, dtype=np.float32))
    through_disk(replay, other, tmp_path)
    for step in steps_of([[(False, True)] * 3] * 5, np.ones((5, 3), np.float32)):
        replay.add(step)
        other.add(step)
    mine, its = (each.sample(np.random.default_rng(1), 64, beta=0.5) for each in (replay, other))
    assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))


def test_uniform_sampling_is_uniform() -> None:
    batch = filled(prioritized=False).sample(np.random.default_rng(0), 50_000)
    assert np.bincount(batch.index, minlength=50) / 50_000 == pytest.approx(np.full(50, 0.02), abs=0.003)
    assert (batch.weight == 1).all()


@settings(deadline=None)
@given(st.integers(1, 70), st.lists(st.tuples(st.integers(0, 69), st.floats(0, 100)), min_size=1, max_size=40))
def test_the_sum_tree_equals_a_cumulative_sum(capacity: int, writes: list[tuple[int, float]]) -> None:
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for index, value in writes:
        tree.set(np.array([index % capacity]), value)
        plain[index % capacity] = value
    assert tree.total == pytest.approx(plain.sum())
    if plain.sum() > 1e-6:
        mass = np.linspace(0, 0.999, 17) * tree.total
        found = tree.find(mass)
        assert (plain[found] > 0).all()
        below = np.concatenate([[0], np.cumsum(plain)])[found]
        assert (below <= mass + 1e-6).all()
        assert (mass <= below + plain[found] + 1e-6).all()


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(1, 700), seed=st.integers(0, 999))
def test_the_native_tree_gives_the_bits_of_the_numpy_one(capacity: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain, native = SumTree(capacity), make_tree(capacity)
    for _ in range(4):
        index = rng.integers(capacity, size=9)
        value = rng.random(9) ** 20 * (rng.random(9) < 0.8)
        for tree in (plain, native):
            tree.set(index, value)
        assert plain.total == native.total
        assert np.array_equal(plain.get(index), native.get(index))
        mass = np.append(rng.random(9), [0.0, 1.0]) * plain.total
        assert np.array_equal(plain.find(mass), native.find(mass))
    other = make_tree(capacity)
    other.load(plain.leaves())
    assert other.total == plain.total
    with pytest.raises(IndexError):
        native.get(np.array([capacity]))


def test_repeated_writes_in_one_call_keep_the_sums_right() -> None:
    tree = SumTree(8)
    tree.set(np.array([3, 3, 5]), np.array([1.0, 2.0, 4.0]))
    assert tree.total == 6.0
    assert tree.get(np.array([3, 5])).tolist() == [2.0, 4.0]


def test_priorities_follow_the_paper() -> None:
    priorities = Priorities(4, alpha=0.5)
    priorities.add(np.arange(4))
    priorities.update(np.arange(4), np.array([1, 4, 9, 16], np.float32))
    drawn = priorities.sample(np.random.default_rng(0), 100_000)
    expected = np.array([1, 2, 3, 4]) / 10
    assert np.bincount(drawn) / 100_000 == pytest.approx(expected, abs=1e-3)
    weights = priorities.weights(np.arange(4), beta=1.0)
    assert weights == pytest.approx((1 / expected) / (1 / expected).max(), rel=1e-4)
    assert priorities.weights(np.arange(4), beta=0.0).tolist() == [1, 1, 1, 1]
    priorities.add(np.array([0]))
    assert priorities.tree.get(np.array([0]))[0] == pytest.approx(4.0, rel=1e-5)

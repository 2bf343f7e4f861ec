"""Replay behind a vector of environments against whole episodes played one by one, in plain Python."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.config import EnvConfig, ReplayConfig
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.masks import nth_legal
from nimbleq.rl.replay.packing import Packing
from nimbleq.rl.replay.ring import Replay
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array
from tests.rl.own_envs import Mixed

GAMMA = 0.9
SPACE = spaces.Dict({name: part for name, part in Mixed.observation_space.spaces.items() if name != "action_mask"})


class Transition(NamedTuple):
    """As `nimbleq.rl.replay.ring.Transitions`, of one; and when its window closed and began, and where."""

    place: tuple[int, int, int]
    obs: list[float]
    action: int
    reward: float
    discount: float
    next_obs: list[float]
    next_mask: list[bool]
    mask: list[bool]


def flat(obs: dict[str, Any]) -> list[float]:
    """Without the mask, as Gymnasium flattens it."""
    return [float(x) for x in spaces.flatten(SPACE, {name: obs[name] for name in SPACE.spaces})]


def oracle(actions: Array, n: int, seed: int) -> list[Transition]:
    """Every n-step transition of ``actions: int64[T, N]`` in the order in which a replay meets them.

    Episodes are numbered in the order in which they start, and seeded by that number.
    """
    times, count = actions.shape
    envs = [Mixed() for _ in range(count)]
    started = count
    seeds = [int(episode_seeds("train", seed, 1, start=index)[0]) for index in range(count)]
    now = [env.reset(seed=seeds[index])[0] for index, env in enumerate(envs)]
    episodes: list[list[tuple[Any, ...]]] = [[] for _ in range(count)]
    found = []
    for time in range(times):
        for index, env in enumerate(envs):
            before, action = now[index], int(actions[time, index])
            now[index], reward, terminated, truncated, _ = env.step(action)
            episodes[index].append((time, before, action, reward, terminated, truncated, now[index]))
            if terminated or truncated:
                found += cut(episodes[index], n, index)
                episodes[index] = []
                now[index] = env.reset(seed=int(episode_seeds("train", seed, 1, start=started)[0]))[0]
                started += 1
    for index in range(count):
        found += cut(episodes[index], n, index)
    return sorted(found)


def cut(episode: list[tuple[Any, ...]], n: int, index: int) -> list[Transition]:
    """The windows of one episode that are closed: n steps long, or shorter at its end."""
    found = []
    for first in range(len(episode)):
        steps = episode[first : first + n]
        end, _, _, _, terminated, truncated, after = steps[-1]
        if len(steps) < n and not terminated and not truncated:
            continue
        began, before, action, *_ = steps[0]
        total = sum(GAMMA**k * step[3] for k, step in enumerate(steps))
        discount = 0.0 if terminated else GAMMA ** len(steps)
        masks = [[bool(x) for x in obs["action_mask"]] for obs in (after, before)]
        found.append(Transition((end, began, index), flat(before), action, total, discount, flat(after), *masks))
    return found


def played(replay: Replay, envs: int, times: int, seed: int) -> Array:
    """Random legal actions; what was played, ``int64[T, N]``."""
    vector = VectorEnv(EnvConfig("tests.rl.own_envs:Mixed"), envs, seed)
    rng, actions = np.random.default_rng(seed), []
    for _ in range(times):
        assert vector.mask is not None
        actions.append(nth_legal(vector.mask, rng.integers(1 << 31, size=envs)))
        replay.add(vector.step(actions[-1]))
    vector.close()
    return np.stack(actions)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), envs=st.integers(1, 4), times=st.integers(1, 60), seed=st.integers(0, 999), data=st.data())
def test_the_ring_holds_the_oracles_last_transitions(
    n: int, envs: int, times: int, seed: int, data: st.DataObject
) -> None:
    capacity = data.draw(st.integers(n * envs, n * envs + 90))
    obs = VectorEnv(EnvConfig("tests.rl.own_envs:Mixed"), 1, 0).spec.obs
    replay = Replay(ReplayConfig(capacity, n), GAMMA, envs, obs, masks=4)
    expected = oracle(played(replay, envs, times, seed), n, seed)
    assert len(replay) == min(len(expected), capacity)
    slots = {number % capacity: transition for number, transition in enumerate(expected)}  # later ones replace
    for slot, transition in slots.items():
        for (name, kept), wanted in zip(replay.store._asdict().items(), transition[1:], strict=True):
            row = Packing(obs).unpack(kept[slot][None])[0] if name.endswith("obs") else kept[slot]
            assert row.tolist() == pytest.approx(wanted, abs=1e-5), (name, slot)
    if len(replay) > 0:
        batch = replay.sample(np.random.default_rng(seed), 32)
        for row, slot in enumerate(batch.index.tolist()):
            drawn = (batch.obs, batch.action, batch.reward, batch.discount, batch.next_obs, batch.next_mask, batch.mask)
            for values, wanted in zip(drawn, slots[slot][1:], strict=True):
                assert values is not None
                assert values[row].tolist() == pytest.approx(wanted, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(alpha=st.sampled_from([0.2, 0.6, 1.0]), beta=st.floats(0, 1), envs=st.integers(1, 3), seed=st.integers(0, 999))
def test_priorities_follow_a_dictionary_of_them(alpha: float, beta: float, envs: int, seed: int) -> None:
    """Transitions come and go, |TD errors| come back late; P(i) = p_i/Σp and the weights (N·P)^−β by the book."""
    capacity, n = 40, 2
    obs = VectorEnv(EnvConfig("tests.rl.own_envs:Mixed"), 1, 0).spec.obs
    replay = Replay(ReplayConfig(capacity, n, prioritized=True, alpha=alpha), GAMMA, envs, obs, masks=4)
    vector = VectorEnv(EnvConfig("tests.rl.own_envs:Mixed"), envs, seed)
    rng, highest, added = np.random.default_rng(seed), 1.0, 0
    priority: dict[int, float] = {}
    for _ in range(40):
        assert vector.mask is not None
        replay.add(vector.step(nth_legal(vector.mask, rng.integers(1 << 31, size=envs))))
        for number in range(added, replay.added):
            priority[number % capacity] = highest
        added = replay.added
        if not priority:
            continue
        assert replay.priorities is not None
        share = np.array([priority[slot] for slot in range(len(replay))]) / sum(priority.values())
        tree = replay.priorities.tree
        assert tree.get(np.arange(len(replay))) / tree.total == pytest.approx(share, rel=1e-5)
        batch = replay.sample(rng, 8, beta)
        weight = (len(replay) * share[batch.index]) ** -beta
        assert batch.weight == pytest.approx(weight / weight.max(), rel=1e-4)
        wanted = np.searchsorted(np.cumsum(share), np.arange(9) / 8 * (1 - 1e-9))  # stratified: one from each eighth
        assert (batch.index >= wanted[:-1]).all()
        assert (batch.index <= wanted[1:]).all()
        abs_td = rng.exponential(size=8).astype(np.float32)
        replay.reprioritize(batch.index, abs_td)
        for slot, size in zip(batch.index.tolist(), abs_td.tolist(), strict=True):
            priority[slot] = (size + 1e-6) ** alpha
            highest = max(highest, priority[slot])
    vector.close()

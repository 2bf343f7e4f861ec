"""Replay on the device against the host's, and against every transition written down plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.config import ReplayConfig
from nimbleq.rl.learners.device.replay import DeviceReplay
from nimbleq.rl.replay.priority import Priorities
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, ObsSpec, Step
from tests.rl.replay.test_replay import oracle, steps_of
from tests.rl.saved import through_disk

GAMMA = 0.9
CPU = torch.device("cpu")
IMAGE = ObsSpec((3, 4, 5), "uint8")
LIFE = [(False, False)] * 4 + [(True, False), (False, True), (True, True)]


def lives(seed: int, envs: int, length: int, ends: float = 0.4) -> list[list[tuple[bool, bool]]]:
    """How each step ends, with probability ``ends`` by termination, truncation or both."""
    rng = np.random.default_rng(seed)
    return [[LIFE[-rng.integers(1, 4)] if rng.random() < ends else LIFE[0] for _ in range(envs)] for _ in range(length)]


def film(seed: int, envs: int, length: int, stacked: bool, ends: float = 0.4) -> list[Step]:
    """Steps of environments that show images: stacks of the last frames, or all planes new each time (colours)."""
    rng = np.random.default_rng(seed)
    channels = IMAGE.shape[0]

    def frame() -> Array:
        return rng.integers(0, 256, IMAGE.shape[1:]).astype(np.uint8)

    def first() -> Array:
        return np.stack([np.zeros_like(frame())] * (channels - 1) + [frame()]) if stacked else following(None)

    def following(obs: Array | None) -> Array:
        return np.stack([*obs[1:], frame()] if stacked and obs is not None else [frame() for _ in range(channels)])

    steps, obs = [], np.stack([first() for _ in range(envs)])
    for each in lives(seed, envs, length, ends):
        terminated, truncated = np.array(each).T
        next_obs = np.stack([following(each) for each in obs])
        reward = rng.normal(size=envs).astype(np.float32)
        steps.append(Step(obs, rng.integers(4, size=envs), reward, terminated, truncated, next_obs))
        over = terminated | truncated
        obs = np.stack([first() if end else new for end, new in zip(over, next_obs, strict=True)])
    return steps


def both(config: ReplayConfig, obs: ObsSpec, steps: list[Step], masks: int = 0) -> tuple[Replay, DeviceReplay]:
    envs = len(steps[0].action)
    host, device = Replay(config, GAMMA, envs, obs, masks), DeviceReplay(config, GAMMA, envs, obs, masks, CPU)
    for step in steps:
        host.add(step)
        device.add(step)
    device.settle()
    return host, device


def assert_same_content(host: Replay, device: DeviceReplay) -> None:
    """The same transitions in the same slots, images put together again."""
    assert len(host) == len(device) == int(device.size)
    index = np.arange(len(host))
    obs, action, reward, discount, next_obs, *masks = (kept[index] for kept in host.store)
    if host.frames is not None:
        obs, next_obs = host.frames.images(obs, next_obs)
    draw = device.gather(torch.from_numpy(index))
    for mine, its in zip((obs, action, reward, discount, next_obs), draw, strict=False):
        assert np.array_equal(mine, its.numpy())
    for mine, its in zip([mask for mask in masks if mask.shape[1]], draw.masks, strict=True):
        assert np.array_equal(mine, its.numpy())


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1_000),
    envs=st.integers(1, 3),
    length=st.integers(1, 40),
    n=st.integers(1, 4),
    capacity=st.sampled_from([12, 13, 40, 200]),
    stacked=st.booleans(),
)
def test_images_lie_where_the_host_has_them(
    seed: int, envs: int, length: int, n: int, capacity: int, stacked: bool
) -> None:
    config = ReplayConfig(capacity=capacity, n_step=n)
    host, device = both(config, IMAGE, film(seed, envs, length, stacked))
    assert_same_content(host, device)


def test_every_plane_is_stored_once_and_colours_get_more_room() -> None:
    config = ReplayConfig(capacity=100, n_step=3)
    host, device = both(config, IMAGE, film(0, 2, 200, stacked=True, ends=0.02))
    assert device.frames is not None
    assert device.moves == 0
    planes = np.concatenate(host.frames.images(*(host.store[i][:100] for i in (0, 4))))  # type: ignore[union-attr]
    distinct = len(np.unique(planes.reshape(-1, 20), axis=0))
    assert distinct <= len(device.frames.pixels) <= 150 < planes.size // 20
    host, colours = both(config, IMAGE, film(0, 2, 200, stacked=False))
    assert colours.moves > 0
    assert_same_content(host, colours)


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(1, 5), envs=st.integers(1, 3), length=st.integers(1, 25))
def test_n_step_transitions_equal_the_oracles(data: st.DataObject, n: int, envs: int, length: int) -> None:
    """Cut at termination, which ends the value, and at truncation, which bootstraps from the true last observation."""
    ends = data.draw(st.lists(st.lists(st.sampled_from(LIFE), min_size=envs, max_size=envs), min_size=length))
    rewards = np.random.default_rng(length).normal(size=(len(ends), envs)).astype(np.float32)
    steps = steps_of(ends, rewards)
    _, device = both(ReplayConfig(capacity=1_000, n_step=n), ObsSpec((1,)), steps)
    obs, action, reward, discount, next_obs, *_ = device.gather(torch.arange(len(device)))
    columns = (obs[:, 0], action, reward, discount, next_obs[:, 0])
    mine = sorted(zip(*(column.tolist() for column in columns), strict=True))
    expected = sorted(oracle(steps, n))
    assert len(mine) == len(expected)
    assert np.array(mine).reshape(-1, 5) == pytest.approx(np.array(expected).reshape(-1, 5), abs=2e-3)


def test_masks_come_along() -> None:
    steps = steps_of([[(False, False)] * 2] * 9, np.ones((9, 2), np.float32))
    rng = np.random.default_rng(0)
    masked = [step._replace(next_mask=rng.random((2, 4)) < 0.5, mask=rng.random((2, 4)) < 0.5) for step in steps]
    host, device = both(ReplayConfig(capacity=10, n_step=2), ObsSpec((1,)), masked, masks=4)
    assert_same_content(host, device)
    assert [mask.shape for mask in device.gather(torch.arange(3)).masks] == [(3, 4), (3, 4)]


def test_a_step_is_drawn_only_once_it_is_settled() -> None:
    steps = steps_of([[(False, False)]] * 4, np.ones((4, 1), np.float32))
    device = DeviceReplay(ReplayConfig(capacity=10, n_step=1), GAMMA, 1, ObsSpec((1,)), 0, CPU)
    for count, step in enumerate(steps):
        device.add(step)
        assert int(device.size) == count
        device.settle()
        device.settle()
        assert int(device.size) == count + 1


def test_uniform_draws_are_uniform_over_what_is_there() -> None:
    steps = steps_of([[(False, False)] * 3] * 30, np.ones((30, 3), np.float32))
    _, device = both(ReplayConfig(capacity=1_000, n_step=2), ObsSpec((1,)), steps)
    draw = device.draw(50_000, torch.Generator().manual_seed(0))
    share = np.bincount(draw.index.numpy(), minlength=87) / 50_000
    assert share == pytest.approx(np.full(87, 1 / 87), abs=0.003)
    assert (draw.weight == 1).all()


def test_priorities_follow_the_formulas_of_the_hosts() -> None:
    steps = steps_of([[(False, False)] * 3] * 12, np.ones((12, 3), np.float32))
    config = ReplayConfig(capacity=64, n_step=1, prioritized=True, alpha=0.7, beta_start=0.2, beta_end=1.0)
    _, device = both(config, ObsSpec((1,)), steps)
    host = Priorities(64, 0.7)
    host.add(np.arange(36))
    index, td = np.arange(0, 36, 3), np.linspace(0, 4, 12, dtype=np.float32)
    host.update(index, td)
    device.reprioritize(torch.from_numpy(index), torch.from_numpy(td))
    more = steps_of([[(False, False)] * 3] * 2, np.ones((2, 3), np.float32))
    for step in more:
        device.add(step)
    device.settle()
    host.add(np.arange(36, 42))
    assert device.priorities is not None
    assert device.priorities.values.numpy() == pytest.approx(host.tree.leaves(), rel=1e-6)
    device.beta.fill_(0.6)
    draw = device.draw(40_000, torch.Generator().manual_seed(0))
    share = np.bincount(draw.index.numpy(), minlength=64) / 40_000
    assert share == pytest.approx(host.tree.leaves() / host.tree.total, abs=1e-4)  # stratified: exact but for the ends
    assert draw.weight.numpy() == pytest.approx(host.weights(draw.index.numpy(), 0.6), rel=1e-4)


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_saved_and_loaded_it_goes_on_bit_for_bit(images: bool, prioritized: bool, tmp_path: Path) -> None:
    config = ReplayConfig(capacity=31, n_step=3, prioritized=prioritized)
    steps = film(1, 2, 60, stacked=True) if images else steps_of(lives(1, 2, 60), np.ones((60, 2), np.float32))
    obs = IMAGE if images else ObsSpec((1,))
    replay, other = (DeviceReplay(config, GAMMA, 2, obs, 0, CPU) for _ in range(2))
    for step in steps[:40]:
        replay.add(step)
    replay.settle()
    if prioritized:
        replay.reprioritize(torch.arange(10), torch.linspace(0, 5, 10))
    replay.add(steps[40])  # not settled
    arrays = replay.arrays()
    through_disk(replay.settled(), other.host, tmp_path)
    other.mirror(arrays)
    for step in steps[41:]:
        for each in (replay, other):
            each.add(step)
            each.settle()
    mine, its = (each.draw(64, torch.Generator().manual_seed(1)) for each in (replay, other))
    assert all(torch.equal(a, b) for a, b in zip(mine[:7], its[:7], strict=True))
    assert_same_content(replay.host, other)

"""Shared frames against a replay that stores both images of every transition."""

import tempfile
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.config import ReplayConfig
from nimbleq.rl.replay import frame_store as planes
from nimbleq.rl.replay import priority
from nimbleq.rl.replay import shared_frames as frames
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import NStepWindows, Replay
from nimbleq.rl.replay.shared_frames import share, shares_frames
from nimbleq.types import Array, ObsSpec, Step

GAMMA = 0.9
SIZE = (5, 6)


class Pictures:
    """Environments whose observations are stacks of ``channels`` frames; ``colour`` stacks are new altogether."""

    def __init__(self, envs: int, channels: int, seed: int, colour: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.stacks = [deque([self.frame()] * channels, channels) for _ in range(envs)]
        self.colour, self.reused = colour, np.zeros((envs, channels, *SIZE), np.uint8)

    def frame(self) -> Array:
        if self.rng.random() < 0.2:
            return np.zeros(SIZE, np.uint8)  # the same frame may come back
        return self.rng.integers(0, 256, SIZE, np.uint8) * (self.rng.random(SIZE) < 0.2).astype(np.uint8)

    def obs(self) -> Array:
        return np.stack([np.stack(list(stack)) for stack in self.stacks])

    def step(self, ends: list[tuple[bool, bool]]) -> Step:
        obs = self.obs()
        for stack in self.stacks:
            for _ in range(len(stack) if self.colour else 1):
                stack.append(self.frame())
        self.reused[:] = self.obs()  # as an environment may that hands out the same memory each time
        terminated, truncated = np.array(ends).T
        for stack, over in zip(self.stacks, terminated | truncated, strict=True):
            if over:
                stack.extend([self.frame()] * len(stack))
        reward = self.rng.normal(size=len(ends)).astype(np.float32)
        return Step(obs, self.rng.integers(0, 4, len(ends)), reward, terminated, truncated, self.reused)


class NaiveReplay:
    """Both images of every transition, in a ring."""

    def __init__(self, capacity: int, n: int, envs: int, obs: ObsSpec) -> None:
        self.windows = NStepWindows(n, GAMMA, envs, obs)
        self.slots: dict[int, tuple[Array, ...]] = {}
        self.capacity, self.made = capacity, 0

    def add(self, step: Step) -> None:
        for transitions in self.windows.push(step._replace(next_obs=step.next_obs.copy())):
            for row in zip(*transitions, strict=True):
                self.slots[self.made % self.capacity] = tuple(np.array(value) for value in row)
                self.made += 1

    def rows(self, index: Array) -> list[Array]:
        return [np.stack(column) for column in zip(*(self.slots[slot] for slot in index.tolist()), strict=True)]


def without_extension(patch: pytest.MonkeyPatch) -> None:
    for module in (frames, planes, priority):
        patch.setattr(module, "replay_extension", lambda: None)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 4), envs=st.integers(1, 3), channels=st.integers(1, 4))
def test_it_gives_back_what_a_naive_replay_stores(data: st.DataObject, n: int, envs: int, channels: int) -> None:
    life = st.sampled_from([(False, False)] * 5 + [(True, False), (False, True), (True, True)])
    lives = data.draw(st.lists(st.lists(life, min_size=envs, max_size=envs), min_size=n, max_size=25))
    obs = ObsSpec((channels, *SIZE), "uint8")
    capacity = data.draw(st.integers(envs * n, 40))  # often less than is made: the ring wraps around
    config = ReplayConfig(
        capacity=capacity, n_step=n, prioritized=data.draw(st.booleans()), compress=data.draw(st.booleans())
    )
    pictures = Pictures(envs, channels, data.draw(st.integers(0, 99)), colour=data.draw(st.booleans()))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            without_extension(patch)
        replay, naive = Replay(config, GAMMA, envs, obs), NaiveReplay(capacity, n, envs, obs)
        resume_at = data.draw(st.integers(0, len(lives)))
        for time, ends in enumerate(lives):
            if time == resume_at:
                saved, replay = replay, Replay(config, GAMMA, envs, obs)
                with tempfile.TemporaryDirectory() as folder:
                    load_replay(replay, saved.arrays(), ReplayLog(Path(folder)).append(saved), Path(folder))
            step = pictures.step(ends)
            replay.add(step)
            naive.add(step)
            assert len(replay) == min(naive.made, capacity)
            if len(replay):
                batch = replay.sample(np.random.default_rng(time), 16)
                assert batch.obs.dtype == np.uint8
                assert all(np.array_equal(a, b) for a, b in zip(batch[:5], naive.rows(batch.index)[:5], strict=True))


@pytest.mark.parametrize("native", [False, True])
def test_each_frame_is_stored_once_and_forgotten_with_its_last_transition(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        without_extension(monkeypatch)
    envs, capacity, n, obs = 2, 30, 3, ObsSpec((4, *SIZE), "uint8")
    replay = Replay(ReplayConfig(capacity=capacity, n_step=n, compress=False), GAMMA, envs, obs)
    naive, pictures = NaiveReplay(capacity, n, envs, obs), Pictures(envs, 4, 0, colour=False)
    monkeypatch.setattr(pictures, "frame", lambda: pictures.rng.integers(0, 256, SIZE, np.uint8))
    for time in range(60):
        step = pictures.step([(time % 23 == 22, False), (False, time % 14 == 13)])
        replay.add(step)
        naive.add(step)
        images = [image for row in naive.slots.values() for image in (row[0], row[4])]
        for age in range(n):
            images += list(naive.windows.obs[(naive.windows.time - 1 - age) % n, naive.windows.open > age])
        images += list(step.next_obs)
        needed = {plane.tobytes() for image in images for plane in image}
        assert (replay.arrays()["frames.references"] > 0).sum() == len(needed), time


def test_any_image_is_shared_and_nothing_else() -> None:
    assert shares_frames(ObsSpec((1, 36, 36), "uint8"))
    assert not shares_frames(ObsSpec((4,), "float32"))
    assert not shares_frames(ObsSpec((3, 36, 36), "float32"))
    assert not shares_frames(ObsSpec((128,), "uint8"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), envs=st.integers(1, 3), channels=st.integers(1, 4))
def test_equal_planes_are_found(seed: int, envs: int, channels: int) -> None:
    new, old = np.random.default_rng(seed).integers(0, 2, (2, envs, channels, 2), np.uint8)
    source = share(new, old)
    for n, k in np.ndindex(envs, channels):
        earlier = [*old[n].tolist(), *new[n, :k].tolist()]
        expected = earlier.index(new[n, k].tolist()) if new[n, k].tolist() in earlier else -1
        assert source[n, k] == expected
    extension = priority.replay_extension()
    assert extension is None or np.array_equal(extension.share(new, old), source)

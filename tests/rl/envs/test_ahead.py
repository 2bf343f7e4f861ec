"""Episodes that are started ahead are the ones that would have been started when they were asked for."""

import threading

import numpy as np
import pytest

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.ahead import StartedAhead
from nimbleq.rl.envs.engines import make_env_batch
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.types import Array


class Starts:
    """Counts environments, and says which thread started which seed."""

    def __init__(self) -> None:
        self.made, self.threads, self.lock = 0, dict[int, str](), threading.Lock()

    def __call__(self, environment: int | None, seed: int) -> tuple[int, Array]:
        with self.lock:
            if environment is None:
                environment, self.made = self.made, self.made + 1
            self.threads[seed] = threading.current_thread().name
        return environment, np.array([seed])


def test_each_seed_is_started_once_wherever_it_is_asked_for() -> None:
    starts = Starts()
    ahead = StartedAhead(starts, 2)
    ahead.expect(range(10))
    environment: int | None = None
    used = []
    for seed in (0, 1, 3, 2, 4, 99, 5):  # out of order, and one that nobody expected
        environment, obs = ahead.take(seed, environment)
        assert obs[0] == seed
        used.append(environment)
    main = threading.current_thread().name
    assert starts.threads[99] == main
    assert starts.threads[0] != main
    assert starts.made <= 3
    assert set(used) <= set(range(starts.made))
    ahead.close()


def test_what_is_no_longer_expected_makes_room() -> None:
    starts = Starts()
    ahead = StartedAhead(starts, 2)
    ahead.expect([0, 1, 2])
    ahead.expect([7, 8])
    for seed in (7, 8):
        ahead.take(seed, None)
    main = threading.current_thread().name
    assert starts.threads[7] != main
    assert starts.threads[8] != main
    ahead.close()


def test_a_start_that_fails_says_so() -> None:
    def start(_: int | None, seed: int) -> tuple[int, Array]:
        raise ValueError(f"no episode {seed}")

    ahead = StartedAhead(start, 1)
    ahead.expect([4])
    with pytest.raises(ValueError, match="no episode 4"):
        ahead.take(4, None)
    ahead.close()


def test_atari_plays_the_same_whether_an_episode_is_started_ahead_or_not() -> None:
    pytest.importorskip("ale_py")
    config = EnvConfig("ALE/Pong-v5", max_episode_steps=12)
    envs, alone = VectorEnv(config, 3, seed=5), make_env_batch(config, 1)
    seeds, rng = envs._episode_seeds.tolist(), np.random.default_rng(0)
    actions = rng.integers(envs.spec.actions, size=(30, 3))
    seen = [envs.obs.copy()]
    seeds_of_first = [seeds[1]]
    for action in actions:
        envs.step(action)
        seen.append(envs.obs.copy())
        if envs._episode_seeds[1] != seeds_of_first[-1]:
            seeds_of_first.append(int(envs._episode_seeds[1]))
    assert len(seeds_of_first) == 3
    for episode, seed in enumerate(seeds_of_first):  # environment 1 again, by itself
        obs = alone.reset(0, seed)
        for time in range(12 * episode, min(12 * episode + 12, 30)):
            assert np.array_equal(seen[time][1], obs)
            obs = alone.step(np.array([0]), actions[time, 1:2])[0][0]
    envs.close()
    alone.close()

"""Evaluation: seeds decide, the numbers of environments and workers don't."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest

from nimbleq.compress.states import ConstantPolicy
from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.training import evaluate as evaluate_module
from nimbleq.rl.training.evaluate import Evaluator, check_return, interval95
from nimbleq.types import Array, Episodes

SEEDS = list(range(100, 121))


def lean(obs: Array) -> Array:
    """Push the cart towards where the pole leans."""
    return (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)


def right(obs: Array) -> Array:
    return np.ones(len(obs), np.int64)


def same(a: Episodes, b: Episodes) -> bool:
    obs = (a.obs is None and b.obs is None) or np.array_equal(np.asarray(a.obs), np.asarray(b.obs))
    return obs and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("seeds", "returns", "lengths"))


def test_it_plays_what_a_plain_loop_plays() -> None:
    env = make_env(EnvConfig("CartPole-v1"))
    with Evaluator(EnvConfig("CartPole-v1"), envs=4) as evaluate:
        episodes = evaluate(right, SEEDS)
    for seed, total, length in zip(SEEDS, episodes.returns, episodes.lengths, strict=True):
        env.reset(seed=seed)
        expected = 0.0
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(1)
            expected, over = expected + float(reward), terminated or truncated
        assert total == length == expected


def test_low_fidelity_has_the_same_episodes() -> None:
    """Where an environment has none it is the environment itself; else nearly, in this process and in others."""
    with Evaluator(EnvConfig("CartPole-v1")) as evaluate:
        assert same(evaluate(lean, SEEDS), evaluate.low_fidelity(lean, SEEDS))
    falls = ConstantPolicy()
    with Evaluator(EnvConfig("LunarLander-v3"), envs=2) as evaluate:
        exact, low = evaluate(falls, SEEDS[:3]), evaluate.low_fidelity(falls, SEEDS[:3])
        assert same(exact, evaluate(falls, SEEDS[:3])), "one does not disturb the other"
    assert np.allclose(exact.returns[:2], low.returns[:2], rtol=0.01), "the third ends on its legs, or nearly"
    assert not np.array_equal(exact.returns, low.returns)
    with Evaluator(EnvConfig("LunarLander-v3"), workers=2, envs=2) as evaluate:
        assert same(low, evaluate.low_fidelity(falls, SEEDS[:3]))


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1"])
def test_lanes_do_not_matter(name: str) -> None:
    played = []
    for envs in (1, 5, 64):
        with Evaluator(EnvConfig(name, max_episode_steps=70), envs=envs) as evaluate:
            played.append(evaluate(lean, SEEDS[:9], epsilon=0.3, keep_obs=50))
            assert same(played[-1], evaluate(lean, SEEDS[:9], epsilon=0.3, keep_obs=50)), "a second call differs"
    assert same(played[0], played[1])
    assert same(played[0], played[2])


def test_workers_do_not_matter() -> None:
    config = EnvConfig("CartPole-v1", max_episode_steps=60)
    with Evaluator(config) as one, Evaluator(config, workers=2) as two:
        assert same(one(lean, SEEDS, epsilon=0.1, keep_obs=40), two(lean, SEEDS, epsilon=0.1, keep_obs=40))
        assert same(one(right, SEEDS[:1]), two(right, SEEDS[:1]))


def test_kept_observations_are_a_sample_of_the_visited_ones() -> None:
    visited: list[Array] = []

    def watched(obs: Array) -> Array:
        visited.append(obs.copy())
        return lean(obs)

    with Evaluator(EnvConfig("CartPole-v1", max_episode_steps=200)) as evaluate:
        episodes = evaluate(watched, SEEDS, keep_obs=30)
        every = evaluate(lean, SEEDS, keep_obs=10**6)
        assert evaluate(lean, SEEDS).obs is None
    assert episodes.obs is not None
    assert every.obs is not None
    assert episodes.obs.shape == (30, 4)
    assert len(every.obs) == episodes.lengths.sum()
    rows = {row.tobytes() for row in np.concatenate(visited)}
    assert len({row.tobytes() for row in episodes.obs}) == 30
    assert all(row.tobytes() in rows for row in episodes.obs)


def test_the_sample_is_uniform_over_time() -> None:
    """Positions of CartPole pushed right grow with time: their mean rank in the sample has to be that of everything."""
    with Evaluator(EnvConfig("CartPole-v1", max_episode_steps=8)) as evaluate:
        seeds = list(range(3_000))
        kept, every = evaluate(right, seeds, keep_obs=4_000), evaluate(right, seeds, keep_obs=10**6)
    assert kept.obs is not None
    assert every.obs is not None
    error = every.obs[:, 0].std() / 4_000**0.5
    assert abs(kept.obs[:, 0].mean() - every.obs[:, 0].mean()) < 4 * error


def test_epsilon_one_ignores_the_policy() -> None:
    with Evaluator(EnvConfig("CartPole-v1")) as evaluate:
        assert same(evaluate(right, SEEDS, epsilon=1.0), evaluate(lean, SEEDS, epsilon=1.0))
        assert not same(evaluate(right, SEEDS, epsilon=1.0), evaluate(right, SEEDS))


def test_nothing_is_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Evaluator(EnvConfig("LunarLander-v3", max_episode_steps=5)) as evaluate:
            assert len(evaluate(lambda obs: np.zeros(len(obs), np.int64), [1, 2]).returns) == 2


def test_the_interval_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = interval95(rng.normal(10, 3, 60), resamples=500)
        inside += low <= 10 <= high
    assert 0.90 <= inside / 300 <= 0.98


def test_a_hopeless_check_ends_early_and_a_close_one_does_not() -> None:
    asked: list[int] = []

    def returns(seeds: Array) -> Array:
        asked.append(len(seeds))
        return 100.0 + seeds % 3

    seeds = np.arange(20)
    assert check_return(returns, seeds, needed=500.0) == (pytest.approx(100.8), 5)
    assert check_return(returns, seeds, needed=101.0) == (pytest.approx(100.95), 20)
    assert check_return(returns, seeds, needed=500.0, at_once=True) == (pytest.approx(100.95), 20), "no look on the way"
    assert asked == [5, 5, 15, 20]
    assert check_return(returns, seeds[:1], needed=500.0) == (100.0, 1)


def test_an_environment_that_takes_a_process_of_the_pool_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(ThreadPoolExecutor):
        def map(self, *_: object, **__: object) -> Any:
            raise BrokenProcessPool

    monkeypatch.setattr(evaluate_module, "_start_pool", lambda workers: Dead(workers))
    died = pytest.raises(EnvError, match="a process that played CartPole-v1 died")
    with Evaluator(EnvConfig("CartPole-v1"), workers=2) as evaluate, died:
        evaluate(right, SEEDS)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("keep_obs", [7, 1000])
def test_every_kept_observation_has_its_mask(workers: int, keep_obs: int) -> None:
    """`Counter` allows the one action that is its count modulo 3; the count is the last entry of its observation."""
    env = EnvConfig("tests.rl.own_envs:Counter", kwargs=("masks='dict'",))
    with Evaluator(env, workers=workers, envs=3) as evaluate:
        met = evaluate(ConstantPolicy(), range(40), epsilon=1.0, keep_obs=keep_obs)
    assert met.obs is not None
    assert met.masks is not None
    assert len(met.obs) == len(met.masks) == min(keep_obs, 40 * (3 + 8) // 2)
    assert (met.masks == (np.arange(3) == met.obs[:, -1:] % 3)).all()


def test_without_masks_none_are_kept() -> None:
    with Evaluator(EnvConfig("CartPole-v1")) as evaluate:
        assert evaluate(ConstantPolicy(), range(3), keep_obs=10).masks is None

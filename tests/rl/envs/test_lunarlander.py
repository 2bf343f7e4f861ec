"""LunarLander stepped by us is Gymnasium's LunarLander to the last bit, and somebody else's is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from nimbleq.config import EnvConfig
from nimbleq.rl.envs import lunarlander
from nimbleq.rl.envs.engines import env_engine, make_env_batch, make_low_fidelity_batch, useful_workers
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.lunarlander import LunarLanderEnvBatch
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.uniform import quiet

with quiet():  # Box2D's import warns, and crashes where a warning is an error
    from gymnasium.envs.box2d import lunar_lander


def flown(env: Any, obs: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Actions of Gymnasium's own controller, which lands; from the third environment on with noise; ``int64[L]``."""
    actions = np.array([lunar_lander.heuristic(env, row) for row in obs])
    noisy = (np.arange(len(obs)) >= 2) & (rng.random(len(obs)) < 0.6)
    return np.where(noisy, rng.integers(4, size=len(obs)), actions)


@pytest.mark.parametrize(
    ("limit", "kwargs"), [(None, ()), (120, ("gravity=-6.0", "enable_wind=True", "wind_power=10.0"))]
)
def test_every_step_is_gymnasiums(limit: int | None, kwargs: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    config = EnvConfig("LunarLander-v3", kwargs=kwargs, max_episode_steps=limit)
    ours, theirs = LunarLanderEnvBatch(config, 6), SerialEnvBatch(config, 6)
    assert ours.spec == theirs.spec
    indices = np.arange(6)
    obs = np.stack([ours.reset(index, index) for index in indices])
    assert np.array_equal(obs, [theirs.reset(index, index) for index in indices])
    env, seed, ends = make_env(config), 100, {"crashed": 0, "landed": 0, "cut": 0}
    for time in range(600):
        stepped = indices[: 6 - time % 2] if time % 50 == 49 else indices  # not always all of them
        action = flown(env, obs[stepped], rng)
        mine, its = ours.step(stepped, action), theirs.step(stepped, action)
        for a, b in zip(mine, its, strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        obs[stepped] = mine[0]
        over = mine[2] | mine[3]
        ends["crashed"] += int((mine[1] == -100).sum())
        ends["landed"] += int((mine[1] == 100).sum())
        ends["cut"] += int((mine[3] & ~mine[2]).sum())
        for index in {*stepped[over].tolist(), *range(len(stepped), 6)}:
            seed += 1
            obs[index] = ours.reset(index, seed)
            assert np.array_equal(obs[index], theirs.reset(index, seed))
    assert ends["crashed"]
    assert ends["cut" if limit else "landed"], ends


@pytest.fixture
def tried_anew() -> Iterator[None]:
    lunarlander.agrees.cache_clear()
    yield
    lunarlander.agrees.cache_clear()


@pytest.mark.usefixtures("tried_anew")
def test_an_environment_that_steps_otherwise_keeps_its_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EnvConfig("LunarLander-v3")
    assert isinstance(make_env_batch(config, 1), LunarLanderEnvBatch)
    assert isinstance(make_env_batch(config, 1, pictures=True), SerialEnvBatch)
    assert env_engine(EnvConfig("LunarLander-v3", kwargs=("continuous=True",))).name == "Gymnasium"
    assert isinstance(make_env_batch(EnvConfig("LunarLander-v3", kwargs=("gravity=-5.0",)), 1), LunarLanderEnvBatch)
    lunarlander.agrees.cache_clear()
    monkeypatch.setattr(lunar_lander, "MAIN_ENGINE_POWER", 13.001)  # as another version might
    assert isinstance(make_env_batch(config, 1), SerialEnvBatch)


@pytest.mark.usefixtures("tried_anew")
def test_a_box2d_that_keeps_a_body_otherwise_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    body = make_env(EnvConfig("LunarLander-v3"))
    body.reset(seed=0)
    assert lunarlander._is_laid_out(body.unwrapped.lander)
    assert not lunarlander._is_laid_out(object())

    class Shifted:
        """The same numbers, one further on."""

        this = int(body.unwrapped.lander.this) + 4

        def __getattr__(self, name: str) -> Any:
            return getattr(body.unwrapped.lander, name)

    assert not lunarlander._is_laid_out(Shifted())
    monkeypatch.setattr(lunarlander, "_is_laid_out", lambda _: False)
    assert isinstance(make_env_batch(EnvConfig("LunarLander-v3"), 1), SerialEnvBatch)


@pytest.mark.usefixtures("tried_anew")
def test_an_environment_registered_by_somebody_else_keeps_its_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Heavier(lunar_lander.LunarLander):  # type: ignore[misc]  # (gymnasium is untyped here)
        def step(self, action: Any) -> Any:
            obs, reward, *rest = super().step(action)
            return obs, reward - 1e-3, *rest

    spec = gymnasium.envs.registration.registry["LunarLander-v3"]
    monkeypatch.setattr(spec, "entry_point", Heavier)
    assert isinstance(make_env_batch(EnvConfig("LunarLander-v3"), 1), SerialEnvBatch)


def test_low_fidelity_is_nearly_the_same() -> None:
    """It starts alike and flies alike until the ground is touched."""
    config = EnvConfig("LunarLander-v3")
    exact, low = LunarLanderEnvBatch(config, 1), make_low_fidelity_batch(config, 1)
    index = np.zeros(1, np.int64)
    assert np.array_equal(exact.reset(0, 7), low.reset(0, 7))
    actions = np.random.default_rng(0).integers(4, size=40)
    for action in actions[:, None]:
        expected, stepped = exact.step(index, action), low.step(index, action)
        assert np.allclose(stepped[0], expected[0], atol=0.05)
        assert np.allclose(stepped[1], expected[1], atol=2.0)
    assert not np.array_equal(stepped[0], expected[0]), "it is another solver"


def test_an_environment_without_low_fidelity_plays_as_it_is() -> None:
    assert type(make_low_fidelity_batch(EnvConfig("CartPole-v1"), 1)) is type(
        make_env_batch(EnvConfig("CartPole-v1"), 1)
    )


def test_processes_are_started_where_they_help() -> None:
    assert useful_workers(EnvConfig("CartPole-v1"), 2) == 1
    assert useful_workers(EnvConfig("LunarLander-v3"), 2) == 2
    assert useful_workers(EnvConfig("CartPole-v1", kwargs=("x=1",)), 2) == 2

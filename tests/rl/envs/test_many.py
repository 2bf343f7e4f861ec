"""Environments that step many episodes at once: they play as one by one, and what does not fit is one line."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs.engines import env_engine, make_env_batch
from nimbleq.rl.envs.many import ManyEnvBatch
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.training.check import Checker
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.types import Array

HERE = __name__


class Walks:
    """Walks on a line from a drawn place; 7 steps, or out of bounds."""

    def __init__(self, count: int, drift: float = 0.0) -> None:
        self.place, self.drift = np.zeros((count, 2), np.float32), drift
        self.time = np.zeros(count, int)
        self.calls = 0

    def reset(self, index: int, seed: int) -> Array:
        self.place[index], self.time[index] = np.random.default_rng(seed).normal(size=2), 0
        return self.place[index].copy()

    def step(self, indices: Array, actions: Array) -> tuple[Array, Array, Array, Array]:
        self.calls += 1
        self.place[indices, 0] += actions - 1 + self.drift
        self.time[indices] += 1
        seen = self.place[indices].copy()
        return seen, -np.abs(seen[:, 0]), np.abs(seen[:, 0]) > 3, self.time[indices] >= 7


class Walk(gymnasium.Env[Any, Any]):
    """One of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(3)

    def __init__(self, drift: float = 0.0) -> None:
        self.walks = Walks(1, drift)

    @classmethod
    def many(cls, count: int, drift: float = 0.0) -> Any:
        return Walks(count, drift)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.walks.reset(0, seed or 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, over, cut = self.walks.step(np.array([0]), np.array([action]))
        return obs[0], float(reward[0]), bool(over[0]), bool(cut[0]), {}


class Single(Walk):
    """The same without a fast way."""

    many = None  # type: ignore[assignment]


class Shifted(Walk):
    """Actions that would have to be translated."""

    action_space = spaces.Discrete(3, start=1)


class Wrong(Walk):
    """Whose many breaks a promise: ``how`` says which."""

    def __init__(self, how: str) -> None:
        super().__init__()

    @classmethod
    def many(cls, count: int, how: str) -> Any:
        if how == "fails":
            raise RuntimeError("no memory")
        walks: Any = Walks(count)
        if how == "infinite":
            walks.drift = np.inf
        if how == "short":
            walks.reset = lambda index, seed: np.zeros(1, np.float32)
        return walks


def leaning(obs: Array) -> Array:
    return np.where(obs[:, 0] > 0, 0, 2)


@pytest.mark.parametrize("limit", [None, 4])
def test_many_at_once_play_what_each_plays_alone(limit: int | None) -> None:
    configs = [EnvConfig(f"{HERE}:{name}", limit, ("drift=0.25",)) for name in ("Walk", "Single")]
    assert [env_engine(config).name for config in configs] == ["many at once", "Gymnasium"]
    played = []
    for config in configs:
        with Evaluator(config, envs=5) as evaluate:
            episodes = evaluate(leaning, range(13), epsilon=0.3, keep_obs=20)
        played.append((episodes.returns.tolist(), episodes.lengths.tolist(), episodes.obs))
    assert played[0][:2] == played[1][:2]
    assert np.array_equal(played[0][2], played[1][2])
    assert max(played[0][1]) == (limit or 7)


def test_one_call_steps_all_of_them() -> None:
    batch = make_env_batch(EnvConfig(f"{HERE}:Walk"), 6)
    assert isinstance(batch, ManyEnvBatch)
    for index in range(6):
        batch.reset(index, index)
    batch.step(np.arange(6), np.ones(6, np.int64))
    assert batch._many.calls == 1  # type: ignore[attr-defined]


def test_training_goes_on_where_it_stopped() -> None:
    envs, again = (VectorEnv(EnvConfig(f"{HERE}:Walk"), 4, seed=3) for _ in range(2))
    actions = np.random.default_rng(0).integers(3, size=(30, 4))
    for action in actions[:20]:
        envs.step(action)
    again.load_arrays(envs.arrays())
    for action in actions[20:]:
        ours, theirs = envs.step(action), again.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(ours[:6], theirs[:6], strict=True))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (EnvConfig(f"{HERE}:Shifted"), "actions from 0 on and no masks: leave many out"),
        (EnvConfig(f"{HERE}:Walk", discretize=2), "has 3 discrete actions already"),
        (EnvConfig(f"{HERE}:Wrong", kwargs=("how=fails",)), "failed in many: RuntimeError: no memory"),
        (EnvConfig(f"{HERE}:Wrong", kwargs=("how=short",)), r"many gives observations float32 \(1, 1\)"),
        (EnvConfig(f"{HERE}:Wrong", kwargs=("how=infinite",)), "infinity in its reward"),
        (EnvConfig(f"{HERE}:Walk", workers=2), "leave out --workers"),
    ],
)
def test_what_does_not_fit_is_one_line(config: EnvConfig, says: str) -> None:
    with pytest.raises(EnvError, match=says):
        VectorEnv(config, 3, 0).step(np.zeros(3, np.int64))


def test_a_module_that_cannot_be_imported_is_said_as_ever() -> None:
    with pytest.raises(EnvError, match="there is no Python module 'nowhere'"):
        make_env_batch(EnvConfig("nowhere:Walk"), 1)


def test_its_checks_are_not_played_in_a_fork(small: TrainConfig) -> None:
    config = with_changes(small, {"env.id": f"{HERE}:Walk", "evaluation.beside": True})
    with Checker(config, lambda: False) as checker:
        assert checker._process is None

"""A model trained behind VecNormalize, imported with its statistics, acts as Stable-Baselines3 does with them."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from nimbleq.bridge.checkpoints.sb3 import import_sb3
from nimbleq.errors import FileError
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.types import Array
from tests.bomb import Bomb
from tests.bridge.checkpoints.test_sb3 import Observed, dqn, saved

stable_baselines3 = pytest.importorskip("stable_baselines3")


class Pressure(gymnasium.Env[Array, int]):
    """A pressure around 101,325 Pa: press when it is above the mean."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observed(), {}

    def _observed(self) -> Array:
        self.z = float(self.np_random.normal())
        return np.array([101_325 + 50 * self.z, self.np_random.normal() * 1e-3], np.float32)

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        good, self.steps = int(action) == int(self.z > 0), self.steps + 1
        return self._observed(), float(good), False, self.steps >= 40, {}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def trained(folder: Path, env: Any, **settings: Any) -> tuple[Any, Any, Path, Path]:
    """Model, its VecNormalize, and their files."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    wrapped = VecNormalize(DummyVecEnv([lambda: env]), **settings)
    wrapped.seed(0)
    model = dqn("MlpPolicy", wrapped, policy_kwargs={"net_arch": [16]})
    model.learn(200)
    wrapped.save(folder / "vecnormalize.pkl")
    return model, wrapped, saved(model, folder), folder / "vecnormalize.pkl"


@pytest.mark.parametrize("settings", [{}, {"clip_obs": 0.5, "epsilon": 0.1}, {"norm_obs": False}])
def test_values_are_those_behind_vecnormalize(tmp_path: Path, settings: dict[str, Any]) -> None:
    model, wrapped, zip_file, statistics = trained(tmp_path, Pressure(), **settings)
    imported = import_sb3(zip_file, statistics)
    rng = np.random.default_rng(0)
    obs = (np.array([101_325, 0]) + rng.normal(size=(500, 2)) * [80, 2e-3]).astype(np.float32)
    with torch.no_grad():
        given = wrapped.normalize_obs(obs).astype(np.float32)
        expected = model.q_net(torch.from_numpy(given)).numpy()
    spread = np.abs(expected).max()
    np.testing.assert_allclose(interpret(imported.graph, obs)["q"], expected, rtol=0, atol=1e-3 * spread)
    assert (interpret(imported.graph, obs)["action"] == expected.argmax(1)).mean() > 0.99
    assert imported.info["warnings"] == []
    assert any("norm_obs=False" in note for note in imported.info["notes"]) is ("norm_obs" in settings)
    assert any("rewards" in note for note in imported.info["notes"])
    assert json.loads(json.dumps(imported.info)) == imported.info


def test_a_table_and_a_one_hot_index(tmp_path: Path) -> None:
    space = gymnasium.spaces.Box(-9, 9, (3, 2), np.float32)
    model, wrapped, zip_file, statistics = trained(tmp_path, Observed(space), norm_reward=False)
    imported = import_sb3(zip_file, statistics)
    obs = np.stack([space.sample() for _ in range(50)])
    with torch.no_grad():
        expected = model.q_net(torch.from_numpy(wrapped.normalize_obs(obs)).float()).numpy()
    for graph in (imported.graph, fold(imported.graph)):
        np.testing.assert_allclose(interpret(graph, obs.reshape(50, 6))["q"], expected, rtol=1e-3, atol=1e-4)
    assert not any("rewards" in note for note in imported.info["notes"])


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    *_, zip_file, statistics = trained(tmp_path, Pressure())
    other = tmp_path / "other"
    other.mkdir()
    *_, others = trained(other, Observed(gymnasium.spaces.Box(-1, 1, (3,), np.float32)))
    bomb = tmp_path / "bomb.pkl"
    bomb.write_bytes(pickle.dumps(Bomb(Path.touch, tmp_path / "it ran")))
    number = tmp_path / "number.pkl"
    number.write_bytes(pickle.dumps(3))
    for path, message in (
        (others, "statistics of (3,)"),
        (tmp_path / "missing.pkl", "missing.pkl"),
        (zip_file, "not a pickle"),
        (bomb, "would call"),
        (number, "not the VecNormalize"),
    ):
        with pytest.raises(FileError) as caught:
            import_sb3(zip_file, path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "it ran").exists()
    whole = statistics.read_bytes()
    for length in range(0, len(whole), 37):
        statistics.write_bytes(whole[:length])
        with pytest.raises(FileError):
            import_sb3(zip_file, statistics)


def test_statistics_that_are_no_numbers(tmp_path: Path) -> None:
    _, wrapped, zip_file, statistics = trained(tmp_path, Pressure())
    for change, message in (
        (lambda w: setattr(w.obs_rms, "var", -w.obs_rms.var), "negative"),
        (lambda w: setattr(w.obs_rms, "mean", w.obs_rms.mean * np.nan), "NaN"),
        (lambda w: setattr(w.obs_rms, "mean", "much"), "no mean"),
        (lambda w: delattr(w.obs_rms, "mean"), "no mean"),
        (lambda w: setattr(w, "clip_obs", 0), "clip_obs"),
        (lambda w: setattr(w, "epsilon", None), "epsilon"),
        (lambda w: setattr(w, "obs_rms", {"a": w.obs_rms}), "Dict"),
        (lambda w: setattr(w, "obs_rms", 3), "no statistics"),
    ):
        changed = pickle.loads(pickle.dumps(wrapped))
        vars(changed).update(dict.fromkeys(set(vars(wrapped)) - set(vars(changed))))  # what a pickle leaves out
        change(changed)
        changed.save(statistics)
        with pytest.raises(FileError, match=message):
            import_sb3(zip_file, statistics)

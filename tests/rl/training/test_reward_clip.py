"""Clipped rewards: learning sees each step's reward cut, everything that is reported or judged does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.config import TrainConfig, from_dict, same_settings, to_dict, validate, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl import defaults
from nimbleq.rl.envs.probe import Probe
from nimbleq.rl.preset_tables import ALGORITHMS
from nimbleq.rl.presets import preset
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.checkpoint import load_checkpoint, save_checkpoint
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rl.training.trained import Trained
from nimbleq.rundir import RunDir
from nimbleq.types import Array, ObsSpec
from tests.rl.own_envs import Counter
from tests.rl.saved import assert_same_arrays
from tests.rl.training.test_train import Stop

PAYS = (10.0, -10.0, 0.5, 3.0, -0.25, 0.0, 70.0, -1.0)
"""Of a `Loud` episode, step by step."""
ENGINES = {
    "native": {},
    "torch": {"learner.engine": "torch", "learner.munchausen": True, "replay.prioritized": True},
    "device": {"learner.engine": "device", "learner.device": "cpu", "evaluation.beside": False},
    "pqn": {"algorithm": "pqn", "learner.target": "none", "pqn.rollout": 8},
}


class Loud(Counter):
    """A `Counter` that pays `PAYS`, or those within ±1 when it is ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self.pays = np.clip(PAYS, -1, 1) if quiet else np.array(PAYS)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, count, terminated, truncated, info = super().step(action)
        return obs, float(self.pays[int(count) - 1]), terminated, truncated, info


def settings(small: TrainConfig, **changes: Any) -> TrainConfig:
    base = {"env.id": f"{__name__}:Loud", "env.max_episode_steps": None, "steps": 400, "learner.reward_scale": 0.5}
    config: TrainConfig = with_changes(small, base | changes)
    return config


def learnt(run: RunDir) -> dict[str, Array]:
    arrays, _ = load_checkpoint(run.checkpoint)
    return {name: value for name, value in arrays.items() if name.startswith("learner.")}


@pytest.mark.parametrize("engine", ENGINES)
def test_it_learns_as_from_an_environment_that_pays_less_and_reports_what_this_one_pays(
    small: TrainConfig, tmp_path: Path, engine: str
) -> None:
    """Differential: the same weights bit for bit, on every loop, with n-step and λ-returns."""
    loud = settings(small, **ENGINES[engine], **{"learner.reward_clip": 1.0})
    quiet = with_changes(loud, {"learner.reward_clip": 0.0, "env.kwargs": ("quiet=True",)})
    clipped, plain = RunDir(tmp_path / "clipped"), RunDir(tmp_path / "plain")
    trained, expected = train(loud, clipped), train(quiet, plain)
    assert_same_arrays(learnt(clipped), learnt(plain))
    assert trained.updates > 40
    assert returns(trained) == {sum(PAYS[:3]), sum(PAYS)}, "the final evaluation is raw"
    assert returns(expected) == {0.5, float(np.clip(PAYS, -1, 1).sum())}
    counters = load_checkpoint(clipped.checkpoint)[1]["counters"]
    assert set(counters["recent"]) == {sum(PAYS[:3]), sum(PAYS)}, "and so are the episodes of training"
    assert counters["best_return"] >= sum(PAYS[:3]), "and checks"


def returns(trained: Trained) -> set[float]:
    return set(trained.final.returns.tolist())


def test_each_step_is_clipped_before_a_window_is_summed(small: TrainConfig, tmp_path: Path) -> None:
    """Analytic, n = 3 and γ = ½: 10, −10, 0.5 become 1 − ½ + ⅛, not min(1, 10 − 5 + ⅛)."""
    config = settings(small, **{"learner.gamma": 0.5, "learner.reward_clip": 1.0, "steps": 200})
    train(config, RunDir(tmp_path))
    replay = load_state(config, RunDir(tmp_path).checkpoint).replay
    assert isinstance(replay, Replay)
    cut = np.clip(PAYS, -1, 1)
    obs, summed = (array[: len(replay)].tolist() for array in (replay.store.obs, replay.store.reward))
    held = {(int(seed) % 2, int(count)): reward for (seed, count), reward in zip(obs, summed, strict=True)}
    assert held[1, 0] == 1 - 0.5 + 0.125
    for (odd, count), reward in held.items():
        window = cut[count : min(count + 3, 8 if odd else 3)]
        assert reward == pytest.approx(float((window * 0.5 ** np.arange(len(window))).sum())), (odd, count)
    assert len(held) == 8 + 3, "every window of both kinds of episode was seen"


def test_atari_presets_clip_and_no_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec(ObsSpec((4, 84, 84), "uint8"), 6)
    monkeypatch.setattr(defaults, "spec_of", lambda env: spec)
    monkeypatch.setattr(defaults, "probe", lambda env: Probe(spec, 1.0))
    monkeypatch.setattr("nimbleq.rl.envs.probe.find_offsets", lambda env: ())
    for name in ALGORITHMS:
        assert preset("ALE/Pong-v5", name).learner.reward_clip == 1.0
        assert preset("own:Camera", name).learner.reward_clip == 0.0
        assert preset("CartPole-v1", name).learner.reward_clip == 0.0


def test_settings_and_checkpoints_from_before_there_was_clipping_go_on(small: TrainConfig, tmp_path: Path) -> None:
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(small, whole)
    with pytest.raises(KeyboardInterrupt):
        train(small, parts, Stop(120))
    arrays, values = load_checkpoint(parts.checkpoint)
    del values["config"]["learner"]["reward_clip"]
    save_checkpoint(parts.checkpoint, arrays, values)
    assert from_dict(TrainConfig, values["config"]) == small
    train(small, parts, resume=True)
    assert_same_arrays(learnt(whole), learnt(parts))
    assert not same_settings(values["config"], with_changes(small, {"learner.reward_clip": 1.0}))
    assert not same_settings(to_dict(small) | {"from the future": 1}, small)


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_limits_that_mean_nothing_are_named(small: TrainConfig, limit: float) -> None:
    with pytest.raises(ConfigError, match=r"learner\.reward_clip must be"):
        validate(with_changes(small, {"learner.reward_clip": limit}))

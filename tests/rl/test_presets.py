"""Presets fit their environments and can train a few steps."""

from dataclasses import replace
from pathlib import Path

import pytest

from nimbleq.config import EnvConfig, TrainConfig, from_dict, to_dict, validate, with_changes
from nimbleq.errors import ConfigError, EnvError
from nimbleq.rl.preset_tables import ALGORITHMS
from nimbleq.rl.presets import preset
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir

HIDDEN = {"wide": (256, 256), "stream": (32, 32)}
"""Preset → its layers, where they are not two of 64."""


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("env", ["CartPole-v1", "LunarLander-v3", "Acrobot-v1", "MountainCar-v0", "Blackjack-v1"])
def test_every_preset_is_valid_and_survives_json(env: str, name: str) -> None:
    config = preset(env, name)
    validate(config)
    assert config.env == EnvConfig(env)
    assert config.network.hidden == HIDDEN.get(name, (64, 64))
    assert from_dict(TrainConfig, to_dict(config)) == config


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains(tmp_path: Path, name: str) -> None:
    changes = {"network.hidden": (8,), "steps": 400, "learn_start": 200, "evaluation.final_episodes": 3}
    changes |= {"envs": 1 if name == "stream" else 8, "learner.batch_size": 16, "pqn.rollout": 10}
    trained = train(with_changes(preset("Acrobot-v1", name, max_episode_steps=40), changes), RunDir(tmp_path))
    assert trained.steps == 400
    assert trained.updates > 0
    assert (trained.final.lengths <= 40).all()


def test_long_cart_pole_has_settings_of_its_own() -> None:
    plain, long = preset("CartPole-v1"), preset("CartPole-v1", max_episode_steps=10_000)
    assert long.env.max_episode_steps == long.evaluation.stop_return == 10_000
    assert replace(plain, env=long.env) != long
    assert preset("CartPole-v1", max_episode_steps=600).learner == plain.learner


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'best'.*dqn"):
        preset("CartPole-v1", "best")
    with pytest.raises(EnvError, match="no environment"):
        preset("Qwertyuiop-v0")

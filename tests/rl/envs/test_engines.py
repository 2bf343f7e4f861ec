"""The tables of environment engines: the special ones where they play, new rows, and what a row refuses."""

import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.envs.engines import ENV_ENGINES, EnvEngine, env_engine, make_env_batch, spec_of
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.envs.vector_engine import VectorEngine
from nimbleq.rl.envs.vectors import VECTOR_ENGINES
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.state import new_state


@pytest.mark.parametrize(
    ("config", "pictures", "name"),
    [
        (EnvConfig("ALE/Pong-v5"), False, "ALE"),
        (EnvConfig("ALE/Pong-v5"), True, "ALE"),
        (EnvConfig("CartPole-v1", max_episode_steps=7), False, "CartPole in C"),
        (EnvConfig("CartPole-v1"), True, "Gymnasium"),
        (EnvConfig("CartPole-v1", kwargs=("sutton_barto_reward=True",)), False, "Gymnasium"),
        (EnvConfig("LunarLander-v3"), False, "LunarLander over Box2D"),
        (EnvConfig("LunarLander-v3"), True, "Gymnasium"),
        (EnvConfig("Acrobot-v1"), False, "Gymnasium"),
    ],
)
def test_the_first_row_that_plays_an_environment_does(config: EnvConfig, pictures: bool, name: str) -> None:
    assert env_engine(config, pictures).name == name


def test_a_new_row_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(config: EnvConfig, count: int, pictures: bool) -> SerialEnvBatch:
        made.append(count)
        return SerialEnvBatch(EnvConfig("Acrobot-v1"), count, pictures)

    row = EnvEngine("toy", lambda config: config.id == "Toy-v0", make)
    monkeypatch.setattr("nimbleq.rl.envs.engines.ENV_ENGINES", [row, *ENV_ENGINES])
    assert spec_of(EnvConfig("Toy-v0")).actions == 3
    batch = make_env_batch(EnvConfig("Toy-v0"), 2)
    assert made == [1, 2]
    obs = np.stack([batch.reset(index, 5) for index in range(2)])
    assert np.array_equal(obs[0], obs[1])
    assert batch.step(np.array([1]), np.array([2]))[0].shape == (1, 6)


def test_a_new_way_to_step_is_used(small: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(config: EnvConfig, envs: int, seed: int) -> VectorEnv:
        made.append(envs)
        return VectorEnv(config, envs, seed)

    monkeypatch.setitem(VECTOR_ENGINES, "toy", VectorEngine(make, "which is a toy"))  # type: ignore[arg-type]
    config = with_changes(small, {"env.engine": "toy"})
    check_settings(config)
    new_state(config).envs.close()
    assert made == [4]
    with pytest.raises(ConfigError, match="workers must be 1 with toy, which is a toy, not 2"):
        check_settings(with_changes(config, {"env.workers": 2}))


def test_an_unknown_way_to_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no env\.engine 'none'; choose from gymnasium, envpool"):
        check_settings(with_changes(TrainConfig(), {"env.engine": "none"}))

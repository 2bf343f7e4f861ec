"""Training environments of gymnax: Gymnasium's dynamics from the same state, and what is refused in one line."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.gymnax import SAME, make_gymnax


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (EnvConfig("LunarLander-v3"), "does not play LunarLander-v3 as Gymnasium does, only CartPole-v1"),
        (EnvConfig("CartPole-v1", kwargs=("sutton_barto_reward=True",)), "takes no --env-kwargs"),
        (EnvConfig("CartPole-v1", offsets=("[0]=1",)), "--obs-offsets"),
    ],
)
def test_what_it_cannot_play_is_said(config: EnvConfig, reason: str) -> None:
    with pytest.raises(EnvError, match=reason):
        make_gymnax(config, 2, 0)


def test_without_gymnax_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nimbleq.rl.envs.gymnax.find_spec", lambda name: None)
    with pytest.raises(EnvError, match=r"--no-deps gymnax==1\.0\.1"):
        make_gymnax(EnvConfig("CartPole-v1"), 2, 0)


def put(env: Any, name: str, obs: Any) -> None:
    """Set the state of Gymnasium's environment from an observation of gymnax's."""
    values = obs.astype(np.float64)
    if name == "Acrobot-v1":
        values = [np.arctan2(values[1], values[0]), np.arctan2(values[3], values[2]), *values[4:]]
    env.unwrapped.state = np.array(values)


@pytest.mark.tpu
@pytest.mark.parametrize("name", SAME)
def test_it_steps_as_gymnasium_does(name: str) -> None:
    pytest.importorskip("gymnax")
    envs, oracle, rng = (
        make_gymnax(EnvConfig(name, max_episode_steps=60), 3, seed=1),
        gymnasium.make(name),
        np.random.default_rng(0),
    )
    lengths, ends = np.zeros(3, int), 0
    for _ in range(150):
        step = envs.step(rng.integers(envs.spec.actions, size=3))
        lengths += 1
        for index in range(3):
            oracle.reset(seed=0)
            put(oracle, name, step.obs[index])
            obs, reward, terminated, _, _ = oracle.step(step.action[index])
            assert np.allclose(step.next_obs[index], obs, atol=1e-4), "each step from the same state"
            assert step.reward[index] == reward
            assert step.terminated[index] == terminated
        assert np.array_equal(step.truncated, lengths == 60)
        over = step.terminated | step.truncated
        assert sorted(length for _, length in envs.finished) == sorted(lengths[over])
        assert np.array_equal(envs.obs[~over], step.next_obs[~over])
        lengths[over], ends = 0, ends + int(over.sum())
    assert ends >= 6


@pytest.mark.tpu
def test_its_state_goes_on_bit_for_bit() -> None:
    pytest.importorskip("gymnax")
    first, second = (make_gymnax(EnvConfig("CartPole-v1"), 4, seed) for seed in (0, 1))
    for _ in range(30):
        first.step(np.ones(4, np.int64))
    second.load_arrays(first.arrays())
    for _ in range(30):
        mine, its = first.step(np.zeros(4, np.int64)), second.step(np.zeros(4, np.int64))
        assert all(np.array_equal(a, b) for a, b in zip(mine[:6], its[:6], strict=True))

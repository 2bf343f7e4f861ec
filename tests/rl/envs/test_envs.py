"""Environments: made uniform, stepped as a vector, refused in one line."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import example, given
from hypothesis import strategies as st

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.cartpole import NativeEnvBatch, VectorEntryEnvBatch
from nimbleq.rl.envs.extension import environment_extension
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.spec import EnvSpec
from nimbleq.seeds import episode_seeds
from nimbleq.types import ObsSpec


class Corridor(gymnasium.Env[Any, Any]):
    """Counts its steps in the observation; ends at ``length`` with reward 10; optionally goes wrong at ``bad_at``."""

    action_space: Any = spaces.Discrete(3, start=5)

    def __init__(self, length: int = 4, bad_at: int = -1, bad: str = "", space: Any = None) -> None:
        self.observation_space = space or spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.length, self.bad_at, self.bad, self.made_up = length, bad_at, bad, space is not None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.start, self.count = float(self.np_random.random()), 0
        return self.observed(), {}

    def observed(self) -> Any:
        return self.observation_space.sample() if self.made_up else np.array([self.start, self.count])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in (5, 6, 7)
        self.count += 1
        over = self.count == self.length
        obs, reward = self.observed(), 10.0 if over else 1.0
        if self.count == self.bad_at:
            if self.bad == "shape":
                obs = np.zeros(5)
            elif self.bad == "reward":
                reward = float("inf")
            else:
                obs = np.array([np.nan, 0.0])
        return obs, reward, over, False, {}


class Continuous(Corridor):
    action_space = spaces.Box(-1, 1, (2,))


@pytest.fixture(autouse=True)
def registered() -> Any:
    made = {
        "test/Corridor-v0": (Corridor, {}),
        "test/NanObs-v0": (Corridor, {"bad_at": 2}),
        "test/InfReward-v0": (Corridor, {"bad_at": 2, "bad": "reward"}),
        "test/OtherShape-v0": (Corridor, {"bad_at": 2, "bad": "shape"}),
        "test/Continuous-v0": (Continuous, {}),
        "test/Sequence-v0": (Corridor, {"space": spaces.Sequence(spaces.Discrete(2))}),
        "test/Image-v0": (Corridor, {"space": spaces.Box(0, 255, (40, 50, 3), np.uint8)}),
        "test/Stack-v0": (Corridor, {"space": spaces.Box(0, 255, (4, 84, 84), np.uint8)}),
        "test/Grey-v0": (Corridor, {"space": spaces.Box(0, 255, (84, 84), np.uint8)}),
        "test/Icon-v0": (Corridor, {"space": spaces.Box(0, 255, (5, 5, 3), np.uint8)}),
        "test/Grid-v0": (Corridor, {"space": spaces.Box(0, 1, (3, 3), np.float32)}),
        "test/Discrete-v0": (Corridor, {"space": spaces.Discrete(6)}),
        "test/Tuple-v0": (Corridor, {"space": spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (3,))))}),
    }
    for name, (kind, kwargs) in made.items():
        gymnasium.register(name, entry_point=kind, kwargs=kwargs, max_episode_steps=20)
    yield
    for name in made:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("name", "obs"),
    [
        ("test/Corridor-v0", ObsSpec((2,))),
        ("test/Image-v0", ObsSpec((3, 40, 50), "uint8")),
        ("test/Stack-v0", ObsSpec((4, 84, 84), "uint8")),
        ("test/Grey-v0", ObsSpec((1, 84, 84), "uint8")),
        ("test/Icon-v0", ObsSpec((75,))),
        ("test/Grid-v0", ObsSpec((9,))),
        ("test/Discrete-v0", ObsSpec((6,))),
        ("test/Tuple-v0", ObsSpec((5,))),
    ],
)
def test_observations_are_vectors_or_images(name: str, obs: ObsSpec) -> None:
    batch = SerialEnvBatch(EnvConfig(name), 2)
    assert batch.spec == EnvSpec(obs, 3)
    first = batch.reset(0, 7)
    after = batch.step(np.array([0]), np.array([2]))[0]
    assert (first.shape, str(first.dtype)) == (obs.shape, obs.dtype)
    assert (after.shape, str(after.dtype)) == ((1, *obs.shape), obs.dtype)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CartPol-v1", r"no environment 'CartPol-v1'.*did you mean CartPole-v1"),
        ("Qwertyuiop", r"no environment 'Qwertyuiop'"),
        ("CartPole-v77", r"did you mean CartPole-v1"),
        ("no_such_module_:Thing-v0", r"no_such_module_"),
        ("test/Continuous-v0", r"test/Continuous-v0 takes continuous actions"),
        ("Pendulum-v1", r"Pendulum-v1 takes continuous actions"),
        ("test/Sequence-v0", r"test/Sequence-v0 observes Sequence"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        make_env(EnvConfig(name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test/NanObs-v0", r"test/NanObs-v0 \(environment 0\) returned NaN in its observation"),
        ("test/InfReward-v0", r"test/InfReward-v0 \(environment 0\) returned infinity in its reward"),
        (
            "test/OtherShape-v0",
            r"test/OtherShape-v0 \(environment 0\) returned .*: the observation has the shape \(5,\)",
        ),
    ],
)
def test_unusable_returns_are_named(name: str, words: str) -> None:
    envs = VectorEnv(EnvConfig(name), 2, seed=0)
    envs.step(np.zeros(2, np.int64))
    before = envs.arrays()
    with pytest.raises(EnvError, match=words):
        envs.step(np.zeros(2, np.int64))
    assert all(np.array_equal(before[key], value) for key, value in envs.arrays().items())


def test_the_time_limit_can_be_replaced_and_always_exists() -> None:
    assert time_limit(make_env(EnvConfig("CartPole-v1"))) == 500
    assert time_limit(make_env(EnvConfig("CartPole-v1", 10_000))) == 10_000
    assert time_limit(make_env(EnvConfig("Blackjack-v1"))) > 0
    with pytest.raises(EnvError, match="max_episode_steps"):
        make_env(EnvConfig("CartPole-v1", 0))


def test_next_obs_is_the_true_one_and_obs_the_reset_one() -> None:
    envs = VectorEnv(EnvConfig("test/Corridor-v0"), 2, seed=3)
    steps = [envs.step(np.zeros(2, np.int64)) for _ in range(5)]
    assert [step.next_obs[0, 1] for step in steps] == [1, 2, 3, 4, 1]
    assert [step.obs[0, 1] for step in steps] == [0, 1, 2, 3, 0]
    assert [bool(step.terminated[0]) for step in steps] == [False, False, False, True, False]
    assert steps[3].next_obs[0, 0] == steps[0].obs[0, 0], "same episode"
    assert steps[4].obs[0, 0] != steps[0].obs[0, 0], "another episode"


def test_truncation_is_not_termination_and_returns_are_reported() -> None:
    envs = VectorEnv(EnvConfig("test/Corridor-v0", max_episode_steps=3), 1, seed=3)
    steps = []
    for _ in range(3):
        assert envs.finished == []
        steps.append(envs.step(np.zeros(1, np.int64)))
    assert [(bool(s.terminated[0]), bool(s.truncated[0])) for s in steps] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    assert envs.finished == [(3.0, 3)]


def test_each_episode_starts_from_its_own_seed() -> None:
    envs = VectorEnv(EnvConfig("CartPole-v1"), 3, seed=5)
    env = make_env(EnvConfig("CartPole-v1"))
    for index, seed in enumerate(episode_seeds("train", 5, 3)):
        assert np.array_equal(env.reset(seed=int(seed))[0], envs.obs[index])


@pytest.mark.parametrize("name", ["CartPole-v1", "LunarLander-v3", "Acrobot-v1"])
def test_restored_environments_go_on_exactly(name: str) -> None:
    rng = np.random.default_rng(0)
    envs, other = (VectorEnv(EnvConfig(name, max_episode_steps=60), 3, seed) for seed in (1, 2))
    actions = rng.integers(envs.spec.actions, size=(240, 3))
    for action in actions[:137]:
        envs.step(action)
    other.seed = envs.seed
    other.load_arrays(envs.arrays())
    for action in actions[137:]:
        mine, its = envs.step(action), other.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))
        assert envs.finished == other.finished


def test_an_environment_that_does_not_repeat_itself_cannot_be_restored() -> None:
    envs = VectorEnv(EnvConfig("test/Image-v0"), 1, seed=0)  # its observations come from an unseeded sampler
    envs.step(np.zeros(1, np.int64))
    with pytest.raises(EnvError, match="does not repeat"):
        VectorEnv(EnvConfig("test/Image-v0"), 1, seed=0).load_arrays(envs.arrays())


@pytest.mark.parametrize("kind", ["native", "vector entry point"])
def test_the_fast_cart_poles_equal_gymnasiums_scalar_one(kind: str) -> None:
    config = EnvConfig("CartPole-v1", max_episode_steps=80)
    rng = np.random.default_rng(0)
    extension = environment_extension()
    if kind == "native" and extension is None:
        pytest.skip("not compiled")
    fast = NativeEnvBatch(config, 8, extension) if kind == "native" and extension else VectorEntryEnvBatch(config, 8)
    slow = SerialEnvBatch(config, 8)
    assert fast.spec == slow.spec == env_spec(make_env(config))
    indices, seed = np.arange(8), 0
    for index in indices:
        assert np.array_equal(fast.reset(index, index), slow.reset(index, index))
    for time in range(400):
        stepped = indices[: 8 - time % 3]  # not always all of them
        action = rng.integers(2, size=len(stepped))
        mine, its = fast.step(stepped, action), slow.step(stepped, action)
        assert all(np.array_equal(a, b) for a, b in zip(mine[1:], its[1:], strict=True))
        assert np.allclose(mine[0], its[0], rtol=1e-6, atol=1e-7), "but for the last bit of a sine"
        for index in [*stepped[mine[2] | mine[3]], *indices[len(stepped) :]]:
            seed += 1
            assert np.array_equal(fast.reset(index, seed), slow.reset(index, seed))


def test_native_cart_pole_refuses_what_it_cannot_step() -> None:
    extension = environment_extension()
    if extension is None:
        pytest.skip("not compiled")
    batch = NativeEnvBatch(EnvConfig("CartPole-v1"), 2, extension)
    for index, action in ((2, 0), (-1, 0), (0, 2), (0, -1)):
        with pytest.raises(ValueError, match="no such environment or action"):
            batch.step(np.array([index]), np.array([action]))
    with pytest.raises(ValueError, match="type, size or layout"):
        batch.step(np.arange(2), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="no such environment"):
        batch.reset(2, 0)


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(2**32)
@example(2**63)
def test_native_cart_pole_starts_as_numpys_generator_says(seed: int) -> None:
    extension = environment_extension()
    if extension is None:
        pytest.skip("not compiled")
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).uniform(-0.05, 0.05, 4)
    state, obs = np.zeros((1, 4)), np.zeros(4, np.float32)
    extension.cartpole_reset(state, np.zeros(1, np.int64), 0, seed, obs)
    assert np.array_equal(state[0], expected)
    assert np.array_equal(obs, expected.astype(np.float32))

"""The average of the weights against its closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import NetworkConfig, TrainConfig, with_changes
from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.average import WeightAverage
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, ObsSpec

ENGINES = [
    TorchLearner,
    DeviceLearner,
    pytest.param(
        NativeLearner, marks=pytest.mark.skipif(native_available(NetworkConfig()) is not None, reason="not compiled")
    ),
]


class Numbers:
    """A learner of three parameters, all of one value, and a buffer."""

    def __init__(self) -> None:
        self.updates = 0
        self.live = np.zeros(3, np.float32)

    def at(self, updates: int, value: float) -> None:
        self.updates = updates
        self.live[:] = value

    def parameters(self) -> Array:
        return self.live

    def unpack(self, parameters: Array) -> dict[str, Array]:
        return {"weight": parameters.copy(), "mean": self.live[:1].copy()}

    def weights(self) -> dict[str, Array]:
        return self.unpack(self.live)

    def pack(self, weights: dict[str, Array]) -> Array:
        return weights["weight"].copy()


def averaged(horizon: int) -> tuple[Numbers, WeightAverage]:
    learner = Numbers()
    return learner, WeightAverage(horizon, cast(Learner, learner))


def feed(learner: Numbers, average: WeightAverage, values: dict[int, float]) -> None:
    for updates, value in values.items():
        learner.at(updates, value)
        average.follow()


def test_at_first_all_weights_count_alike_and_buffers_are_the_last() -> None:
    learner, average = averaged(horizon=100)
    feed(learner, average, {updates: updates for updates in range(1, 54)})
    assert average.updates == 50
    seen = np.arange(5, 51, 5)  # it follows every twentieth of the horizon
    assert np.allclose(average.weights()["weight"], seen.mean())
    assert average.weights()["mean"] == 53


def test_later_it_forgets_exponentially() -> None:
    learner, average = averaged(horizon=100)
    feed(learner, average, {updates: float(updates > 100) for updates in range(1, 301)})
    left = (1 - 5 / 100) ** (200 / 5)
    assert np.allclose(average.weights()["weight"], 1 - left)
    assert abs(left - np.exp(-2)) < 0.01


def test_rounds_of_several_updates_count_by_their_updates() -> None:
    for rounds in (range(1, 21), (3, 10, 13, 20)):  # what came between two looks counts as what is seen at the second
        learner, average = averaged(horizon=20)
        feed(learner, average, {updates: float(updates > 10) for updates in rounds})
        assert np.allclose(average.weights()["weight"], 0.5)


@given(
    horizon=st.integers(1, 60),
    rounds=st.lists(st.tuples(st.integers(1, 200), st.floats(-1e3, 1e3, width=32)), min_size=1, max_size=40),
)
def test_it_is_a_mean_of_what_it_saw_however_many_updates_a_turn_makes(
    horizon: int, rounds: list[tuple[int, float]]
) -> None:
    learner, average = averaged(horizon)
    seen: list[float] = []
    weights = np.zeros(0)
    updates = 0
    for count, value in rounds:
        updates, before = updates + count, average.updates
        feed(learner, average, {updates: value})
        if average.updates > before:
            share = min(1.0, (updates - before) / min(updates, horizon))
            seen, weights = [*seen, value], np.append(weights * (1 - share), share)
    if not seen:
        return
    assert (weights >= 0).all()
    assert np.isclose(weights.sum(), 1)
    value = average.weights()["weight"]
    assert np.allclose(value, weights @ seen, atol=1e-2)
    assert min(seen) - 1e-3 <= value.min() <= value.max() <= max(seen) + 1e-3


def test_a_turn_longer_than_the_horizon_leaves_its_last_parameters() -> None:
    learner, average = averaged(horizon=10)
    feed(learner, average, {32: 3.0, 64: -1.0})
    assert np.array_equal(average.weights()["weight"], [-1, -1, -1])


@pytest.mark.parametrize("engine", ["native", "torch", "device"])
def test_many_updates_a_turn_do_not_blow_up_what_is_shipped(engine: str, small: TrainConfig, tmp_path: Path) -> None:
    """|w| was 1e24 after CartPole with updates_per_step=32 and an average over 10."""
    changes = {"learner.engine": engine, "evaluation.network": "average", "evaluation.average_updates": 10}
    many = {"updates_per_step": 32, "evaluation.every": 200, "evaluation.beside": False, "steps": 300}
    trained = train(with_changes(small, changes | many), RunDir(tmp_path))
    assert all(float(np.abs(value).max()) < 100 for value in trained.weights.values())


def test_before_anything_was_averaged_it_is_the_network() -> None:
    learner, average = averaged(horizon=100)
    feed(learner, average, {3: 7.0})
    assert np.array_equal(average.weights()["weight"], [7, 7, 7])
    assert average.arrays().keys() == {"updates"}


def test_what_it_said_stays_when_it_goes_on() -> None:
    learner, average = averaged(horizon=20)
    feed(learner, average, {1: 1.0})
    said = average.weights()
    feed(learner, average, {2: 9.0})
    assert np.array_equal(said["weight"], [1, 1, 1])
    assert np.array_equal(average.weights()["weight"], [5, 5, 5])


def test_it_goes_on_from_what_it_said() -> None:
    learner, average = averaged(horizon=40)
    feed(learner, average, {updates: float(np.sin(updates)) for updates in range(2, 30, 2)})
    other = WeightAverage(40, cast(Learner, learner))
    arrays = average.arrays()
    other.load_arrays(arrays, {"weight": arrays["weights.weight"], "mean": arrays["weights.mean"]})
    learner.at(31, 7.0)
    for one in (average, other):
        one.follow()
    assert other.updates == average.updates == 31
    assert np.array_equal(other.weights()["weight"], average.weights()["weight"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [NetworkConfig(hidden=(70, 5), dueling=True), NetworkConfig(hidden=())])
def test_parameters_have_names_and_get_back(engine: Any, network: NetworkConfig) -> None:
    config = replace(TrainConfig(), network=network)
    learner = engine(config, EnvSpec(ObsSpec((7,)), 3), 0)
    learner.set_obs_stats(np.full(7, 0.2, np.float32), np.full(7, 1.3, np.float32))
    weights, flat = learner.weights(), learner.parameters().copy()
    named = learner.unpack(flat)
    assert named.keys() == weights.keys()
    assert all(np.array_equal(named[name], weights[name]) for name in weights)
    assert np.array_equal(learner.pack(named), flat)
    half = learner.unpack(flat / 2)
    for name, value in weights.items():
        assert np.array_equal(half[name], value if name.startswith("prepare") else value / 2), name

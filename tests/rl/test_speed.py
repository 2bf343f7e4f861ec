"""A TD step and an environment step have not become slower: timed beside loops in numpy, on any machine, busy or not.

Processor time of alternating runs; the least of each counts, as whatever disturbs a run only adds to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from nimbleq.config import EnvConfig, LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.envs.cartpole import NativeEnvBatch, VectorEntryEnvBatch
from nimbleq.rl.envs.extension import environment_extension
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec

SLOWER = 1.5
ROUNDS = 40
TD_STEP, ENV_STEP = 0.22, 0.039
"""Processor time of ours ÷ that of the loop in numpy, as measured; `SLOWER` times as much fails."""


def ratio(ours: Callable[[], object], reference: Callable[[], object]) -> float:
    """Least time of ``ours`` ÷ least time of ``reference``."""
    least = [np.inf, np.inf]
    for _ in range(ROUNDS):
        for which, call in enumerate((ours, reference)):
            start = time.process_time_ns()
            call()
            least[which] = min(least[which], time.process_time_ns() - start)
    return float(least[0] / least[1])


class NumpyStep:
    """The gradient step of two hidden layers with ReLU, double targets and Adam, one numpy call after the other."""

    def __init__(self, obs: int, hidden: int, actions: int) -> None:
        rng = np.random.default_rng(0)
        shapes = [(obs, hidden), (hidden, hidden), (hidden, actions)]
        self.weights = [rng.normal(size=shape).astype(np.float32) / 8 for shape in shapes]
        self.target = [weight.copy() for weight in self.weights]
        self.first, self.second = ([np.zeros_like(weight) for weight in self.weights] for _ in range(2))

    def forward(self, weights: list[Array], x: Array) -> list[Array]:
        found = [x]
        for at, weight in enumerate(weights):
            x = x @ weight
            found.append(x if at == len(weights) - 1 else np.maximum(x, 0))
            x = found[-1]
        return found

    def update(self, batch: Batch) -> None:
        rows = np.arange(len(batch.action))
        best = self.forward(self.weights, batch.next_obs)[-1].argmax(axis=1)
        goal = batch.reward + batch.discount * self.forward(self.target, batch.next_obs)[-1][rows, best]
        activations = self.forward(self.weights, batch.obs)
        delta = np.zeros_like(activations[-1])
        delta[rows, batch.action] = 2 * batch.weight * (activations[-1][rows, batch.action] - goal) / len(rows)
        for at in reversed(range(len(self.weights))):
            gradient, weight = activations[at].T @ delta, self.weights[at]
            delta = (delta @ weight.T) * (activations[at] > 0)
            self.first[at] += np.float32(0.1) * (gradient - self.first[at])
            self.second[at] += np.float32(0.001) * (gradient * gradient - self.second[at])
            weight -= np.float32(1e-3) * self.first[at] / (np.sqrt(self.second[at]) + np.float32(1e-8))
            self.target[at] += np.float32(0.005) * (weight - self.target[at])


def test_half_as_fast_is_seen() -> None:
    x = np.ones((200, 200), np.float32)
    assert ratio(lambda: (x @ x, x @ x), lambda: x @ x) > SLOWER


@pytest.mark.skipif(native_available(NetworkConfig()) is not None, reason="the native learner was not compiled")
def test_a_td_step_is_as_fast_as_it_was() -> None:
    config = TrainConfig(
        network=NetworkConfig(hidden=(64, 64), layer_norm=False, normalize_obs=False),
        learner=LearnerConfig(batch_size=64, target="polyak", max_grad_norm=0.0),
    )
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 64, 8)).astype(np.float32)
    numbers = rng.random((3, 64)).astype(np.float32)
    batch = Batch(obs, rng.integers(4, size=64), numbers[0], numbers[1], next_obs, numbers[2], np.arange(64))
    learner, reference = NativeLearner(config, EnvSpec(ObsSpec((8,)), 4), 0), NumpyStep(8, 64, 4)
    many = [batch] * 20
    found = ratio(lambda: [learner.update(each) for each in many], lambda: [reference.update(each) for each in many])
    assert found < SLOWER * TD_STEP


def test_an_environment_step_is_as_fast_as_it_was() -> None:
    extension = environment_extension()
    if extension is None:
        pytest.skip("the environments were not compiled")
    config, every = EnvConfig("CartPole-v1"), np.arange(64)
    ours, reference = NativeEnvBatch(config, 64, extension), VectorEntryEnvBatch(config, 64)
    left, right = np.zeros(64, np.int64), np.ones(64, np.int64)
    for batch in (ours, reference):
        for index in range(64):
            batch.reset(index, index)

    def play(batch: NativeEnvBatch | VectorEntryEnvBatch) -> None:
        for _ in range(50):
            batch.step(every, left)
            batch.step(every, right)

    found = ratio(lambda: play(ours), lambda: play(reference))
    assert found < SLOWER * ENV_STEP

"""Noisy layers in C against PyTorch, which is given the same noise; exploring, saving, refusing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.learners import torch as torch_learner
from nimbleq.rl.learners.native import NativeLearner
from nimbleq.rl.nets.noisy import NoisyLinear
from nimbleq.types import Array
from tests.rl.learners.test_native_learner import (
    CONFIG,
    largest_difference,
    one,
    pair,
    pytestmark,
    spec_of,
    stacked_batches,
)

__all__ = ["pytestmark"]

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"learner.max_grad_norm": 0.5},
    "no target": {"learner.target": "none"},
    "rainbow": {"network.head": "c51", "network.atoms": 7, "network.dueling": True, "learner.target": "polyak"},
    "linear": {"network.hidden": (), "network.dueling": True, "network.layer_norm": True},
}


def given(layers: Sequence[NoisyLinear], factors: Array) -> None:
    """Lay the native learner's factors of one network out for PyTorch's layers, in their order."""
    values, start = torch.from_numpy(factors), 0

    def take(count: int) -> torch.Tensor:
        nonlocal start
        start += count
        return values[start - count : start]

    dueling = len(layers) > 1 and layers[-1].weight.shape[1] == layers[-2].weight.shape[1] and layers[-1].dueling  # type: ignore[attr-defined]
    for layer in layers[: -2 if dueling else -1]:
        layer.drawn = take(layer.weight.shape[1]), take(layer.weight.shape[0])
    head = layers[-2:] if dueling else layers[-1:]
    inputs = [take(layer.weight.shape[1]) for layer in head]
    for layer, seen in zip(head, inputs, strict=True):
        layer.drawn = seen, take(layer.weight.shape[0])


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_it_agrees_with_torch_on_the_same_noise(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config: TrainConfig = with_changes(CONFIG, {"network.noisy": True, **changes})
    spec = spec_of()
    theirs, ours = pair(config, spec)
    drawn: list[Array] = []
    for network in (theirs.online, theirs.target):
        for layer in network.modules():
            if isinstance(layer, NoisyLinear):
                layer.dueling = config.network.dueling  # type: ignore[assignment]

    @contextmanager
    def noise(layers: Sequence[NoisyLinear], generator: torch.Generator) -> Iterator[None]:
        given(layers, drawn.pop(0))
        yield

    monkeypatch.setattr(torch_learner, "noise", noise)
    batches = stacked_batches(20, 32, spec)
    assert largest_difference({**theirs.arrays(), "rng": np.zeros(1)}, {**ours.arrays(), "rng": np.zeros(1)}) == 0
    for update in range(20):
        assert ours._noise is not None
        state = ours._noise.state()
        drawn.extend(ours._noise.draw(2))
        ours._noise.load(state)
        batch = one(batches, update)
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=3e-5)
    assert largest_difference({**theirs.arrays(), "rng": np.zeros(1)}, {**ours.arrays(), "rng": np.zeros(1)}) < 1e-5
    for layer in theirs.online.modules():
        if isinstance(layer, NoisyLinear):
            layer.drawn = None
    assert ours.q(batches.obs[0]) == pytest.approx(theirs.q(batches.obs[0]), abs=1e-5)


def test_it_explores_and_goes_on_from_where_it_was() -> None:
    config, spec = with_changes(CONFIG, {"network.noisy": True, "network.noisy_sigma": 2.0}), spec_of()
    first, second = NativeLearner(config, spec, 0), NativeLearner(config, spec, 1)
    obs = stacked_batches(1, 64, spec).obs[0]
    greedy = first.act(obs)
    explored = [first.act(obs, explore=True) for _ in range(5)]
    assert any(not np.array_equal(greedy, action) for action in explored)
    assert not np.array_equal(explored[0], explored[1])
    assert np.array_equal(first.act(obs), greedy)
    second.load_arrays(first.arrays())
    batches = stacked_batches(6, 32, spec)
    for update in range(6):
        assert np.array_equal(first.act(obs, explore=True), second.act(obs, explore=True))
        first.update(one(batches, update))
        second.update(one(batches, update))
    mine, its = first.arrays(), second.arrays()
    assert all(np.array_equal(value, its[name]) for name, value in mine.items())

"""Divided weights in the C learner: as in the PyTorch learner, in every kind of update, from state to state."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.states import q_values
from nimbleq.config import NetworkConfig, TrainConfig, with_changes
from nimbleq.rl.learners.imitation import Imitation
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.types import Array
from tests.rl.learners.test_native_learner import (
    CONFIG,
    LARGE,
    OPTIONS,
    decided_by_rounding,
    largest_difference,
    one,
    pair,
    spec_of,
    stacked_batches,
)

pytestmark = pytest.mark.skipif(
    native_available(NetworkConfig()) is not None, reason="the native learner was not compiled"
)

SPECTRAL: TrainConfig = with_changes(CONFIG, {"network.spectral_norm": True, "learner.target_every": 9})
UPDATES = 20
CHOSEN = ("plain", "no_target", "polyak", "linear", "deep", "c51_soft", "everything")


def other_vectors(state: dict[str, Array]) -> dict[str, Array]:
    """Somewhat wrong ones, so that a step of power iteration changes what is computed."""
    rng, found = np.random.default_rng(0), dict(state)
    for name, vector in state.items():
        if name.endswith(("left", "right")):
            moved = vector + rng.normal(0, 0.4 * len(vector) ** -0.5, len(vector))
            found[name] = (moved / np.linalg.norm(moved)).astype(np.float32)
    return found


@pytest.mark.parametrize("option", CHOSEN)
def test_weights_and_vectors_agree_with_torch(option: str) -> None:
    config, spec = with_changes(SPECTRAL, OPTIONS[option]), spec_of()
    theirs, ours = pair(config, spec)
    batches = stacked_batches(UPDATES, config.learner.batch_size, spec)
    assert largest_difference(theirs.arrays(), ours.arrays()) == 0
    state = other_vectors(theirs.arrays())
    theirs.load_arrays(state)
    ours.load_arrays(state)
    for update in range(UPDATES):
        batch = one(batches, update)
        batch.weight[decided_by_rounding(theirs, batch)] = 0
        assert ours.update(batch) == pytest.approx(theirs.update(batch), rel=1e-4, abs=1e-4)
    assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5
    obs = batches.obs[0]
    assert ours.q(obs) == pytest.approx(theirs.q(obs), abs=5e-5)
    assert q_values(ours.graph(), obs) == pytest.approx(ours.q(obs), abs=5e-5)


def test_the_norms_are_one_and_imitation_keeps_them() -> None:
    spec, size = spec_of(), 32
    config = with_changes(SPECTRAL, {"learner.lr": 1e-2, "learner.lr_end": 1e-2})
    theirs, ours = pair(config, spec)
    rng = np.random.default_rng(1)
    goal = Imitation(rng.dirichlet(np.ones(3), size).astype(np.float32), np.ones(size, np.float32), 0.7)
    batches = stacked_batches(UPDATES, size, spec)
    before = ours.weights()
    for update in range(UPDATES):
        for learner in (theirs, ours):
            learner.imitate(one(batches, update).obs, goal)
    assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5
    weights, graph = ours.weights(), ours.graph()
    for name in ("body.0.weight", "body.2.weight"):
        assert abs(np.linalg.norm(weights[name], 2) / np.linalg.norm(before[name], 2) - 1) > 0.05
        assert np.linalg.norm(graph.weights[name], 2) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("target", ["hard", "polyak", "none"])
def test_resumed_and_shared_updates_give_the_same_bits(target: str) -> None:
    config, spec = with_changes(SPECTRAL, {**LARGE, "learner.target": target}), spec_of()
    batches = stacked_batches(12, 100, spec)
    straight, second = (NativeLearner(config, spec, seed=0) for _ in range(2))
    straight.threads, second.threads = 1, 3
    errors = straight.update_many(batches)
    for update in range(12):
        second.q(batches.obs[0, :3])
        assert np.array_equal(second.update(one(batches, update)), errors[update])
        state, second = second.arrays(), NativeLearner(config, spec, seed=update)
        second.load_arrays(state)
    assert all(np.array_equal(value, second.arrays()[name]) for name, value in straight.arrays().items())

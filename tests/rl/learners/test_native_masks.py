"""Masks that move in the C learner: where the PyTorch learner's do, with whatever else an update has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nimbleq.config import NetworkConfig, TrainConfig, with_changes
from nimbleq.rl.learners import sparse_masks
from nimbleq.rl.learners.imitation import Imitation
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.rl.learners.sparse_masks import PREFIX
from tests.rl.learners.test_native_learner import (
    CONFIG,
    LARGE,
    OPTIONS,
    decided_by_rounding,
    largest_difference,
    one,
    pair,
    part,
    spec_of,
    stacked_batches,
)

pytestmark = pytest.mark.skipif(
    native_available(NetworkConfig()) is not None, reason="the native learner was not compiled"
)

EVERY = 7
UPDATES = 40
DYNAMIC: TrainConfig = with_changes(
    CONFIG, {"network.sparsity": 0.7, "network.sparsity_mode": "dynamic", "learner.target_every": 9}
)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_masks, "EVERY", EVERY)
    monkeypatch.setattr(sparse_masks, "UNTIL", 5 * EVERY)


def masks(state: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in state.items() if name.startswith(PREFIX)}


@pytest.mark.parametrize("option", ["plain", "clipped", "polyak", "radam", "deep_norm", "c51_soft", "everything"])
def test_the_same_weights_move_as_in_torch(option: str) -> None:
    config, spec = with_changes(DYNAMIC, OPTIONS[option]), spec_of()
    theirs, ours = pair(config, spec)
    batches = stacked_batches(UPDATES, config.learner.batch_size, spec)
    first = last = masks(theirs.arrays())
    moves = 0
    for update in range(UPDATES):
        batch = one(batches, update)
        batch.weight[decided_by_rounding(theirs, batch)] = 0
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=1e-4)
        now, its = masks(ours.arrays()), masks(theirs.arrays())
        assert all(np.array_equal(now[name], its[name]) for name in its)
        assert all(now[name].sum() == first[name].sum() for name in now)
        moves += any((now[name] != last[name]).any() for name in now)
        last = now
    assert moves == 4, "after 7, 14, 21 and 28 updates, and after 35 no more"
    assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5


def test_stacked_and_resumed_and_shared_updates_give_the_same_bits() -> None:
    config, spec = with_changes(DYNAMIC, LARGE), spec_of()
    batches = stacked_batches(UPDATES, 100, spec)
    straight, second = (NativeLearner(config, spec, seed=0) for _ in range(2))
    straight.threads = 1
    errors = straight.update_many(batches)
    for stop in range(UPDATES):  # also right before and after masks move
        found = second.update(one(batches, stop))
        assert np.array_equal(found, errors[stop])
        state = second.arrays()
        second = NativeLearner(config, spec, seed=stop)
        second.threads = 1 + stop % 3
        second.load_arrays(state)
    its = second.arrays()
    assert all(np.array_equal(value, its[name]) for name, value in straight.arrays().items())


def test_a_bad_batch_behind_a_move_changes_nothing() -> None:
    spec = spec_of()
    learner = NativeLearner(DYNAMIC, spec, seed=0)
    before, batches = learner.arrays(), stacked_batches(UPDATES, 32, spec)
    batches.action[-1] = 3
    with pytest.raises(ValueError, match="action 3"):
        learner.update_many(batches)
    assert largest_difference(before, learner.arrays()) == 0
    learner.update_many(part(batches, slice(UPDATES - 1)))
    assert learner.updates == UPDATES - 1


def test_they_move_where_it_imitates_and_not_in_frozen_layers() -> None:
    spec, size = spec_of(), 16
    theirs, ours = pair(DYNAMIC, spec)
    batches = stacked_batches(2 * EVERY + 2, size, spec)
    rng = np.random.default_rng(1)
    goal = Imitation(rng.dirichlet(np.ones(3), size).astype(np.float32), np.ones(size, np.float32), 0.7)
    first = masks(theirs.arrays())
    for update in range(EVERY + 1):
        for learner in (theirs, ours):
            learner.imitate(one(batches, update).obs, goal)
    between = masks(ours.arrays())
    assert all((between[name] != first[name]).any() for name in ("mask.body.0.weight", "mask.body.2.weight"))
    for learner in (theirs, ours):
        learner.freeze(1)
    for update in range(EVERY + 1, 2 * EVERY + 2):
        for learner in (theirs, ours):
            learner.update_towards(one(batches, update), goal)
    after = masks(ours.arrays())
    assert np.array_equal(after["mask.body.0.weight"], between["mask.body.0.weight"])
    assert (after["mask.body.2.weight"] != between["mask.body.2.weight"]).any()
    assert all(np.array_equal(after[name], value) for name, value in masks(theirs.arrays()).items())
    assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5

"""The learner in JAX against the one in PyTorch: update by update, and its state; that it compiles everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec
from tests.rl.learners.test_native_learner import CONFIG, decided_by_rounding, largest_difference, one, stacked_batches

jax = pytest.importorskip("jax")

from nimbleq.rl.learners.xla.learner import XlaLearner  # noqa: E402

# Changes to CONFIG. Compiling takes a second each, so what does not hide each other is put together.
EVERYTHING: dict[str, Any] = {
    "network.layer_norm": True,
    "network.dueling": True,
    "network.normalize_obs": True,
    "network.obs_clip": 1.5,
    "learner.max_grad_norm": 0.05,
    "learner.target": "polyak",
    "learner.loss": "mse",
    "learner.lr_end": 1e-4,
    "learner.lr_updates": 20,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "huber, hard target": {"learner.target_every": 7},
    "radam": {"learner.optimizer": "radam", "learner.adam_eps": 1e-4, "learner.target": "none"},
    "munchausen": {
        "learner.munchausen": True,
        "learner.munchausen_tau": 0.5,
        "learner.reward_scale": 0.1,
        "learner.target": "polyak",
    },
    "pqn": {"algorithm": "pqn", "network.layer_norm": True, "learner.target": "none", "learner.loss": "mse"},
}
UPDATES = 30


def pair(config: TrainConfig, spec: EnvSpec) -> tuple[TorchLearner, XlaLearner]:
    learners = TorchLearner(config, spec, seed=3), XlaLearner(config, spec, seed=3)
    for learner in learners:
        learner.set_obs_stats(np.full(spec.obs.shape, 0.2, np.float32), np.full(spec.obs.shape, 1.3, np.float32))
    return learners


def masked(batches: Batch, actions: int) -> Batch:
    mask = np.random.default_rng(1).random((*batches.action.shape, actions)) < 0.4
    mask[~mask.any(axis=2), 0] = True
    now = mask.copy()
    np.put_along_axis(now, batches.action[..., None], True, axis=2)
    return batches._replace(next_mask=mask, mask=now)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(EVERYTHING, id="everything"),
        *(pytest.param(OPTIONS[name], id=name, marks=pytest.mark.tpu) for name in OPTIONS),
    ],
)
def test_weights_moments_and_target_agree_with_torch(changes: dict[str, Any]) -> None:
    config, spec = with_changes(CONFIG, changes), EnvSpec(ObsSpec((7,)), 3)
    theirs, ours = pair(config, spec)
    batches = stacked_batches(UPDATES, config.learner.batch_size, spec)
    if config.learner.munchausen:
        batches = masked(batches, 3)
    assert largest_difference(theirs.arrays(), ours.arrays()) == 0
    for update in range(UPDATES):
        batch = one(batches, update)
        batch.weight[decided_by_rounding(theirs, batch)] = 0
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=2e-5)
    assert ours.updates == theirs.updates == UPDATES
    assert largest_difference(theirs.arrays(), ours.arrays()) < 1e-5
    assert ours.q(batches.obs[0]) == pytest.approx(theirs.q(batches.obs[0]), abs=1e-5)
    assert np.array_equal(ours.act(batches.obs[0]), theirs.act(batches.obs[0]))


@pytest.mark.tpu
@pytest.mark.parametrize(("torso", "shape"), [("small", (4, 10, 10)), ("nature", (2, 44, 40))])
def test_pictures_agree_with_torch(torso: str, shape: tuple[int, ...]) -> None:
    config: TrainConfig = with_changes(CONFIG, {"network.torso": torso, "learner.batch_size": 4})
    spec = EnvSpec(ObsSpec(shape, "uint8"), 3)
    theirs, ours = TorchLearner(config, spec, seed=0), XlaLearner(config, spec, seed=0)
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(2, 4, *shape), dtype=np.uint8)
    numbers = np.ones(4, np.float32)
    batch = Batch(pictures[0], rng.integers(3, size=4), numbers, numbers / 2, pictures[1], numbers, np.arange(4))
    for _ in range(3):
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=2e-5)
    assert largest_difference(theirs.arrays(), ours.arrays()) < 2e-5


@pytest.mark.tpu
def test_saved_and_loaded_it_goes_on_bit_for_bit_and_from_torch() -> None:
    config, spec = with_changes(CONFIG, EVERYTHING), EnvSpec(ObsSpec((7,)), 3)
    theirs, first = pair(config, spec)
    second = XlaLearner(config, spec, seed=9)
    batches = stacked_batches(20, 32, spec)
    for update in range(10):
        theirs.update(one(batches, update))
        first.update(one(batches, update))
    second.load_arrays(first.arrays())
    for update in range(10, 20):
        first.update(one(batches, update))
        second.update(one(batches, update))
    mine, its = first.arrays(), second.arrays()
    assert all(np.array_equal(value, its[name]) for name, value in mine.items())
    second.load_arrays(theirs.arrays())
    assert largest_difference(second.arrays(), theirs.arrays()) == 0


def test_parameters_pack_and_unpack() -> None:
    config, spec = with_changes(CONFIG, EVERYTHING), EnvSpec(ObsSpec((7,)), 3)
    theirs, ours = pair(config, spec)
    assert np.array_equal(ours.parameters(), theirs.parameters())
    changed: Array = ours.parameters() + 1
    assert largest_difference(ours.unpack(changed), theirs.unpack(changed)) == 0
    assert np.array_equal(ours.pack(ours.unpack(changed)), changed)


def test_the_step_lowers_for_tpus_and_gpus() -> None:
    from jax import export

    from nimbleq.rl.learners.xla.ahead import sample_of
    from nimbleq.rl.learners.xla.learner import initial_state
    from nimbleq.rl.learners.xla.step import td_step

    config, spec = with_changes(CONFIG, EVERYTHING), EnvSpec(ObsSpec((7,)), 3)
    state, _ = initial_state(config, spec, seed=0)
    step = jax.jit(lambda state, sample: td_step(config, state, sample))
    exported = export.export(step, platforms=("tpu", "cuda", "cpu"))(state, sample_of(config, spec))
    assert exported.platforms == ("tpu", "cuda", "cpu")

"""The C learner against the PyTorch learner, update by update and after a thousand; its state; its errors."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError, FileError
from nimbleq.rl.learners import native as native_learner
from nimbleq.rl.learners.imitation import Imitation
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec
from tests.rows import rows

pytestmark = pytest.mark.skipif(
    native_available(NetworkConfig()) is not None, reason="the native learner was not compiled"
)

# Adam divides a gradient by its size: with its usual epsilon one that is nothing but rounding is a step like any other.
CONFIG = TrainConfig(
    network=NetworkConfig(hidden=(24, 20), layer_norm=False, normalize_obs=False),
    learner=LearnerConfig(
        batch_size=32, max_grad_norm=0.0, loss="huber", target="hard", target_every=50, adam_eps=1e-5
    ),
)
# Each is a change to CONFIG; together they meet every field of LearnerConfig and NetworkConfig that applies.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer_norm": {"network.layer_norm": True},
    "dueling": {"network.dueling": True},
    "normalised": {"network.normalize_obs": True, "network.obs_clip": 1.5},
    "mse": {"learner.loss": "mse"},
    "clipped": {"learner.max_grad_norm": 0.05},
    "no_target": {"learner.target": "none"},
    "single": {"learner.double": False},
    "polyak": {"learner.target": "polyak", "learner.tau": 0.05},
    "ramp": {"learner.lr": 2e-3, "learner.lr_end": 1e-4, "learner.lr_updates": 300},
    "radam": {"learner.optimizer": "radam", "learner.adam_eps": 1e-4},
    "scaled": {"learner.reward_scale": 0.1, "learner.adam_eps": 1e-4},
    "linear": {"network.hidden": ()},
    "deep": {"network.hidden": (1, 37, 17, 5), "learner.batch_size": 21},
    "deep_norm": {"network.hidden": (13, 37, 17), "network.layer_norm": True, "learner.batch_size": 21},
    "square": {"network.hidden": (7, 7, 3)},
    "square_wide": {"network.hidden": (64, 64)},
    "wide": {"network.hidden": (130, 64), "learner.batch_size": 50, "network.layer_norm": True},
    "munchausen": {"learner.munchausen": True, "learner.munchausen_tau": 0.3, "learner.target": "polyak"},
    "c51": {"network.head": "c51", "network.atoms": 21, "network.v_min": -4.0, "network.v_max": 4.0},
    "c51_soft": {
        "network.head": "c51",
        "network.atoms": 11,
        "network.dueling": True,
        "network.layer_norm": True,
        "learner.munchausen": True,
        "learner.munchausen_tau": 0.3,
        "learner.max_grad_norm": 0.5,
    },
    "hl-gauss": {
        "network.head": "hl-gauss",
        "network.atoms": 11,
        "network.v_min": -4.0,
        "network.v_max": 4.0,
        "network.smoothing": 1.5,
        "network.dueling": True,
        "learner.munchausen": True,
        "learner.munchausen_tau": 0.3,
    },
    "qr": {"network.head": "qr", "network.atoms": 9, "network.dueling": True},
    "qr_soft": {"network.head": "qr", "network.atoms": 1, "learner.munchausen": True, "learner.munchausen_tau": 0.3},
    "sparse": {"network.sparsity": 0.7, "network.dueling": True, "learner.max_grad_norm": 0.5},
    "everything": {
        "network.layer_norm": True,
        "network.dueling": True,
        "network.normalize_obs": True,
        "learner.max_grad_norm": 0.5,
        "learner.target": "polyak",
        "learner.loss": "mse",
        "learner.lr_end": 1e-4,
        "learner.lr_updates": 500,
    },
}
UPDATES = 400


def spec_of(obs: int = 7, actions: int = 3) -> EnvSpec:
    return EnvSpec(ObsSpec((obs,)), actions)


def stacked_batches(count: int, size: int, spec: EnvSpec, seed: int = 0) -> Batch:
    """A learnable problem (so that both learners settle): rewards depend on the observation and the action."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(2, count, size, *spec.obs.shape)).astype(np.float32)
    action = rng.integers(spec.actions, size=(count, size))
    reward = (obs[0, ..., 0] * (action - 1) + 0.1 * rng.normal(size=(count, size))).astype(np.float32)
    discount = (0.9 ** rng.integers(1, 4, size=(count, size)) * (rng.random((count, size)) > 0.1)).astype(np.float32)
    weight = rng.uniform(0.2, 1, size=(count, size)).astype(np.float32)
    return Batch(obs[0], action, reward, discount, obs[1], weight, np.zeros((count, size), np.int64))


def one(batches: Batch, update: int) -> Batch:
    return part(batches, update)


def part(batches: Batch, which: int | slice) -> Batch:
    return Batch(*(None if array is None else array[which] for array in batches))


def pair(config: TrainConfig, spec: EnvSpec) -> tuple[TorchLearner, NativeLearner]:
    learners = TorchLearner(config, spec, seed=3), NativeLearner(config, spec, seed=3)
    for learner in learners:
        learner.set_obs_stats(np.full(spec.obs.shape, 0.2, np.float32), np.full(spec.obs.shape, 1.3, np.float32))
    return learners


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def decided_by_rounding(learner: TorchLearner, batch: Batch) -> Array:
    """Samples (``bool[B]``) of which a rounding, so another order of additions, changes more than a little.

    Their two best next actions are worth the same, or a unit is as good as at the kink of its ReLU.
    """
    first, second = np.sort(learner.q(batch.next_obs), axis=1)[:, -2:].T[::-1]
    unsure = np.asarray(first - second < 1e-3)

    def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
        unsure[((inputs[0] != 0) & (inputs[0].abs() < 1e-5)).any(dim=1).numpy()] = True

    hooks = [m.register_forward_pre_hook(look) for m in learner.online.modules() if isinstance(m, nn.ReLU)]
    learner.q(batch.obs)
    for hook in hooks:
        hook.remove()
    return unsure


ALONE = {
    "layer_norm", "dueling", "normalised", "mse", "clipped", "single", "polyak", "ramp", "scaled", "deep_norm",
    "square", "square_wide", "c51", "qr_soft",
}  # fmt: skip
"""What "everything", another shape or the masks' test meets too."""


@pytest.mark.parametrize("changes", rows(OPTIONS, ALONE))
def test_weights_agree_with_torch(changes: dict[str, Any]) -> None:
    """Samples that a rounding decides weigh nothing: else every processor ends somewhere else, PyTorch's too."""
    config: TrainConfig = with_changes(CONFIG, changes)
    spec = spec_of()
    theirs, ours = pair(config, spec)
    slow = config.network.head != "q" or config.network.sparsity > 0  # PyTorch takes its time
    updates = UPDATES // 5 if slow else UPDATES
    batches = stacked_batches(updates, config.learner.batch_size, spec)
    assert largest_difference(theirs.arrays(), ours.arrays()) == 0
    left_out = 0
    for update in range(updates):
        batch = one(batches, update)
        unsure = decided_by_rounding(theirs, batch)
        left_out += int(unsure.sum())
        batch.weight[unsure] = 0  # a view: in what `update_many` gets too
        error = theirs.update(batch)
        if update < 10:
            assert ours.update(batch) == pytest.approx(error, abs=2e-5)
            assert largest_difference(theirs.arrays(), ours.arrays()) < 5e-6
    assert left_out < 0.02 * batches.weight.size
    ours.update_many(part(batches, slice(10, None)))
    assert ours.updates == theirs.updates == updates
    assert largest_difference(theirs.weights(), ours.weights()) < 1e-5
    assert ours.q(batches.obs[0]) == pytest.approx(theirs.q(batches.obs[0]), abs=1e-5)


@pytest.mark.parametrize("obs", [1, 8, 16, 17, 40])
@pytest.mark.parametrize("actions", [1, 2, 9])
def test_any_width_and_batch(obs: int, actions: int) -> None:
    spec = spec_of(obs, actions)
    config = with_changes(CONFIG, {"network.dueling": True, "network.layer_norm": True, "learner.max_grad_norm": 1.0})
    theirs, ours = pair(config, spec)
    for size in (1, 15, 16, 33, 100):  # also beyond the configured batch size
        batch = one(stacked_batches(1, size, spec, seed=size), 0)
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=2e-5)
        assert ours.q(batch.obs) == pytest.approx(theirs.q(batch.obs), abs=1e-5)
        assert np.array_equal(ours.act(batch.obs), ours.q(batch.obs).argmax(axis=1))
    assert largest_difference(theirs.weights(), ours.weights()) < 5e-6


@pytest.mark.parametrize("target", ["none", "hard", "polyak"])
@pytest.mark.parametrize(
    "more",
    [
        {"learner.double": False},
        {"learner.double": True},
        {"learner.munchausen": True, "learner.munchausen_tau": 0.5},
        {"learner.munchausen": True, "learner.munchausen_tau": 0.5, "network.head": "c51", "network.atoms": 7},
        {"network.head": "qr", "network.atoms": 5},
        {"network.head": "hl-gauss", "network.atoms": 7},
    ],
    ids=["single", "double", "munchausen", "c51", "qr", "hl-gauss"],
)
def test_action_masks_agree_with_torch(target: str, more: dict[str, Any]) -> None:
    changes = {"learner.target": target, "network.layer_norm": True, "network.dueling": True, **more}
    config, spec = with_changes(CONFIG, changes), spec_of(actions=5)
    theirs, ours = pair(config, spec)
    unmasked = stacked_batches(40, 33, spec)
    mask = np.random.default_rng(1).random((40, 33, 5)) < 0.3
    mask[~mask.any(axis=2), 4] = True
    legal_now = mask.copy()
    np.put_along_axis(legal_now, unmasked.action[..., None], True, axis=2)
    batches = unmasked._replace(next_mask=mask, mask=legal_now)
    first = ours.update(one(batches, 0))
    assert first == pytest.approx(theirs.update(one(batches, 0)), abs=2e-5)
    assert not np.allclose(first, pair(config, spec)[1].update(one(unmasked, 0))), "the mask changes nothing"
    for update in range(1, 10):
        theirs.update(one(batches, update))
    ours.update_many(part(batches, slice(1, 10)))
    assert largest_difference(theirs.arrays(), ours.arrays()) < 1e-5
    obs, now = batches.obs[0], mask[0]
    assert np.array_equal(ours.act(obs, now), np.where(now, ours.q(obs), -np.inf).argmax(axis=1))
    with pytest.raises(ValueError, match="5 actions"):
        ours.update_many(batches._replace(next_mask=mask[..., :4]))


def test_saved_and_loaded_it_goes_on_bit_for_bit() -> None:
    config, spec = with_changes(CONFIG, OPTIONS["everything"]), spec_of()
    batches = stacked_batches(100, 32, spec)
    straight = NativeLearner(config, spec, seed=0)
    straight.update_many(batches)
    first, second = NativeLearner(config, spec, seed=0), NativeLearner(config, spec, seed=1)
    for update in range(50):
        first.update(one(batches, update))
    second.load_arrays(first.arrays())
    second.update_many(part(batches, slice(50, None)))
    its = second.arrays()
    assert all(np.array_equal(value, its[name]) for name, value in straight.arrays().items())


LARGE = {"network.hidden": (200, 190), "network.layer_norm": True}
"""So many multiply-adds that an update is shared by threads."""


@pytest.mark.parametrize("option", ["plain", "clipped", "polyak", "munchausen", "c51_soft", "sparse", "hl-gauss"])
@pytest.mark.parametrize("size", [100, 64])
def test_threads_change_no_bit(option: str, size: int) -> None:
    config, spec = with_changes(CONFIG, {**OPTIONS[option], **LARGE, "learner.batch_size": size}), spec_of()
    batches = stacked_batches(20, size, spec)
    alone, shared = NativeLearner(config, spec, seed=0), NativeLearner(config, spec, seed=0)
    alone.threads, shared.threads = 1, 3
    assert np.array_equal(alone.update_many(batches), shared.update_many(batches))
    its = shared.arrays()
    assert all(np.array_equal(value, its[name]) for name, value in alone.arrays().items())
    assert all(np.isfinite(value).all() for value in its.values())


def test_threads_share_imitation_and_noise_and_survive_a_fork() -> None:
    config = with_changes(CONFIG, {**LARGE, "network.noisy": True, "learner.max_grad_norm": 0.1})
    spec, found = spec_of(), []
    obs = np.random.default_rng(0).normal(size=(130, *spec.obs.shape)).astype(np.float32)
    goal = Imitation(np.full((130, spec.actions), 1 / spec.actions, np.float32), np.ones(130, np.float32), 1.0)
    for threads in (1, 2):
        learner = NativeLearner(config, spec, seed=0)
        learner.threads = threads
        learner.update_many(stacked_batches(20, 130, spec))
        for _ in range(20):
            learner.imitate(obs, goal)
        found.append(learner.arrays())
    assert all(np.array_equal(value, found[1][name]) for name, value in found[0].items())
    child = os.fork()
    if child == 0:  # it has none of the threads
        learner.update_many(stacked_batches(20, 130, spec))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(ValueError, match="1 to 8 threads"):
        learner.threads = 9


def test_state_moves_between_engines() -> None:
    config, spec = with_changes(CONFIG, OPTIONS["everything"]), spec_of()
    theirs, ours = pair(config, spec)
    batches = stacked_batches(20, 32, spec)
    for update in range(10):
        theirs.update(one(batches, update))
    ours.load_arrays(theirs.arrays())
    for update in range(10, 20):
        batch = one(batches, update)
        assert ours.update(batch) == pytest.approx(theirs.update(batch), abs=2e-5)
    assert largest_difference(theirs.arrays(), ours.arrays()) < 1e-5


def test_denormals_are_flushed_only_inside() -> None:
    learner = NativeLearner(CONFIG, spec_of(), seed=0)
    learner.update_many(stacked_batches(2, 32, spec_of()))
    assert np.float32(1e-30) * np.float32(1e-10) > 0


def test_nan_is_not_hidden() -> None:
    learner = NativeLearner(with_changes(CONFIG, {"network.normalize_obs": True}), spec_of(), seed=0)
    batch = one(stacked_batches(1, 32, spec_of()), 0)
    batch.obs[5, 2] = np.nan
    assert np.isnan(learner.q(batch.obs)[5]).all()
    assert np.isnan(learner.update(batch)[5])


def test_padding_stays_zero() -> None:
    learner = NativeLearner(CONFIG, spec_of(), seed=0)
    learner.update_many(stacked_batches(20, 32, spec_of()))
    for view in learner._adam_m.values():
        if len(view.shape) == 2:
            used = view.read()
            assert np.abs(view.memory).sum(dtype=np.float64) == pytest.approx(np.abs(used).sum(dtype=np.float64))


def test_bad_batches_change_nothing() -> None:
    spec = spec_of()
    learner = NativeLearner(CONFIG, spec, seed=0)
    before = learner.arrays()
    batches = stacked_batches(2, 32, spec)
    for wrong, message in (
        (batches._replace(action=np.full((2, 32), 3)), "action 3"),
        (batches._replace(action=np.full((2, 32), -1)), "action -1"),
        (batches._replace(reward=batches.reward[:1]), "disagree"),
        (batches._replace(next_obs=batches.next_obs[..., :-1]), "7 features"),
        (batches._replace(obs=batches.obs[0]), "depth"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.update_many(wrong)
    with pytest.raises(ValueError, match="features"):
        learner.q(np.zeros((2, 6), np.float32))
    assert largest_difference(before, learner.arrays()) == 0


def test_foreign_state_is_refused() -> None:
    learner = NativeLearner(CONFIG, spec_of(), seed=0)
    with pytest.raises(FileError, match=r"online\.body\.0\.weight"):
        learner.load_arrays(NativeLearner(CONFIG, spec_of(obs=9), seed=0).arrays())
    arrays = learner.arrays()
    del arrays["updates"]
    with pytest.raises(FileError, match="updates"):
        learner.load_arrays(arrays)


def test_reasons_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NetworkConfig()
    assert native_available(network, ObsSpec((4,))) is None
    assert "torso" in str(native_available(replace(network, torso="nature")))
    assert "iqn" in str(native_available(replace(network, head="iqn")))
    assert native_available(replace(network, sparsity=0.5)) is None
    assert native_available(replace(network, sparsity=0.5, sparsity_mode="dynamic")) is None
    assert native_available(replace(network, head="c51"), learner=LearnerConfig(munchausen=True)) is None
    assert "uint8" in str(native_available(network, ObsSpec((84, 84, 4), "uint8")))
    assert "63" in str(native_available(replace(network, hidden=(8,) * 64)))
    monkeypatch.setattr(native_learner, "_extension", lambda: None)
    assert "compiler" in str(native_available(network))
    with pytest.raises(ConfigError, match="compiler"):
        NativeLearner(CONFIG, spec_of(), 0)


def test_views_keep_the_learner_alive() -> None:
    """Arrays over the C state own a reference to it: reading them after the learner is gone is safe."""
    views = [NativeLearner(CONFIG, spec_of(), seed=0)._online["advantage.weight"].memory for _ in range(50)]
    assert all(np.array_equal(a, b) for a, b in pairwise(views))


@pytest.mark.parametrize("kind", ["all zero", "dense", "half", "some units dead", "LayerNorm"])
@pytest.mark.parametrize("size", [1, 5, 64, 70, 129])
def test_zeros_that_are_skipped_change_nothing(kind: str, size: int) -> None:
    """The same biases in both engines decide which activations are zero: none, all, half of them or whole units."""
    spec = spec_of(obs=3, actions=2)
    config = with_changes(CONFIG, {"network.hidden": (70, 150), "network.layer_norm": kind == "LayerNorm"})
    theirs, ours = pair(config, spec)
    weights = theirs.weights()
    for name, values in weights.items():
        if name.startswith("body") and name.endswith("bias"):
            values += {"all zero": -20.0, "dense": 20.0}.get(kind, 0.0)
            if kind == "some units dead":
                values[::3] -= 20.0
    theirs.set_weights(weights)
    ours.set_weights(weights)
    batches = stacked_batches(4, size, spec, seed=size)
    zeros = (batches.obs @ weights["body.0.weight"].T + weights["body.0.bias"] <= 0).mean()
    assert {"all zero": zeros == 1, "dense": zeros == 0, "some units dead": zeros > 0.6}.get(kind, 0.3 < zeros < 0.7)
    for update in range(4):
        batch = one(batches, update)
        assert ours.update(batch) == pytest.approx(theirs.update(batch), rel=1e-5, abs=5e-5)
    assert largest_difference(theirs.weights(), ours.weights()) < 1e-5
    assert ours.q(batches.obs[0]) == pytest.approx(theirs.q(batches.obs[0]), rel=1e-5, abs=5e-5)


def test_a_batch_leaves_nothing_to_a_smaller_one() -> None:
    """Rows of the workspace that an earlier, larger and infinite batch filled are not read."""
    spec = spec_of()
    fresh, used = NativeLearner(CONFIG, spec, seed=0), NativeLearner(CONFIG, spec, seed=0)
    used.q(np.full((200, 7), np.inf, np.float32))
    batch = one(stacked_batches(1, 21, spec), 0)
    assert np.array_equal(fresh.update(batch), used.update(batch))
    assert largest_difference(fresh.arrays(), used.arrays()) == 0


def test_sparse_and_dense_rows_add_in_the_same_order() -> None:
    """A sample's Q-values do not depend on what else is in its batch, whichever way its rows are multiplied."""
    learner = NativeLearner(with_changes(CONFIG, {"network.hidden": (100, 70)}), spec_of(), seed=0)
    obs = np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)
    alone = np.concatenate([learner.q(row[None]) for row in obs])
    assert learner.q(obs) == pytest.approx(alone, abs=1e-6)

"""The learner on the device: the mathematics of the torch learner, all of it where the data is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nimbleq.config import LearnerConfig, NetworkConfig, ReplayConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.device import learner as module
from nimbleq.rl.learners.device.capture import Captured
from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.device.replay import DeviceReplay
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.rules import check_settings
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec, Step

SPEC = EnvSpec(ObsSpec((5,)), 3)
IMAGE = EnvSpec(ObsSpec((2, 12, 12), "uint8"), 3)
CONFIG = TrainConfig(
    network=NetworkConfig(hidden=(8, 8), dueling=True, v_min=-3.0, v_max=3.0, atoms=7, cosines=6, policy_fractions=4),
    learner=LearnerConfig(
        engine="device", device="cpu", batch_size=16, target="polyak", tau=0.25, lr=1e-2, lr_end=1e-3, lr_updates=10
    ),
    replay=ReplayConfig(capacity=200, n_step=2),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "q": {},
    "c51": {"network.head": "c51"},
    "qr": {"network.head": "qr"},
    "iqn": {"network.head": "iqn"},
    "noisy": {"network.noisy": True},
    "hard": {"learner.target": "hard", "learner.target_every": 3, "learner.loss": "huber"},
    "no target": {"learner.target": "none", "learner.reward_scale": 0.5},
    "munchausen": {"learner.munchausen": True, "learner.double": False},
    "radam": {"learner.optimizer": "radam"},
    "clipped": {"learner.max_grad_norm": 0.1, "network.dueling": False},
}
HEADS = ("q", "c51", "qr", "iqn", "noisy", "hard", "munchausen")


def changed(changes: dict[str, Any]) -> TrainConfig:
    config: TrainConfig = with_changes(CONFIG, changes)
    check_settings(config)
    return config


def batch(seed: int, size: int = 16) -> Batch:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(2, size, 5)).astype(np.float32)
    reward, weight = rng.normal(size=size).astype(np.float32), rng.random(size).astype(np.float32)
    discount = 0.9 * (rng.random(size) < 0.8).astype(np.float32)
    return Batch(normal[0], rng.integers(3, size=size), reward, discount, normal[1], weight, np.arange(size))


def filled(config: TrainConfig, spec: EnvSpec = SPEC, device: str = "cpu", steps: int = 30) -> DeviceReplay:
    rng = np.random.default_rng(0)
    replay = DeviceReplay(config.replay, 0.9, 2, spec.obs, 0, torch.device(device))

    def obs() -> Any:
        drawn = rng.integers(0, 256, (2, *spec.obs.shape)) if spec is IMAGE else rng.normal(size=(2, *spec.obs.shape))
        return drawn.astype(spec.obs.dtype)

    for _ in range(steps):
        reward, ends = rng.normal(size=2).astype(np.float32), rng.random((2, 2)) < 0.05
        replay.add(Step(obs(), rng.integers(3, size=2), reward, *ends, obs()))
    replay.settle()
    return replay


def assert_close(mine: DeviceLearner, its: TorchLearner | DeviceLearner, tolerance: float) -> None:
    one, other = mine.arrays(), its.arrays()
    assert one.keys() >= other.keys()
    for name in other.keys() - {"rng"}:
        assert one[name] == pytest.approx(other[name], abs=tolerance, rel=tolerance), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_batches_give_the_weights_of_the_torch_learner(variant: str) -> None:
    """Random fractions and noise included: both draw them in the same order."""
    config = changed(VARIANTS[variant])
    mine, its = DeviceLearner(config, SPEC, 3), TorchLearner(config, SPEC, 3)
    mean, std = np.linspace(-1, 1, 5, dtype=np.float32), np.linspace(0.5, 2, 5, dtype=np.float32)
    for learner in (mine, its):
        learner.set_obs_stats(mean, std)
    for seed in range(40):
        assert mine.update(batch(seed)) == pytest.approx(its.update(batch(seed)), abs=2e-4, rel=1e-3)
    assert_close(mine, its, 1e-4)
    obs = batch(99).obs
    assert mine.q(obs) == pytest.approx(its.q(obs), abs=1e-4)
    assert np.array_equal(mine.act(obs), its.act(obs))


def test_masked_actions_are_never_bootstrapped_from() -> None:
    mine, its = DeviceLearner(CONFIG, SPEC, 3), TorchLearner(CONFIG, SPEC, 3)
    mask = np.tile([True, False, True], (16, 1))
    for seed in range(5):
        sample = batch(seed)._replace(next_mask=mask)
        mine.update(sample)
        its.update(sample)
    assert_close(mine, its, 1e-5)
    mine.update(batch(7))
    its.update(batch(7)._replace(next_mask=mask))
    with pytest.raises(AssertionError):
        assert_close(mine, its, 1e-5)
    assert (mine.act(batch(0).obs, np.tile([False, True, False], (16, 1))) == 1).all()


@pytest.mark.parametrize("prioritized", [False, True])
def test_learning_from_replay_is_updating_with_what_was_drawn(prioritized: bool) -> None:
    config = changed({"replay.prioritized": prioritized})
    learner, other = DeviceLearner(config, SPEC, 0), DeviceLearner(config, SPEC, 0)
    replay, twin = filled(config), filled(config)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        learner.learn(replay)
        draw = twin.draw(config.learner.batch_size, generator)
        surprise = other.update(Batch(*(field.numpy() for field in draw[:7])))
        twin.reprioritize(draw.index, torch.from_numpy(surprise))
    assert learner.updates == other.updates == 10
    assert_close(learner, other, 0.0)
    if prioritized:
        assert replay.priorities is not None
        assert twin.priorities is not None
        assert torch.equal(replay.priorities.values, twin.priorities.values)
    assert learner.measures() == other.measures()
    assert learner.measures()["loss"] > 0


@pytest.mark.parametrize("variant", ["q", "iqn", "noisy", "radam"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(variant: str) -> None:
    config = changed(VARIANTS[variant])
    replay = filled(config)
    learner, other = DeviceLearner(config, SPEC, 1), DeviceLearner(config, SPEC, 2)
    for _ in range(7):
        learner.learn(replay)
    other.load_arrays(learner.arrays())
    obs = batch(0).obs
    for _ in range(7):
        learner.learn(replay)
        other.learn(replay)
        assert np.array_equal(learner.act(obs, explore=True), other.act(obs, explore=True))
    mine, its = learner.arrays(), other.arrays()
    assert mine.keys() == its.keys()
    assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_bf16_learns_nearly_the_same_and_every_weight_moves() -> None:
    """Also with ``double``, where the online network is asked without gradients first."""
    config = changed({"learner.precision": "bf16", "network.normalize_obs": False})
    half, whole = DeviceLearner(config, SPEC, 0), TorchLearner(config, SPEC, 0)
    before = half.weights()
    for seed in range(20):
        half.update(batch(seed))
        whole.update(batch(seed))
    obs = batch(99).obs
    assert half.q(obs) == pytest.approx(whole.q(obs), abs=0.1)
    assert not np.array_equal(half.q(obs), whole.q(obs))
    for name, value in half.weights().items():
        assert value.dtype == np.float32
        assert not np.array_equal(value, before[name]), name
    q = half.q(obs)
    assert not np.array_equal(q, torch.from_numpy(q).bfloat16().float().numpy()), "Q-values are not rounded"


def test_exploring_draws_noise_and_plain_acting_does_not() -> None:
    config = changed({"network.noisy": True, "network.noisy_sigma": 3.0})
    learner, its = DeviceLearner(config, SPEC, 0), TorchLearner(config, SPEC, 0)
    obs = batch(0).obs
    for _ in range(3):
        assert np.array_equal(learner.act(obs, explore=True), its.act(obs, explore=True))
    assert np.array_equal(learner.q(obs), learner.q(obs))
    assert not np.array_equal(learner._exploring_q(obs), learner._exploring_q(obs))


@pytest.mark.long
def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated ahead of time; only the code generator is left out, which takes a minute."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: compiled(f, dynamic=dynamic, backend="aot_eager"))
    config = changed({"learner.compile": True, "network.noisy": True})
    mine, its = DeviceLearner(config, SPEC, 0), TorchLearner(config, SPEC, 0)
    assert mine._loss is not module._loss
    for seed in range(3):
        assert mine.update(batch(seed)) == pytest.approx(its.update(batch(seed)), abs=1e-4)
    assert_close(mine, its, 1e-4)


class OneDevice(TorchDispatchMode):
    """Refuses what a CUDA graph could not record: operations that meet two devices or move between them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        met: list[Tensor] = []
        torch.utils._pytree.tree_map_only(Tensor, met.append, (args, kwargs, result))
        places = {tensor.device.type for tensor in met if tensor.dim() > 0 or tensor.device.type == "meta"}
        assert places <= {"meta"}, f"{func} meets {places}"
        assert len(met) == 0 or "meta" in places or all(tensor.dim() == 0 for tensor in met), func
        return result


class NoStep:
    """In place of an optimizer: PyTorch's refuse the device ``meta``."""

    def zero_grad(self) -> None: ...

    def step(self) -> None: ...


@pytest.mark.parametrize(
    ("spec", "prioritized"),
    [
        pytest.param(SPEC, True, id="vector, prioritized"),
        pytest.param(IMAGE, False, id="image"),
        pytest.param(SPEC, False, id="vector", marks=pytest.mark.long),
        pytest.param(IMAGE, True, id="image, prioritized", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("variant", HEADS)
def test_nothing_leaves_the_device_and_nothing_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch, variant: str, prioritized: bool, spec: EnvSpec
) -> None:
    """On the device ``meta``, which has shapes but no values: reading one, or a tensor of another device, fails."""
    monkeypatch.setattr(module, "_optimizer", lambda config, parameters, lr: NoStep())
    config = changed(VARIANTS[variant] | {"replay.prioritized": prioritized, "network.normalize_obs": False})
    learner = DeviceLearner(config, spec, 0, torch.device("meta"))
    replay = filled(config, spec, device="meta", steps=3)
    with OneDevice():
        learner.learn(replay)
        learner.learn(replay)


def test_a_missing_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"learner\.device is cuda.*use auto or cpu"):
        make_learner(changed({"learner.device": "cuda"}), SPEC, 0)
    auto = make_learner(changed({"learner.device": "auto"}), SPEC, 0)
    assert isinstance(auto, DeviceLearner)
    assert auto.device.type == "cpu"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"learner.engine": "torch"}, "device"),
        ({"learner.engine": "auto", "learner.device": "auto", "learner.precision": "bf16"}, "precision"),
        ({"learner.engine": "auto", "learner.device": "auto", "learner.compile": True}, "compile"),
        ({"algorithm": "pqn"}, "engine"),
    ],
)
def test_settings_that_only_the_device_has_are_refused_elsewhere(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"learner\.{name}"):
        changed(changes)


def test_without_cuda_a_captured_function_is_called_each_time() -> None:
    calls: list[int] = []
    captured = Captured(lambda: calls.append(len(calls)), torch.device("cpu"))
    for _ in range(6):
        captured()
    assert calls == [0, 1, 2, 3, 4, 5]


NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@NEEDS_CUDA
@pytest.mark.parametrize("spec", [SPEC, IMAGE], ids=["vector", "image"])
@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("variant", HEADS)
def test_a_recorded_graph_does_what_eager_does(variant: str, prioritized: bool, spec: EnvSpec) -> None:
    config = changed(VARIANTS[variant] | {"replay.prioritized": prioritized, "learner.device": "cuda"})
    graph, eager = DeviceLearner(config, spec, 0), DeviceLearner(config, spec, 0)
    replay, twin = filled(config, spec, "cuda"), filled(config, spec, "cuda")
    for _ in range(30):
        graph.learn(replay)
        eager.learn_from(twin)
    eager.updates = graph.updates
    assert graph._learning is not None
    assert graph._learning[0].graph is not None, "it was recorded"
    assert graph.measures() == pytest.approx(eager.measures(), rel=1e-3)
    assert_close(graph, eager, 1e-3)


@NEEDS_CUDA
def test_on_cuda_the_weights_are_those_of_the_cpu() -> None:
    config = changed({})
    on_cuda = DeviceLearner(replace(config, learner=replace(config.learner, device="cuda")), SPEC, 3)
    on_cpu = TorchLearner(config, SPEC, 3)
    for seed in range(20):
        assert on_cuda.update(batch(seed)) == pytest.approx(on_cpu.update(batch(seed)), abs=1e-3)
    assert_close(on_cuda, on_cpu, 1e-3)

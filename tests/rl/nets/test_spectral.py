"""Spectral normalisation: the largest singular value, its gradient, and the weights that leave the learner."""

import numpy as np
import torch

from nimbleq.config import TrainConfig, with_changes
from nimbleq.graph import ops
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.spectral import SpectralConv2d
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec

SPEC = EnvSpec(ObsSpec((2, 12, 12), "uint8"), 3)
CHANGES = {
    "network.torso": "impala", "network.spectral_norm": True, "network.hidden": (8,), "learner.batch_size": 4,
    "learner.lr": 1e-4, "learner.lr_end": 1e-4,
}  # fmt: skip


def largest(weight: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1).double(), 2))


def test_the_largest_singular_value_is_one_once_the_iteration_has_converged() -> None:
    torch.manual_seed(0)
    conv = SpectralConv2d(8, 6)
    with torch.no_grad():
        conv.weight *= 30.0
        conv.weight[2] = 3.0  # new singular vectors too
    assert abs(largest(conv.present()) - 1) > 0.01, "the vectors are those of other weights"
    for _ in range(500):
        conv(torch.zeros(1, 8, 4, 4))
    assert abs(largest(conv.present()) - 1) < 1e-5


def test_it_moves_with_learning_only() -> None:
    torch.manual_seed(0)
    conv, x = SpectralConv2d(3, 5), torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        conv.weight[0] *= 5.0
        before = conv.left.clone()
        conv(x)
    conv.eval()(x)
    assert torch.equal(conv.left, before)
    conv.train()(x)
    assert not torch.equal(conv.left, before)


def test_the_gradient_is_that_of_the_divided_weights() -> None:
    """d(W/σ)/dW with σ = uᵀWv has no component along W: scaling W changes nothing."""
    torch.manual_seed(0)
    conv = SpectralConv2d(3, 5)
    conv(torch.randn(2, 3, 6, 6)).square().sum().backward()  # type: ignore[no-untyped-call]
    assert conv.weight.grad is not None
    weight, grad = conv.weight.detach(), conv.weight.grad
    along = float((grad * weight).sum() / (grad.norm() * weight.norm()))
    assert abs(along) < 1e-5
    assert grad.abs().sum() > 0


def images(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.integers(0, 256, (2, 4, 2, 12, 12), np.uint8)
    ones = np.ones(4, np.float32)
    return Batch(obs, rng.integers(3, size=4), 3 * ones, 0.9 * ones, next_obs, ones, np.arange(4))


def test_a_trained_torso_exports_weights_of_norm_one_and_goes_on_from_its_state() -> None:
    for target in ("hard", "polyak"):
        config = with_changes(TrainConfig(), CHANGES | {"learner.target": target, "learner.target_every": 2})
        learner, other = TorchLearner(config, SPEC, 0), TorchLearner(config, SPEC, 1)
        for seed in range(6):
            learner.update(images(seed))
        other.load_arrays(learner.arrays())
        assert np.array_equal(learner.update(images(99)), other.update(images(99)))
        for network in (learner.online, learner.target):
            residual = [layer for layer in network.modules() if isinstance(layer, SpectralConv2d)]
            assert len(residual) == 12
            assert max(largest(layer.present()) for layer in residual) < 1.1
        graph = network_graph(SPEC, config.network, learner.weights())
        convolutions = [node.op for node in graph.nodes if isinstance(node.op, ops.Conv2d)]
        norms = [np.linalg.norm(graph.weights[op.weight].reshape(len(graph.weights[op.weight]), -1), 2)
                 for op in convolutions]  # fmt: skip
        assert len(norms) == 15
        assert sum(norm < 1.1 for norm in norms) >= 12

"""Low rank: exact layers come back exactly, and what is lost is what the spectrum of the outputs says."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.lowrank import low_rank
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


def one_linear(weight: Array, bias: Array) -> Graph:
    weights = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}
    nodes = (Node(ops.Linear("w", "b"), ("obs",), Q), Node(ops.ArgMax(), (Q,), ACTION))
    return Graph({"obs": TensorType((weight.shape[1],))}, nodes, (Q, ACTION), weights)


def one_conv(weight: Array, bias: Array, side: int, padding: int, stride: int) -> Graph:
    weights = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}
    op = ops.Conv2d("w", "b", (stride, stride), (padding, padding))
    nodes = (
        Node(op, ("obs",), "c"),
        Node(ops.Flatten(), ("c",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((weight.shape[1], side, side))}, nodes, (Q, ACTION), weights)


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    return [graph.weights[node.op.weight].shape for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)]


def test_a_layer_of_exact_rank_comes_back_exactly_and_smaller() -> None:
    rng = np.random.default_rng(0)
    graph = one_linear(rng.normal(size=(20, 3)) @ rng.normal(size=(3, 30)), rng.normal(size=20))
    obs = (rng.normal(size=(400, 30)) + 2).astype(np.float32)
    thin = low_rank(graph, obs, 0.999999)
    assert shapes(thin) == [(3, 30), (20, 3)]
    assert np.allclose(interpret(thin, obs)[Q], interpret(graph, obs)[Q], atol=1e-4)
    assert (cost(graph).macs, cost(thin).macs) == (600, 150)
    assert shapes(fold(thin)) == shapes(thin)
    middle = interpret(Graph(thin.inputs, thin.nodes[:1], (thin.nodes[0].output,), thin.weights), obs)
    assert np.allclose(middle[thin.nodes[0].output].std(axis=0), 1, atol=0.02)


def test_the_activations_decide_which_directions_count() -> None:
    """The largest weights read a feature that never moves: the plain SVD would keep them."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(16, 16)) * 0.1
    weight[:, 0] = 100 * rng.normal(size=16)
    graph = one_linear(weight, np.zeros(16))
    spread = np.geomspace(5, 0.05, 16)
    spread[0] = 0.0
    obs = (rng.normal(size=(3000, 16)) * spread + 1).astype(np.float32)
    exact = interpret(graph, obs)[Q].astype(np.float64)
    for energy in (0.8, 0.99):
        thin = low_rank(graph, obs, energy)
        rank = shapes(thin)[0][0]
        lost = np.square(interpret(thin, obs)[Q] - exact).sum(axis=1).mean()
        spectrum = np.sort(np.linalg.eigvalsh(np.cov(exact.T, bias=True)))[::-1]
        assert lost == pytest.approx(
            spectrum[rank:].sum(), rel=1e-3
        )  # Eckart & Young: no matrix of that rank loses less
        assert lost <= (1 - energy) * spectrum.sum() * 1.001
        assert spectrum[: rank - 1].sum() < energy * spectrum.sum()


def test_what_would_not_be_smaller_stays() -> None:
    rng = np.random.default_rng(2)
    graph = one_linear(rng.normal(size=(6, 8)), rng.normal(size=6))
    obs = rng.normal(size=(500, 8)).astype(np.float32)
    assert low_rank(graph, obs, 1.0) is graph
    assert low_rank(graph, obs, 0.97) is graph  # rank 4 or more: 4·(6 + 8) weights in place of 48


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 2)])
def test_a_convolution_of_exact_tucker_rank_comes_back_exactly(padding: int, stride: int) -> None:
    rng = np.random.default_rng(3)
    core, into, back = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(2, 12)), rng.normal(size=(16, 3))
    graph = one_conv(np.einsum("or,rskl,si->oikl", back, core, into), rng.normal(size=16), 6, padding, stride)
    obs = (rng.normal(size=(150, 12, 6, 6)) * rng.uniform(0.1, 3, (12, 1, 1)) + 1).astype(np.float32)
    thin = low_rank(graph, obs, 1 - 1e-7)
    assert shapes(thin) == [(2, 12, 1, 1), (3, 2, 3, 3), (16, 3, 1, 1)]
    expected = interpret(graph, obs)[Q]
    assert np.abs(interpret(thin, obs)[Q] - expected).max() < 2e-4 * np.abs(expected).max()


def test_one_by_one_convolutions_and_grouped_ones() -> None:
    rng = np.random.default_rng(4)
    obs = rng.normal(size=(200, 8, 4, 4)).astype(np.float32)
    graph = one_conv((rng.normal(size=(12, 2)) @ rng.normal(size=(2, 8)))[:, :, None, None], np.zeros(12), 4, 0, 1)
    thin = low_rank(graph, obs, 1 - 1e-7)
    assert shapes(thin) == [(2, 8, 1, 1), (12, 2, 1, 1)]
    assert np.allclose(interpret(thin, obs)[Q], interpret(graph, obs)[Q], atol=1e-4)
    depthwise = Graph(
        graph.inputs,
        (Node(ops.Conv2d("w", None, groups=8), ("obs",), "c"), *graph.nodes[1:]),
        graph.outputs,
        {"w": np.ones((8, 1, 3, 3), np.float32)},
    )
    assert low_rank(depthwise, obs, 0.5) is depthwise


def test_the_pass_shrinks_a_teacher_that_distillation_then_repairs(balance, balance_teacher) -> None:
    config = DistillConfig(rounds=1, updates=80, last_updates=80, episodes=4, states=400)
    context = Context(balance_teacher, balance, config)
    made = apply(parse_recipe(["fold", "lowrank=0.9", "distill", "fold"]), context)
    assert cost(made).macs < cost(balance_teacher).macs
    with pytest.raises(ConfigError, match="above 0 and at most 1, not '2'"):
        parse_recipe(["lowrank=2"])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.passes.importances import IMPORTANCES, Evidence
from nimbleq.compress.passes.labelled import label
from nimbleq.compress.passes.moments import moments
from nimbleq.compress.passes.prune import drop_dead, prune_to
from nimbleq.compress.passes.units import find_units, remove_units
from nimbleq.compress.states import States, q_values
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import trace
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import TensorType
from tests.strategies import covering_obs, random_orders

SCORED = [name for name in IMPORTANCES if name != "bn-scale"]
"""Importances of the graph as it is: the other one trains first."""


def test_dead_units_go_for_free(mlp):
    graph, obs = mlp(0, 5, (12, 10), 3)
    w0, b0 = graph.weights["w0"].copy(), graph.weights["b0"].copy()
    w0[3], b0[3] = 0, 2.0  # always the same value, not zero
    b0[[1, 7]] = -1e4  # never active
    graph = graph.with_weights({"w0": w0, "b0": b0})
    smaller = drop_dead(graph, obs)
    assert smaller.weights["w0"].shape == (9, 5)
    np.testing.assert_allclose(q_values(smaller, obs), q_values(graph, obs), atol=1e-4)


@settings(max_examples=70, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_removal_for_free_changes_no_value(seed):
    rng = np.random.default_rng(seed)
    graph = random_orders(rng)
    obs = covering_obs(rng, graph, 8)
    q = q_values(graph, obs)
    for smaller in (drop_dead(graph, obs), prune_to(graph, 1.0, obs), fold(drop_dead(fold(graph), obs))):
        np.testing.assert_allclose(q_values(smaller, obs), q, rtol=0, atol=1e-4 * (1 + np.abs(q).max()))


@pytest.mark.parametrize(("padding", "constant", "left"), [(1, 2.0, 5), (1, -1.0, 4), (0, 2.0, 4), (1, 0.0, 4)])
def test_a_constant_channel_stays_before_a_padded_convolution(cnn, padding, constant, left):
    graph, obs = cnn(3, 0)
    second = Node(ops.Conv2d("w1", "b1", padding=(padding, padding)), ("r0",), "c1")
    nodes = tuple(second if node.output == "c1" else node for node in graph.nodes if node.output not in ("p0",))
    flat = 6 * (6 + 2 * padding) ** 2
    w0, b0 = graph.weights["w0"].copy(), graph.weights["b0"].copy()
    w0[2], b0[2] = 0, constant
    w2 = np.random.default_rng(0).standard_normal((12, flat)).astype(np.float32)
    graph = Graph(graph.inputs, nodes, graph.outputs, {**graph.weights, "w0": w0, "b0": b0, "w2": w2})
    smaller = drop_dead(graph, obs)
    assert smaller.types["c0"].shape[0] == left
    q = q_values(graph, obs)
    np.testing.assert_allclose(q_values(smaller, obs), q, atol=1e-4 * np.abs(q).max())


@pytest.mark.parametrize("score", SCORED)
def test_useless_units_are_the_first_to_go(mlp, score):
    graph, obs = mlp(1, 4, (10, 8), 3)
    w1 = graph.weights["w1"].copy()
    w1[:, [2, 5]] *= 1e-4
    w0 = graph.weights["w0"].copy()
    w0[[2, 5]] *= 0.1
    graph = graph.with_weights({"w1": w1, "w0": w0})
    smaller = prune_to(graph, (8, 8), obs, score)
    assert smaller.weights["w0"].shape == (8, 4)
    np.testing.assert_allclose(smaller.weights["w0"], np.delete(w0, [2, 5], axis=0))
    np.testing.assert_allclose(q_values(smaller, obs), q_values(graph, obs), atol=5e-3)


def test_convolutions_shrink_through_pool_and_flatten(cnn):
    graph, obs = cnn(0)
    smaller = prune_to(graph, (3, 4, 7), obs)
    assert smaller.weights["w0"].shape == (3, 3, 3, 3)
    assert smaller.weights["w1"].shape == (4, 3, 3, 3)
    assert smaller.weights["w2"].shape[0] == 7
    assert smaller.weights["w2"].shape[1] == smaller.types["f"].size
    assert smaller.weights["w3"].shape == (4, 7)
    half = prune_to(graph, 0.5, obs)
    assert [half.types[n].shape[0] for n in ("c0", "c1", "s2")] == [2, 3, 6]


def branched() -> tuple[Graph, np.ndarray]:
    """Residual Add, Concat, LayerNorm with parameters, dueling heads."""
    rng = np.random.default_rng(4)
    shapes = {"a": (8, 5), "b": (8, 8), "c": (6, 8), "v": (1, 14), "q": (3, 14), "nw": (8,), "nb": (8,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = (
        Node(ops.Linear("a"), ("obs",), "ta"),
        Node(ops.LayerNorm("nw", "nb"), ("ta",), "na"),
        Node(ops.Activation("relu"), ("na",), "ra"),
        Node(ops.Linear("b"), ("ra",), "tb"),
        Node(ops.Add(), ("tb", "ra"), "sum"),
        Node(ops.Activation("relu"), ("sum",), "rs"),
        Node(ops.Linear("c"), ("rs",), "tc"),
        Node(ops.Activation("leaky_relu", slope=0.1), ("tc",), "rc"),
        Node(ops.Concat(), ("rs", "rc"), "all"),
        Node(ops.Linear("v"), ("all",), "value"),
        Node(ops.Linear("q"), ("all",), "advantage"),
        Node(ops.Dueling(), ("value", "advantage"), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((5,))}, nodes, (Q, ACTION), weights), rng.standard_normal((300, 5)).astype(
        np.float32
    )


def test_coupled_units_go_together_and_heads_stay():
    graph, obs = branched()
    units = find_units(graph)
    assert [len(layer) for layer in units.layers] == [8, 6]
    smaller = prune_to(graph, (5, 2), obs)
    assert smaller.weights["a"].shape == (5, 5)
    assert smaller.weights["b"].shape == (5, 5)
    assert smaller.weights["nw"].shape == (5,)
    assert smaller.weights["c"].shape == (2, 5)
    assert smaller.weights["v"].shape == (1, 7)
    assert smaller.weights["q"].shape == (3, 7)
    assert q_values(smaller, obs).shape == (300, 3)


def test_keeping_everything_changes_nothing():
    graph, obs = branched()
    np.testing.assert_allclose(q_values(prune_to(graph, 1.0, obs), obs), q_values(graph, obs), rtol=1e-6, atol=1e-6)


def test_depthwise_channels_follow_their_source():
    rng = np.random.default_rng(0)
    weights = {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in {"c": (6, 2, 1, 1), "d": (6, 1, 3, 3), "l": (2, 54)}.items()
    }
    nodes = (
        Node(ops.Conv2d("c"), ("obs",), "tc"),
        Node(ops.Activation("relu"), ("tc",), "rc"),
        Node(ops.Conv2d("d", groups=6), ("rc",), "td"),
        Node(ops.Flatten(), ("td",), "f"),
        Node(ops.Linear("l"), ("f",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": TensorType((2, 5, 5))}, nodes, (Q, ACTION), weights)
    smaller = prune_to(graph, (4,), rng.standard_normal((50, 2, 5, 5)).astype(np.float32))
    assert smaller.types["tc"].shape == smaller.types["td"].shape[:1] + (5, 5)
    assert smaller.weights["d"].shape == (4, 1, 3, 3)


@pytest.mark.parametrize("score", SCORED)
def test_keeping_the_best_half_beats_keeping_the_worst(mlp, score):
    graph, obs = mlp(3, 6, (40,), 3)
    q, units = q_values(graph, obs), find_units(graph)
    evidence = Evidence(graph, units, label(graph, States(obs)), *moments(graph, obs))
    order = np.argsort(IMPORTANCES[score].rate(evidence).scores)
    means = {name: values.mean(axis=0) for name, values in trace(graph, obs).items() if values.ndim == 2}
    worst = remove_units(graph, units, order[:20], means)
    error = np.square(q_values(prune_to(graph, (20,), obs, score), obs) - q).mean()
    assert error < 0.5 * np.square(q_values(worst, obs) - q).mean()


@pytest.mark.parametrize("widths", [(3,), (0, 3), (99, 3)])
def test_widths_that_do_not_fit_are_refused(mlp, widths):
    graph, obs = mlp(0, 3, (8, 8), 2)
    with pytest.raises(ConfigError, match="widths"):
        prune_to(graph, widths, obs)


def test_quantized_graphs_are_refused(mlp):
    from nimbleq.compress.quantize import quantize

    graph, obs = mlp(0, 3, (8,), 2)
    with pytest.raises(UnsupportedOpError, match="Quantize"):
        prune_to(quantize(graph, obs), 0.5, obs)

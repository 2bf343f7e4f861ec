"""The graph's own check, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost, layers
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import FLOAT32, INT32, UINT8, Int, TensorType
from tests.strategies import graphs

W = {"w": np.ones((3, 2), np.float32), "b": np.zeros(3, np.float32), "one": np.ones(1, np.float32)}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node(ops.Flatten(), ("nowhere",), "y"),), "not made by an earlier node"),
        ((Node(ops.Flatten(), ("x",), "x"),), "made twice"),
        ((Node(ops.Add(), ("x",), "y"),), "takes 2 inputs"),
        ((Node(ops.Concat(), (), "y"),), "takes one or more inputs"),
        ((Node(ops.Linear("nothing"), ("x",), "y"),), "is missing"),
        ((Node(ops.Linear("b"), ("x",), "y"),), "expected"),
        ((Node(ops.Conv2d("w"), ("x",), "y"),), r"needs \(C, H, W\)"),
        ((Node(ops.Activation("clip", low=1.0, high=0.0), ("x",), "y"),), "empty"),
        ((Node(ops.Activation("clip", low=0.0, high=float("inf")), ("x",), "y"),), "finite"),
        ((Node(ops.LayerNorm(eps=0.0), ("x",), "y"),), "positive"),
        ((Node(ops.Affine("w", "one"), ("x",), "y"),), "broadcast"),
        ((Node(ops.Flatten(), ("x",), "z"),), "output 'y'"),
    ],
)
def test_invalid_graphs_cannot_be_made(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Graph({"x": TensorType((2,))}, nodes, ("y",), W)


def test_weights_are_read_only_copies() -> None:
    mine = np.ones((3, 2), np.float32)
    graph = Graph({"x": TensorType((2,))}, (Node(ops.Linear("w"), ("x",), "y"),), ("y",), {"w": mine})
    mine[0, 0] = 5
    assert graph.weights["w"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        graph.weights["w"][0, 0] = 2
    assert graph.with_weights({}).weights["w"] is graph.weights["w"]


def test_a_number_of_numpy_is_a_weight_without_axes() -> None:
    """Formats decode such a weight into a number."""
    made = Graph({"obs": TensorType((3,))}, (Node(ops.Affine("w", "w"), ("obs",), "y"),), ("y",), {"w": np.float32(2)})
    assert made.weights["w"].shape == ()
    assert not made.weights["w"].flags.writeable


def test_formats_and_shapes_have_bounds() -> None:
    assert (INT32.low, UINT8.high) == (-(2**31), 255)
    for bits, signed in ((1, True), (33, True), (32, False)):
        with pytest.raises(GraphError):
            Int(bits, signed)
    for shape in ((0,), (-1, 2), (2**20, 2**20)):
        with pytest.raises(GraphError):
            TensorType(shape)
    assert TensorType((3, 2), Int(12, True)).nbytes == 12


def test_costs_of_a_network_counted_by_hand() -> None:
    weights = {
        "c": np.zeros((6, 2, 3, 3), np.float32),
        "cb": np.zeros(6, np.float32),
        "l": np.zeros((5, 6 * 4 * 4), np.float32),
    }
    nodes = (
        Node(ops.Conv2d("c", "cb", groups=2), ("x",), "conv"),
        Node(ops.Flatten(), ("conv",), "flat"),
        Node(ops.Linear("l"), ("flat",), "q"),
        Node(ops.ArgMax(), ("q",), "action"),
    )
    graph = Graph({"x": TensorType((4, 6, 6), UINT8)}, nodes, ("q", "action"), weights)
    total = cost(graph)
    assert total.macs == 6 * 4 * 4 * 2 * 9 + 5 * 96
    assert total.size_bytes == 4 * (6 * 18 + 6 + 5 * 96)
    assert total.peak_ram_bytes == 4 * 36 + 4 * 96
    table = layers(graph)
    assert [row.name for row in table] == ["conv", "flat", "q", "action"]
    assert table[0].shape == (6, 4, 4)
    assert table[0].params == 6 * 18 + 6
    assert graph.types["conv"].qtype == FLOAT32


@settings(max_examples=30, deadline=None)
@given(graphs("int"))
def test_the_layer_table_adds_up(graph: Graph) -> None:
    used = {name for node in graph.nodes for name in node.op.weight_names()}
    assert cost(graph).size_bytes == sum(graph.weights[name].nbytes for name in used)
    assert cost(graph).macs == sum(row.macs for row in layers(graph))

"""The interpreter against slow, obvious Python, and its edges."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import GraphPolicy, interpret, trace
from nimbleq.graph.tensor import INT8, INT32, UINT8, Int, TensorType
from nimbleq.types import Array
from tests.strategies import graphs_with_obs


def one_op(op: ops.Op, source: TensorType, weights: dict[str, Array] | None = None) -> Graph:
    """A graph of one node: ``x → y``."""
    return Graph({"x": source}, (Node(op, ("x",), "y"),), ("y",), weights or {})


def run(op: ops.Op, source: TensorType, x: Any, **weights: Array) -> Array:
    return interpret(one_op(op, source, weights), np.asarray(x))["y"]


def python_conv(x: Array, weight: Array, bias: Array, op: ops.Conv2d) -> list[int]:
    """Exact integer cross-correlation in Python integers, one loop per axis, outputs in C order."""
    out, group_in, rows, cols = weight.shape
    per_group = out // op.groups
    height, width = x.shape[1:]
    sums = []
    for o in range(out):
        first = o // per_group * group_in
        for top in range(-op.padding[0], height + op.padding[0] - rows + 1, op.stride[0]):
            for left in range(-op.padding[1], width + op.padding[1] - cols + 1, op.stride[1]):
                total = int(bias[o])
                for c in range(group_in):
                    for i in range(rows):
                        for j in range(cols):
                            inside = 0 <= top + i < height and 0 <= left + j < width
                            pixel = int(x[first + c, top + i, left + j]) if inside else op.pad_value
                            total += int(weight[o, c, i, j]) * pixel
                sums.append(total)
    return sums


def python_node(graph: Graph, node: Node, x: Array) -> list[int] | None:
    """One integer node for one observation in Python integers (None: not an integer op)."""
    op, flat = node.op, x.reshape(-1)
    if isinstance(op, ops.Linear | ops.Conv2d):
        weight = graph.weights[op.weight]
        bias = np.zeros(len(weight), np.int32) if op.bias is None else graph.weights[op.bias]
        if isinstance(op, ops.Conv2d):
            return python_conv(x, weight, bias, op)
        return [
            sum(int(w) * int(v) for w, v in zip(row, flat, strict=True)) + int(b)
            for row, b in zip(weight, bias, strict=True)
        ]
    if isinstance(op, ops.Requantize):
        per = x.size // len(x)
        multiplier = np.broadcast_to(graph.weights[op.multiplier], len(x)).repeat(per)
        shift = np.broadcast_to(graph.weights[op.shift], len(x)).repeat(per)
        scaled = (
            (int(v) * int(m) + (1 << (int(s) - 1))) >> int(s) for v, m, s in zip(flat, multiplier, shift, strict=True)
        )
        return [min(max(value + op.zero_point, op.low), op.high) for value in scaled]
    if isinstance(op, ops.ArgMax):
        return [max(range(len(flat)), key=lambda index: (flat[index], -index))]
    return None


@settings(max_examples=60, deadline=None)
@given(graphs_with_obs("int", max_batch=2))
def test_integer_graphs_are_exact(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    tensors = trace(graph, obs)
    checked = 0
    for node in graph.nodes:
        for sample in range(len(obs)):
            expected = python_node(graph, node, tensors[node.inputs[0]][sample])
            if expected is not None:
                assert tensors[node.output][sample].reshape(-1).tolist() == expected
                checked += 1
    assert checked


def test_sums_beyond_single_precision_stay_exact() -> None:
    weight = np.full((1, 40_000), 127, np.int8)
    weight[0, 0] = 1
    x = np.full((1, 40_000), 255, np.uint8)
    x[0, 0] = 1
    assert run(ops.Linear("w"), TensorType((40_000,), UINT8), x, w=weight).item() == 39_999 * 127 * 255 + 1


@pytest.mark.parametrize("op", [ops.Linear("w", "b"), ops.Conv2d("w", "b")])
def test_a_layer_whose_sums_could_overflow_is_refused(op: ops.Op) -> None:
    shape = (70_000,) if isinstance(op, ops.Linear) else (70_000, 1, 1)
    weight = np.full((1, *shape), -128, np.int8)
    with pytest.raises(GraphError, match="overflow int32"):
        one_op(op, TensorType(shape, UINT8), {"w": weight, "b": np.zeros(1, np.int32)})


def test_a_bias_that_fills_int32_is_refused() -> None:
    weights = {"w": np.ones((1, 1), np.int8), "b": np.full(1, 2**31 - 1, np.int32)}
    with pytest.raises(GraphError, match="overflow int32"):
        one_op(ops.Linear("w", "b"), TensorType((1,), UINT8), weights)


def test_quantize_rounds_half_up_saturates_and_sends_nan_to_the_lowest_level() -> None:
    x = np.array([[-0.5, 0.5, 1.5, 0.49999997, np.inf, -np.inf, np.nan, 1e30]], np.float32)
    weights = {"s": np.ones(1, np.float32), "z": np.full(1, 3, np.int32)}
    y = run(ops.Quantize("s", "z"), TensorType((8,)), x, **weights)
    assert y.tolist() == [[3, 4, 5, 3, 127, -128, -128, 127]]
    assert y.dtype == np.int32


def test_requantize_extremes() -> None:
    weights = {"m": np.full(1, 2**31 - 1, np.int32), "s": np.full(1, 62, np.int32)}
    x = np.array([[-(2**31), 2**31 - 1, 0]], np.int64)
    assert run(ops.Requantize("m", "s", 0, -8, 7, 4, True), TensorType((3,), INT32), x, **weights).tolist() == [
        [-1, 1, 0]
    ]


def test_average_pool_counts_the_padding() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    y = run(ops.Pool("average", (2, 2), (1, 1), (1, 1)), TensorType((1, 2, 2)), x)
    assert y[0, 0].tolist() == [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]


def test_max_pool_ignores_the_padding_also_of_negative_integers() -> None:
    x = np.full((1, 1, 2, 2), -7, np.int8)
    y = run(ops.Pool("max", (2, 2), (1, 1), (1, 1)), TensorType((1, 2, 2), INT8), x)
    assert y.max() == y.min() == -7


def test_layer_norm_uses_the_biased_variance() -> None:
    weights = {"w": np.array([1, 2], np.float32), "b": np.array([0, 1], np.float32)}
    y = run(ops.LayerNorm("w", "b", eps=1e-12), TensorType((2,)), np.array([[1.0, 3.0]]), **weights)
    np.testing.assert_allclose(y, [[-1.0, 3.0]], rtol=1e-6)


def test_affine_rounds_once() -> None:
    # float32(x·s) is 1 exactly, so rounding twice would give zero.
    x, scale = np.float32(1 + 2**-23), np.float32(1 - 2**-23)
    y = run(ops.Affine("s", "t"), TensorType((1,)), [[x]], s=np.array([scale]), t=np.array([-1], np.float32))
    assert y.item() == -(2.0**-46)


def test_dueling_and_lowest_index_on_ties() -> None:
    graph = Graph(
        {"v": TensorType((1,)), "a": TensorType((3,))},
        (Node(ops.Dueling(), ("v", "a"), "q"), Node(ops.ArgMax(), ("q",), "action")),
        ("q", "action"),
        {},
    )
    result = interpret(graph, {"v": np.array([[10.0]]), "a": np.array([[0.0, 3.0, 3.0]])})
    assert result["q"].tolist() == [[8.0, 11.0, 11.0]]
    assert result["action"].tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "obs", "message"),
    [
        (TensorType((3,)), np.zeros((2, 4)), "shape"),
        (TensorType((3,)), np.zeros(3), "shape"),
        (TensorType((3,), UINT8), np.zeros((1, 3)), "integers"),
        (TensorType((3,), UINT8), np.full((1, 3), 256), "outside"),
        (TensorType((3,), Int(4, True)), np.full((1, 3), 8, np.uint8), "outside"),
        (TensorType((3,), UINT8), np.full((1, 3), -1), "outside"),
        (TensorType((3,), UINT8), np.ones((1, 3), bool), "bool"),
        (TensorType((3,)), np.array([["1", "2", "3"]]), "real numbers"),
        (TensorType((3,)), np.array([[1, 2, None]]), "real numbers"),
        (TensorType((3,)), np.ones((1, 3), complex), "real numbers"),
        (TensorType((3,)), np.full((1, 3), 1e39), "beyond float32"),
    ],
)
def test_unfit_inputs_are_refused(kind: TensorType, obs: Array, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        interpret(one_op(ops.Flatten(), kind), obs)


def test_golden_answers_are_never_of_observations_cut_to_bytes() -> None:
    weights = {"w": np.eye(3, dtype=np.float32)}
    nodes = (Node(ops.Linear("w"), ("obs",), "q"), Node(ops.ArgMax(), ("q",), "action"))
    graph = Graph({"obs": TensorType((3,), UINT8)}, nodes, ("q", "action"), weights)
    for obs in (np.full((2, 3), 0.7), np.full((2, 3), 300), np.ones((2, 3), bool)):
        with pytest.raises(GraphError, match="obs"):
            make_golden(graph, obs)
    assert make_golden(graph, np.full((2, 3), 7)).obs.dtype == np.uint8


def test_a_policy_pickles() -> None:
    weights = {"w": np.eye(2, dtype=np.float32)}
    nodes = (Node(ops.Linear("w"), ("obs",), "q"), Node(ops.ArgMax(), ("q",), "action"))
    policy = GraphPolicy(Graph({"obs": TensorType((2,))}, nodes, ("q", "action"), weights))
    copy = pickle.loads(pickle.dumps(policy))
    assert copy(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [1, 0]
    assert copy(np.zeros((1, 2))).dtype == np.int64

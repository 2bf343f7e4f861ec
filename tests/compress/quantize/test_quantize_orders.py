"""Quantization of ops in any order: the error stays within what 8 bits allow, whatever lies before a layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.quantize import quantize
from nimbleq.compress.states import q_values
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import trace
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8, Float32, TensorType
from nimbleq.types import Array
from tests.strategies import covering_obs, random_graph, random_orders


def byte_error_bound(graph: Graph, obs: Array) -> float:
    """Largest error of ``q`` that 8-bit weights and activations explain, from the float graph only.

    Each tensor may be rounded to a 255th of its range (zero included), each weight to a 254th of the largest; errors
    grow by the largest gain of every op, none cancelling. LayerNorm is not known.
    """
    values = {name: value.astype(np.float64) for name, value in trace(graph, obs).items()}
    step = {n: (max(v.max(), 0) - min(v.min(), 0)) / 255 for n, v in values.items()}
    error = {graph.obs_name: 0.0}
    for node in graph.nodes:
        worst = max(error[name] for name in node.inputs)
        made = isinstance(graph.types[node.inputs[0]].qtype, Float32) or isinstance(node.op, ops.Affine)
        match node.op:
            case ops.Linear() | ops.Conv2d():
                (source,) = node.inputs
                weight = np.abs(graph.weights[node.op.weight].astype(np.float64)).reshape(
                    graph.types[node.output].shape[0], -1
                )
                worst = weight.sum(axis=1).max() * (worst + 1.1 * step[source])
                worst += 1.1 * weight.shape[1] * weight.max() * step[source]
            case ops.Affine():
                worst *= np.abs(graph.weights[node.op.scale]).max()
            case ops.Add():
                worst *= 2
            case ops.Dueling():
                worst *= 3
            case ops.Expectation():
                worst *= np.ptp(graph.weights[node.op.support])
            case ops.LayerNorm():
                raise AssertionError("LayerNorm has no bound here")
        error[node.output] = worst + (1.1 * step[node.output] if made else 0.0)
    return error[Q] + 1e-5


def assert_close(graph: Graph, obs: Array) -> None:
    difference = np.abs(q_values(quantize(graph, obs), obs) - q_values(graph, obs)).max()
    assert difference <= byte_error_bound(graph, obs)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_order_of_ops_stays_within_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_orders(rng)
    obs = covering_obs(rng, graph, 12)
    assert_close(graph, obs)
    assert_close(fold(graph), obs)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whole_networks_stay_within_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, layer_norm=False, max_width=8)
    assert_close(graph, covering_obs(rng, graph, 12))


def policy(obs: TensorType, steps: list[ops.Op], weights: dict[str, Array], actions: int = 4) -> Graph:
    """``steps`` in a row, then a Linear over all that they leave."""
    nodes, tensor = [], "obs"
    for at, op in enumerate([*steps, ops.Flatten()]):
        nodes.append(Node(op, (tensor,), f"t{at}"))
        tensor = f"t{at}"
    size = Graph({"obs": obs}, tuple(nodes), (tensor,), weights).types[tensor].size
    head = np.random.default_rng(0).standard_normal((actions, size)).astype(np.float32)
    nodes += [Node(ops.Linear("head"), (tensor,), Q), Node(ops.ArgMax(), (Q,), ACTION)]
    return Graph({"obs": obs}, tuple(nodes), (Q, ACTION), {**weights, "head": head})


RELU, FLAT = ops.Activation("relu"), ops.Flatten()
IMAGE = {"s": np.array(1 / 255, np.float32), "t": np.array(-0.5, np.float32)}
PIXELS = {"s": np.array(1 / 255, np.float32), "t": np.linspace(-3, 3, 48, dtype=np.float32).reshape(3, 4, 4)}
AFFINE = ops.Affine("s", "t")


@pytest.mark.parametrize(
    ("steps", "weights"),
    [
        ([AFFINE, FLAT, RELU], IMAGE),
        ([AFFINE, RELU, FLAT], IMAGE),
        ([AFFINE, FLAT, ops.Activation("clip", low=-0.25, high=0.25)], IMAGE),
        ([AFFINE, ops.Pool("max", (2, 2), (1, 1), (1, 1)), RELU], IMAGE),
        ([AFFINE, ops.Pool("average", (2, 2), (1, 1), (1, 1)), FLAT, RELU], IMAGE),
        ([ops.Pool("max", (2, 2), (2, 2)), AFFINE, FLAT, RELU], IMAGE),
        ([ops.Concat(), AFFINE, FLAT, RELU], IMAGE),
        ([AFFINE, ops.Pool("max", (2, 2), (1, 1))], PIXELS),
        ([AFFINE, FLAT, RELU], PIXELS),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_an_offset_is_part_of_the_value_in_every_order(
    steps: list[ops.Op], weights: dict[str, Array], raw: bool
) -> None:
    kind = TensorType((3, 4, 4), UINT8) if raw else TensorType((3, 4, 4))
    graph = policy(kind, steps, weights)
    obs = np.random.default_rng(1).integers(0, 256, (400, 3, 4, 4))
    obs = obs.astype(np.uint8) if raw else obs.astype(np.float32)
    q, got = q_values(graph, obs), q_values(quantize(graph, obs), obs)
    assert (q.argmax(1) == got.argmax(1)).mean() > 0.96
    assert np.abs(got - q).max() < 0.04 * np.ptp(q)


def test_raw_bytes_joined_before_a_layer_stay_bytes() -> None:
    graph = Graph(
        {"obs": TensorType((5,), UINT8)},
        (Node(ops.Concat(), ("obs", "obs"), "x"), Node(ops.Linear("w"), ("x",), Q), Node(ops.ArgMax(), (Q,), ACTION)),
        (Q, ACTION),
        {"w": np.arange(-10, 10, dtype=np.float32).reshape(2, 10)},
    )
    obs = np.random.default_rng(0).integers(0, 256, (50, 5)).astype(np.uint8)
    assert [node.op.kind for node in quantize(graph, obs).nodes][:2] == ["Concat", "Linear"]
    assert_close(graph, obs)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.8), (-0.8, -0.2), (-1.0, 1.0)])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_a_clip_also_holds_for_values_never_seen(low: float, high: float, shape: tuple[int, ...]) -> None:
    graph = policy(TensorType(shape), [ops.Activation("clip", low=low, high=high)], {})
    rng = np.random.default_rng(2)
    seen = rng.uniform(-2, 2, (300, *shape)).astype(np.float32)
    wild = rng.uniform(-50, 50, (300, *shape)).astype(np.float32)
    q = q_values(graph, wild)
    assert np.abs(q_values(quantize(graph, seen), wild) - q).max() < 0.03 * np.ptp(q)


def test_a_feature_with_scale_zero_is_the_constant_that_its_shift_says() -> None:
    weights = {"s": np.array([0.5, 0.0, 2.0], np.float32), "t": np.array([0.0, 3.0, -1.0], np.float32)}
    graph = policy(TensorType((3,)), [AFFINE], weights)
    obs = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    quantized = quantize(graph, obs)
    assert quantized.nodes[0].op.kind == "Quantize"
    obs[:, 1] = 1e6
    assert np.abs(q_values(quantized, obs) - q_values(graph, obs)).max() < 0.02 * np.ptp(q_values(graph, obs))


def test_nothing_is_left_that_nobody_reads() -> None:
    graph = policy(TensorType((3, 4, 4), UINT8), [AFFINE, FLAT, RELU], IMAGE)
    quantized = quantize(graph, np.random.default_rng(1).integers(0, 256, (50, 3, 4, 4)).astype(np.uint8))
    read = {name for node in quantized.nodes for name in node.inputs} | set(quantized.outputs)
    assert all(node.output in read for node in quantized.nodes)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.quantize.fixed_point import multiplier_and_shift
from nimbleq.compress.quantize.methods import METHODS
from nimbleq.compress.quantize.post_training import quantize, quantize_best
from nimbleq.compress.quantize.ranges import choose_range, histograms
from nimbleq.compress.states import States, actions, compare, q_values
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret, trace
from nimbleq.graph.tensor import TensorType


def error_bound(graph: Graph, quantized: Graph, obs: np.ndarray) -> np.ndarray:
    """Largest error of each action value of a quantized MLP on ``obs``, which the ranges cover: intervals.

    Input rounding, weight rounding, bias rounding and requantization, each at its worst and none cancelling.
    """
    values = trace(graph, obs)
    linears = [n for n in graph.nodes if isinstance(n.op, ops.Linear)]
    first = next(n for n in quantized.nodes if isinstance(n.op, ops.Quantize))
    gain = graph.weights["scale"].astype(np.float64)
    error = gain / quantized.weights[first.op.inverse_scale] * 1.01  # half a step of rounding, half of the zero point's
    for node in linears:
        weight = np.abs(graph.weights[node.op.weight].astype(np.float64))
        sums = next(n for n in quantized.nodes if n.output == f"{node.output}_sums")
        after = next(n for n in quantized.nodes if n.inputs == (sums.output,) and not isinstance(n.op, ops.ArgMax))
        if isinstance(after.op, ops.Dequantize):
            scale = quantized.weights[after.op.scale].astype(np.float64)
            step = np.zeros(1)
        else:
            reals = quantized.weights[after.op.multiplier] / 2.0 ** quantized.weights[after.op.shift]
            step = np.array([values[after.output.removesuffix("_u8")].max() / 255])
            scale = reals * step
        # |W x − Ŵ x̂| ≤ |W||x − x̂| + |W − Ŵ||x̂|, and a stored byte is at most 255 levels from its reference
        rounding = 0.5 * scale * 255 * weight.shape[1]
        error = weight @ np.broadcast_to(error, weight.shape[1:]) + rounding + scale
        error = error + 1.5 * step
    return error


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 9),
    hidden=st.lists(st.integers(1, 24), max_size=3),
    count=st.integers(2, 6),
)
def test_quantized_mlp_stays_within_the_analytic_bound(mlp, seed, inputs, hidden, count):
    graph, obs = mlp(seed, inputs, hidden, count)
    quantized = quantize(graph, obs)
    difference = np.abs(q_values(quantized, obs) - q_values(graph, obs)).max(axis=0)
    assert (difference <= error_bound(graph, quantized, obs) + 1e-5).all()


@pytest.mark.parametrize("hidden", [(), (16,), (32, 32), (24, 16, 8)])
def test_quantized_mlp_is_integers_from_the_observation_to_the_argmax(mlp, hidden):
    graph, obs = mlp(3, 6, hidden, 4)
    quantized = quantize(graph, obs)
    kinds = [node.op.kind for node in quantized.nodes]
    assert kinds[0] == "Quantize"
    assert kinds.count("Quantize") == 1
    assert kinds.count("Dequantize") == 1
    assert not {"Affine", "Activation"} & set(kinds)
    argmax = quantized.producer(ACTION)
    assert str(quantized.types[argmax.inputs[0]].qtype) == "int32"
    q = q_values(graph, obs)
    assert np.abs(q_values(quantized, obs) - q).max() < 0.08 * (q.max() - q.min())
    assert (actions(quantized, States(obs)) == q.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_quantized_cnn_takes_the_raw_image(cnn, padding):
    graph, obs = cnn(padding, padding)
    quantized = quantize(graph, obs)
    assert next(n.op.kind for n in quantized.nodes) == "Conv2d"
    assert "Quantize" not in {n.op.kind for n in quantized.nodes}
    q = q_values(graph, obs)
    assert np.abs(q_values(quantized, obs) - q).max() < 0.08 * np.abs(q).max()


def test_clip_in_front_becomes_saturation(mlp):
    graph, obs = mlp(5, 4, (8,), 3)
    nodes = (
        graph.nodes[0],
        Node(ops.Activation("clip", low=-1.5, high=1.5), ("normal",), "clipped"),
        Node(graph.nodes[1].op, ("clipped",), graph.nodes[1].output),
        *graph.nodes[2:],
    )
    clipped = Graph(graph.inputs, nodes, graph.outputs, graph.weights)
    quantized = quantize(clipped, obs)
    assert "Activation" not in {n.op.kind for n in quantized.nodes}
    wild = (obs * 20).astype(np.float32)
    q = q_values(clipped, wild)
    assert np.abs(q_values(quantized, wild) - q).max() < 0.1 * (q.max() - q.min())


def test_layer_norm_becomes_a_float_island(mlp):
    graph, obs = mlp(7, 5, (16, 16), 3)
    nodes = []
    for node in graph.nodes:
        if node.output == "relu0":
            nodes.append(Node(ops.LayerNorm(), ("sum0",), "norm0"))
            node = Node(node.op, ("norm0",), "relu0")
        nodes.append(node)
    normed = Graph(graph.inputs, tuple(nodes), graph.outputs, graph.weights)
    quantized = quantize(normed, obs)
    kinds = [n.op.kind for n in quantized.nodes]
    at = kinds.index("LayerNorm")
    assert kinds[at - 1 : at + 3] == ["Dequantize", "LayerNorm", "Activation", "Quantize"]
    q = q_values(normed, obs)
    assert np.abs(q_values(quantized, obs) - q).max() < 0.1 * (q.max() - q.min())


def test_padding_with_an_offset_goes_through_float(cnn):
    graph, obs = cnn(1, 1)
    shifted = graph.with_weights({"shift": np.array(-0.5, np.float32)})
    quantized = quantize(shifted, obs)
    assert [n.op.kind for n in quantized.nodes][:2] == ["Affine", "Quantize"]
    q = q_values(shifted, obs)
    assert np.abs(q_values(quantized, obs) - q).max() < 0.08 * np.abs(q).max()


def test_dueling_head_and_residual_stay_correct():
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in {"w": (6, 6), "v": (1, 6), "a": (3, 6)}.items()}
    nodes = (
        Node(ops.Linear("w"), ("obs",), "h"),
        Node(ops.Activation("relu"), ("h",), "r"),
        Node(ops.Add(), ("r", "obs"), "s"),
        Node(ops.Linear("v"), ("s",), "value"),
        Node(ops.Linear("a"), ("s",), "advantage"),
        Node(ops.Dueling(), ("value", "advantage"), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": TensorType((6,))}, nodes, (Q, ACTION), weights)
    obs = rng.standard_normal((500, 6)).astype(np.float32)
    q = q_values(graph, obs)
    assert np.abs(q_values(quantize(graph, obs), obs) - q).max() < 0.05 * (q.max() - q.min())


def test_multiplier_is_31_bits_and_exact_to_half_a_unit():
    factor = np.concatenate([np.geomspace(2.0**-31, 2.0**29, 200), [1 - 2.0**-40, 0.5, 1.0]])
    multiplier, shift = multiplier_and_shift(factor)
    assert (multiplier >= 1 << 30).all()
    assert ((shift >= 1) & (shift <= 62)).all()
    np.testing.assert_allclose(multiplier / 2.0 ** shift.astype(float), factor, rtol=2.0**-31)
    assert multiplier_and_shift(np.array([1e-30]))[0] == 0


def test_calibration_streams_and_methods_differ_on_outliers(mlp):
    graph, obs = mlp(1, 4, (8,), 2)
    obs[0] = 400.0
    (measured,) = histograms(graph, obs, ["relu0", "normal"], ["normal"])
    assert len(measured["normal"]) == 4
    assert all(seen.counts.sum() == seen.magnitudes.sum() == len(obs) for seen in measured["normal"])
    highs = {m: float(choose_range(measured["relu0"], m).high[0]) for m in METHODS}
    assert highs["mse"] <= highs["minmax"]
    quantized, method = quantize_best(graph, States(obs), q_values(graph, obs))
    assert method in METHODS
    regrets = [compare(q_values(graph, obs), actions(quantize(graph, obs, m), States(obs))).regret for m in METHODS]
    assert compare(q_values(graph, obs), actions(quantized, States(obs))).regret == min(regrets)


def test_constant_features_and_far_offsets_do_not_overflow(mlp):
    graph, obs = mlp(2, 3, (8,), 2)
    obs[:, 0], obs[:, 1] = 5.0, obs[:, 1] * 1e-3 + 1000.0
    q, quantized = q_values(graph, obs), quantize(graph, obs)
    assert np.abs(q_values(quantized, obs) - q).max() < 0.1 * np.abs(q).max()


def test_quantizing_twice_is_refused(mlp):
    graph, obs = mlp(0, 3, (4,), 2)
    with pytest.raises(GraphError, match="already"):
        quantize(quantize(graph, obs), obs)


def test_interpreter_runs_the_integers(mlp):
    graph, obs = mlp(9, 4, (12, 12), 3)
    out = interpret(quantize(graph, obs), obs[:7])
    assert out[ACTION].dtype == np.int32
    assert out[Q].shape == (7, 3)

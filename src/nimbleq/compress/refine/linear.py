"""Linear policies as graphs: read from one, written as one."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.refine.codes import OBS_BITS, Codes, Widths
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.encodings import cheapest
from nimbleq.graph.formats import POWER4, Format, Int, Scaled
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import Float32, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array


def is_linear(graph: Graph) -> bool:
    """Whether it is one Linear layer of a float vector, folded or written by `graph_of`."""
    layers = [node for node in graph.nodes if isinstance(node.op, ops.Linear)]
    rest = {type(node.op) for node in graph.nodes} - {ops.Linear, ops.Quantize, ops.Dequantize, ops.ArgMax}
    return len(layers) == 1 and not rest and isinstance(graph.obs_type.qtype, Float32)


def weights_of(graph: Graph) -> tuple[Array, Array]:
    """``float64[A, F]`` and ``float64[A]`` of a linear policy of the raw observation.

    Raises:
        ConfigError: it is not linear.
    """
    if not is_linear(graph):
        raise ConfigError(
            "direct search starts from a linear policy of a vector: put student=linear distill fold before"
        )
    (layer,) = (node.op for node in graph.nodes if isinstance(node.op, ops.Linear))
    weight = graph.weights[layer.weight].astype(np.float64)
    bias = np.zeros(len(weight)) if layer.bias is None else graph.weights[layer.bias].astype(np.float64)
    for node in graph.nodes:
        if isinstance(node.op, ops.Quantize):
            zero = node.op.zero_points(graph.weights).astype(np.float64)
            bias = bias + weight @ np.broadcast_to(zero, weight.shape[1:])
            weight = weight * graph.weights[node.op.inverse_scale]
    return weight, bias


def graph_of(codes: Codes, obs_type: TensorType, widths: Widths) -> Graph:
    """``Quantize → Linear → ArgMax``: exactly the integers of ``codes``, packed; the action values are the sums."""
    nodes = (
        Node(ops.Quantize("exponent", None, bits=OBS_BITS, signed=True), ("obs",), "levels"),
        Node(ops.Linear("weight", "bias"), ("levels",), "sums"),
        Node(ops.ArgMax(), ("sums",), ACTION),
        Node(ops.Dequantize(None, None), ("sums",), Q),
    )
    weights: dict[str, Array] = {
        "exponent": np.ldexp(1.0, codes.exponent.astype(np.int32)).astype(np.float32),
        "weight": codes.weight.astype(np.int8),
        "bias": codes.bias.astype(np.int32),
    }
    formats: dict[str, Format] = {
        "exponent": POWER4,
        "weight": Int(widths.weight, signed=True),
        "bias": Scaled(widths.bias, widths.bias_shift),
    }
    storage = {name: Storage(number) for name, number in formats.items()}
    number = formats["weight"]
    storage["weight"] = Storage(number, cheapest(number.encode(weights["weight"]), number))
    return Graph({"obs": obs_type}, nodes, (Q, ACTION), weights, storage)

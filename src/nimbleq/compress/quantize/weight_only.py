"""Weights in few bits, activations in float32: integer codes, and a scale for each output behind the sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nimbleq.compress.quantize.fixed_point import weight_steps
from nimbleq.compress.quantize.weights import weight_format
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.formats import BF16, Format
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.weight import Storage
from nimbleq.types import Array


def weight_only(graph: Graph, number: Format) -> Graph:
    """Every Linear and Conv2d of a float policy with its weights in ``number``; biases stay as they are.

    Args:
        graph: float32 weights; fold it first.
        number: a format of integers that int8 can hold. Scales are bf16, chosen before the weights are rounded.

    Raises:
        GraphError: the graph is quantized already.
    """
    if any(array.dtype != np.float32 for array in graph.weights.values()):
        raise GraphError("the graph has integer weights already: quantize the float graph")
    nodes: list[Node] = []
    weights = dict(graph.weights)
    levels = weight_format(str(number))
    storage = dict[str, Storage]()
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            nodes.append(node)
            continue
        real = graph.weights[node.op.weight].astype(np.float64)
        step = BF16.decode(BF16.encode(weight_steps(real.reshape(len(real), -1), levels).astype(np.float32)))
        bias = np.zeros(len(real), np.float32) if node.op.bias is None else graph.weights[node.op.bias]
        codes = levels.nearest(real / step.reshape((-1,) + (1,) * (real.ndim - 1))).astype(np.int8)
        sums = f"{node.output}_sums"
        names = {part: f"{sums}.{part}" for part in ("weight", "scale", "bias")}
        storage |= {names["weight"]: Storage(number), names["scale"]: Storage(BF16)}
        layer = replace(node.op, weight=names["weight"], bias=None)
        if graph.types[node.inputs[0]].qtype.is_integer:  # raw bytes: their sums are integers
            weights |= {
                names["weight"]: codes,
                names["scale"]: step,
                names["bias"]: np.rint(bias / step).astype(np.int32),
            }
            nodes += [
                Node(replace(layer, bias=names["bias"]), node.inputs, sums),
                Node(ops.Dequantize(names["scale"], None), (sums,), node.output),
            ]
            continue
        across = (len(real),) + (1,) * (len(graph.types[node.output].shape) - 1)
        weights |= {
            names["weight"]: codes,
            names["scale"]: step.reshape(across),
            names["bias"]: bias.reshape(across),
        }
        nodes += [
            Node(layer, node.inputs, sums),
            Node(ops.Affine(names["scale"], names["bias"]), (sums,), node.output),
        ]
    used = {name for node in nodes for name in node.op.weight_names()}
    kept = {name: array for name, array in weights.items() if name in used}
    return Graph(graph.inputs, tuple(nodes), graph.outputs, kept, storage)


def stored_as(graph: Graph, number: Format) -> Graph:
    """Every float32 weight of ``graph`` rounded to ``number``, a format of real numbers, and stored so."""
    floats: dict[str, Array] = {
        name: number.decode(number.encode(array)) for name, array in graph.weights.items() if array.dtype == np.float32
    }
    return graph.with_weights(floats).with_storage(dict.fromkeys(floats, Storage(number)))

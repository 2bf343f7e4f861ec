"""A policy whose layers have integer weights and float activations, as one whose weights are floats."""

from __future__ import annotations

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32


def with_float_weights(graph: Graph) -> Graph:
    """``graph`` with the same numbers as float32 weights of layers that read floats; its outputs are the same.

    The scales behind the sums stay where they are, until `nimbleq.graph.rewrite.fold` merges them.
    """
    names = {
        node.op.weight
        for node in graph.nodes
        if isinstance(node.op, ops.Linear | ops.Conv2d) and isinstance(graph.types[node.inputs[0]].qtype, Float32)
    }
    codes = {name for name in names if graph.weights[name].dtype != np.float32}
    if not codes:
        return graph
    weights = {name: array.astype(np.float32) if name in codes else array for name, array in graph.weights.items()}
    storage = {name: stored for name, stored in graph.storage.items() if name not in codes}
    return Graph(graph.inputs, graph.nodes, graph.outputs, weights, storage)

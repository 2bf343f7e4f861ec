"""Constant folding: units that always give the same number, and units that nobody reads.

A graph has no nodes without inputs, so what is constant in it are single units: all of their weights are zero, as
pruning leaves them. Their value, after the activation, goes into the bias of the next layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.kernels import kernel
from nimbleq.graph.rewrites.edit import float64_parameters, float_layer, rebuild, sole_producer, weight_name
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


def fold_constant_units(graph: Graph) -> Graph:
    """Two layers in a row (an activation between) without the first one's units that are constant or not read.

    Both are Linear, or both convolutions without groups; before a padded one only units that give 0 go, because its
    border is zeros. One unit always stays.
    """
    for second in graph.nodes:
        middle = sole_producer(graph, second.inputs[0], second)
        activation = middle if middle is not None and isinstance(middle.op, ops.Activation) else None
        first = middle if activation is None else sole_producer(graph, activation.inputs[0], activation)
        op1, op2 = float_layer(graph, first), float_layer(graph, second)
        if first is None or op1 is None or op2 is None or not _in_a_row(op1, op2):
            continue
        changed = _without_constants(graph, first, activation, second)
        if changed is not None:
            return changed
    return graph


def _in_a_row(op1: ops.Linear | ops.Conv2d, op2: ops.Linear | ops.Conv2d) -> bool:
    if set(op1.weight_names()) & set(op2.weight_names()):  # one layer applied twice
        return False
    if isinstance(op1, ops.Conv2d) and isinstance(op2, ops.Conv2d):
        return op1.groups == op2.groups == 1
    return isinstance(op1, ops.Linear) and isinstance(op2, ops.Linear)


def _without_constants(graph: Graph, first: Node, activation: Node | None, second: Node) -> Graph | None:
    op1, op2 = first.op, second.op
    assert isinstance(op1, ops.Linear | ops.Conv2d)
    assert isinstance(op2, ops.Linear | ops.Conv2d)
    (weight1, bias1), (weight2, bias2) = float64_parameters(graph, op1), float64_parameters(graph, op2)
    value = bias1 if activation is None else _activated(activation.op, bias1)
    constant = np.asarray((weight1.reshape(len(weight1), -1) == 0).all(axis=1))
    if isinstance(op2, ops.Conv2d) and any(op2.padding):
        constant &= value == 0
    unread = np.asarray((np.moveaxis(weight2, 1, 0).reshape(weight2.shape[1], -1) == 0).all(axis=1))
    gone: Array = constant | unread
    gone[0] &= not gone.all()
    if not gone.any():
        return None
    # A unit that nobody reads adds nothing, whatever it gives.
    reading = weight2[:, gone].reshape(len(weight2), int(gone.sum()), -1).sum(axis=2)
    bias2 = bias2 + reading @ np.where(unread[gone], 0.0, value[gone])
    weights: dict[str, Array] = {}
    nodes: dict[str, tuple[Node, ...]] = {}
    for node, op, weight, bias in (
        (first, op1, weight1[~gone], bias1[~gone]),
        (second, op2, weight2[:, ~gone], bias2),
    ):
        names = weight_name(graph, op.weight, op.weight), weight_name(graph, op.bias, f"{op.weight}.bias")
        keeps_bias = op.bias is not None or bool(bias.any())
        weights[names[0]] = weight.astype(np.float32)
        if keeps_bias:
            weights[names[1]] = bias.astype(np.float32)
        made = replace(op, weight=names[0], bias=names[1] if keeps_bias else None)
        nodes[node.output] = (Node(made, node.inputs, node.output),)
    return rebuild(graph, nodes, weights)


def _activated(op: ops.Op, values: Array) -> Array:
    run = kernel(op, {}, (TensorType(values.shape),))
    return np.asarray(run(values.astype(np.float32)[None])[0], np.float64)

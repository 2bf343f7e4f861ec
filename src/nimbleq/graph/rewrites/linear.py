"""Fusion of Linear layers: in a chain, in parallel, and in the dueling head.

Fused weights are computed in double and rounded once, so results change in their last bits only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.edit import float64_parameters, float_layer, fresh, sole_producer, with_layer
from nimbleq.types import Array


def _linear(graph: Graph, node: Node | None) -> ops.Linear | None:
    op = float_layer(graph, node)
    return op if isinstance(op, ops.Linear) else None


def fuse_linear_chain(graph: Graph) -> Graph:
    """``W₂·(W₁·x + b₁) + b₂`` as one Linear, if that takes no more multiplications."""
    for second in graph.nodes:
        first = sole_producer(graph, second.inputs[0], second)
        op1, op2 = _linear(graph, first), _linear(graph, second)
        if first is None or op1 is None or op2 is None:
            continue
        (weight1, bias1), (weight2, bias2) = float64_parameters(graph, op1), float64_parameters(graph, op2)
        if len(weight2) * weight1.shape[1] > weight1.size + weight2.size:
            continue
        return with_layer(graph, first, weight2 @ weight1, weight2 @ bias1 + bias2, first.inputs[0], second.output)
    return graph


def fuse_linear_sum(graph: Graph) -> Graph:
    """``W₁·x + W₂·x = (W₁ + W₂)·x``."""
    for node in graph.nodes:
        if not isinstance(node.op, ops.Add) or node.inputs[0] == node.inputs[1]:
            continue
        first, second = (sole_producer(graph, name, node) for name in node.inputs)
        op1, op2 = _linear(graph, first), _linear(graph, second)
        if first is None or second is None or op1 is None or op2 is None or first.inputs != second.inputs:
            continue
        (weight1, bias1), (weight2, bias2) = float64_parameters(graph, op1), float64_parameters(graph, op2)
        return with_layer(graph, first, weight1 + weight2, bias1 + bias2, first.inputs[0], node.output)
    return graph


def fuse_parallel_layers(graph: Graph) -> Graph:
    """Stack layers that read one tensor and whose outputs (after equal activations) are concatenated."""
    for concat in graph.nodes:
        if (
            not isinstance(concat.op, ops.Concat)
            or len(concat.inputs) < 2
            or len(set(concat.inputs)) < len(concat.inputs)
        ):
            continue
        branches = [sole_producer(graph, name, concat) for name in concat.inputs]
        layers, activation = _below_activations(graph, branches)
        if layers is None or not _stackable(graph, layers):
            continue
        pairs = [float64_parameters(graph, op) for node in layers if (op := float_layer(graph, node)) is not None]
        weight, bias = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        source = layers[0].inputs[0]
        return with_layer(graph, layers[0], weight, bias, source, concat.output, then=activation)
    return graph


def _below_activations(graph: Graph, branches: list[Node | None]) -> tuple[list[Node] | None, ops.Activation | None]:
    """The layers under a Concat and the activation that all branches share, if they have one."""
    present = [node for node in branches if node is not None]
    if len(present) < len(branches):
        return None, None
    head = present[0].op
    if not isinstance(head, ops.Activation):
        return present, None
    if any(node.op != head for node in present):
        return None, None
    below = [sole_producer(graph, node.inputs[0], node) for node in present]
    layers = [node for node in below if node is not None]
    return (layers, head) if len(layers) == len(below) else (None, None)


def _stackable(graph: Graph, layers: list[Node]) -> bool:
    """All float, of one kind and geometry, on one input, none of them grouped."""
    found = [float_layer(graph, node) for node in layers]
    if any(op is None or (isinstance(op, ops.Conv2d) and op.groups > 1) for op in found):
        return False
    plain = {replace(op, weight="", bias=None) for op in found if op is not None}
    shapes = {graph.weights[op.weight].shape[1:] for op in found if op is not None}
    return len(plain) == len(shapes) == len({node.inputs for node in layers}) == 1


def fuse_dueling(graph: Graph) -> Graph:
    """``v + a − mean(a)`` of two Linears as one Linear [1511.06581, equation 9].

    When value and advantage are made from different tensors, those are concatenated first. V's row is then repeated
    for every action, which takes (A − 1)·|h_v| more multiplications but gives the head an integer form.
    `for_deployment` avoids them.
    """
    for node in graph.nodes:
        if not isinstance(node.op, ops.Dueling):
            continue
        value, advantage = (sole_producer(graph, name, node) for name in node.inputs)
        op_v, op_a = _linear(graph, value), _linear(graph, advantage)
        if value is None or advantage is None or op_v is None or op_a is None:
            continue
        (weight_v, bias_v), (weight_a, bias_a) = float64_parameters(graph, op_v), float64_parameters(graph, op_a)
        centred, bias = weight_a - weight_a.mean(axis=0), bias_a - bias_a.mean() + bias_v
        if value.inputs == advantage.inputs:
            return with_layer(graph, advantage, centred + weight_v, bias, advantage.inputs[0], node.output)
        sources = value.inputs + advantage.inputs
        if graph.types[sources[0]].qtype != graph.types[sources[1]].qtype:
            continue
        weight: Array = np.concatenate([np.broadcast_to(weight_v, (len(centred), weight_v.shape[1])), centred], axis=1)
        joined = fresh(graph, f"{node.output}.features")
        concat = Node(ops.Concat(), sources, joined)
        return with_layer(graph, advantage, weight, bias, joined, node.output, before=(concat,))
    return graph

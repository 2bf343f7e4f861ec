"""Removes nodes that do nothing or repeat another, and fuses activations. Results stay the same bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.edit import bypass, rebuild, sole_producer
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array


def drop_identity(graph: Graph) -> Graph:
    """``graph`` without a node that returns its input."""
    for node in graph.nodes:
        if _is_identity(graph, node):
            changed = bypass(graph, node)
            if changed is not graph:
                return changed
    return graph


def _is_identity(graph: Graph, node: Node) -> bool:
    match node.op:
        case ops.Flatten():
            return len(graph.types[node.inputs[0]].shape) == 1
        case ops.Concat():
            return len(node.inputs) == 1
        case ops.Activation(function="leaky_relu", slope=slope):
            return slope == 1
        case ops.Pool(kernel=(1, 1), stride=(1, 1)):
            return True
        case ops.Affine(scale=scale, shift=shift):
            real = isinstance(graph.types[node.inputs[0]].qtype, Float32)
            return real and bool((graph.weights[scale] == 1).all()) and not graph.weights[shift].any()
    return False


def fuse_activations(graph: Graph) -> Graph:
    """One Activation for two in a row: relu∘relu, clip∘relu, clip∘clip …"""
    for second in graph.nodes:
        first = sole_producer(graph, second.inputs[0], second)
        if first is None or not isinstance(second.op, ops.Activation) or not isinstance(first.op, ops.Activation):
            continue
        joined = _joined(first.op, second.op)
        if joined is not None:
            return rebuild(graph, {first.output: (), second.output: (Node(joined, first.inputs, second.output),)})
    return graph


def _joined(first: ops.Activation, second: ops.Activation) -> ops.Activation | None:
    """``second(first(x))`` as one activation, or None."""
    if second.function == "leaky_relu":
        never_negative = first.function == "relu" or (first.function == "clip" and first.low >= 0)
        return first if never_negative else None
    if first.function == "leaky_relu":
        return second if second.function == "relu" and first.slope >= 0 else None
    inner, outer = ((0.0, inf) if op.function == "relu" else (op.low, op.high) for op in (first, second))
    low, high = (min(max(bound, outer[0]), outer[1]) for bound in inner)
    return ops.Activation("relu") if (low, high) == (0.0, inf) else ops.Activation("clip", low=low, high=high)


def eliminate_common_subexpressions(graph: Graph) -> Graph:
    """One node for two that do the same to the same tensors (weights compared by value)."""
    seen: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        names = {name: graph.weights[name] for name in node.op.weight_names()}
        values = tuple((str(array.dtype), array.shape, array.tobytes()) for array in names.values())
        fields = tuple(_field(value, names) for value in vars(node.op).values())
        twin = seen.setdefault((node.op.kind, fields, values, node.inputs), node)
        if twin is not node and node.output not in graph.outputs:
            nodes = {
                reader.output: (Node(reader.op, _renamed(reader, node.output, twin.output), reader.output),)
                for reader in graph.consumers(node.output)
            }
            return rebuild(graph, {node.output: (), **nodes})
    return graph


def _field(value: object, names: Mapping[str, Array]) -> object:
    return None if isinstance(value, str) and value in names else value


def _renamed(node: Node, old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in node.inputs)

"""Edits of a frozen graph: replace nodes, remove what is unused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.types import Array


def rebuild(graph: Graph, changes: Mapping[str, tuple[Node, ...]], weights: Mapping[str, Array] | None = None) -> Graph:
    """``graph`` with nodes replaced.

    Args:
        changes: output of a node → the nodes in its place (none: it is removed).
        weights: added or replaced weights.
    """
    nodes = (new for node in graph.nodes for new in changes.get(node.output, (node,)))
    changed = weights or {}
    storage = {name: how for name, how in graph.storage.items() if name not in changed}
    return _pruned(replace(graph, storage=storage), tuple(nodes), {**graph.weights, **changed})


def drop_dead(graph: Graph) -> Graph:
    """``graph`` without nodes that no output needs and weights that no node reads."""
    pruned = _pruned(graph, graph.nodes, graph.weights)
    same = len(pruned.nodes) == len(graph.nodes) and len(pruned.weights) == len(graph.weights)
    return graph if same else pruned


def _pruned(graph: Graph, nodes: tuple[Node, ...], weights: Mapping[str, Array]) -> Graph:
    """``graph`` with those of ``nodes`` and ``weights`` that its outputs need."""
    needed, alive = set(graph.outputs), list[Node]()
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            alive.append(node)
    used = {name for node in alive for name in node.op.weight_names()}
    used_weights = {name: array for name, array in weights.items() if name in used}
    return replace(graph, nodes=tuple(reversed(alive)), weights=used_weights)


def bypass(graph: Graph, node: Node) -> Graph:
    """``graph`` without ``node``, whose readers get its only input; unchanged if an input would become an output."""
    source = node.inputs[0]
    if node.output not in graph.outputs:
        names = {node.output: source}
    elif source not in graph.outputs and source not in graph.inputs:
        names = {source: node.output}
    else:
        return graph
    nodes = tuple(
        Node(other.op, tuple(names.get(name, name) for name in other.inputs), names.get(other.output, other.output))
        for other in graph.nodes
        if other is not node
    )
    return _pruned(graph, nodes, graph.weights)


def sole_producer(graph: Graph, tensor: str, reader: Node) -> Node | None:
    """The node that makes ``tensor``, if ``reader`` is the only one that needs it."""
    private = tensor not in graph.outputs and graph.consumers(tensor) == (reader,)
    return graph.producer(tensor) if private else None


def fresh(graph: Graph, stem: str) -> str:
    """A name that no tensor and no weight has."""
    name, count = stem, 0
    while name in graph.types or name in graph.weights:
        count += 1
        name = f"{stem}.{count}"
    return name


def weight_name(graph: Graph, name: str | None, stem: str) -> str:
    """The name for a changed weight: its own if no other node reads it."""
    readers = sum(node.op.weight_names().count(name) for node in graph.nodes if name is not None)
    return name if name is not None and readers == 1 else fresh(graph, name or stem)


def unshare(graph: Graph) -> Graph:
    """``graph`` with separate weights for every node; unchanged if they are separate already."""
    for node in graph.nodes:
        for field in node.op.weight_fields:
            name = getattr(node.op, field)
            if name is not None and (own := weight_name(graph, name, name)) != name:
                changed = Node(replace(node.op, **{field: own}), node.inputs, node.output)
                return unshare(rebuild(graph, {node.output: (changed,)}, {own: graph.weights[name]}))
    return graph


def float_layer(graph: Graph, node: Node | None) -> ops.Linear | ops.Conv2d | None:
    """The op of a Linear or Conv2d with float32 weights."""
    if node is None or not isinstance(node.op, ops.Linear | ops.Conv2d):
        return None
    return node.op if graph.weights[node.op.weight].dtype == np.float32 else None


def float64_parameters(graph: Graph, op: ops.Linear | ops.Conv2d) -> tuple[Array, Array]:
    """Weight and bias (zeros where there is none) in double precision, for arithmetic that is rounded once."""
    weight = graph.weights[op.weight].astype(np.float64)
    bias = np.zeros(len(weight)) if op.bias is None else graph.weights[op.bias].astype(np.float64)
    return weight, bias


def with_layer(
    graph: Graph,
    node: Node,
    weight: Array,
    bias: Array,
    source: str,
    output: str,
    *,
    before: tuple[Node, ...] = (),
    then: ops.Activation | None = None,
) -> Graph:
    """``graph`` where ``node`` (Linear or Conv2d), with new weights, takes the place of the node that makes ``output``.

    Args:
        weight, bias: rounded to float32 here; a bias of zeros is left out if there was none.
        source: what it reads now.
        before: nodes to put before it.
        then: an activation to put after it.
    """
    op = node.op
    assert isinstance(op, ops.Linear | ops.Conv2d)
    weight_as, bias_as = weight_name(graph, op.weight, op.weight), None
    weights = {weight_as: weight.astype(np.float32)}
    if op.bias is not None or bias.any():
        bias_as = weight_name(graph, op.bias, f"{op.weight}.bias")
        weights[bias_as] = bias.astype(np.float32)
    changed = replace(op, weight=weight_as, bias=bias_as)
    nodes = (*before, Node(changed, (source,), output))
    if then is not None:
        middle = fresh(graph, f"{output}.layer")
        nodes = (*before, Node(changed, (source,), middle), Node(then, (middle,), output))
    changes: dict[str, tuple[Node, ...]] = {} if node.output == output else {node.output: ()}
    return rebuild(graph, {**changes, output: nodes}, weights)

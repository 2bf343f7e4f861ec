"""The mask of legal actions as an input of the policy."""

from __future__ import annotations

from dataclasses import replace

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph
from nimbleq.graph.tensor import UINT8, TensorType


def with_mask(graph: Graph) -> Graph:
    """``graph`` with an input `MASK` that its greedy action obeys; unchanged if it has one.

    Raises:
        GraphError: the action is not made by an ArgMax, or a tensor has the mask's name.
    """
    if graph.masked:
        return graph
    producer = graph.producer(ACTION)
    if producer is None or not isinstance(producer.op, ops.Choice) or MASK in graph.types:
        raise GraphError(f"with_mask needs {ACTION!r} to be made by ArgMax, and no tensor {MASK!r}")
    inputs = {**graph.inputs, MASK: TensorType((graph.actions,), UINT8)}
    masked = replace(producer, inputs=(producer.inputs[0], MASK))
    nodes = tuple(masked if node is producer else node for node in graph.nodes)
    return replace(graph, inputs=inputs, nodes=nodes)


def without_mask(graph: Graph) -> Graph:
    """``graph`` as if every action were always legal: the inverse of `with_mask`."""
    if not graph.masked:
        return graph
    inputs = {name: kind for name, kind in graph.inputs.items() if name != MASK}
    nodes = tuple(replace(node, inputs=tuple(name for name in node.inputs if name != MASK)) for node in graph.nodes)
    return replace(graph, inputs=inputs, nodes=nodes)

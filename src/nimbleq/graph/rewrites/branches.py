"""The dimensions of a policy's action."""

from __future__ import annotations

from dataclasses import replace

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph


def with_branches(graph: Graph, branches: tuple[int, ...]) -> Graph:
    """``graph``, choosing in dimensions of these sizes, ``A`` in all; as it is where ``branches`` is empty.

    Raises:
        GraphError: the action is not made of action values, or these have another number.
    """
    if not branches:
        return graph
    producer = graph.producer(ACTION)
    if producer is None or not isinstance(producer.op, ops.Choice):
        raise GraphError(f"with_branches needs {ACTION!r} to be chosen by action values")
    chooser = replace(producer, op=ops.BranchArgMax(branches))
    nodes = tuple(chooser if node is producer else node for node in graph.nodes)
    return replace(graph, nodes=nodes)

"""Standard rewrites: the same policy with less work. Each rule is a small function in `nimbleq.graph.rewrites`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.rewrites.affine import affine_into_next, affine_into_previous, fuse_affines
from nimbleq.graph.rewrites.constants import fold_constant_units
from nimbleq.graph.rewrites.edit import drop_dead, rebuild, sole_producer
from nimbleq.graph.rewrites.linear import fuse_dueling, fuse_linear_chain, fuse_linear_sum, fuse_parallel_layers
from nimbleq.graph.rewrites.simple import drop_identity, eliminate_common_subexpressions, fuse_activations

RULES: tuple[Callable[[Graph], Graph], ...] = (
    drop_dead,
    drop_identity,
    eliminate_common_subexpressions,
    fuse_activations,
    fold_constant_units,
    fuse_affines,
    affine_into_previous,
    affine_into_next,
    fuse_linear_chain,
    fuse_linear_sum,
    fuse_parallel_layers,
    fuse_dueling,
)
"""Rules that preserve every output, up to float rounding. Multiplications never grow, but see `fuse_dueling`."""


def fold(graph: Graph) -> Graph:
    """Apply `RULES` until none applies: outputs equal up to float rounding, integer nodes unchanged."""
    while True:
        for rule in RULES:
            changed = rule(graph)
            if changed is not graph:
                graph = changed
                break
        else:
            return graph


def for_deployment(graph: Graph) -> Graph:
    """`fold` for a graph that only needs to act: it first drops the value stream and the mean of a dueling head.

    Both add the same number to all actions, so the greedy action stays (up to float rounding of near ties) while the
    output ``q`` changes: it becomes the advantage. Pass the graph as trained: once `fold` has fused a
    dueling head with hidden layers, its value stream cannot be recognised.
    """
    return fold(drop_value(graph))


def drop_value(graph: Graph) -> Graph:
    """``a`` in place of ``v + a − mean(a)`` where only the greedy action and the output ``q`` read it."""
    for node in graph.nodes:
        if not isinstance(node.op, ops.Dueling):
            continue
        advantage = sole_producer(graph, node.inputs[1], node)
        if advantage is not None and all(isinstance(reader.op, ops.ArgMax) for reader in graph.consumers(node.output)):
            same = Node(advantage.op, advantage.inputs, node.output)
            return rebuild(graph, {advantage.output: (), node.output: (same,)})
    return graph


def with_action(graph: Graph) -> Graph:
    """``graph`` with the greedy action as a second output, taken from its output ``q``.

    Raises:
        GraphError: there is no output ``q``, or it has the action already.
    """
    if Q not in graph.outputs or ACTION in graph.types:
        raise GraphError(f"with_action needs an output {Q!r} and no tensor {ACTION!r}")
    node = Node(ops.ArgMax(), (Q,), ACTION)
    return replace(graph, nodes=(*graph.nodes, node), outputs=(*graph.outputs, ACTION))

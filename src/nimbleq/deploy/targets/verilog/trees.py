"""Decision trees as a circuit: all splits at once, then a table of what the leaves give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nimbleq.deploy.targets.verilog.circuit import Circuit, literal
from nimbleq.deploy.targets.verilog.core import integer_split
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def tree(
    op: ops.ObliqueTree | ops.AxisTree, graph: Graph, circuit: Circuit, source: Sequence[str], what: str
) -> tuple[list[str], str]:
    """Signals of what a tree gives for each action, and of the action for which it gives most (the lowest on ties)."""
    leaf = graph.weights[op.leaf]
    rows = np.eye(op.actions, dtype=np.int64)[leaf] if leaf.ndim == 1 else leaf.astype(np.int64)
    right = _splits(op, graph, circuit, source, what)
    gives = [_chosen(circuit, right, column.tolist(), f"{what}[{a}]") for a, column in enumerate(rows.T)]
    return gives, _chosen(circuit, right, rows.argmax(axis=1).tolist(), f"{what}, the best")


def _splits(
    op: ops.ObliqueTree | ops.AxisTree, graph: Graph, circuit: Circuit, source: Sequence[str], what: str
) -> list[str]:
    """For each split a signal that is 1 where it leads to the right."""
    limits = _whole(graph.weights[op.threshold])
    if isinstance(op, ops.ObliqueTree):
        rows = graph.weights[integer_split(op, graph)].tolist()
        over = circuit.linear(rows, source, [-limit - 1 for limit in limits], f"{what}, split")
        tests = [(name, 0) for name in over]  # w·x − t − 1 ≥ 0: nothing but the sign
    else:
        tests = [(source[f], limit + 1) for f, limit in zip(graph.weights[op.feature].tolist(), limits, strict=True)]
    return [_at_least(circuit, name, least, f"{what}, right at {n}") for n, (name, least) in enumerate(tests)]


def _whole(threshold: Array) -> list[int]:
    """An integer is above a number where it is above the next lower integer."""
    return [int(limit) for limit in np.floor(threshold.astype(np.float64))]


def _at_least(circuit: Circuit, name: str, least: int, what: str) -> str:
    """1 where a signal is no less than a number, else 0."""
    low, high = circuit.signals[name].low, circuit.signals[name].high
    if low >= least or high < least:
        return circuit.number(int(low >= least))
    cost = 1 if least else 0
    return circuit.make(f"({{{name}}} >= {literal(least)}) ? 2'sd1 : 2'sd0", (name,), 0, 1, cost, what)


def _chosen(circuit: Circuit, right: Sequence[str], leaves: Sequence[int], what: str) -> str:
    """The number of the leaf to which the splits lead."""
    splits, used = len(right), dict[str, None]()

    def walk(node: int) -> str:
        if node >= splits:
            return literal(leaves[node - splits])
        left, other = walk(2 * node + 1), walk(2 * node + 2)
        test = circuit.signals[right[node]]
        if left == other or test.constant:
            return other if test.constant and test.low else left
        used[right[node]] = None
        return f"({{{right[node]}}}[0] ? {other} : {left})"

    text = walk(0)
    if not used:
        return circuit.number(leaves[_only(text, leaves)])
    levels = min(circuit.levels, max(1, ops.tree_depth(splits) - 1))  # a table of three splits is one lookup
    return circuit.make(text, tuple(used), min(leaves), max(leaves), levels, what)


def _only(text: str, leaves: Sequence[int]) -> int:
    """Index of the leaf whose number ``text`` is."""
    return next(index for index, leaf in enumerate(leaves) if literal(leaf) == text)

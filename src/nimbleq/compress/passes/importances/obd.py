"""Optimal brain damage [LeCun et al. 1990]: second order, with the diagonal of the empirical Fisher matrix."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated, add_to
from nimbleq.graph import ops
from nimbleq.graph.rewrites.edit import unshare


def rate(evidence: Evidence) -> Rated:
    """``Σ ½·h·w²`` over the weights that make and read the unit, ``h = E[g²]`` of single states."""
    from nimbleq.compress.passes.gradients import fisher  # torch

    graph, total = unshare(evidence.graph), np.zeros(evidence.units.count)
    information = fisher(graph, evidence.seen)
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            continue
        weight = graph.weights[node.op.weight].astype(np.float64)
        saliency = (0.5 * information[node.op.weight] * weight**2).reshape(*weight.shape[:2], -1).sum(axis=2)
        making = saliency.sum(axis=1)
        if node.op.bias is not None:
            making = making + 0.5 * information[node.op.bias] * graph.weights[node.op.bias].astype(np.float64) ** 2
        add_to(total, evidence.units.of[node.output], making)
        if not isinstance(node.op, ops.Conv2d) or node.op.groups == 1:
            add_to(total, evidence.units.of[node.inputs[0]], saliency.sum(axis=0))
    return Rated(evidence.graph, total)


ROW = ImportanceRow(rate, "½·h·w² of its weights, h from the empirical Fisher matrix", everywhere=True)

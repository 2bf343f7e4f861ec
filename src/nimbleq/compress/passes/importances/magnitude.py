"""Size of the weights."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated, add_to
from nimbleq.graph import ops
from nimbleq.types import Array


def _share(square: Array) -> Array:
    """Each entry as a multiple of the mean over its layer."""
    return np.asarray(square / max(float(square.mean()), 1e-30))


def rate(evidence: Evidence) -> Rated:
    """Squared L2 norm of the weights that make and read the unit, each layer's as multiples of its mean."""
    graph, total = evidence.graph, np.zeros(evidence.units.count)
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            continue
        square = graph.weights[node.op.weight].astype(np.float64) ** 2
        add_to(total, evidence.units.of[node.output], _share(square.reshape(len(square), -1).sum(axis=1)))
        if not isinstance(node.op, ops.Conv2d) or node.op.groups == 1:
            reading = square.reshape(*square.shape[:2], -1).sum(axis=(0, 2))
            add_to(total, evidence.units.of[node.inputs[0]], _share(reading))
    return Rated(graph, total)


ROW = ImportanceRow(rate, "size of the weights that make and read it")

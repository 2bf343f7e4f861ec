"""What the next layer's sums lose when the unit becomes its mean."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated, add_to
from nimbleq.graph import ops


def rate(evidence: Evidence) -> Rated:
    """Variance of the activation times the squared norm of the weights that read it, as multiples of the layer's mean:
    the diagonal of what `obs` has in full."""
    graph, total = evidence.graph, np.zeros(evidence.units.count)
    for node in graph.nodes:
        if isinstance(node.op, ops.Linear) or (isinstance(node.op, ops.Conv2d) and node.op.groups == 1):
            square = graph.weights[node.op.weight].astype(np.float64) ** 2
            lost = square.reshape(*square.shape[:2], -1).sum(axis=(0, 2)) * evidence.variances[node.inputs[0]]
            add_to(total, evidence.units.of[node.inputs[0]], lost / max(float(lost.mean()), 1e-30))
    return Rated(graph, total)


ROW = ImportanceRow(rate, "variance of its activation times the size of the weights that read it")

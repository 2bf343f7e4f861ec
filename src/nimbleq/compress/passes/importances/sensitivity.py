"""How much the loss moves, to first order, when the unit becomes its mean [Molchanov et al., 1611.06440]."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated
from nimbleq.compress.passes.units import FIXED
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph


def rate(evidence: Evidence) -> Rated:
    """``E|Σ g·(a − mean a)|`` over what layers read of it; the loss is −log of the probability of the teacher's action.

    Against the teacher's distribution the gradient would be zero at the teacher itself, and so would be the mean over
    states at any minimum: hence the hard action, and the absolute value of each state.
    """
    from nimbleq.compress.passes.gradients import activation_gradients  # torch

    graph, units, count = evidence.graph, evidence.units, evidence.units.count
    read, total, states = _read(graph), np.zeros(count), 0
    for values, gradients in activation_gradients(graph, evidence.seen):
        batch = len(next(iter(values.values())))
        effect = np.zeros((batch, count))
        for name in read:
            mean = evidence.means[name].reshape(-1, *(1 for _ in values[name].shape[2:]))
            moved = (gradients[name] * (values[name] - mean)).reshape(batch, len(units.of[name]), -1).sum(axis=2)
            removable = units.of[name] != FIXED
            np.add.at(effect.T, units.of[name][removable], moved[:, removable].T)
        total += np.abs(effect).sum(axis=0)
        states += batch
    return Rated(graph, total / states)


def _read(graph: Graph) -> tuple[str, ...]:
    """The tensors that are mixed by weights, or become action values."""
    mixing = ops.Linear | ops.Conv2d | ops.Dueling | ops.Expectation
    return tuple(dict.fromkeys(name for node in graph.nodes if isinstance(node.op, mixing) for name in node.inputs))


ROW = ImportanceRow(rate, "first-order change of the teacher's log-probability without it", everywhere=True)

"""How much the action values move when the unit becomes its mean, measured."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated
from nimbleq.compress.passes.units import remove_units
from nimbleq.compress.states import q_values

_STATES = 512


def rate(evidence: Evidence) -> Rated:
    """Mean squared change of the action values without the unit; one forward pass a unit."""
    graph, units, obs = evidence.graph, evidence.units, evidence.seen.obs[:_STATES]
    everything = np.concatenate([*units.layers, np.zeros(0, np.int64)])
    before, scores = q_values(graph, obs), np.zeros(evidence.units.count)
    for layer in units.layers:
        for unit in layer:
            rest = everything[everything != unit]
            without = remove_units(graph, units, rest, evidence.means) if len(layer) > 1 else graph
            scores[unit] = float(np.square(q_values(without, obs) - before).mean()) + 1e-30
    return Rated(graph, scores)


ROW = ImportanceRow(rate, "how much the action values move without it, measured")

"""Network slimming [1708.06519]: training with a scale on every channel and a price on scales."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated, add_to


def rate(evidence: Evidence) -> Rated:
    """``|γ|`` of the batch normalisation that was put behind the unit while distilling, and is folded away again.

    The graph comes back as that training left it.
    """
    from nimbleq.compress.passes.slim import slim  # torch

    slimmed = slim(evidence.graph, evidence.units, evidence.seen, evidence.config, evidence.seed)
    total = np.zeros(evidence.units.count)
    for output, scale in slimmed.scales.items():
        add_to(total, evidence.units.of[output], np.abs(scale))
    return Rated(slimmed.graph, total)


ROW = ImportanceRow(rate, "scale behind it after distilling with a price on scales", everywhere=True)

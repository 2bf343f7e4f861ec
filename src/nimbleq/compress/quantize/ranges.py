"""Ranges of activations, measured in a stream: batches come and go, only histograms stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.quantize.histogram import Histogram, Observer
from nimbleq.compress.quantize.methods import METHODS
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

_CHUNK = 1024
_SCRATCH_ENTRIES = 1 << 22
"""About how many entries of activations may be alive at once."""


@dataclass(frozen=True)
class Range:
    """What levels have to cover: ``low`` and ``high``, each ``[C]`` (one, or one per observation feature)."""

    low: Array
    high: Array


Seen = Sequence[Histogram]
"""The histograms of one tensor: one, or one per observation feature."""


def histograms(
    graph: Graph,
    obs: Array,
    tensors: Sequence[str],
    per_feature: Sequence[str] = (),
    weightings: Sequence[Array | None] = (None,),
) -> tuple[dict[str, Seen], ...]:
    """Histograms of ``tensors`` over ``obs [K, *O]`` for each weighting, in one pass of small batches.

    Args:
        per_feature: those of the tensors whose entries are counted each by itself (vector observations).
        weightings: ``float[K]`` how much each state counts (None: all the same).
    """
    count = {name: graph.types[name].size if name in per_feature else 1 for name in tensors}
    observers = [{name: [Observer() for _ in range(count[name])] for name in tensors} for _ in weightings]
    chunk = max(1, min(_CHUNK, _SCRATCH_ENTRIES // sum(kind.size for kind in graph.types.values())))
    for start in range(0, len(obs), chunk):
        made = trace(graph, obs[start : start + chunk])
        for name in tensors:
            rows = made[name].reshape(len(made[name]), count[name], -1).astype(np.float64)
            for weighting, every in zip(weightings, observers, strict=True):
                weight = None if weighting is None else weighting[start : start + chunk].astype(np.float64)
                repeated = None if weight is None else np.repeat(weight, rows.shape[2])
                for channel, observer in enumerate(every[name]):
                    observer.add(rows[:, channel].reshape(-1), repeated)
    return tuple({name: [one.histogram() for one in each] for name, each in every.items()} for every in observers)


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that ranges are picked from.

    Attributes:
        plain: tensor → its histograms, every state counted once.
        by_gap: the same, each state counted as much as its action gap is wide.
        per_feature: tensors that have one histogram for each entry.
    """

    plain: Mapping[str, Seen]
    by_gap: Mapping[str, Seen]
    per_feature: frozenset[str]


def measure(
    graph: Graph, obs: Array, tensors: Sequence[str], per_feature: Sequence[str], gaps: Array | None = None
) -> Measured:
    """Histograms of ``tensors`` over ``obs [K, *O]``.

    Args:
        per_feature: those of the tensors that have one range for each entry.
        gaps: ``float[K]`` the action gap in each state (None: nobody knows, all states count the same).
    """
    # Where one action only is legal the gap is infinite, and nothing is at stake.
    weights = None if gaps is None else np.where(np.isfinite(gaps), gaps, 0.0)
    if weights is None or not weights.sum() > 0:
        (plain,) = histograms(graph, obs, tensors, per_feature)
        return Measured(plain, plain, frozenset(per_feature))
    plain, by_gap = histograms(graph, obs, tensors, per_feature, (None, weights))
    return Measured(plain, by_gap, frozenset(per_feature))


def choose_range(seen: Seen, method: str, levels: int = 255) -> Range:
    """The range that ``method``, a name in `METHODS`, picks for ``levels`` steps."""
    ends = [METHODS[method].choose(histogram, levels) for histogram in seen]
    return Range(np.array([end[0] for end in ends]), np.array([end[1] for end in ends]))


def choose_ranges(measured: Measured, method: str, levels: Mapping[str, int]) -> dict[str, Range]:
    """The range of every tensor, each in its number of ``levels``."""
    seen = measured.by_gap if METHODS[method].by_gap else measured.plain
    ranges = {name: choose_range(histogram, method, levels[name]) for name, histogram in seen.items()}
    # Zero is kept representable inside the network: it is what padding means and where ReLU rests.
    return {
        name: extent if name in measured.per_feature else Range(np.minimum(extent.low, 0), np.maximum(extent.high, 0))
        for name, extent in ranges.items()
    }

"""Neuron and channel pruning: score units, keep the best, remove the others physically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.importances import IMPORTANCES, Evidence, ImportanceRow
from nimbleq.compress.passes.importances.obs import compensated
from nimbleq.compress.passes.labelled import Labelled, label
from nimbleq.compress.passes.moments import Moments, moments
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.units import FIXED, Units, find_units, remove_units
from nimbleq.compress.states import States
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

DEFAULT = "variance"
"""Importance where none is named."""


def prune_to(
    graph: Graph,
    widths: Sequence[int] | float,
    obs: Array | Labelled,
    importance: str = DEFAULT,
    config: DistillConfig | None = None,
    seed: int = 0,
) -> Graph:
    """Narrower copy of ``graph``.

    Args:
        graph: float, any topology of supported ops; action values are never removed.
        widths: units to keep per layer in the order of ``find_units(graph).layers``, or one fraction in (0, 1] for all.
        obs: visited states with the teacher's values, or ``[K, *O]`` states where ``graph`` is the teacher.
        importance: a name in `IMPORTANCES`.
        config, seed: of importances that train.

    Raises:
        ConfigError: the number of widths does not fit, or one is out of range.
        UnsupportedOpError: an op that pruning does not know.
    """
    units = find_units(graph)
    seen = obs if isinstance(obs, Labelled) else label(graph, States(obs))
    sizes = [len(layer) for layer in units.layers]
    row = IMPORTANCES[importance]
    wanted = [max(1, round(widths * size)) for size in sizes] if isinstance(widths, int | float) else list(widths)
    fits = len(wanted) == len(sizes) and all(1 <= want <= size for want, size in zip(wanted, sizes, strict=True))
    if not fits:
        raise ConfigError(f"widths {wanted} do not fit the {len(sizes)} layers of {sizes} units")
    if wanted == sizes:
        return remove_units(graph, units, _all(units), moments(graph, seen.obs)[0])
    evidence = Evidence(graph, units, seen, *moments(graph, seen.obs), config or DistillConfig(), seed)
    rated = row.rate(evidence)
    scores = rated.scores * (_spread(graph, units, evidence.means, evidence.variances) > 0)
    if isinstance(widths, int | float) and row.everywhere:
        wanted = _everywhere(units, scores, sum(wanted))
    keep = [_best(layer, scores, want) for layer, want in zip(units.layers, wanted, strict=True)]
    kept = np.concatenate([*keep, np.zeros(0, np.int64)])
    return _removed(rated.graph, evidence, row, kept)


def _removed(graph: Graph, evidence: Evidence, row: ImportanceRow, keep: Array) -> Graph:
    """``graph``, of the evidence's shape, without the units that are not in ``keep``."""
    if row.compensate:
        graph = compensated(graph, evidence.units, keep, evidence.seen.obs)
    means = evidence.means if graph is evidence.graph else moments(graph, evidence.seen.obs)[0]
    return remove_units(graph, evidence.units, keep, means)


def _all(units: Units) -> Array:
    return np.concatenate([*units.layers, np.zeros(0, np.int64)])


def _best(layer: Array, scores: Array, count: int) -> Array:
    """The ``count`` groups of a layer with the highest scores, in order."""
    return np.asarray(layer[np.sort(np.argsort(-scores[layer], kind="stable")[:count])])


def _everywhere(units: Units, scores: Array, total: int) -> list[int]:
    """Widths under one threshold for all layers, one unit of each at least."""
    first = np.concatenate([_best(layer, scores, 1) for layer in units.layers])
    rest = np.setdiff1d(_all(units), first)
    chosen = np.append(first, rest[np.argsort(-scores[rest], kind="stable")[: total - len(first)]])
    return [int(np.isin(layer, chosen).sum()) for layer in units.layers]


def drop_dead(graph: Graph, obs: Array) -> Graph:
    """``graph`` without the units whose activation never changes on ``obs``: free, their constant goes into the next
    bias. A constant other than 0 stays before a padded convolution, whose border no bias can equal. One unit of a layer
    always stays."""
    units = find_units(graph)
    means, variances = moments(graph, obs)
    alive = _spread(graph, units, means, variances) > 0
    keep = [layer[alive[layer]] if alive[layer].any() else layer[:1] for layer in units.layers]
    return remove_units(graph, units, np.concatenate([*keep, np.zeros(0, np.int64)]), means)


def _spread(graph: Graph, units: Units, means: Moments, variances: Moments) -> Array:
    """``float64[groups]`` how far each group moves where it is read, summed: exactly 0 for what is free to go."""
    spread = np.zeros(units.count)
    for node in graph.nodes:
        if isinstance(node.op, ops.Linear | ops.Conv2d | ops.LayerNorm | ops.Add | ops.Dueling):
            for name in node.inputs:
                groups = units.of[name]
                moves = _moves(node.op, means[name], variances[name])
                np.add.at(spread, groups[groups != FIXED], moves[groups != FIXED])
    return spread


def _moves(op: ops.Op, mean: Array, variance: Array) -> Array:
    """``float64[C]`` mean square distance of each input of ``op`` from the constant that could stand for it."""
    if isinstance(op, ops.LayerNorm):  # a constant still counts in its statistics
        return np.ones(len(mean))
    if isinstance(op, ops.Conv2d) and any(op.padding):  # beside zeros of the padding only 0 is a constant
        return np.asarray(variance + mean**2)
    return variance


@dataclass(frozen=True)
class Prune:
    """Dead units first, then the least important ones down to a share.

    Attributes:
        share: of the units to keep: of every layer, or of all together where the importance compares layers.
        importance: a name in `IMPORTANCES`.
    """

    share: float
    importance: str = DEFAULT

    def __call__(self, graph: Graph, context: Context) -> Graph:
        seen = context.from_teacher()
        alive = drop_dead(graph, seen.obs)
        if self.share == 1:
            return alive
        return prune_to(alive, self.share, seen, self.importance, context.distill, context.seed)

    def __str__(self) -> str:
        by = "" if self.importance == DEFAULT else f" by {self.importance}"
        return f"prune to {self.share:g}{by}"


def _parse(setting: str) -> Prune:
    """``0.5``, or ``IMPORTANCE:0.5``."""
    name, _, number = setting.rpartition(":")
    if name and name not in IMPORTANCES:
        raise ConfigError(f"there is no importance {name!r}; choose from {', '.join(IMPORTANCES)}")
    try:
        share = float(number)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"prune takes the share of units to keep, above 0 and at most 1, not {setting!r}")
    return Prune(share, name or DEFAULT)


ROW = PassRow(
    _parse, "remove the least important units down to this share; IMPORTANCE:SHARE for another importance", "0.5"
)

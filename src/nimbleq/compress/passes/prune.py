"""Neuron and channel pruning: score units, keep the best of every layer, remove the others physically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.units import FIXED, Units, find_units, remove_units
from nimbleq.compress.states import q_values
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

Score = Literal["magnitude", "sensitivity", "ablation"]
Moments = dict[str, Array]
"""Tensor → one number for every entry of its first axis."""
_CHUNK = 2048
_ABLATION_STATES = 512


def prune_to(graph: Graph, widths: Sequence[int] | float, obs: Array, score: Score = "sensitivity") -> Graph:
    """Narrower copy of ``graph``.

    Args:
        graph: float, any topology of supported ops; action values are never removed.
        widths: units to keep per layer in the order of ``find_units(graph).layers``, or one fraction in (0, 1] for all.
        obs: ``[K, *O]`` visited states.
        score: what makes a unit important, see `unit_scores`.

    Raises:
        ConfigError: the number of widths does not fit, or one is out of range.
        UnsupportedOpError: an op that pruning does not know.
    """
    units = find_units(graph)
    sizes = [len(layer) for layer in units.layers]
    wanted = [max(1, round(widths * size)) for size in sizes] if isinstance(widths, int | float) else list(widths)
    fits = len(wanted) == len(sizes) and all(1 <= want <= size for want, size in zip(wanted, sizes, strict=True))
    if not fits:
        raise ConfigError(f"widths {wanted} do not fit the {len(sizes)} layers of {sizes} units")
    scores = unit_scores(graph, units, obs, score)
    keep = [
        layer[np.sort(np.argsort(-scores[layer], kind="stable")[:want])]
        for layer, want in zip(units.layers, wanted, strict=True)
    ]
    return remove_units(graph, units, np.concatenate([*keep, np.zeros(0, np.int64)]), _moments(graph, obs)[0])


def drop_dead(graph: Graph, obs: Array) -> Graph:
    """``graph`` without the units whose activation never changes on ``obs``: free, their constant goes into the next
    bias. A constant other than 0 stays before a padded convolution, whose border no bias can equal. One unit of a layer
    always stays."""
    units = find_units(graph)
    means, variances = _moments(graph, obs)
    alive = _spread(graph, units, means, variances) > 0
    keep = [layer[alive[layer]] if alive[layer].any() else layer[:1] for layer in units.layers]
    return remove_units(graph, units, np.concatenate([*keep, np.zeros(0, np.int64)]), means)


def unit_scores(graph: Graph, units: Units, obs: Array, score: Score) -> Array:
    """``float64[groups]`` importance, comparable within a layer; coupled units are summed; dead units get 0.

    ``magnitude``: squared L2 norm of the weights that make and read the unit, each layer's share of its mean.
    ``sensitivity``: variance of the activation times the squared norm of the weights that read it: how much of the next
    layer's sums is lost when the unit becomes its mean. ``ablation``: how much the action values move when it does,
    measured directly.
    """
    means, variances = _moments(graph, obs)
    alive = _spread(graph, units, means, variances) > 0
    if score == "ablation":
        return _ablation(graph, units, obs[:_ABLATION_STATES], means) * alive
    total = np.zeros(len(alive))
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            continue
        square = graph.weights[node.op.weight].astype(np.float64) ** 2
        if score == "magnitude":
            _add(total, units.of[node.output], square.reshape(len(square), -1).sum(axis=1))
        if isinstance(node.op, ops.Conv2d) and node.op.groups > 1:
            continue
        reading = square.reshape(*square.shape[:2], -1).sum(axis=(0, 2))
        importance = reading if score == "magnitude" else reading * variances[node.inputs[0]]
        _add(total, units.of[node.inputs[0]], importance)
    return total * alive


def _add(total: Array, groups: Array, importance: Array) -> None:
    """Add to each group, normalised by the mean over this layer."""
    removable = groups != FIXED
    np.add.at(total, groups[removable], importance[removable] / max(float(importance.mean()), 1e-30))


def _ablation(graph: Graph, units: Units, obs: Array, means: dict[str, Array]) -> Array:
    everything = np.concatenate([*units.layers, np.zeros(0, np.int64)])
    before = q_values(graph, obs)
    scores = np.zeros(int(everything.max(initial=-1)) + 1)
    for layer in units.layers:
        for unit in layer:
            without = remove_units(graph, units, everything[everything != unit], means) if len(layer) > 1 else graph
            scores[unit] = float(np.square(q_values(without, obs) - before).mean()) + 1e-30
    return scores


def _spread(graph: Graph, units: Units, means: Moments, variances: Moments) -> Array:
    """``float64[groups]`` how far each group moves where it is read, summed: exactly 0 for what is free to go."""
    count = max((int(groups.max(initial=-1)) for groups in units.of.values()), default=-1) + 1
    spread = np.zeros(count)
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


def _moments(graph: Graph, obs: Array) -> tuple[Moments, Moments]:
    """Mean and variance over states (and pixels) of every entry of the first axis, per tensor, in a stream."""
    count = 0
    first: dict[str, Array] = {}
    second: dict[str, Array] = {}
    offset: dict[str, Array] = {}
    for start in range(0, len(obs), _CHUNK):
        batch = obs[start : start + _CHUNK]
        for name, values in trace(graph, batch).items():
            if values.ndim < 2:
                continue
            rows = values.reshape(len(values), values.shape[1], -1).astype(np.float64)
            shift = offset.setdefault(name, rows[0, :, 0].copy())  # a constant unit then has variance exactly 0
            rows = rows - shift[:, None]
            first[name] = first.get(name, 0.0) + rows.mean(axis=2).sum(axis=0)
            second[name] = second.get(name, 0.0) + np.square(rows).mean(axis=2).sum(axis=0)
        count += len(batch)
    means = {name: first[name] / count for name in first}
    variances = {name: np.maximum(second[name] / count - means[name] ** 2, 0.0) for name in first}
    return {name: means[name] + offset[name] for name in means}, variances


@dataclass(frozen=True)
class Prune:
    """Dead units first, then the least sensitive ones down to a share of every layer."""

    share: float

    def __call__(self, graph: Graph, context: Context) -> Graph:
        obs = context.from_teacher().obs
        return prune_to(drop_dead(graph, obs), self.share, obs) if self.share < 1 else drop_dead(graph, obs)

    def __str__(self) -> str:
        return f"prune to {self.share:g}"


def _parse(setting: str) -> Prune:
    try:
        share = float(setting)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"prune takes the share of units to keep, above 0 and at most 1, not {setting!r}")
    return Prune(share)


ROW = PassRow(_parse, "remove the least sensitive units down to this share of every layer", "0.5")

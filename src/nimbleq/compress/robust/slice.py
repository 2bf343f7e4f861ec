"""A plane through the decision map: the action over two features, all others as in one visited state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.states import States, actions
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

_PROBES = 200
_STEPS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class Slice:
    """Attributes:
    features: the two.
    centre: the state's values of them.
    low, high: ends of the plane, in the features' own units.
    action: ``int64[side, side]``; the second feature grows with the row, the first with the column.
    """

    features: tuple[int, int]
    centre: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    action: Array


def slice_of(graph: Graph, states: States, deviation: Array, side: int = 48, reach: float = 3.0) -> Slice | None:
    """The plane of the two features that change the action most often, ``reach`` deviations to each side.

    It goes through the state, among a few, in whose plane most actions occur; None with fewer than two features.
    """
    varying = np.flatnonzero(deviation > 0)
    if len(varying) < 2 or isinstance(graph.obs_type.qtype, Int):
        return None
    some = states[: min(_PROBES, len(states))]
    chosen = actions(graph, some)
    changes = np.zeros(len(deviation))
    for feature in varying.tolist():
        for step in _STEPS:
            moved = some.obs.reshape(len(some), -1).copy()
            moved[:, feature] += np.float32(step * deviation[feature])
            changes[feature] += (actions(graph, States(moved.reshape(some.obs.shape), some.mask)) != chosen).mean()
    first, second = sorted(np.argsort(changes)[-2:].tolist())
    planes = [
        _plane(graph, some[k : k + 1], deviation, (first, second), side, reach) for k in range(min(12, len(some)))
    ]
    return max(planes, key=lambda plane: _variety(plane.action))


def _variety(action: Array) -> float:
    """Entropy of the actions' shares."""
    shares = np.unique(action, return_counts=True)[1] / action.size
    return float(-(shares * np.log(shares)).sum())


def _plane(graph: Graph, state: States, deviation: Array, features: tuple[int, int], side: int, reach: float) -> Slice:
    flat = state.obs.reshape(-1)
    centre = [float(flat[feature]) for feature in features]
    ends = [reach * float(deviation[feature]) for feature in features]
    axes = [np.linspace(c - e, c + e, side, dtype=np.float32) for c, e in zip(centre, ends, strict=True)]
    obs = np.repeat(flat[None], side * side, axis=0)
    obs[:, features[0]], obs[:, features[1]] = np.tile(axes[0], side), np.repeat(axes[1], side)
    mask = None if state.mask is None else np.repeat(state.mask, side * side, axis=0)
    action = actions(graph, States(obs.reshape(-1, *state.obs.shape[1:]), mask)).reshape(side, side)
    low, high = (tuple(float(axis[end]) for axis in axes) for end in (0, -1))
    return Slice(features, (centre[0], centre[1]), (low[0], low[1]), (high[0], high[1]), action)

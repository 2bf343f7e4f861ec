"""Mean and variance of every tensor over states, in a stream."""

from __future__ import annotations

import numpy as np

from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

Moments = dict[str, Array]
"""Tensor → one number for every entry of its first axis."""
_CHUNK = 2048


def moments(graph: Graph, obs: Array) -> tuple[Moments, Moments]:
    """Mean and variance over states (and pixels) of every entry of the first axis, per tensor.

    Args:
        obs: ``[K, *O]``; activations of more than a few states are never held at once.
    """
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

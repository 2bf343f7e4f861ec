"""Bias correction: rounded weights shift the mean of each sum; its bias takes that back (Nagel et al. 2019, 1906.04721,
section 4.2, with means measured on visited states).

What ReLU leaves is never negative, so the errors of a row's weights add up instead of cancelling: with few bits an
action's values may all move by more than the actions differ.
"""

from __future__ import annotations

import numpy as np

from nimbleq.compress.quantize.lower import Lowered, narrow
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

_STATES = 2_048
_LIMIT = 1 << 30


def correct_biases(graph: Graph, lowered: Lowered, obs: Array) -> Graph:
    """The integer form with each layer's mean as in the float policy, from the first layer to the last.

    Args:
        graph: the float policy.
        lowered: made from it.
        obs: ``[K, *O]`` visited states, of which some thousand are enough.
    """
    seen = obs[np.linspace(0, len(obs) - 1, min(_STATES, len(obs))).astype(np.int64)]
    real, made = trace(graph, seen), lowered.graph
    for node in lowered.graph.nodes:
        layer = next((name for name, sums in lowered.sums.items() if sums.name == node.output), None)
        if layer is None or not isinstance(node.op, ops.Linear | ops.Conv2d) or node.op.bias is None:
            continue
        scale = lowered.sums[layer].scale
        missing = _means(real[layer]) / scale - _means(trace(made, seen)[node.output])
        bias = np.clip(made.weights[node.op.bias] + np.rint(missing), -_LIMIT, _LIMIT).astype(np.int32)
        made = made.with_weights({node.op.bias: bias})
    return made.with_storage(narrow(made.weights))


def _means(values: Array) -> Array:
    """``float64[C]`` of each channel of ``values [K, C, ...]``."""
    return np.asarray(values.astype(np.float64).reshape(*values.shape[:2], -1).mean(axis=(0, 2)))

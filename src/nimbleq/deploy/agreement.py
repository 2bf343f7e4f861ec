"""When two answers agree: integer policies bit for bit, others within the rounding of float32."""

from __future__ import annotations

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def is_integer(graph: Graph) -> bool:
    """True when every layer computes in integers, so that every exact target has to give the same bits."""
    floats = (
        ops.Linear, ops.Conv2d, ops.LayerNorm, ops.Add, ops.Dueling, ops.Expectation, ops.Pool, ops.Activation,
        ops.Affine, ops.Tanh,
    )  # fmt: skip
    return all(graph.types[n.output].qtype.is_integer for n in graph.nodes if isinstance(n.op, floats))


def tolerance(q: Array) -> Array:
    """Largest accepted rounding difference per observation, ``[N, 1]``: 2⁻¹² of the largest |q|, at least 10⁻⁴.

    A few hundred float32 roundings of the values inside stay far below it.
    """
    limit: Array = np.maximum(1e-4, np.abs(q).max(axis=1, keepdims=True) * 2.0**-12)
    return limit

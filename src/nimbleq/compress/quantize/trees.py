"""The integer form of a decision tree: the same questions, asked of the levels in which its input is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.quantize.plan import TOP, Levels
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import INT8, INT32
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class IntegerTree:
    """Attributes:
    first: int8 splits ``[N, F]``, or the features ``[N]``.
    threshold: int32 ``[N]``.
    leaf: int8, actions ``[N + 1]`` or rows ``[N + 1, A]``.
    scale: of the rows; None for actions.
    """

    first: Array
    threshold: Array
    leaf: Array
    scale: float | None


def integer_tree(graph: Graph, node: Node, levels: Levels) -> IntegerTree:
    """The (float) tree ``node`` for an input stored with ``levels``.

    Each split may have a scale of its own, which nothing needs to know: ``w·x > t`` is ``(w·s)·v > t − w·(o − s·z)``,
    divided by any positive number. Only the rounding of weights is inexact.
    """
    first, threshold, leaf = (graph.weights[name] for name in node.op.weight_names())
    features = graph.types[node.inputs[0]].size
    scale, zero, offset = (
        np.broadcast_to(np.ravel(part) if part.ndim else part, (features,))
        for part in (levels.scale, levels.zero_point, levels.offset)
    )
    rows, unit = _leaves(leaf)
    if isinstance(node.op, ops.AxisTree):
        limit = _axis_limits(threshold.astype(np.float64), *(part[first] for part in (scale, zero, offset)))
        return IntegerTree(first, limit.astype(np.int32), rows, unit)
    weight = first.astype(np.float64) * scale
    limit = threshold - first.astype(np.float64) @ (offset - scale * zero)
    step = np.abs(weight).max(axis=1) / INT8.high
    step = np.where(step > 0, step, 1.0)
    exact = weight / step[:, None]
    whole = np.round(exact)
    # What rounding adds on average over the levels goes into the threshold.
    limit = limit / step + (whole - exact).sum(axis=1) * TOP / 2
    return IntegerTree(
        whole.astype(np.int8), np.clip(np.floor(limit), INT32.low, INT32.high).astype(np.int32), rows, unit
    )


def _axis_limits(threshold: Array, scale: Array, zero: Array, offset: Array) -> Array:
    """The level above which ``scale·(v − zero) + offset`` is above ``threshold``; exact."""
    constant = np.where(offset > threshold, -1.0, float(TOP))  # of a feature whose levels mean nothing
    limit = np.divide(threshold - offset, scale, where=scale > 0, out=np.zeros(len(scale))) + zero
    return np.where(scale > 0, np.clip(np.floor(limit), -1, TOP), constant)


def _leaves(leaf: Array) -> tuple[Array, float | None]:
    if leaf.ndim == 1:
        return leaf, None
    unit = max(float(np.abs(leaf).max()) / INT8.high, 1e-30)
    return np.round(leaf / unit).astype(np.int8), unit

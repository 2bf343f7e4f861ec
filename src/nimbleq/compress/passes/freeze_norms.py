"""Freezing of layer normalisation, so that a network becomes pure integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow, without_setting
from nimbleq.compress.passes.context import Context
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

_NORM_STATES = 2_000


def freeze_norms(graph: Graph, obs: Array) -> Graph:
    """``graph`` with each LayerNorm replaced by the affine map that it is on average over ``obs [K, *O]``.

    ``y = (x − mean)·E[1/σ]·w + b`` with the mean and deviation that LayerNorm found in each state averaged over states
    (one number each, so that the map keeps the ratios between units). Inexact: a start for distillation.
    """
    values = trace(graph, obs[:_NORM_STATES])
    nodes, weights = [], dict(graph.weights)
    for node in graph.nodes:
        if not isinstance(node.op, ops.LayerNorm):
            nodes.append(node)
            continue
        x = values[node.inputs[0]].reshape(len(values[node.inputs[0]]), -1).astype(np.float64)
        gain = float(np.mean(1 / np.sqrt(x.var(axis=1) + node.op.eps)))
        scale = (
            np.full(graph.types[node.output].shape[:1], gain)
            if node.op.weight is None
            else gain * weights[node.op.weight]
        )
        shift = -float(x.mean()) * scale
        if node.op.bias is not None:
            shift = shift + weights[node.op.bias]
        if scale.ndim < len(graph.types[node.output].shape):  # one value per channel of an image
            scale, shift = (
                part.reshape((-1,) + (1,) * (len(graph.types[node.output].shape) - 1)) for part in (scale, shift)
            )
        names = f"{node.output}.frozen_scale", f"{node.output}.frozen_shift"
        weights |= {names[0]: scale.astype(np.float32), names[1]: shift.astype(np.float32)}
        nodes.append(Node(ops.Affine(*names), node.inputs, node.output))
    return Graph(graph.inputs, tuple(nodes), graph.outputs, weights)


@dataclass(frozen=True)
class FreezeNorms:
    """LayerNorm becomes a fixed affine map with the statistics of visited states; inexact, so distil afterwards."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return freeze_norms(graph, context.from_teacher().obs)

    def __str__(self) -> str:
        return "freeze norms"


ROW = PassRow(without_setting(FreezeNorms()), "LayerNorm becomes the affine map that it is on average")

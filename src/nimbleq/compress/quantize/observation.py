"""Tensors that are the observation, scaled, shifted and perhaps clipped: raw values can give their levels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class ScaledObs:
    """``clip(scale·obs + shift, low, high)``; scale (not negative) and shift float64, broadcasting to the tensor."""

    scale: Array
    shift: Array
    low: float = -np.inf
    high: float = np.inf


def scaled_observations(graph: Graph) -> dict[str, ScaledObs]:
    """Name → form of the tensors of ``graph`` that are scaled and shifted, then perhaps clipped, observations."""
    made = {graph.obs_name: ScaledObs(np.ones(()), np.zeros(()))}
    for node in graph.nodes:
        form = made.get(node.inputs[0])
        if form is None:
            continue
        if isinstance(node.op, ops.Affine) and (form.low, form.high) == (-np.inf, np.inf):
            gain, offset = (graph.weights[name].astype(np.float64) for name in (node.op.scale, node.op.shift))
            if (gain >= 0).all():
                made[node.output] = ScaledObs(form.scale * gain, form.shift * gain + offset)
        elif isinstance(node.op, ops.Activation) and node.op.function == "clip":
            low, high = (float(np.clip(end, node.op.low, node.op.high)) for end in (form.low, form.high))
            made[node.output] = replace(form, low=low, high=high)
    return made

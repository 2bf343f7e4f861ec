"""Activation, by itself or as the end of a layer."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.graph import ops
from nimbleq.graph.graph import Node


def activation(layer: Layer) -> list[str]:
    """Lines of an Activation that no layer could take in."""
    layer.use("activate")
    call = f"nq_activate({layer.x}[i], {activation_arguments(layer.step.node)})"
    return [f"for (int i = 0; i < {layer.count}; ++i) {layer.y}[i] = {call};"]


def activation_arguments(node: Node | None) -> str:
    """The last three arguments of a float kernel; ``node`` is an Activation, or None for the identity."""
    if node is None:
        return "NQ_LINEAR, 0.0f, 0.0f"
    op = node.op
    assert isinstance(op, ops.Activation)
    if op.function == "relu":
        return "NQ_RELU, 0.0f, 0.0f"
    if op.function == "leaky_relu":
        return f"NQ_LEAKY_RELU, {c_text.number(op.slope)}, 0.0f"
    limit = np.finfo(np.float32).max
    low, high = (c_text.number(float(np.clip(np.float32(bound), -limit, limit))) for bound in (op.low, op.high))
    return f"NQ_CLIP, {low}, {high}"

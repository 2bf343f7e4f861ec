"""Hyperbolic tangent in plain C99, without libm."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def tanh(layer: Layer) -> list[str]:
    """Lines of a Tanh."""
    layer.use("tanh")
    return [f"for (int i = 0; i < {layer.count}; ++i) {layer.y}[i] = nq_tanh({layer.x}[i]);"]

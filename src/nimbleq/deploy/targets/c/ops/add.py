"""Add."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def add(layer: Layer) -> list[str]:
    """Lines of an Add."""
    one, other = layer.inputs
    return [f"for (int i = 0; i < {layer.count}; ++i) {layer.y}[i] = {one}[i] + {other}[i];"]

"""Slice of a vector."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def slice_of(layer: Layer) -> list[str]:
    """Lines of a Slice."""
    return [f"for (int i = 0; i < {layer.count}; ++i) {layer.y}[i] = {layer.x}[{layer.op.start} + i];"]

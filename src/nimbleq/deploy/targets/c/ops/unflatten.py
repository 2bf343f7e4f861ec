"""Unflatten: a vector becomes an image with its channels innermost."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def unflatten(layer: Layer) -> list[str]:
    """Lines of an Unflatten."""
    channels, height, width = layer.node_type.shape
    pixels = height * width
    return [
        f"for (int p = 0; p < {pixels}; ++p)",
        f"    for (int c = 0; c < {channels}; ++c) {layer.y}[p * {channels} + c] = {layer.x}[c * {pixels} + p];",
    ]

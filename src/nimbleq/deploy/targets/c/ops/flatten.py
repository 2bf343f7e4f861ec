"""Flatten."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def flatten(layer: Layer) -> list[str]:
    """Lines of a Flatten; none where its result is its source as it lies (see `nimbleq.deploy.targets.c.layout`)."""
    if layer.x == layer.y:
        return []
    channels, height, width = layer.source_type.shape
    pixels = height * width
    return [
        f"for (int c = 0; c < {channels}; ++c)",
        f"    for (int p = 0; p < {pixels}; ++p) {layer.y}[c * {pixels} + p] = {layer.x}[p * {channels} + c];",
    ]

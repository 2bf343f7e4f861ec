"""Dueling head."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def dueling(layer: Layer) -> list[str]:
    """Lines of a Dueling head."""
    (value, advantage), count = layer.inputs, layer.count
    return [
        "float mean = 0.0f;",
        f"for (int i = 0; i < {count}; ++i) mean += {advantage}[i];",
        f"mean /= {count}.0f;",
        f"for (int i = 0; i < {count}; ++i) {layer.y}[i] = {value}[0] + {advantage}[i] - mean;",
    ]

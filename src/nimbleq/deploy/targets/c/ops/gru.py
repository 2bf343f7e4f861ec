"""GRU."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def gru(layer: Layer) -> list[str]:
    """Lines of a GRU."""
    layer.use("gru")
    return [f"nq_gru({', '.join(layer.inputs)}, {layer.y}, {layer.count});"]

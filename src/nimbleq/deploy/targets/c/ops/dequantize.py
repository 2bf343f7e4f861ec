"""Dequantize."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, loop


def dequantize(layer: Layer) -> list[str]:
    """Lines of a Dequantize."""
    layer.use("real")
    s, z, period = layer.pair(("scale", layer.op.scale), ("zero_point", layer.op.zero_point))
    body = f"{layer.y}[i] = nq_real((int64_t){layer.x}[i] - {z}[c]) * {s}[c];"
    return loop(layer.count, period, body)

"""Dequantize."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, loop
from nimbleq.deploy.targets.c.ops.readers import per_channel


def dequantize(layer: Layer) -> list[str]:
    """Lines of a Dequantize."""
    layer.use("real")
    (s, z), period = per_channel(layer, ("scale", layer.op.scale, ""), ("zero_point", layer.op.zero_point, ""))
    source = f"(int64_t){layer.x}[i]{f' - {z}' if z else ''}"
    return loop(layer.count, period, f"{layer.y}[i] = nq_real({source}){f' * {s}' if s else ''};")

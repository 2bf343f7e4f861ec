"""Quantize."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, loop
from nimbleq.deploy.targets.c.ops.readers import per_channel
from nimbleq.graph.tensor import Int


def quantize(layer: Layer) -> list[str]:
    """Lines of a Quantize."""
    op = layer.op
    layer.use("quantize")
    low, high = Int(op.bits, op.signed).low, Int(op.bits, op.signed).high
    (s, z), period = per_channel(layer, ("inverse_scale", op.inverse_scale, "1.0f"), ("zero_point", op.zero_point, "0"))
    least = str(low) if low > -(2**31) else "(-2147483647 - 1)"
    call = f"nq_quantize({layer.x}[i], {s}, {z}, {least}, {high})"
    return loop(layer.count, period, f"{layer.y}[i] = ({layer.element}){call};")

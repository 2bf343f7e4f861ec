"""Quantize."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, at, loop
from nimbleq.graph.tensor import Int

_POWER_BITS = 16
"""Up to this many bits, scales that are stored as powers of two need no multiplication."""


def quantize(layer: Layer) -> list[str]:
    """Lines of a Quantize."""
    op = layer.op
    low, high = Int(op.bits, op.signed).low, Int(op.bits, op.signed).high
    scale = layer.per_channel("inverse_scale", op.inverse_scale)
    zero = None if op.zero_point is None else layer.per_channel("zero_point", op.zero_point)
    least = str(low) if low > -(2**31) else "(-2147483647 - 1)"
    near = op.zero_point is None or abs(layer.weight(op.zero_point)).max() < 1 << 20
    power = near and op.bits <= _POWER_BITS and scale.reader.place and layer.source == layer.layout.graph.obs_name
    layer.use("quantize_power" if power else "quantize")

    def body(c: str) -> str:
        kernel, by = ("nq_quantize_power", scale.place_at(c)) if power else ("nq_quantize", scale.at(c))
        return f"{layer.y}[i] = ({layer.element}){kernel}({layer.x}[i], {by}, {at(zero, c, '0')}, {least}, {high});"

    return loop(layer.count, (scale, zero), body)

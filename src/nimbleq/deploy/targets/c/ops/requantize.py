"""Requantize that no layer could take in."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, at, loop


def requantize(layer: Layer) -> list[str]:
    """Lines of a Requantize."""
    op = layer.op
    layer.use("requantize")
    multiplier = None if op.multiplier is None else layer.per_channel("multiplier", op.multiplier)
    shift = layer.per_channel("shift", op.shift)

    def body(c: str) -> str:
        scaled = f"{layer.x}[i], {at(multiplier, c, '1')}, {shift.at(c)}"
        return f"{layer.y}[i] = ({layer.element})nq_requantize({scaled}, {op.zero_point}, {op.low}, {op.high});"

    return loop(layer.count, (multiplier, shift), body)

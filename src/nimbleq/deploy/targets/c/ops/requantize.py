"""Requantize that no layer could take in."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, loop


def requantize(layer: Layer) -> list[str]:
    """Lines of a Requantize."""
    op = layer.op
    layer.use("requantize")
    m, s, period = layer.pair(("multiplier", op.multiplier), ("shift", op.shift))
    call = f"nq_requantize({layer.x}[i], {m}[c], {s}[c], {op.zero_point}, {op.low}, {op.high})"
    return loop(layer.count, period, f"{layer.y}[i] = ({layer.element}){call};")

"""Dequantize."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, loop


def dequantize(layer: Layer) -> list[str]:
    """Lines of a Dequantize."""
    layer.use("real")
    scale, zero = (
        None if name is None else layer.per_channel(label, name)
        for label, name in (("scale", layer.op.scale), ("zero_point", layer.op.zero_point))
    )

    def body(c: str) -> str:
        level = f"{layer.x}[i]" if zero is None else f"(int64_t){layer.x}[i] - {zero.at(c)}"
        return f"{layer.y}[i] = nq_real({level}){'' if scale is None else f' * {scale.at(c)}'};"

    return loop(layer.count, (scale, zero), body)

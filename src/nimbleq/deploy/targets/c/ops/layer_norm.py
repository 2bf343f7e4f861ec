"""LayerNorm."""

from __future__ import annotations

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.ops.layer import Layer, as_stored


def layer_norm(layer: Layer) -> list[str]:
    """Lines of a LayerNorm."""
    op, y, count = layer.op, layer.y, layer.count
    layer.use("norm")
    lines = [f"nq_normalise({layer.x}, {y}, {count}, {c_text.number(op.eps)});"]
    if op.weight is not None:
        w = layer.stored("weight", op.weight, as_stored(layer.weight(op.weight)))
        lines.append(f"for (int i = 0; i < {count}; ++i) {y}[i] *= {w.at('i')};")
    if op.bias is not None:
        b = layer.stored("bias", op.bias, as_stored(layer.weight(op.bias)))
        lines.append(f"for (int i = 0; i < {count}; ++i) {y}[i] += {b.at('i')};")
    return lines

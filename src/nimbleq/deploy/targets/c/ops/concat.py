"""Concat along the first axis, which is the innermost one of a stored image."""

from __future__ import annotations

from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.layer import Layer


def concat(layer: Layer) -> list[str]:
    """Lines of a Concat."""
    kind, image = layer.node_type, is_image(layer.node_type)
    outer, total = (kind.shape[1] * kind.shape[2], kind.shape[0]) if image else (1, kind.size)
    lines, done = [], 0
    for name in layer.step.node.inputs:
        source = layer.layout.graph.types[name]
        part = source.shape[0] if image else source.size
        lines += [
            f"for (int o = 0; o < {outer}; ++o)",
            f"    for (int i = 0; i < {part}; ++i) "
            f"{layer.y}[o * {total} + {done} + i] = {layer.variable(name)}[o * {part} + i];",
        ]
        done += part
    return lines

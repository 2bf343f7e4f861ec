"""Pool, on ``(H, W, C)``."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer, coordinate


def pool(layer: Layer) -> list[str]:
    """Lines of a Pool."""
    op, element = layer.op, layer.element
    channels, height, width = layer.source_type.shape
    _, rows, cols = layer.node_type.shape
    start, update, result = {
        "max": (f"{element} best = 0; int any = 0;", "best = !any || v > best ? v : best; any = 1;", "best"),
        "average": ("float sum = 0.0f;", "sum += v;", f"sum / {op.kernel[0] * op.kernel[1]}.0f"),
        "sum": ("int32_t sum = 0;", "sum += v;", "sum"),
    }[op.function]
    outside = f"h < 0 || h >= {height} || w < 0 || w >= {width}"
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"    for (int s = 0; s < {cols}; ++s)",
        f"        for (int c = 0; c < {channels}; ++c) {{",
        f"            {start}",
        f"            for (int a = 0; a < {op.kernel[0]}; ++a)",
        f"                for (int b = 0; b < {op.kernel[1]}; ++b) {{",
        f"                    const int h = {coordinate('r', 'a', op, 0)};",
        f"                    const int w = {coordinate('s', 'b', op, 1)};",
        *([f"                    if ({outside}) continue;"] if any(op.padding) else []),
        f"                    const {layer.source_element} v = {layer.x}[(h * {width} + w) * {channels} + c];",
        f"                    {update}",
        "                }",
        f"            {layer.y}[(r * {cols} + s) * {channels} + c] = {result};",
        "        }",
    ]

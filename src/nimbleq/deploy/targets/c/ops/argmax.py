"""ArgMax, masked or not."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.errors import UnsupportedOpError


def argmax(layer: Layer) -> list[str]:
    """Lines of an ArgMax: assigns ``action``."""
    masked, element, count = len(layer.inputs) == 2, layer.source_element, layer.source_type.size
    if masked and not layer.layout.skips:
        raise UnsupportedOpError("ArgMax with a mask", "c", "export it without constant time, or without masks")
    how = "_masked" if masked else "" if layer.layout.skips else "_steady"
    kernel = f"argmax{how}_{'f32' if element == 'float' else 'i32'}"
    layer.use(kernel)
    mask = f"{layer.inputs[1]}, " if masked else ""
    if element in ("float", "int32_t"):
        return [f"action = nq_{kernel}({layer.x}, {mask}{count});"]
    wide = layer.buffer("wide", "int32_t", count)
    return [
        f"for (int i = 0; i < {count}; ++i) {wide}[i] = {layer.x}[i];",
        f"action = nq_{kernel}({wide}, {mask}{count});",
    ]

"""ArgMax and BranchArgMax, masked or not."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.branches import parts


def argmax(layer: Layer) -> list[str]:
    """Lines of an ArgMax: assigns ``action``."""
    masked, count = len(layer.inputs) == 2, layer.source_type.size
    kernel = _kernel(layer, masked)
    mask = f"{layer.inputs[1]}, " if masked else ""
    before, x = _narrow(layer)
    return [*before, f"action = nq_{kernel}({x}, {mask}{count});"]


def branch_argmax(layer: Layer) -> list[str]:
    """Lines of a BranchArgMax: assigns ``action``, −1 where a dimension has no legal choice."""
    masked, lines = len(layer.inputs) == 2, []
    kernel = _kernel(layer, masked)
    before, x = _narrow(layer)
    for count, part in zip(layer.op.branches, parts(layer.op.branches), strict=True):
        at = f" + {part.start}" if part.start else ""
        if not masked:
            lines.append(f"action = action * {count} + nq_{kernel}({x}{at}, {count});")
            continue
        lines += [
            "if (action >= 0) {",
            f"    const int choice = nq_{kernel}({x}{at}, {layer.inputs[1]}{at}, {count});",
            f"    action = choice < 0 ? -1 : action * {count} + choice;",
            "}",
        ]
    return [*before, *lines]


def _kernel(layer: Layer, masked: bool) -> str:
    if masked and not layer.layout.skips:
        raise UnsupportedOpError("ArgMax with a mask", "c", "export it without constant time, or without masks")
    how = "_masked" if masked else "" if layer.layout.skips else "_steady"
    kernel = f"argmax{how}_{'f32' if layer.source_element == 'float' else 'i32'}"
    layer.use(kernel)
    return kernel


def _narrow(layer: Layer) -> tuple[list[str], str]:
    """Lines that make the values ``int32_t`` where they are narrower, and their C expression."""
    if layer.source_element in ("float", "int32_t"):
        return [], layer.x
    count = layer.source_type.size
    wide = layer.buffer("wide", "int32_t", count)
    return [f"for (int i = 0; i < {count}; ++i) {wide}[i] = {layer.x}[i];"], wide

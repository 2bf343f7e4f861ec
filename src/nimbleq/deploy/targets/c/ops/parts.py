"""Code that takes an observation apart: Slice and Unflatten."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.writer import Writer
from nimbleq.graph import ops
from nimbleq.graph.graph import Node


def slice_of(writer: Writer, node: Node) -> list[str]:
    """Lines of a Slice."""
    op = node.op
    assert isinstance(op, ops.Slice)
    x, y = writer.variables[node.inputs[0]], writer.variables[node.output]
    return [f"for (int32_t i = 0; i < {op.stop - op.start}; ++i) {y}[i] = {x}[{op.start} + i];"]


def unflatten(writer: Writer, node: Node) -> list[str]:
    """Lines of an Unflatten; images are stored with their channels innermost."""
    channels, height, width = writer.type(node.output).shape
    x, y, pixels = writer.variables[node.inputs[0]], writer.variables[node.output], height * width
    return [
        f"for (int32_t p = 0; p < {pixels}; ++p)",
        f"    for (int32_t c = 0; c < {channels}; ++c) {y}[p * {channels} + c] = {x}[c * {pixels} + p];",
    ]

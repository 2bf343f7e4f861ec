"""The layer tables: what teacher and child compute, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nimbleq.graph.cost import cost, node_macs
from nimbleq.graph.graph import Graph
from nimbleq.report import units
from nimbleq.report.html import table
from nimbleq.report.markup import Markup


@dataclass(frozen=True)
class Layer:
    """One op.

    Attributes:
        op: kind of the op.
        shape: of its output, ``64`` or ``32 × 20 × 20``.
        params: numbers stored.
        macs: multiply-accumulates of one decision.
        size_bytes: of what is stored.
        format: number formats, output first, ``int32 ← int8``.
    """

    op: str
    shape: str
    params: int
    macs: int
    size_bytes: int
    format: str


def layers_of(graph: Graph) -> Iterator[Layer]:
    """The layers in execution order, the observation first."""
    for tensor in graph.inputs.values():
        yield Layer("observation", _shape(tensor.shape), 0, 0, 0, str(tensor.qtype))
    for node in graph.nodes:
        stored = [graph.weights[name] for name in node.op.weight_names()]
        made = graph.types[node.output]
        weight = f", {stored[0].dtype} weights" if stored and node_macs(graph, node) else ""
        yield Layer(
            op=node.op.kind,
            shape=_shape(made.shape),
            params=sum(array.size for array in stored),
            macs=node_macs(graph, node),
            size_bytes=sum(array.nbytes for array in stored),
            format=f"{made.qtype}{weight}",
        )


def layer_table(graph: Graph) -> Markup:
    """The layers of a graph and their sum."""
    layers = list(layers_of(graph))
    total = cost(graph)
    rows = [
        (
            layer.op,
            layer.shape,
            layer.format,
            _some(layer.params),
            _some(layer.macs),
            units.size(layer.size_bytes or None),
        )
        for layer in layers
    ]
    params = sum(array.size for array in graph.weights.values())
    memory = f"{units.size(total.peak_ram_bytes)} of activations at once"
    rows.append(("total", "", memory, units.count(params), units.count(total.macs), units.size(total.size_bytes)))
    headings = ("op", "output", "format", "parameters", "MACs", "bytes")
    return table(headings, rows, text_columns=3, strong=(len(rows) - 1,))


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def _some(number: int) -> str:
    return units.count(number or None)

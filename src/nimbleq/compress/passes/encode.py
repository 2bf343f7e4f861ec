"""Storage in the fewest bytes: each weight gets the encoding that is cheapest for it."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.passes.base import PassRow, without_setting
from nimbleq.compress.passes.context import Context
from nimbleq.graph import ops
from nimbleq.graph.encodings import cheapest
from nimbleq.graph.graph import Graph
from nimbleq.graph.weight import Storage


def encode(graph: Graph) -> Graph:
    """``graph`` with the weight of every Linear and Conv2d laid out in the fewest bytes; no value changes."""
    names = {node.op.weight for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)}
    stored = {name: graph.stored(name) for name in names}
    return graph.with_storage(
        {name: Storage(weight.format, cheapest(weight.codes, weight.format)) for name, weight in stored.items()}
    )


@dataclass(frozen=True)
class Encode:
    """Each weight in the encoding that is cheapest for it, by real bytes."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return encode(graph)

    def __str__(self) -> str:
        return "encode"


ROW = PassRow(without_setting(Encode()), "store each weight in the encoding that takes the fewest bytes")

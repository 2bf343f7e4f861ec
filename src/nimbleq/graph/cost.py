"""What one decision costs: multiply-accumulates, bytes of the model, peak bytes of activations."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node


@dataclass(frozen=True)
class Cost:
    """Attributes:
    macs: multiply-accumulates that one decision executes.
    size_bytes: everything that a deployment needs of the model (weights, biases, scales, indices).
    peak_ram_bytes: largest total of activations alive at once, freeing each after its last reader.
    """

    macs: int
    size_bytes: int
    peak_ram_bytes: int


def cost(graph: Graph) -> Cost:
    """Cost of one decision (batch 1)."""
    used = {name for node in graph.nodes for name in node.op.weight_names()}
    return Cost(
        macs=sum(node_macs(graph, node) for node in graph.nodes),
        size_bytes=sum(graph.weights[name].nbytes for name in used),
        peak_ram_bytes=_peak_ram_bytes(graph),
    )


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node; elementwise work counts as none."""
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        output = graph.types[node.output]
        weight = graph.weights[node.op.weight]
        return output.size * (weight.size // weight.shape[0])
    return 0


def _peak_ram_bytes(graph: Graph) -> int:
    last_use = {name: step for step, node in enumerate(graph.nodes) for name in node.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    alive = set(graph.inputs)
    peak = sum(graph.types[name].nbytes for name in alive)
    for step, node in enumerate(graph.nodes):
        alive.add(node.output)
        peak = max(peak, sum(graph.types[name].nbytes for name in alive))
        alive = {name for name in alive if last_use.get(name, -1) > step}
    return peak

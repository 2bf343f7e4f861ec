"""The layer tables: the layers of teacher and student, and their cost."""

from __future__ import annotations

from nimbleq.graph.cost import LayerCost, cost, layers
from nimbleq.graph.graph import Graph
from nimbleq.report import units
from nimbleq.report.html import table
from nimbleq.report.markup import Markup

HEADINGS = ("layer", "output", "format", "parameters", "MACs", "bytes")


def layer_table(graph: Graph) -> Markup:
    """The layers of a graph in execution order, the observation first, and their sum."""
    total = cost(graph)
    found = layers(graph)
    observation = [
        ("observation", _shape(tensor.shape), str(tensor.qtype), *[units.MISSING] * 3)
        for tensor in graph.inputs.values()
    ]
    rows = [
        (
            layer.op,
            _shape(layer.shape),
            _format(graph, layer),
            *map(_some, (layer.params, layer.macs, layer.size_bytes)),
        )
        for layer in found
    ]
    memory = f"at most {units.size(total.peak_ram_bytes)} of activations"
    sums = (sum(layer.params for layer in found), total.macs, total.size_bytes)
    everything = [*observation, *rows, ("total", "", memory, *map(units.count, sums))]
    return table(HEADINGS, everything, text_columns=3, strong=(len(everything) - 1,))


def _format(graph: Graph, layer: LayerCost) -> str:
    """Number format of the output, and of the weights where there is arithmetic with them."""
    made = str(graph.types[layer.name].qtype)
    node = graph.producer(layer.name)
    if node is None or not layer.macs:
        return made
    weights = str(graph.weights[node.op.weight_names()[0]].dtype)
    return made if made == weights else f"{made}, {weights} weights"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "1"


def _some(number: int) -> str:
    return units.count(number or None)

"""The cost of a decision (multiply-accumulates, bytes of the model, peak bytes of activations) and the layer table."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.weight import Weight


@dataclass(frozen=True)
class Cost:
    """Attributes:
    macs: multiply-accumulates that one decision executes, those by shifting included.
    shift_adds: shifts and adds that take the place of multiplications among them (log2: one each, APoT: two).
    size_bytes: all parts of the model that a deployment needs (weights, biases, scales, indices).
    peak_ram_bytes: largest total of live activations; each is freed after its last reader.
    """

    macs: int
    size_bytes: int
    peak_ram_bytes: int
    shift_adds: int = 0


@dataclass(frozen=True)
class LayerCost:
    """One row of the layer table.

    Attributes:
        name: of the tensor that the layer makes.
        op: its kind, e.g. ``"Conv2d"``.
        shape: of its output, without the batch axis.
        params: number of its parameters.
        macs: multiply-accumulates of one decision.
        size_bytes: of its weights; weights that an earlier layer uses are not counted again, so the column
            sums to `Cost.size_bytes`.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    params: int
    macs: int
    size_bytes: int


def cost(graph: Graph) -> Cost:
    """Cost of one decision (batch 1)."""
    rows = layers(graph)
    return Cost(
        macs=sum(row.macs for row in rows),
        size_bytes=sum(row.size_bytes for row in rows),
        peak_ram_bytes=_peak_ram_bytes(graph),
        shift_adds=sum(node_macs(graph, node) * _shift_adds(graph, node) for node in graph.nodes),
    )


def layers(graph: Graph) -> tuple[LayerCost, ...]:
    """The layer table, one row a node in execution order."""
    rows, counted = [], set[str]()
    for node in graph.nodes:
        names = [name for name in dict.fromkeys(node.op.weight_names()) if name not in counted]
        counted.update(names)
        rows.append(
            LayerCost(
                name=node.output,
                op=node.op.kind,
                shape=graph.types[node.output].shape,
                params=sum(graph.weights[name].size for name in names),
                macs=node_macs(graph, node),
                size_bytes=sum(graph.stored(name).nbytes for name in names),
            )
        )
    return tuple(rows)


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node; elementwise work counts as none."""
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        positions = graph.types[node.output].size // len(graph.weights[node.op.weight])
        return positions * graph.stored(node.op.weight).multiplied
    if isinstance(node.op, ops.ObliqueTree):
        return _longest_path(graph.stored(node.op.split))
    return 0


def _longest_path(split: Weight) -> int:
    """Multiplications on the dearest way from the root of a complete tree to a leaf."""
    rows = range(len(split.codes))
    spent = [split.encoding.multiplied(split.codes[row : row + 1], split.format) for row in rows]
    for row in reversed(rows[: len(rows) // 2]):
        spent[row] += max(spent[2 * row + 1], spent[2 * row + 2])
    return spent[0]


def _shift_adds(graph: Graph, node: Node) -> int:
    """Shifts and adds that one multiply-accumulate of a node takes; 0 where it multiplies."""
    if isinstance(node.op, ops.Linear | ops.Conv2d) and graph.types[node.output].qtype.is_integer:
        return graph.stored(node.op.weight).format.shift_adds
    return 0


def _peak_ram_bytes(graph: Graph) -> int:
    """Liveness over storage: a Flatten is another view of its input and takes no bytes of its own."""
    storage = {name: name for name in graph.inputs}
    for node in graph.nodes:
        shares = isinstance(node.op, ops.Flatten)
        storage[node.output] = storage[node.inputs[0]] if shares else node.output
    last_use = {storage[name]: step for step, node in enumerate(graph.nodes) for name in (*node.inputs, node.output)}
    last_use |= {storage[name]: len(graph.nodes) for name in graph.outputs}
    alive = set(graph.inputs)
    peak = sum(graph.types[name].nbytes for name in alive)
    for step, node in enumerate(graph.nodes):
        alive.add(storage[node.output])
        peak = max(peak, sum(graph.types[name].nbytes for name in alive))
        alive = {name for name in alive if last_use.get(name, -1) > step}
    return peak

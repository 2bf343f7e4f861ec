"""Which channels and neurons of a graph belong together: removing one means removing all of its group.

A *unit* is one output of a Linear or Conv2d. Elementwise ops pass units on, Flatten repeats them, Concat joins them,
Add (and depthwise convolution) ties units of two branches into one group. Observation features and action values are
not units: they can never be removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.edit import fresh, rebuild, unshare
from nimbleq.types import Array

FIXED = -1


@dataclass(frozen=True)
class Units:
    """Attributes:
    of: tensor → ``int64[shape[0]]`` the group of each entry of the first axis, `FIXED` where nothing may be removed.
    layers: groups that are pruned together as one width, in order: arrays of group numbers.
    names: output tensor of the node that makes each layer (the first one where several are tied).
    """

    of: dict[str, Array]
    layers: tuple[Array, ...]
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many group numbers there are, removable or not."""
        return max((int(groups.max(initial=-1)) for groups in self.of.values()), default=-1) + 1


def find_units(graph: Graph) -> Units:
    """The removable units of a float graph.

    Raises:
        UnsupportedOpError: the graph has an op that pruning does not know, or is quantized already.
    """
    parent: list[int] = []
    fixed: set[int] = set()

    def root(unit: int) -> int:
        while parent[unit] != unit:
            unit = parent[unit]
        return unit

    def pin(units: Array) -> None:
        fixed.update(root(int(unit)) for unit in units if unit != FIXED)

    def tie(left: Array, right: Array) -> None:
        for a, b in zip(left, right, strict=True):
            if FIXED in (a, b):
                pin(np.array([a, b]))
                continue
            first, second = sorted((root(int(a)), root(int(b))))
            parent[second] = first
            if second in fixed:
                fixed.add(first)

    of: dict[str, Array] = {name: np.full(kind.shape[0], FIXED) for name, kind in graph.inputs.items()}
    made: list[tuple[str, Array]] = []
    for node in graph.nodes:
        sources = [of[name] for name in node.inputs]
        match node.op:
            case ops.Linear() | ops.Conv2d():
                units = np.arange(len(parent), len(parent) + graph.types[node.output].shape[0])
                parent.extend(units.tolist())
                of[node.output] = units
                made.append((node.output, units))
                if isinstance(node.op, ops.Conv2d) and node.op.groups > 1:
                    _tie_groups(node.op, sources[0], units, tie, pin)
            case ops.Activation() | ops.Tanh() | ops.LayerNorm() | ops.Pool() | ops.Affine():
                of[node.output] = sources[0]
            case ops.ChannelShuffle():  # only grouped convolutions need it, and these stay as they are
                pin(sources[0])
                of[node.output] = np.full(len(sources[0]), FIXED)
            case ops.Flatten():
                of[node.output] = np.repeat(sources[0], graph.types[node.output].size // max(len(sources[0]), 1))
            case ops.Concat():
                of[node.output] = np.concatenate(sources)
            case ops.Slice(start, stop):
                of[node.output] = sources[0][start:stop]
            case ops.Unflatten(channels):
                pin(sources[0])
                of[node.output] = np.full(channels, FIXED)
            case ops.Add():
                tie(sources[0], sources[1])
                of[node.output] = sources[0]
            case ops.Dueling():
                pin(np.concatenate(sources))
                of[node.output] = np.full(len(sources[1]), FIXED)
            case ops.Expectation() | ops.ObliqueTree() | ops.AxisTree():
                pin(sources[0])
                of[node.output] = np.full(graph.types[node.output].size, FIXED)
            case ops.ArgMax() | ops.BranchArgMax():
                pin(sources[0])
                of[node.output] = np.zeros(0, np.int64)
            case _:
                raise UnsupportedOpError(node.op.kind, "pruning", "prune the float graph, before it is quantized")
    for name in graph.outputs:
        pin(of[name])
    fixed = {root(unit) for unit in fixed}

    def group(units: Array) -> Array:
        roots = (FIXED if unit == FIXED else root(int(unit)) for unit in units)
        return np.array([FIXED if unit in fixed else unit for unit in roots], np.int64)

    resolved = {name: group(units) for name, units in of.items()}
    layers = {name: resolved[name] for name, units in made if (resolved[name] == units).all()}
    return Units(resolved, tuple(layers.values()), tuple(layers))


def _tie_groups(
    op: ops.Conv2d, source: Array, units: Array, tie: Callable[[Array, Array], None], pin: Callable[[Array], None]
) -> None:
    """A depthwise convolution keeps channels apart, so they go together; other groupings must stay as they are."""
    if op.groups == len(source) == len(units):
        tie(source, units)
    else:
        pin(source)
        pin(units)


def remove_units(graph: Graph, units: Units, keep: Array, means: dict[str, Array]) -> Graph:
    """``graph`` without the groups that are not in ``keep``; physically smaller weights.

    Args:
        keep: group numbers that stay.
        means: input tensor of a Linear or Conv2d → mean over states of each entry of its first axis; what a removed
            input was on average goes into the bias (exactly, for a unit that never changes).
    """
    stays = {name: np.isin(groups, keep) | (groups == FIXED) for name, groups in units.of.items() if len(groups)}
    graph = with_biases(unshare(graph))
    weights = dict(graph.weights)
    for node in graph.nodes:
        weights |= _sliced(graph, node, stays, means)
    nodes = tuple(_regrouped(node, stays) for node in graph.nodes)
    return Graph(graph.inputs, nodes, graph.outputs, weights)


def with_biases(graph: Graph) -> Graph:
    """``graph`` where every Linear and Conv2d has a bias, of zeros where it had none."""
    for node in graph.nodes:
        if isinstance(node.op, ops.Linear | ops.Conv2d) and node.op.bias is None:
            name = fresh(graph, f"{node.op.weight}.bias")
            changed = Node(replace(node.op, bias=name), node.inputs, node.output)
            zeros = np.zeros(len(graph.weights[node.op.weight]), np.float32)
            graph = rebuild(graph, {node.output: (changed,)}, {name: zeros})
    return graph


def _sliced(graph: Graph, node: Node, stays: dict[str, Array], means: dict[str, Array]) -> dict[str, Array]:
    """The weights of one node after removal."""
    op = node.op
    if isinstance(op, ops.Linear | ops.Conv2d):
        source, out = stays[node.inputs[0]], stays[node.output]
        weight = graph.weights[op.weight]
        assert op.bias is not None
        bias = graph.weights[op.bias]
        if isinstance(op, ops.Conv2d) and op.groups > 1:  # depthwise, or nothing is removed
            return {op.weight: weight[out], op.bias: bias[out]}
        gone = weight[:, ~source].astype(np.float64)
        constant = gone.sum(axis=tuple(range(2, gone.ndim))) @ means[node.inputs[0]][~source]
        return {op.weight: weight[out][:, source], op.bias: (bias + constant).astype(np.float32)[out]}
    if isinstance(op, ops.LayerNorm | ops.Affine):
        extent = len(stays[node.output])
        return {
            name: graph.weights[name][stays[node.output]]
            for name in op.weight_names()
            if graph.weights[name].ndim == len(graph.types[node.output].shape)
            and graph.weights[name].shape[0] == extent
        }
    return {}


def _regrouped(node: Node, stays: dict[str, Array]) -> Node:
    """The node with as many convolution groups as are left."""
    op = node.op
    if isinstance(op, ops.Conv2d) and op.groups > 1 and op.groups == len(stays[node.output]):
        return Node(replace(op, groups=int(stays[node.output].sum())), node.inputs, node.output)
    return node

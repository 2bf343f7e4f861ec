"""How each op of a graph becomes layers: a rule an op. An op without a rule is refused.

A tensor is an array of *places*: indices into all values made so far, the inputs first. Moving data (Flatten, Slice,
Concat) moves places and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import singledispatch

import numpy as np

from nimbleq.compress.robust.network import UNIT_ROUNDOFF, Function, Layer, Network, identity
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

_MOST_FACTORS = 1 << 25
_TARGET = "nimbleq robust"


@dataclass
class Builder:
    """Layers made so far.

    Attributes:
        inputs: number of inputs.
        layers: finished ones.
        starts: first place of each layer; the inputs are layer 0.
    """

    inputs: int
    layers: list[Layer] = field(default_factory=list)
    starts: list[int] = field(init=False)
    factors: int = 0

    def __post_init__(self) -> None:
        self.starts = [0, self.inputs]

    def layer_of(self, places: Array) -> Array:
        """The layer of each place."""
        return np.searchsorted(np.asarray(self.starts), places, side="right") - 1

    def add(
        self, places: Array, weights: Array, bias: Array, function: Function, rounding: float, integer: bool
    ) -> Array:
        """A layer of sums ``Σ_k weights[j, k]·value[places[j, k]] + bias[j]``; a place of −1 counts as no term.

        Returns:
            ``int64[n]`` the places of its values.
        """
        of, at = self.layer_of(places), np.asarray(self.starts)
        sources = [layer for layer in np.unique(of).tolist() if layer >= 0]
        matrices = []
        for source in sources or [0]:
            width = self.starts[source + 1] - self.starts[source]
            self._count(len(bias) * width)
            matrix = np.zeros((len(bias), width))
            rows, terms = np.nonzero(of == source)
            np.add.at(matrix, (rows, places[rows, terms] - at[source]), weights[rows, terms])
            matrices.append(matrix)
        return self._finish(Layer(tuple(sources or [0]), tuple(matrices), bias, function, rounding, integer))

    def dense(self, places: Array, matrix: Array, bias: Array, rounding: float, integer: bool) -> Array:
        """A layer of ``matrix @ values[places] + bias``."""
        source = int(self.layer_of(places[:1])[0])
        if np.array_equal(places, np.arange(self.starts[source], self.starts[source + 1])):
            self._count(matrix.size)
            return self._finish(Layer((source,), (matrix,), bias, identity(len(bias)), rounding, integer))
        everywhere: Array = np.broadcast_to(places, matrix.shape)
        return self.add(everywhere, matrix, bias, identity(len(bias)), rounding, integer)

    def each(self, places: Array, factor: Array, bias: Array, rounding: float, integer: bool) -> Array:
        """``factor·value + bias`` of each place."""
        return self.add(places[:, None], factor[:, None], bias, identity(len(bias)), rounding, integer)

    def apply(self, places: Array, function: Function, fused: bool, integer: bool) -> Array:
        """``function`` of each place: in the layer that made them if nothing else reads it (``fused``)."""
        last = len(self.layers)
        whole = np.array_equal(places, np.arange(self.starts[last], self.starts[last + 1]))
        if fused and last and whole and _is_identity(self.layers[-1].function):
            self.layers[-1] = replace(self.layers[-1], function=function)
            return places
        size = len(places)
        return self.add(places[:, None], np.ones((size, 1)), np.zeros(size), function, 0.0, integer)

    def finish(self, outputs: Array, integer: bool) -> Network:
        """The network whose outputs are the values at the places ``outputs``."""
        of = self.layer_of(outputs)
        return Network(
            self.inputs, integer, tuple(self.layers), np.stack([of, outputs - np.asarray(self.starts)[of]], axis=1)
        )

    def _finish(self, layer: Layer) -> Array:
        self.layers.append(layer)
        self.starts.append(self.starts[-1] + layer.size)
        return np.arange(self.starts[-2], self.starts[-1])

    def _count(self, factors: int) -> None:
        self.factors += factors
        if self.factors > _MOST_FACTORS:
            raise UnsupportedOpError(
                "Conv2d", _TARGET, f"written out, its layers have more than {_MOST_FACTORS:,} factors; ask about a "
                "smaller network"
            )  # fmt: skip


def _is_identity(f: Function) -> bool:
    return not f.rounds and (f.low, f.high) == (-np.inf, np.inf)


def roundings(count: int) -> float:
    """Higham's γ: the relative error that ``count`` float32 roundings in a row can make (any order, fused or not)."""
    return count * UNIT_ROUNDOFF / (1 - count * UNIT_ROUNDOFF)


@dataclass(frozen=True)
class Spot:
    """Where a rule works: the node, its graph, and whether nothing else reads its input."""

    node: Node
    graph: Graph
    fused: bool

    @property
    def integer(self) -> bool:
        """Whether the node's input is integers."""
        return isinstance(self.graph.types[self.node.inputs[0]].qtype, Int)

    def integer_weight(self, name: str) -> bool:
        """Whether the op computes with integers: exactly when its weights are."""
        return self.graph.weights[name].dtype != np.float32

    def flat(self, values: Array) -> Array:
        """A parameter of one value, or one per entry of the input's first axis, as float64 for every entry."""
        shape = self.graph.types[self.node.inputs[0]].shape
        along = values.astype(np.float64).reshape((-1,) + (1,) * (len(shape) - 1))
        return np.broadcast_to(along, shape).reshape(-1)


def lower(graph: Graph, made: dict[str, Array], builder: Builder, wanted: str) -> Array:
    """Add the layers of ``graph`` that the tensor ``wanted`` needs.

    Args:
        made: tensors that exist already, as places in their shape.

    Returns:
        The places of ``wanted``.

    Raises:
        UnsupportedOpError: an op has no rule, or the layers get too large.
    """
    tensors = dict(made)
    for node in needed(graph, set(made), wanted):
        fused = len(graph.consumers(node.inputs[0])) == 1 and node.inputs[0] not in graph.outputs
        sources = tuple(tensors[name] for name in node.inputs)
        tensors[node.output] = rule(node.op, builder, Spot(node, graph, fused), *sources)
    return tensors[wanted]


def needed(graph: Graph, made: set[str], wanted: str) -> list[Node]:
    """The nodes that ``wanted`` depends on, in order, without those behind the tensors ``made``."""
    open_names, chosen = {wanted} - made, []
    for node in reversed(graph.nodes):
        if node.output in open_names:
            chosen.append(node)
            open_names |= set(node.inputs) - made
    return chosen[::-1]


@singledispatch
def rule(op: ops.Op, builder: Builder, spot: Spot, *sources: Array) -> Array:
    """The places of the op's result, in its shape."""
    raise UnsupportedOpError(
        op.kind, _TARGET, "there is no rule that bounds it; ask about a network of linear layers, convolutions, ReLU "
        "and the like"
    )  # fmt: skip


@rule.register
def _flatten(op: ops.Flatten, builder: Builder, spot: Spot, x: Array) -> Array:
    return x.reshape(-1)


@rule.register
def _slice(op: ops.Slice, builder: Builder, spot: Spot, x: Array) -> Array:
    return x[op.start : op.stop]


@rule.register
def _unflatten(op: ops.Unflatten, builder: Builder, spot: Spot, x: Array) -> Array:
    return x.reshape(op.channels, op.height, op.width)


@rule.register
def _concat(op: ops.Concat, builder: Builder, spot: Spot, *sources: Array) -> Array:
    return np.concatenate(sources)


@rule.register
def _affine(op: ops.Affine, builder: Builder, spot: Spot, x: Array) -> Array:
    gain, shift = (
        np.broadcast_to(spot.graph.weights[name].astype(np.float64), x.shape).reshape(-1)
        for name in (op.scale, op.shift)
    )
    return builder.each(x.reshape(-1), gain, shift, roundings(4), False).reshape(x.shape)


@rule.register
def _linear(op: ops.Linear, builder: Builder, spot: Spot, x: Array) -> Array:
    matrix = spot.graph.weights[op.weight].astype(np.float64)
    bias, integer = _bias(op, spot.graph, len(matrix)), spot.integer_weight(op.weight)
    return builder.dense(x, matrix, bias, 0.0 if integer else roundings(len(x) + 2), integer)


@rule.register
def _conv2d(op: ops.Conv2d, builder: Builder, spot: Spot, x: Array) -> Array:
    weight = spot.graph.weights[op.weight].astype(np.float64)
    out, rows, cols = spot.graph.types[spot.node.output].shape
    windows = _windows(x, weight.shape[2:], op.stride, op.padding)
    grouped = windows.reshape(op.groups, -1, *windows.shape[1:])
    per_group = out // op.groups
    # [out, rows, cols, terms]
    places = np.repeat(grouped.transpose(0, 2, 3, 1, 4, 5).reshape(op.groups, rows, cols, -1), per_group, axis=0)
    terms = places.shape[-1]
    factors: Array = np.broadcast_to(weight.reshape(out, 1, 1, terms), places.shape).reshape(-1, terms)
    bias: Array = np.repeat(_bias(op, spot.graph, out), rows * cols)
    places = places.reshape(-1, terms)
    bias = bias + (factors * (places < 0)).sum(axis=1) * op.pad_value
    integer = spot.integer_weight(op.weight)
    rounding = 0.0 if integer else roundings(terms + 2)
    return builder.add(places, factors, bias, identity(len(bias)), rounding, integer).reshape(out, rows, cols)


def _bias(op: ops.Linear | ops.Conv2d, graph: Graph, size: int) -> Array:
    return np.zeros(size) if op.bias is None else graph.weights[op.bias].astype(np.float64)


def _windows(x: Array, kernel: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """``[C, rows, cols, kh, kw]`` places in each window, −1 in the border."""
    up, left = padding
    padded = np.pad(x, ((0, 0), (up, up), (left, left)), constant_values=-1)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return np.asarray(view[:, :: stride[0], :: stride[1]])


@rule.register
def _activation(op: ops.Activation, builder: Builder, spot: Spot, x: Array) -> Array:
    one, zero = np.ones(x.size), np.zeros(x.size)
    places = x.reshape(-1)
    if op.function == "clip":
        function = Function(one, zero, float(np.float32(op.low)), float(np.float32(op.high)))
    elif op.function == "relu":
        function = Function(one, zero, low=0.0)
    elif 0 <= op.slope <= 1:
        # Rounded once more: an identity layer that may err by one rounding takes it up.
        places = builder.each(places, one, zero, roundings(2), False)
        return builder.apply(
            places, Function(one, zero, low=0.0, slope=float(np.float32(op.slope))), True, False
        ).reshape(x.shape)
    else:
        raise UnsupportedOpError("Activation", _TARGET, f"leaky_relu of slope {op.slope} is not between 0 and 1")
    return builder.apply(places, function, spot.fused, False).reshape(x.shape)


@rule.register
def _add(op: ops.Add, builder: Builder, spot: Spot, x: Array, y: Array) -> Array:
    both = np.stack([x.reshape(-1), y.reshape(-1)], axis=1)
    size = len(both)
    places = builder.add(both, np.ones((size, 2)), np.zeros(size), identity(size), roundings(2), False)
    return places.reshape(x.shape)


@rule.register
def _dueling(op: ops.Dueling, builder: Builder, spot: Spot, value: Array, advantage: Array) -> Array:
    count = len(advantage)
    factors = np.hstack([np.ones((count, 1)), np.eye(count) - 1 / count])
    places: Array = np.broadcast_to(np.concatenate([value, advantage]), factors.shape)
    # An advantage is added and its mean subtracted: at most three times the magnitude of the sum written out.
    return builder.add(places, factors, np.zeros(count), identity(count), 3 * roundings(count + 4), False)


@rule.register
def _layer_norm(op: ops.LayerNorm, builder: Builder, spot: Spot, x: Array) -> Array:
    places, size = x.reshape(-1), x.size
    ones, zero = np.ones(size), np.zeros(size)
    mean = builder.dense(places, np.full((1, size), 1 / size), zero[:1], roundings(size + 2), False)
    pairs = np.stack([places, np.repeat(mean, size)], axis=1)
    centred = builder.add(pairs, np.tile([1.0, -1.0], (size, 1)), zero, identity(size), roundings(2), False)
    # Then come a sum of squares, a root and a quotient: relative errors, which the affine map takes up.
    divided = builder.apply(centred, Function(ones, zero, eps=float(np.float32(op.eps))), True, False)
    gain, shift = (
        default if name is None else spot.graph.weights[name].astype(np.float64).reshape(-1)
        for name, default in ((op.weight, ones), (op.bias, zero))
    )
    return builder.each(divided, gain, shift, roundings(size + 12), False).reshape(x.shape)


@rule.register
def _pool(op: ops.Pool, builder: Builder, spot: Spot, x: Array) -> Array:
    windows = _windows(x, op.kernel, op.stride, op.padding)
    shape, terms = windows.shape[:3], windows.shape[3] * windows.shape[4]
    places = windows.reshape(-1, terms)
    if op.function == "average":
        factors = np.full(places.shape, 1 / terms)
        rounding = roundings(terms + 2)
        return builder.add(places, factors, np.zeros(len(places)), identity(len(places)), rounding, False).reshape(
            shape
        )
    # The border is −∞: any entry of the window can stand for it.
    places = np.where(places < 0, places.max(axis=1, keepdims=True), places)
    while places.shape[1] > 1:
        half = places.shape[1] // 2
        largest = _larger(builder, places[:, :half].reshape(-1), places[:, half : 2 * half].reshape(-1), spot.integer)
        places = np.hstack([largest.reshape(-1, half), places[:, 2 * half :]])
    return places.reshape(shape)


def _larger(builder: Builder, x: Array, y: Array, integer: bool) -> Array:
    """``max(x, y) = x + relu(y − x)``, exactly."""
    size = len(x)
    zero = np.zeros(size)
    above = builder.add(
        np.stack([y, x], axis=1), np.tile([1.0, -1.0], (size, 1)), zero, Function(np.ones(size), zero, low=0.0), 0.0,
        integer,
    )  # fmt: skip
    return builder.add(np.stack([x, above], axis=1), np.ones((size, 2)), zero, identity(size), 0.0, integer)


@rule.register
def _quantize(op: ops.Quantize, builder: Builder, spot: Spot, x: Array) -> Array:
    kind = Int(op.bits, op.signed)
    inverse, zero = spot.flat(spot.graph.weights[op.inverse_scale]), spot.flat(op.zero_points(spot.graph.weights))
    function = Function(np.abs(inverse), zero, kind.low, kind.high, rounds=True)
    places = x.reshape(-1)
    if (inverse < 0).any():
        places = builder.each(places, np.where(inverse < 0, -1.0, 1.0), np.zeros(x.size), 0.0, False)
    return builder.apply(places, function, spot.fused and bool((inverse >= 0).all()), False).reshape(x.shape)


@rule.register
def _requantize(op: ops.Requantize, builder: Builder, spot: Spot, x: Array) -> Array:
    parts = (op.multipliers(spot.graph.weights), spot.graph.weights[op.shift])
    multiplier, shift = (spot.flat(part).astype(np.int64) for part in parts)
    scale = np.ldexp(multiplier.astype(np.float64), -shift)
    function = Function(
        scale, np.full(x.size, float(op.zero_point)), op.low, op.high, rounds=True, multiplier=multiplier, shift=shift
    )
    return builder.apply(x.reshape(-1), function, spot.fused, True).reshape(x.shape)


@rule.register
def _dequantize(op: ops.Dequantize, builder: Builder, spot: Spot, x: Array) -> Array:
    scale, zero = spot.flat(op.scales(spot.graph.weights)), spot.flat(op.zero_points(spot.graph.weights))
    return builder.each(x.reshape(-1), scale, -scale * zero, roundings(4), False).reshape(x.shape)

"""Lowering: a float graph and the plan of its number formats become integer arithmetic, observation to argmax.

Weights are symmetric per output channel (the last layer: one scale, so that action values stay comparable as
integers), activations are unsigned integers as the plan says, sums are int32, requantization is the pinned
multiply-and-shift (Jacob et al. 2018 [1712.05877]), or the shift alone where scales allow it. Ops without an integer
form stay float between a Dequantize and a Quantize.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nimbleq.compress.quantize.fixed_point import multiplier_and_shift, quantize_weights, shift_alone
from nimbleq.compress.quantize.observation import ScaledObs, scaled_observations
from nimbleq.compress.quantize.plan import Format, FromSums, Levels, Plan, averages_bytes
from nimbleq.compress.quantize.trees import integer_tree
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.formats import FORMATS, Power, narrowest
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.edit import drop_dead
from nimbleq.graph.tensor import INT32, Float32, Int
from nimbleq.graph.weight import Storage
from nimbleq.types import Array


def lower(graph: Graph, plan: Plan) -> Graph:
    """The integer form of a float policy.

    Args:
        graph: float32 weights, output `Q`.
        plan: made for this graph.

    Raises:
        UnsupportedOpError: a padded convolution reads an observation whose format has no exact zero.
    """
    return lower_with_inputs(graph, plan).graph


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as bytes.

    Attributes:
        name: of the integer tensor.
        levels: what its numbers mean.
        tensor: the float tensor whose format they have, before what only moves or selects them (Flatten, max pooling).
        form: that format; None: they are the observation's own bytes.
    """

    name: str
    levels: Levels
    tensor: str
    form: Format | None

    @property
    def top(self) -> int:
        """The largest number."""
        return (1 << (8 if self.form is None else self.form.bits)) - 1


@dataclass(frozen=True, eq=False)
class Sums:
    """int32 accumulators: ``real = scale[channel]·v``."""

    name: str
    scale: Array


@dataclass(frozen=True, eq=False)
class Lowered:
    """Attributes:
    graph: the integer form.
    inputs: what each Linear and Conv2d reads, by the float tensor that the layer makes.
    sums: each Linear's and Conv2d's int32 sums, by the float tensor that they stand for.
    dequantized: float tensor → the bytes that it is made from, where an op without an integer form reads it.
    """

    graph: Graph
    inputs: Mapping[str, Stored]
    sums: Mapping[str, Sums]
    dequantized: Mapping[str, Stored]


def lower_with_inputs(graph: Graph, plan: Plan) -> Lowered:
    """`lower`, how each layer's input is stored, and what its sums mean."""
    lowering = _Lowering(graph, plan)
    made = lowering.run()
    return Lowered(made, lowering.inputs, {name: lowering.sums[name] for name in lowering.inputs}, lowering.dequantized)


@dataclass
class _Lowering:
    """One walk over the float graph; each tensor gets the forms (bytes, sums, float) that its readers ask for."""

    graph: Graph
    plan: Plan
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    storage: dict[str, Storage] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    inputs: dict[str, Stored] = field(default_factory=dict)
    dequantized: dict[str, Stored] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)
    scaled: dict[str, ScaledObs] = field(init=False)

    def __post_init__(self) -> None:
        self.scaled = scaled_observations(self.graph)

    def run(self) -> Graph:
        obs = self.graph.obs_name
        if isinstance(self.graph.obs_type.qtype, Int):
            self.stored[obs] = Stored(obs, Levels(np.ones(()), np.zeros(()), np.zeros(())), obs, None)
        self.floats.add(obs)
        for node in self.graph.nodes:
            self._lower(node)
        for name in self.graph.outputs:
            if isinstance(self.graph.types[name].qtype, Float32):
                self._float(name)
        storage = self.storage | narrow(self.weights)
        made = Graph(self.graph.inputs, tuple(self.nodes), self.graph.outputs, self.weights, storage)
        return drop_dead(made)

    def _emit(self, op: ops.Op, inputs: tuple[str, ...], output: str, **weights: Array) -> None:
        """Append a node; ``weights`` are stored under the names that ``op`` uses."""
        self.nodes.append(Node(op, inputs, output))
        self.weights |= {f"{output}.{key}": array for key, array in weights.items()}

    def _lower(self, node: Node) -> None:
        source = node.inputs[0]
        match node.op:
            case ops.Linear() | ops.Conv2d():
                self._lower_sum(node, node.op)
            case ops.ObliqueTree() | ops.AxisTree():
                self._lower_tree(node, node.op)
            case ops.ArgMax() | ops.BranchArgMax() if source in self.sums and self.sums[source].scale.size == 1:
                self._emit(node.op, (self.sums[source].name,), node.output)
            case ops.ArgMax() | ops.BranchArgMax():
                self._emit(node.op, (self._float(source),), node.output)
            case ops.Activation(function="relu" | "clip") if source in self.sums:
                pass  # fused into the requantize that a reader will ask for
            case ops.Pool(function="max") if source in self.sums:
                self._emit(node.op, (self.sums[source].name,), f"{node.output}_sums")
                self.sums[node.output] = Sums(f"{node.output}_sums", self.sums[source].scale)
            case ops.Pool(function="average") if averages_bytes(self.graph, node, self.sums):
                area, levels = node.op.kernel[0] * node.op.kernel[1], self._bytes(source).levels
                self._emit(replace(node.op, function="sum"), (self._bytes(source).name,), f"{node.output}_sums")
                self.sums[node.output] = Sums(f"{node.output}_sums", np.array([float(levels.scale) / area]))
            case ops.Pool(function="max") if (held := self._bytes_if_made(source)) is not None and held.levels.uniform:
                self._emit(node.op, (held.name,), f"{node.output}_u8")
                self.stored[node.output] = replace(held, name=f"{node.output}_u8")
            case ops.ChannelShuffle() if (held := self._bytes_if_made(source)) is not None and held.levels.uniform:
                self._emit(node.op, (held.name,), f"{node.output}_u8")
                self.stored[node.output] = replace(held, name=f"{node.output}_u8")
            case ops.Flatten() if (
                source in self.scaled or self._bytes_if_made(source) is not None or source in self.sums
            ):
                self._lower_flatten(node)
            case ops.Concat() if isinstance(self.graph.types[source].qtype, Int):
                self._emit(node.op, tuple(self._bytes(name).name for name in node.inputs), f"{node.output}_u8")
                self.stored[node.output] = replace(self._bytes(source), name=f"{node.output}_u8")
            case ops.Affine() if source in self.stored and node.output in self.scaled:
                gain, shift = (self.graph.weights[name].astype(np.float64) for name in (node.op.scale, node.op.shift))
                held = self.stored[source]
                levels = replace(held.levels, scale=held.levels.scale * gain, offset=held.levels.offset * gain + shift)
                self.stored[node.output] = replace(held, levels=levels)
            case _:
                pass  # float: emitted when a reader asks for it

    def _lower_flatten(self, node: Node) -> None:
        held, shape = self._bytes(node.inputs[0]), self.graph.types[node.inputs[0]].shape
        self._emit(node.op, (held.name,), f"{node.output}_u8")
        scale, zero, offset = (
            part if part.ndim == 0 else np.broadcast_to(part, shape).reshape(-1)
            for part in (held.levels.scale, held.levels.zero_point, held.levels.offset)
        )
        self.stored[node.output] = replace(held, name=f"{node.output}_u8", levels=Levels(scale, zero, offset))

    def _lower_sum(self, node: Node, op: ops.Linear | ops.Conv2d) -> None:
        held = self._bytes(node.inputs[0])
        if isinstance(op, ops.Conv2d) and not _suits_conv(held, op):
            held = self._uniform(node.inputs[0])
        real = self.graph.weights[op.weight].astype(np.float64)
        bias = np.zeros(len(real)) if op.bias is None else self.graph.weights[op.bias].astype(np.float64)
        gain, zero, offset = (
            np.broadcast_to(part, _fan_in(real, part))
            for part in (held.levels.scale, held.levels.zero_point, held.levels.offset)
        )
        bias = bias + (real * offset).reshape(len(real), -1).sum(axis=1)
        levels, shared = self.plan.weights[node.output], node.output in self.plan.shared_scale
        unit = self.plan.units.get(node.output)
        layer = quantize_weights(real * gain, bias, zero, levels, shared_scale=shared, unit=unit)
        name = f"{node.output}_sums"
        self.inputs[node.output] = held
        self.storage[f"{name}.weight"] = Storage(levels.format)
        integer = replace(op, weight=f"{name}.weight", bias=f"{name}.bias")
        if isinstance(integer, ops.Conv2d) and integer.padding != (0, 0):
            integer = replace(integer, pad_value=int(held.levels.zeros()[0]))
        self._emit(integer, (held.name,), name, weight=layer.weight, bias=layer.bias)
        self.sums[node.output] = Sums(name, layer.scale)

    def _lower_tree(self, node: Node, op: ops.ObliqueTree | ops.AxisTree) -> None:
        held = self._bytes(node.inputs[0])
        made = integer_tree(self.graph, node, held.levels)
        first, output = op.weight_fields[0], node.output if made.scale is None else f"{node.output}_rows"
        integer = type(op)(f"{output}.{first}", f"{output}.threshold", f"{output}.leaf", op.actions)
        weights = {first: made.first, "threshold": made.threshold, "leaf": made.leaf}
        self._emit(integer, (held.name,), output, **weights)
        if made.scale is not None:
            self._dequantize(output, node.output, np.array([made.scale]), np.zeros(1))
        self.floats.add(node.output)

    def _bytes_if_made(self, tensor: str) -> Stored | None:
        """The stored form where it exists or costs one requantize."""
        producer = self.graph.producer(tensor)
        fused = producer is not None and isinstance(producer.op, ops.Activation) and producer.inputs[0] in self.sums
        return self._bytes(tensor) if tensor in self.stored or (fused and tensor not in self.floats) else None

    def _bytes(self, tensor: str) -> Stored:
        """The stored form of ``tensor``, made when needed."""
        if tensor not in self.stored:
            self.stored[tensor] = self._store(tensor, f"{tensor}_u8", self.plan.tensors[tensor])
        return self.stored[tensor]

    def _uniform(self, tensor: str) -> Stored:
        """The stored form of ``tensor`` with one scale and no offset."""
        if tensor not in self.plan.uniform:
            raise UnsupportedOpError(
                "Conv2d", "int8", "it reads the observation in a form that has no exact zero to pad with"
            )
        return self._store(tensor, f"{tensor}_padded_u8", self.plan.uniform[tensor])

    def _store(self, tensor: str, output: str, form: Format) -> Stored:
        """Emit the node that makes ``output`` of ``tensor`` in this format."""
        if isinstance(form, FromSums):
            sums, zero = self.sums[form.source], int(form.levels.zero_point)
            factor = sums.scale / float(form.levels.scale)
            alone = shift_alone(factor)
            name = f"{output}.multiplier" if alone is None else None
            requantize = ops.Requantize(name, f"{output}.shift", zero, form.low, form.high, form.bits, signed=False)
            if alone is None:
                multiplier, shift = multiplier_and_shift(factor)
                self._emit(requantize, (sums.name,), output, multiplier=multiplier, shift=shift)
            else:
                self._emit(requantize, (sums.name,), output, shift=alone)
        else:
            source = self._float(form.source)
            zero_point = form.zero.astype(np.int32)
            name = f"{output}.zero_point" if zero_point.any() else None
            quantize = ops.Quantize(f"{output}.inverse_scale", name, form.bits, signed=False)
            given = {} if name is None else {"zero_point": zero_point}
            self._emit(quantize, (source,), output, inverse_scale=form.inverse, **given)
            self.storage |= _as_power(f"{output}.inverse_scale", form.inverse)
        return Stored(output, form.levels, tensor, form)

    def _float(self, tensor: str) -> str:
        """The float form of ``tensor`` under its own name, made when needed."""
        if tensor not in self.floats:
            self.floats.add(tensor)
            node = self.graph.producer(tensor)
            assert node is not None, f"{tensor!r} is neither an input nor made"
            held = self.stored.get(tensor)
            if tensor in self.sums:
                self._dequantize(self.sums[tensor].name, tensor, self.sums[tensor].scale, np.zeros(1))
            elif held is not None and tensor not in self.scaled and not held.levels.offset.any():
                self.dequantized[tensor] = held
                self._dequantize(held.name, tensor, held.levels.scale.reshape(-1), held.levels.zero_point.reshape(-1))
            else:
                weights = {name: self.graph.weights[name] for name in node.op.weight_names()}
                self.nodes.append(Node(node.op, tuple(self._float(name) for name in node.inputs), tensor))
                self.weights |= weights
        return tensor

    def _dequantize(self, source: str, output: str, scale: Array, zero: Array) -> None:
        name = f"{output}.zero_point" if zero.any() else None
        given = {} if name is None else {"zero_point": zero.astype(np.int32)}
        self._emit(ops.Dequantize(f"{output}.scale", name), (source,), output, scale=scale.astype(np.float32), **given)


def narrow(weights: Mapping[str, Array]) -> dict[str, Storage]:
    """The format of the fewest bits for biases, shifts and zero points."""
    fitting = {name: narrowest(array) for name, array in weights.items() if array.dtype == INT32.dtype}
    return {
        name: Storage(number)
        for name, number in fitting.items()
        if number.nbytes(weights[name].size) < weights[name].nbytes
    }


def _as_power(name: str, scale: Array) -> dict[str, Storage]:
    """The narrowest format of exponents that holds ``scale``, if there is one."""
    rows = (row for row in FORMATS.values() if isinstance(row, Power))
    fitting = [row for row in rows if np.array_equal(row.decode(row.encode(scale)), scale)]
    return {name: Storage(fitting[0])} if fitting else {}


def _fan_in(weight: Array, part: Array) -> tuple[int, ...]:
    """Shape that a parameter of `Levels` takes against ``weight[out, ...]``."""
    return weight.shape[1:] if part.ndim else (1,) * (weight.ndim - 1)


def _suits_conv(held: Stored, op: ops.Conv2d) -> bool:
    """Whether a convolution can read this: it varies by channel at most, and has an exact zero to pad with."""
    levels = held.levels
    parts = (levels.scale, levels.zero_point, levels.offset)
    by_channel = all(part.ndim == 0 or (part.shape[1:] == (1, 1) and op.groups == 1) for part in parts)
    zeros = levels.zeros()
    exact = bool((zeros == zeros[0]).all() and zeros[0] == round(zeros[0]) and 0 <= zeros[0] <= held.top)
    return by_channel and (exact or op.padding == (0, 0))

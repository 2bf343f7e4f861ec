"""int8 linear quantization: a float graph becomes integer arithmetic from the observation to the argmax.

Weights are symmetric per output channel (the last layer: one scale, so that action values stay comparable as
integers), activations are unsigned bytes with calibrated ranges, sums are int32, requantization is the pinned
multiply-and-shift (Jacob et al. 2018 [1712.05877]). Ops without an integer form stay float between a Dequantize and a
Quantize.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nimbleq.compress.quantize.fixed_point import multiplier_and_shift, quantize_weights
from nimbleq.compress.quantize.ranges import METHODS, Method, Range, choose_range, histograms
from nimbleq.compress.states import States, actions, compare
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.rewrites.edit import drop_dead
from nimbleq.graph.tensor import UINT8, Float32, Int
from nimbleq.types import Array

_TOP = UINT8.high
_FARTHEST_ZERO = 1 << 20
"""Largest zero point: keeps ``Σ weight·z`` inside int32 for thousands of inputs."""


def quantize(graph: Graph, obs: Array, method: Method = "minmax") -> Graph:
    """The integer form of a float policy.

    Args:
        graph: float32 weights, output `Q`; fold it first.
        obs: ``[K, *O]`` visited states to calibrate on.
        method: how ranges are picked, see `calibrate.choose_range`.

    Raises:
        GraphError: the graph is quantized already.
    """
    return _Lowering(graph, _ranges(graph, obs, method)).run()


def quantize_best(graph: Graph, states: States, teacher_q: Array) -> tuple[Graph, Method]:
    """`quantize` by every calibration method; the one with the least regret against ``teacher_q [K, A]`` there."""
    tried = [(quantize(graph, states.obs, method), method) for method in METHODS]
    return min(tried, key=lambda pair: compare(teacher_q, actions(pair[0], states), states.mask).regret)


def _ranges(graph: Graph, obs: Array, method: Method) -> dict[str, Range]:
    """Ranges of every tensor that may be stored as bytes; a vector that is the observation, or an elementwise function
    of it, has one range per feature."""
    front = _front(graph)
    read = {name for node in graph.nodes if not isinstance(node.op, ops.ArgMax) for name in node.inputs}
    names = [n for n in read if isinstance(graph.types[n].qtype, Float32)]
    apart = [n for n in names if n in front and len(graph.types[n].shape) == 1]
    measured = histograms(graph, obs, names, apart)
    ranges = {name: choose_range(histogram, method) for name, histogram in measured.items()}
    # Zero is kept representable inside the network: it is what padding means and where ReLU rests.
    return {
        name: extent if name in apart else Range(np.minimum(extent.low, 0), np.maximum(extent.high, 0))
        for name, extent in ranges.items()
    }


@dataclass(frozen=True)
class _Front:
    """A tensor that is ``clip(scale·obs + shift, low, high)``; scale (not negative) and shift float64, broadcasting."""

    scale: Array
    shift: Array
    low: float = -np.inf
    high: float = np.inf


def _front(graph: Graph) -> dict[str, _Front]:
    """Name → form of the tensors that are scaled and shifted, then perhaps clipped, observations."""
    made = {graph.obs_name: _Front(np.ones(()), np.zeros(()))}
    for node in graph.nodes:
        form = made.get(node.inputs[0])
        if form is None:
            continue
        if isinstance(node.op, ops.Affine) and (form.low, form.high) == (-np.inf, np.inf):
            gain, offset = (graph.weights[name].astype(np.float64) for name in (node.op.scale, node.op.shift))
            if (gain >= 0).all():
                made[node.output] = _Front(form.scale * gain, form.shift * gain + offset)
        elif isinstance(node.op, ops.Activation) and node.op.function == "clip":
            low, high = (float(np.clip(end, node.op.low, node.op.high)) for end in (form.low, form.high))
            made[node.output] = replace(form, low=low, high=high)
    return made


@dataclass(frozen=True)
class _Bytes:
    """A stored integer tensor: ``real = scale·(v − zero_point) + offset``, each broadcasting to the tensor's shape."""

    name: str
    scale: Array
    zero_point: Array
    offset: Array


@dataclass(frozen=True)
class _Sums:
    """int32 accumulators: ``real = scale[channel]·v``."""

    name: str
    scale: Array


@dataclass
class _Lowering:
    """One walk over the float graph; each tensor gets the forms (bytes, sums, float) that its readers ask for."""

    graph: Graph
    ranges: dict[str, Range]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    stored: dict[str, _Bytes] = field(default_factory=dict)
    sums: dict[str, _Sums] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)
    front: dict[str, _Front] = field(init=False)

    def __post_init__(self) -> None:
        self.front = _front(self.graph)

    def run(self) -> Graph:
        if any(array.dtype != np.float32 for array in self.graph.weights.values()):
            raise GraphError("the graph has integer weights already: quantize the float graph")
        obs = self.graph.obs_name
        if isinstance(self.graph.obs_type.qtype, Int):
            self.stored[obs] = _Bytes(obs, np.ones(()), np.zeros(()), np.zeros(()))
        self.floats.add(obs)
        for node in self.graph.nodes:
            self._lower(node)
        for name in self.graph.outputs:
            if isinstance(self.graph.types[name].qtype, Float32):
                self._float(name)
        return drop_dead(Graph(self.graph.inputs, tuple(self.nodes), self.graph.outputs, self.weights))

    def _emit(self, op: ops.Op, inputs: tuple[str, ...], output: str, **weights: Array) -> None:
        """Append a node; ``weights`` are stored under the names that ``op`` uses."""
        self.nodes.append(Node(op, inputs, output))
        self.weights |= {f"{output}.{key}": array for key, array in weights.items()}

    def _lower(self, node: Node) -> None:
        source = node.inputs[0]
        match node.op:
            case ops.Linear() | ops.Conv2d():
                self._lower_sum(node, node.op)
            case ops.ArgMax() if source in self.sums and self.sums[source].scale.size == 1:
                self._emit(node.op, (self.sums[source].name,), node.output)
            case ops.ArgMax():
                self._emit(node.op, (self._float(source),), node.output)
            case ops.Activation(function="relu" | "clip") if source in self.sums:
                pass  # fused into the requantize that a reader will ask for
            case ops.Pool(function="max") if source in self.sums:
                self._emit(node.op, (self.sums[source].name,), f"{node.output}_sums")
                self.sums[node.output] = _Sums(f"{node.output}_sums", self.sums[source].scale)
            case ops.Pool(function="max") if (held := self._bytes_if_made(source)) is not None and _is_uniform(held):
                self._emit(node.op, (held.name,), f"{node.output}_u8")
                self.stored[node.output] = replace(held, name=f"{node.output}_u8")
            case ops.Flatten() if (
                source in self.front or self._bytes_if_made(source) is not None or source in self.sums
            ):
                self._lower_flatten(node)
            case ops.Concat() if isinstance(self.graph.types[source].qtype, Int):
                self._emit(node.op, tuple(self._bytes(name).name for name in node.inputs), f"{node.output}_u8")
                self.stored[node.output] = replace(self._bytes(source), name=f"{node.output}_u8")
            case ops.Affine() if source in self.stored and node.output in self.front:
                gain, shift = (self.graph.weights[name].astype(np.float64) for name in (node.op.scale, node.op.shift))
                held = self.stored[source]
                self.stored[node.output] = replace(held, scale=held.scale * gain, offset=held.offset * gain + shift)
            case _:
                pass  # float: emitted when a reader asks for it

    def _lower_flatten(self, node: Node) -> None:
        held, shape = self._bytes(node.inputs[0]), self.graph.types[node.inputs[0]].shape
        self._emit(node.op, (held.name,), f"{node.output}_u8")
        scale, zero, offset = (
            part if part.ndim == 0 else np.broadcast_to(part, shape).reshape(-1)
            for part in (held.scale, held.zero_point, held.offset)
        )
        self.stored[node.output] = _Bytes(f"{node.output}_u8", scale, zero, offset)

    def _lower_sum(self, node: Node, op: ops.Linear | ops.Conv2d) -> None:
        held = self._bytes(node.inputs[0])
        if isinstance(op, ops.Conv2d) and not _suits_conv(held, op):
            held = self._requantized_front(node.inputs[0])
        real = self.graph.weights[op.weight].astype(np.float64)
        bias = np.zeros(len(real)) if op.bias is None else self.graph.weights[op.bias].astype(np.float64)
        gain, zero, offset = (
            np.broadcast_to(part, _fan_in(real, part)) for part in (held.scale, held.zero_point, held.offset)
        )
        bias = bias + (real * offset).reshape(len(real), -1).sum(axis=1)
        layer = quantize_weights(real * gain, bias, zero, shared_scale=node.output == Q)
        name = f"{node.output}_sums"
        integer = replace(op, weight=f"{name}.weight", bias=f"{name}.bias")
        if isinstance(integer, ops.Conv2d) and integer.padding != (0, 0):
            integer = replace(integer, pad_value=int(_levels_of_zero(held)[0]))
        self._emit(integer, (held.name,), name, weight=layer.weight, bias=layer.bias)
        self.sums[node.output] = _Sums(name, layer.scale)

    def _bytes_if_made(self, tensor: str) -> _Bytes | None:
        """The stored form where it exists or costs one requantize."""
        producer = self.graph.producer(tensor)
        fused = producer is not None and isinstance(producer.op, ops.Activation) and producer.inputs[0] in self.sums
        return self._bytes(tensor) if tensor in self.stored or (fused and tensor not in self.floats) else None

    def _bytes(self, tensor: str) -> _Bytes:
        """The stored form of ``tensor``, made when needed."""
        if tensor not in self.stored:
            producer = self.graph.producer(tensor)
            if tensor in self.front:
                self.stored[tensor] = self._quantized_front(tensor)
            elif tensor in self.sums:
                self.stored[tensor] = self._requantized(tensor, tensor, -np.inf, np.inf)
            elif producer is not None and producer.inputs[0] in self.sums and _bounds(producer.op) is not None:
                low, high = _bounds(producer.op) or (-np.inf, np.inf)
                self.stored[tensor] = self._requantized(tensor, producer.inputs[0], low, high)
            else:
                self.stored[tensor] = self._quantized(tensor, self._float(tensor))
        return self.stored[tensor]

    def _step(self, tensor: str, shift: Array | float = 0.0) -> Array:
        """Real size of one level of the stored form of ``tensor``, ``[C]``; coarser than the range alone would ask for
        where the zero point would leave its bounds (a range that is narrow and far from ``shift``)."""
        low, high = self.ranges[tensor].low, self.ranges[tensor].high
        farthest = np.maximum(np.abs(low - shift), np.abs(high - shift))
        return np.maximum(np.maximum((high - low) / _TOP, farthest / _FARTHEST_ZERO), 1e-12)

    def _quantized_front(self, tensor: str) -> _Bytes:
        """Quantize the raw observation; normalisation lives in scale and offset, clipping in the saturation."""
        shape, form = self.graph.types[tensor].shape, self.front[tensor]
        gain, shift = form.scale, form.shift
        if not isinstance(self.graph.obs_type.qtype, Float32) or (len(shape) != 1 and gain.ndim + shift.ndim > 0):
            return self._quantized(tensor, self._float(tensor))
        step, low = self._step(tensor, shift), self.ranges[tensor].low
        inverse = np.asarray(gain / step, np.float32)
        step = np.divide(gain, inverse, where=inverse > 0, out=step * np.ones(inverse.shape))
        zero = np.clip(np.round((shift - low) / step), -_FARTHEST_ZERO, _FARTHEST_ZERO)
        beyond = np.maximum(form.low - (shift - step * zero), shift + step * (_TOP - zero) - form.high)
        if ((inverse > 0) & (beyond > 0.51 * step)).any():  # the levels reach further than the clip lets values go
            return self._quantized(tensor, self._float(tensor))
        self._quantize_node(self.graph.obs_name, f"{tensor}_u8", inverse, zero)
        # Rounding a weight errs by up to half a step times the distance from the reference level, so the reference
        # stays among the levels; the rest of a far zero point is a constant, which the bias takes exactly.
        reference = np.clip(zero, 0, _TOP)
        offset = shift + step * (reference - zero)
        if len(step) == 1:
            step, reference, offset = step.reshape(()), reference.reshape(()), offset.reshape(())
        return _Bytes(f"{tensor}_u8", step, reference, offset)

    def _requantized_front(self, tensor: str) -> _Bytes:
        """The stored form of ``tensor`` with one scale and no offset, through float."""
        if tensor not in self.ranges:
            raise UnsupportedOpError(
                "Conv2d", "int8", "it reads the observation in a form that has no exact zero to pad with"
            )
        return self._quantized(tensor, self._float(tensor), suffix="_padded_u8")

    def _quantized(self, tensor: str, name: str, suffix: str = "_u8") -> _Bytes:
        extent = self.ranges[tensor]
        low, high = float(min(extent.low.min(), 0.0)), float(max(extent.high.max(), 0.0))
        inverse = np.array([1.0 / max((high - low) / _TOP, 1e-12)], np.float32)
        step = 1.0 / inverse.astype(np.float64)
        zero = np.round(-low / step)
        self._quantize_node(name, f"{tensor}{suffix}", inverse, zero)
        return _Bytes(f"{tensor}{suffix}", step.reshape(()), zero.reshape(()), np.zeros(()))

    def _quantize_node(self, source: str, output: str, inverse: Array, zero: Array) -> None:
        op = ops.Quantize(f"{output}.inverse_scale", f"{output}.zero_point", bits=8, signed=False)
        self._emit(op, (source,), output, inverse_scale=inverse, zero_point=zero.astype(np.int32))

    def _requantized(self, tensor: str, source: str, low: float, high: float) -> _Bytes:
        """Bytes of the accumulators ``source``, clamped to ``low..high`` in real units (a fused activation)."""
        scale = float(self._step(tensor)[0])
        zero = int(np.round(-self.ranges[tensor].low[0] / scale))
        multiplier, shift = multiplier_and_shift(self.sums[source].scale / scale)
        bounds = [int(np.clip(np.round(end / scale) + zero, 0, _TOP)) for end in (low, high)]
        output = f"{tensor}_u8"
        op = ops.Requantize(f"{output}.multiplier", f"{output}.shift", zero, bounds[0], bounds[1], bits=8, signed=False)
        self._emit(op, (self.sums[source].name,), output, multiplier=multiplier, shift=shift)
        return _Bytes(output, np.array(scale), np.array(float(zero)), np.zeros(()))

    def _float(self, tensor: str) -> str:
        """The float form of ``tensor`` under its own name, made when needed."""
        if tensor not in self.floats:
            self.floats.add(tensor)
            node = self.graph.producer(tensor)
            assert node is not None, f"{tensor!r} is neither an input nor made"
            if tensor in self.sums:
                self._dequantize(self.sums[tensor].name, tensor, self.sums[tensor].scale, np.zeros(1))
            elif tensor in self.stored and tensor not in self.front and not (held := self.stored[tensor]).offset.any():
                self._dequantize(held.name, tensor, held.scale.reshape(-1), held.zero_point.reshape(-1))
            else:
                weights = {name: self.graph.weights[name] for name in node.op.weight_names()}
                self.nodes.append(Node(node.op, tuple(self._float(name) for name in node.inputs), tensor))
                self.weights |= weights
        return tensor

    def _dequantize(self, source: str, output: str, scale: Array, zero: Array) -> None:
        op = ops.Dequantize(f"{output}.scale", f"{output}.zero_point")
        zeros = np.broadcast_to(zero, scale.shape) if zero.size > 1 else zero
        self._emit(op, (source,), output, scale=scale.astype(np.float32), zero_point=zeros.astype(np.int32))


def _bounds(op: ops.Op) -> tuple[float, float] | None:
    """Real bounds of an activation that a requantize can fuse."""
    if isinstance(op, ops.Activation) and op.function == "relu":
        return 0.0, np.inf
    if isinstance(op, ops.Activation) and op.function == "clip":
        return op.low, op.high
    return None


def _is_uniform(held: _Bytes) -> bool:
    """Whether the largest level is the largest value: one scale and one offset for all entries."""
    return held.scale.ndim == held.zero_point.ndim == held.offset.ndim == 0


def _fan_in(weight: Array, part: Array) -> tuple[int, ...]:
    """Shape that an encoding parameter takes against ``weight[out, ...]``."""
    return weight.shape[1:] if part.ndim else (1,) * (weight.ndim - 1)


def _levels_of_zero(held: _Bytes) -> Array:
    """Stored values whose real value is 0, per entry of the encoding; NaN where no level or every level is 0."""
    scale, zero, offset = np.broadcast_arrays(held.scale, held.zero_point, held.offset)
    return np.ravel(zero - np.divide(offset, scale, where=scale > 0, out=np.full(scale.shape, np.nan)))


def _suits_conv(held: _Bytes, op: ops.Conv2d) -> bool:
    """Whether a convolution can read this encoding: it varies by channel at most, and has an exact zero to pad with."""
    parts = (held.scale, held.zero_point, held.offset)
    by_channel = all(part.ndim == 0 or (part.shape[1:] == (1, 1) and op.groups == 1) for part in parts)
    zeros = _levels_of_zero(held)
    exact = bool((zeros == zeros[0]).all() and zeros[0] == round(zeros[0]) and 0 <= zeros[0] <= _TOP)
    return by_channel and (exact or op.padding == (0, 0))

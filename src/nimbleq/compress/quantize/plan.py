"""The plan of a quantization: tensor → number format, a value that is made before anything is lowered.

Activations are unsigned integers of at most 8 bits with calibrated ranges (observations may have more). Where the
levels of a tensor come from decides how they are computed: from the sums of a layer (a fused activation is a clamp), or
from floats, the raw observation among them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from nimbleq.compress.quantize.observation import ScaledObs, scaled_observations
from nimbleq.compress.quantize.ranges import Measured, Range, choose_ranges, measure
from nimbleq.compress.quantize.scheme import Scheme
from nimbleq.compress.quantize.weights import WeightLevels, weight_format
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.tensor import UINT8, Float32
from nimbleq.types import Array

TOP = UINT8.high
"""The largest level of 8 bits."""
_FARTHEST_ZERO = 1 << 20
"""Largest zero point: keeps ``Σ weight·z`` inside int32 for thousands of inputs."""


@dataclass(frozen=True, eq=False)
class Levels:
    """What stored integers mean: ``real = scale·(v − zero_point) + offset``, each broadcasting to the tensor."""

    scale: Array
    zero_point: Array
    offset: Array

    @property
    def uniform(self) -> bool:
        """Whether the largest level is the largest value: one scale and one offset for all entries."""
        return self.scale.ndim == self.zero_point.ndim == self.offset.ndim == 0

    def zeros(self) -> Array:
        """Levels whose real value is 0, per entry of the format; NaN where no level or every level is 0."""
        scale, zero, offset = np.broadcast_arrays(self.scale, self.zero_point, self.offset)
        return np.ravel(zero - np.divide(offset, scale, where=scale > 0, out=np.full(scale.shape, np.nan)))


@dataclass(frozen=True, eq=False)
class FromFloat:
    """A tensor that is rounded from floats: ``v = clip(round(source·inverse + zero), 0, 2^bits − 1)``.

    Attributes:
        source: name of the float tensor: the tensor itself, or the raw observation.
        inverse: ``float32[C]``.
        zero: ``float64[C]``, whole numbers.
        levels: what ``v`` means.
        bits: of ``v``, unsigned.
    """

    source: str
    inverse: Array
    zero: Array
    levels: Levels
    bits: int = 8


@dataclass(frozen=True, eq=False)
class FromSums:
    """A tensor that is requantized from the int32 sums of a layer.

    Attributes:
        source: name of the float tensor that the sums stand for.
        low, high: levels to clamp to: the bounds of a fused activation.
        levels: what the result means; one scale, no offset.
        bits: of the result, unsigned.
    """

    source: str
    low: int
    high: int
    levels: Levels
    bits: int = 8


Format = FromFloat | FromSums


@dataclass(frozen=True, eq=False)
class Plan:
    """Attributes:
    tensors: float tensor → its format, for every tensor that may be stored as integers.
    uniform: the same with one scale and no offset, rounded from the tensor itself: a padded convolution needs a level
        that is exactly 0.
    shared_scale: layers, by output, whose weights have one scale for all outputs, so that these compare as integers;
        all other weights have one scale for each output.
    weights: layer, by output → what its weights become.
    units: layers, by output, whose scales are this one divided by powers of two, so that a shift requantizes.
    """

    tensors: Mapping[str, Format]
    uniform: Mapping[str, FromFloat]
    shared_scale: frozenset[str]
    weights: Mapping[str, WeightLevels]
    units: Mapping[str, float] = field(default_factory=dict)


def make_plan(graph: Graph, obs: Array, method: str = "minmax", weights: str = "int8") -> Plan:
    """The plan for a float policy; `plan_of` knows more settings.

    Args:
        graph: float32 weights, output `Q`; fold it first.
        obs: ``[K, *O]`` visited states to calibrate on.
        method: how ranges are picked, a name in `nimbleq.compress.quantize.methods.METHODS`.
        weights: format of all weights, see `weight_format`.

    Raises:
        GraphError: the graph is quantized already.
        ConfigError: there is no such format.
    """
    scheme = Scheme(weight_format(weights).format)
    return plan_of(graph, measure_activations(graph, obs), method, scheme)


def measure_activations(graph: Graph, obs: Array, gaps: Array | None = None) -> Measured:
    """What `plan_of` needs to know of the activations of a float policy; see `make_plan`."""
    if not all(map(partial(_real, graph), graph.nodes)):
        raise GraphError("the graph has integer weights already: quantize the float graph")
    scaled = scaled_observations(graph)
    read = {name for node in graph.nodes if not isinstance(node.op, ops.Choice) for name in node.inputs}
    names = [name for name in read if isinstance(graph.types[name].qtype, Float32)]
    per_feature = [name for name in names if name in scaled and len(graph.types[name].shape) == 1]
    return measure(graph, obs, names, per_feature, gaps)


def plan_of(graph: Graph, measured: Measured, method: str, scheme: Scheme) -> Plan:
    """The plan that follows from what was measured; see `make_plan`."""
    scaled, sums = scaled_observations(graph), _sums(graph)
    bits = {name: scheme.inputs if name in scaled else scheme.activations for name in measured.plain}
    ranges = choose_ranges(measured, method, {name: (1 << width) - 1 for name, width in bits.items()})
    uniform = {name: _uniform(name, extent, bits[name]) for name, extent in ranges.items()}
    tensors: dict[str, Format] = {}
    for name, extent in ranges.items():
        clamped = _clamped_sums(graph, name, sums)
        if name in scaled:
            form = _from_observation(graph, name, extent, scaled[name], bits[name], scheme.power_of_two)
            tensors[name] = form or uniform[name]
        elif clamped is not None:
            tensors[name] = _from_sums(extent, *clamped, bits[name])
        else:
            tensors[name] = uniform[name]
    layers = [node.output for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)]
    levels = {name: weight_format(str(scheme.of(name))) for name in layers}
    units = _units(graph, tensors) if scheme.power_of_two else {}
    return Plan(tensors, uniform, frozenset({Q}), levels, units)


def _units(graph: Graph, tensors: Mapping[str, Format]) -> dict[str, float]:
    """Layer, by output → scale of what its sums are requantized to, a fused activation first."""
    units: dict[str, float] = {}
    for name, form in sorted(tensors.items(), key=lambda item: item[0] == getattr(item[1], "source", None)):
        if not isinstance(form, FromSums):
            continue
        layer = graph.producer(form.source)
        while layer is not None and isinstance(layer.op, ops.Pool):
            layer = graph.producer(layer.inputs[0])
        if layer is not None and name not in graph.outputs:
            units.setdefault(layer.output, float(form.levels.scale))
    return units


def _real(graph: Graph, node: Node) -> bool:
    """Whether ``node`` computes with real numbers; a tree's features and actions are whole in any case."""
    names = node.op.weight_names()
    if isinstance(node.op, ops.ObliqueTree | ops.AxisTree):
        names = (node.op.threshold,)
    return all(graph.weights[name].dtype == np.float32 for name in names)


def _sums(graph: Graph) -> set[str]:
    """Tensors that an integer layer leaves as int32 sums."""
    sums: set[str] = set()
    for node in graph.nodes:
        pooled = isinstance(node.op, ops.Pool) and (
            node.inputs[0] in sums if node.op.function == "max" else averages_bytes(graph, node, sums)
        )
        if isinstance(node.op, ops.Linear | ops.Conv2d) or pooled:
            sums.add(node.output)
    return sums


def averages_bytes(graph: Graph, node: Node, sums: Container[str]) -> bool:
    """Whether a Pool averages, without padding, what ReLU made of an integer layer: levels whose zero is 0."""
    relu = graph.producer(node.inputs[0])
    below = relu is not None and isinstance(relu.op, ops.Activation) and relu.op.function == "relu"
    plain = isinstance(node.op, ops.Pool) and node.op.function == "average" and node.op.padding == (0, 0)
    return plain and below and relu is not None and relu.inputs[0] in sums


def _clamped_sums(graph: Graph, tensor: str, sums: set[str]) -> tuple[str, float, float] | None:
    """``(sums, low, high)`` when ``tensor`` is sums, perhaps through an activation that a requantize can fuse."""
    if tensor in sums:
        return tensor, -np.inf, np.inf
    node = graph.producer(tensor)
    if node is None or node.inputs[0] not in sums or not isinstance(node.op, ops.Activation):
        return None
    bounds = {"relu": (0.0, np.inf), "clip": (node.op.low, node.op.high)}.get(node.op.function)
    return None if bounds is None else (node.inputs[0], *bounds)


def _step(extent: Range, top: int, shift: Array | float = 0.0) -> Array:
    """Real size of one level, ``[C]``; coarser than the range alone would ask for where the zero point would leave its
    bounds (a range that is narrow and far from ``shift``)."""
    farthest = np.maximum(np.abs(extent.low - shift), np.abs(extent.high - shift))
    return np.maximum(np.maximum((extent.high - extent.low) / top, farthest / _FARTHEST_ZERO), 1e-12)


def _uniform(tensor: str, extent: Range, bits: int) -> FromFloat:
    low, high = float(min(extent.low.min(), 0.0)), float(max(extent.high.max(), 0.0))
    inverse = np.array([1.0 / max((high - low) / ((1 << bits) - 1), 1e-12)], np.float32)
    step = 1.0 / inverse.astype(np.float64)
    zero = np.round(-low / step)
    return FromFloat(tensor, inverse, zero, Levels(step.reshape(()), zero.reshape(()), np.zeros(())), bits)


def _from_sums(extent: Range, source: str, low: float, high: float, bits: int) -> FromSums:
    """``low`` and ``high`` in real units."""
    scale = float(_step(extent, (1 << bits) - 1)[0])
    zero = float(np.round(-extent.low[0] / scale))
    return _clamped(source, low, high, Levels(np.array(scale), np.array(zero), np.zeros(())), bits)


def _clamped(source: str, low: float, high: float, levels: Levels, bits: int = 8) -> FromSums:
    """``low`` and ``high`` in real units."""
    scale, zero = float(levels.scale), float(levels.zero_point)
    bounds = [int(np.clip(np.round(end / scale) + zero, 0, (1 << bits) - 1)) for end in (low, high)]
    return FromSums(source, bounds[0], bounds[1], levels, bits)


def requantized(graph: Graph, tensor: str, levels: Levels) -> FromSums:
    """The format of a ``tensor`` that is sums, perhaps clamped by an activation, with these levels (one scale)."""
    clamped = _clamped_sums(graph, tensor, _sums(graph))
    assert clamped is not None, f"{tensor!r} is made from floats"
    return _clamped(*clamped, levels)


def _from_observation(
    graph: Graph, tensor: str, extent: Range, form: ScaledObs, bits: int, power_of_two: bool
) -> FromFloat | None:
    """Levels of the raw observation; normalisation lives in scale and offset, clipping in the saturation. None where
    they cannot express it."""
    shape, gain, shift = graph.types[tensor].shape, form.scale, form.shift
    if not isinstance(graph.obs_type.qtype, Float32) or (len(shape) != 1 and gain.ndim + shift.ndim > 0):
        return None
    top = (1 << bits) - 1
    step = _step(extent, top, shift)
    inverse = np.asarray(gain / step, np.float32)
    if power_of_two:
        inverse = np.where(inverse > 0, np.exp2(np.floor(np.log2(np.maximum(inverse, 1e-30)))), 0).astype(np.float32)
    step = np.divide(gain, inverse, where=inverse > 0, out=step * np.ones(inverse.shape))
    zero = np.clip(np.round((shift - extent.low) / step), -_FARTHEST_ZERO, _FARTHEST_ZERO)
    beyond = np.maximum(form.low - (shift - step * zero), shift + step * (top - zero) - form.high)
    if ((inverse > 0) & (beyond > 0.51 * step)).any():  # the levels reach further than the clip lets values go
        return None
    # Rounding a weight errs by up to half a step times the distance from the reference level, so the reference stays
    # among the levels; the rest of a far zero point is a constant, which the bias takes exactly.
    reference = np.clip(zero, 0, top)
    offset = shift + step * (reference - zero)
    if len(step) == 1:
        step, reference, offset = step.reshape(()), reference.reshape(()), offset.reshape(())
    return FromFloat(graph.obs_name, inverse, zero, Levels(step, reference, offset), bits)

"""What quantization-aware training starts from, and the plan that its result is lowered by; the same for every engine.

A layer computes ``Σ level·step/gain · (scale·(v − zero_point)) + bias``, as the integer layer does; what the offset of
its input adds is moved into the bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from nimbleq.compress.quantize.lower import Lowered
from nimbleq.compress.quantize.plan import Format, FromSums, Plan, requantized
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

_SMALLEST_STEP = 1e-12


@dataclass(frozen=True, eq=False)
class Rounding:
    """How one Linear or Conv2d is rounded.

    Attributes:
        weight, bias: names in the float graph.
        values: float weights.
        offsets: float32 bias, with what the offset of the input adds.
        step: ``float64[out]`` real size of a level of the weights, or ``[1]``: one for all outputs.
        low, high: weight levels.
        tensor: whose format its input has.
        form: that format; None: the observation's own bytes are read.
        stored: the integer tensor that it reads.
        scale, zero_point, offset: of the input, broadcasting to ``values[0]``.
        gain: what weights are multiplied by before they are rounded, broadcasting to ``values[0]``.
    """

    weight: str
    bias: str
    values: Array
    offsets: Array
    step: Array
    low: int
    high: int
    tensor: str
    form: Format | None
    stored: str
    scale: Array
    zero_point: Array
    offset: Array
    gain: Array

    def levels(self) -> Array:
        """``float64`` whole levels of the weights."""
        step = self.step.reshape(-1, *(1,) * (self.values.ndim - 1))
        return np.clip(np.round(self.values * self.gain / step), self.low, self.high)

    def rounded(self) -> Array:
        """``float64`` the weights that these levels stand for."""
        step = self.step.reshape(-1, *(1,) * (self.values.ndim - 1))
        return self.levels() * step * np.divide(1, self.gain, where=self.gain > 0, out=np.zeros(self.gain.shape))

    def shift(self, values: Array) -> Array:
        """``float64[out]`` what the offset of the input adds to the sums, for weights ``values``."""
        return np.asarray((values.astype(np.float64) * self.offset).reshape(len(values), -1).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Rounded:
    """A network under quantization-aware training.

    Attributes:
        layers: by output, in the order of the graph.
        activations: float tensor → the format that a requantize makes of it.
        dequantized: tensors that ops without an integer form read rounded → the tensor and the format that they have.
    """

    layers: Mapping[str, Rounding]
    activations: Mapping[str, FromSums]
    dequantized: Mapping[str, tuple[str, Format]]


def start(graph: Graph, plan: Plan, lowered: Lowered) -> Rounded:
    """The float ``graph``, whose layers have biases, rounded as ``lowered`` is.

    LSQ's first step is ``2·E|w|/√Q_p`` [1902.08153, section 2.1]; activations start from the ranges of the plan.
    """
    layers: dict[str, Rounding] = {}
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            continue
        assert node.op.bias is not None
        held, levels, values = lowered.inputs[node.output], plan.weights[node.output], graph.weights[node.op.weight]
        scale, zero_point, offset = (
            part if part.ndim == 0 else np.broadcast_to(part, _fan_in(values, part))
            for part in (held.levels.scale, held.levels.zero_point, held.levels.offset)
        )
        gain = np.ones(()) if isinstance(held.form, FromSums) else scale
        size = np.abs(values * gain).reshape(len(values), -1)
        mean = size.mean(axis=1) if node.output not in plan.shared_scale else size.mean(keepdims=True)[0]
        layer = Rounding(
            weight=node.op.weight, bias=node.op.bias, values=values, offsets=graph.weights[node.op.bias],
            step=np.maximum(2 * mean / sqrt(levels.high), _SMALLEST_STEP),
            low=levels.lowest, high=levels.high, tensor=held.tensor, form=held.form, stored=held.name,
            scale=scale, zero_point=zero_point, offset=offset, gain=gain,
        )  # fmt: skip
        layers[node.output] = replace(layer, offsets=(layer.offsets + layer.shift(values)).astype(np.float32))
    floats = {name: (held.tensor, held.form) for name, held in lowered.dequantized.items() if held.form is not None}
    forms = {layer.tensor: layer.form for layer in layers.values()} | dict(floats.values())
    return Rounded(layers, {name: form for name, form in forms.items() if isinstance(form, FromSums)}, floats)


def in_units(net: Rounded, unit: float) -> Rounded:
    """The same network, where layers that read bytes read them divided by ``unit``, with weights as much larger.

    Adam moves all weights by the same amount, which would ruin those of bytes: they are as small as bytes are large.
    """
    layers = {
        name: layer if layer.form is not None else replace(
            layer, values=layer.values * np.float32(unit), gain=layer.gain / unit, scale=layer.scale / unit
        )
        for name, layer in net.layers.items()
    }  # fmt: skip
    return replace(net, layers=layers)


def finish(graph: Graph, plan: Plan, net: Rounded) -> tuple[Graph, Plan]:
    """``graph`` with the rounded weights, and the plan that lowers it to exactly their levels."""
    weights: dict[str, Array] = {}
    levels = dict(plan.weights)
    for name, layer in net.layers.items():
        rounded = layer.rounded()
        weights[layer.weight] = rounded.astype(np.float32)
        weights[layer.bias] = (layer.offsets - layer.shift(weights[layer.weight])).astype(np.float32)
        size = net.activations[layer.tensor].levels.scale if layer.tensor in net.activations else 1.0
        levels[name] = replace(levels[name], low=layer.low, high=layer.high, scale=layer.step * size)
    learnt = {tensor: requantized(graph, tensor, form.levels) for tensor, form in net.activations.items()}
    return graph.with_weights(weights), replace(plan, tensors={**plan.tensors, **learnt}, weights=levels)


def _fan_in(weight: Array, part: Array) -> tuple[int, ...]:
    return weight.shape[1:] if part.ndim else (1,) * (weight.ndim - 1)

"""Quantization-aware training in PyTorch: a float graph of any layers computes with rounded weights and activations.

LSQ [1902.08153]: steps are learnt, their gradient straight through the rounding and scaled by 1/√(N·Q_p); LSQ+
[2004.09576]: so are the zero points of tensors that go negative. A step is learnt as its base-2 logarithm, as TQT does
[1903.08066]: Adam's updates have the size of the learning rate whatever the gradient, so they must be relative changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.bridge.torch_module import forward_node, to_module
from nimbleq.compress.passes.fit_torch import one_thread, train
from nimbleq.compress.passes.qat_start import Rounded, Rounding
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets
from nimbleq.compress.quantize.plan import TOP, FromFloat, FromSums
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array, Tick, no_tick


def torch_qat(
    graph: Graph,
    net: Rounded,
    integer: Graph,
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    frozen_from: int,
    powers_of_two: bool = False,
    tick: Tick = no_tick,
) -> Rounded:
    """See `nimbleq.compress.passes.qat.learn`."""
    module = FakeQuantized(graph, net, powers_of_two)
    parameters = list(module.parameters())
    with one_thread():
        train(graph, module, parameters, targets, config, updates, lr, seed, tick, module.steps(), frozen_from)
    return module.learnt()


class FakeQuantized(nn.Module):
    """``graph`` as its integer form computes, differentiable: ``forward(obs) → q``.

    Parameters: weights, biases (with what the offsets of inputs add), steps, zero points.
    """

    def __init__(self, graph: Graph, net: Rounded, powers_of_two: bool) -> None:
        super().__init__()
        self.graph, self.net, self.powers_of_two = graph, net, powers_of_two
        weights = {layer.weight: layer.values for layer in net.layers.values()}
        self.real = to_module(graph.with_weights(weights | {r.bias: r.offsets for r in net.layers.values()}))
        self.weight_steps = nn.ParameterList([_parameter(np.log2(layer.step)) for layer in net.layers.values()])
        levels = [form.levels for form in net.activations.values()]
        self.input_steps = nn.ParameterList([_parameter(np.log2(each.scale)) for each in levels])
        self.zero_points = nn.ParameterList([_parameter(each.zero_point) for each in levels])
        for zero_point in self.zero_points:
            zero_point.requires_grad_(bool(zero_point != 0))
        self._layer = {name: index for index, name in enumerate(net.layers)}
        self._activation = {tensor: index for index, tensor in enumerate(net.activations)}

    def steps(self) -> list[nn.Parameter]:
        """What is frozen late."""
        return [*self.weight_steps, *self.input_steps, *self.zero_points]

    def forward(self, obs: Tensor) -> Tensor:
        raw = not isinstance(self.graph.obs_type.qtype, Float32)
        tensors = {self.graph.obs_name: obs.float() if raw else obs}
        for node in self.graph.nodes:
            if node.output in self.net.layers:
                tensors[node.output] = self._sums(node, tensors)
            elif not isinstance(node.op, ops.Choice):
                sources = [self._dequantized(name, tensors) for name in node.inputs]
                tensors[node.output] = forward_node(node.op, sources, self.real)
        return tensors[Q]

    def learnt(self) -> Rounded:
        """The network as it is now."""
        layers = {
            name: replace(
                layer,
                values=_array(self.real.weight(layer.weight)).astype(np.float32),
                offsets=_array(self.real.weight(layer.bias)).astype(np.float32),
                step=self._size(self.weight_steps[index]),
            )
            for index, (name, layer) in enumerate(self.net.layers.items())
        }
        activations = {}
        for index, (tensor, form) in enumerate(self.net.activations.items()):
            scale, zero = self._size(self.input_steps[index]), np.round(_array(self.zero_points[index]))
            activations[tensor] = replace(form, levels=replace(form.levels, scale=scale, zero_point=zero))
        return replace(self.net, layers=layers, activations=activations)

    def _size(self, log2_step: Tensor) -> Array:
        exponent = _array(log2_step)
        return np.asarray(np.exp2(np.ceil(exponent) if self.powers_of_two else exponent))

    def _step(self, log2_step: Tensor, count: int, high: int) -> Tensor:
        """The real size of a level, of ``count`` numbers up to level ``high``."""
        exponent = _scaled_gradient(log2_step, 1 / sqrt(count * high))
        return torch.exp2(_straight(torch.ceil, exponent) if self.powers_of_two else exponent)

    def _sums(self, node: Node, tensors: dict[str, Tensor]) -> Tensor:
        layer = self.net.layers[node.output]
        x, size = self._input(node.inputs[0], layer, tensors)
        count = layer.values.size // len(layer.step)
        step = self._step(self.weight_steps[self._layer[node.output]], count, layer.high)
        by_output = step.reshape(-1, *(1,) * (layer.values.ndim - 1))
        gain, level = _constant(layer.gain), self.real.weight(layer.weight)
        level = _straight(torch.round, torch.clamp(level * gain / by_output, layer.low, layer.high))
        unit = (step * size).detach()
        bias = _straight(lambda bias: torch.round(bias / unit) * unit, self.real.weight(layer.bias))
        weight = level * by_output / gain.where(gain > 0, 1.0)
        sums = forward_node(node.op, [x], _Weights({layer.weight: weight, layer.bias: bias}))
        unit = unit.reshape(-1, *(1,) * (sums.dim() - 2))  # rounding puts ties where integers have them
        return _straight(lambda sums: torch.round(sums / unit) * unit, sums)

    def _input(self, tensor: str, layer: Rounding, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the layer reads, without its offset; and the real size of its levels, where weights have no gain."""
        x, form, one = tensors[tensor], layer.form, torch.ones(())
        if isinstance(form, FromSums):
            return self._requantized(layer.tensor, x)
        if form is None:
            return (x - _constant(layer.offset)) * _constant(layer.scale), one
        level = _levels(form, tensors[form.source], x) - _constant(layer.zero_point)
        return level * _constant(layer.scale), one

    def _requantized(self, tensor: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` in the format of ``tensor``, and the real size of a level."""
        index = self._activation[tensor]
        size = self.graph.types[tensor].size
        step = self._step(self.input_steps[index], size, TOP)
        zero = _straight(torch.round, _scaled_gradient(self.zero_points[index], 1 / sqrt(size * TOP)))
        level = _straight(_round_up, torch.clamp(x / step + zero, 0, TOP))
        return (level - zero) * step, step

    def _dequantized(self, name: str, tensors: dict[str, Tensor]) -> Tensor:
        """What ops without an integer form read."""
        x = tensors[name]
        if name not in self.net.dequantized:
            return x
        tensor, form = self.net.dequantized[name]
        if isinstance(form, FromSums):
            return self._requantized(tensor, x)[0]
        level = _levels(form, tensors[form.source], x)
        return (level - _constant(form.levels.zero_point)) * _constant(form.levels.scale)


@dataclass(frozen=True)
class _Weights:
    """What a layer reads in place of its own weights."""

    values: Mapping[str, Tensor]

    def weight(self, name: str) -> Tensor:
        """See `nimbleq.bridge.torch_module.Weights`."""
        return self.values[name]


def _levels(form: FromFloat, source: Tensor, x: Tensor) -> Tensor:
    """Levels of ``x``, which is ``source`` moved, or (one scale for all) selected from it. Their range stays."""
    shape = (-1, *(1,) * (source.dim() - 2)) if len(form.inverse) > 1 else ()
    inverse, zero = (_constant(part).reshape(shape) for part in (form.inverse, form.zero))
    if source[0].numel() == x[0].numel():
        return _straight(torch.round, torch.clamp(source * inverse + zero, 0, TOP)).reshape(x.shape)
    scale, zero, offset = map(_constant, (form.levels.scale, form.levels.zero_point, form.levels.offset))
    return _straight(torch.round, torch.clamp((x - offset) / scale + zero, 0, TOP))


def _straight(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)`` with the gradient of ``x``."""
    return x + (function(x) - x).detach()


def _round_up(x: Tensor) -> Tensor:
    """To the nearest integer, ties up, as the integer requantize does."""
    return torch.floor(x + 0.5)


def _scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` with its gradient times ``factor``."""
    return (x - x * factor).detach() + x * factor


def _parameter(value: Array) -> nn.Parameter:
    return nn.Parameter(_constant(value))


def _constant(value: Array) -> Tensor:
    return torch.tensor(np.asarray(value), dtype=torch.float32)


def _array(value: Tensor) -> Array:
    return value.detach().numpy().astype(np.float64)

"""Graph → trainable module, and trained weights → graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.tensor import Float32


class GraphModule(nn.Module):
    """A module that computes ``graph``, with its weights as parameters.

    Scales and shifts of Affine (observation normalisation, a folded BatchNorm) and the support of an Expectation are
    buffers: they are not trained.
    Weights that several ops share are one parameter.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._attributes: dict[str, str] = {}
        constant = ops.Affine | ops.Expectation
        fixed = {name for node in graph.nodes if isinstance(node.op, constant) for name in node.op.weight_names()}
        used = dict.fromkeys(name for node in graph.nodes for name in node.op.weight_names())
        for index, name in enumerate(used):
            value = torch.tensor(graph.weights[name])
            self._attributes[name] = f"weight_{index}"
            if name in fixed:
                self.register_buffer(self._attributes[name], value)
            else:
                self.register_parameter(self._attributes[name], nn.Parameter(value))

    def forward(self, obs: Tensor) -> Tensor:
        """``obs[B, *O] → q: float32[B, A]``."""
        return self.tensors(obs)[Q]

    def tensors(self, obs: Tensor, after: Callable[[Node, Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Every tensor of the graph but actions, by name; ``after`` changes what a node makes."""
        raw = not isinstance(self.graph.obs_type.qtype, Float32)
        tensors = {self.graph.obs_name: obs.float() if raw else obs}
        for node in self.graph.nodes:
            if not isinstance(node.op, ops.Choice):
                made = forward_node(node.op, [tensors[name] for name in node.inputs], self)
                tensors[node.output] = made if after is None else after(node, made)
        return tensors

    def weight(self, name: str) -> Tensor:
        """The parameter or buffer of a weight of the graph."""
        value: Tensor = getattr(self, self._attributes[name])
        return value

    def weights(self) -> dict[str, Tensor]:
        """Weight name → its current value."""
        return {name: self.weight(name).detach() for name in self._attributes}


def to_module(graph: Graph) -> GraphModule:
    """A trainable module for a float32 graph: ``forward(obs) → q``.

    Raises:
        UnsupportedOpError: the graph has integer layers or a tree, which have no gradient.
    """
    for node in graph.nodes:
        if isinstance(node.op, ops.ObliqueTree | ops.AxisTree):
            hint = "a tree has no gradient: the pass distill grows it on visited states"
            raise UnsupportedOpError(f"{node.op.kind} (which makes {node.output})", "a trainable module", hint)
        floats = all(graph.weights[name].dtype.kind == "f" for name in node.op.weight_names())
        if not floats or isinstance(node.op, ops.Quantize | ops.Dequantize | ops.Requantize):
            hint = "it is integer arithmetic: train the float graph and quantize it again"
            raise UnsupportedOpError(f"{node.op.kind} (which makes {node.output})", "a trainable module", hint)
    return GraphModule(graph)


def from_module(graph: Graph, module: GraphModule) -> Graph:
    """``graph`` with the weights that ``module = to_module(graph)`` has now."""
    return graph.with_weights({name: value.cpu().numpy() for name, value in module.weights().items()})


class Weights(Protocol):
    """Where an op finds its weights."""

    def weight(self, name: str) -> Tensor:
        """By the name that the op has for it."""
        ...


@singledispatch
def forward_node(op: ops.Op, sources: list[Tensor], module: Weights) -> Tensor:
    """One op in torch, on the tensors that it reads, ``[B, …]`` each.

    Raises:
        UnsupportedOpError: there is no such op in torch.
    """
    raise UnsupportedOpError(op.kind, "a trainable module", "train the network before this op is put in")


def _optional(module: Weights, name: str | None) -> Tensor | None:
    return None if name is None else module.weight(name)


@forward_node.register
def _affine(op: ops.Affine, sources: list[Tensor], module: Weights) -> Tensor:
    return sources[0] * module.weight(op.scale) + module.weight(op.shift)


@forward_node.register
def _linear(op: ops.Linear, sources: list[Tensor], module: Weights) -> Tensor:
    return F.linear(sources[0], module.weight(op.weight), _optional(module, op.bias))


@forward_node.register
def _conv2d(op: ops.Conv2d, sources: list[Tensor], module: Weights) -> Tensor:
    weight, bias = module.weight(op.weight), _optional(module, op.bias)
    if op.pad_value:
        rows, cols = op.padding
        padded = F.pad(sources[0], (cols, cols, rows, rows), value=float(op.pad_value))
        return F.conv2d(padded, weight, bias, op.stride, groups=op.groups)
    return F.conv2d(sources[0], weight, bias, op.stride, op.padding, groups=op.groups)


@forward_node.register
def _activation(op: ops.Activation, sources: list[Tensor], module: Weights) -> Tensor:
    if op.function == "relu":
        return F.relu(sources[0])
    if op.function == "leaky_relu":
        return F.leaky_relu(sources[0], op.slope)
    return torch.clamp(sources[0], op.low, op.high)


@forward_node.register
def _layer_norm(op: ops.LayerNorm, sources: list[Tensor], module: Weights) -> Tensor:
    x = sources[0]
    return F.layer_norm(x, x.shape[1:], _optional(module, op.weight), _optional(module, op.bias), op.eps)


@forward_node.register
def _pool(op: ops.Pool, sources: list[Tensor], module: Weights) -> Tensor:
    if op.function == "max":
        return F.max_pool2d(sources[0], op.kernel, op.stride, op.padding)
    return F.avg_pool2d(sources[0], op.kernel, op.stride, op.padding)


@forward_node.register
def _tanh(op: ops.Tanh, sources: list[Tensor], module: Weights) -> Tensor:
    return torch.tanh(sources[0])


@forward_node.register
def _flatten(op: ops.Flatten, sources: list[Tensor], module: Weights) -> Tensor:
    return torch.flatten(sources[0], 1)


@forward_node.register
def _channel_shuffle(op: ops.ChannelShuffle, sources: list[Tensor], module: Weights) -> Tensor:
    return F.channel_shuffle(sources[0], op.groups)


@forward_node.register
def _slice(op: ops.Slice, sources: list[Tensor], module: Weights) -> Tensor:
    return sources[0][:, op.start : op.stop]


@forward_node.register
def _unflatten(op: ops.Unflatten, sources: list[Tensor], module: Weights) -> Tensor:
    return sources[0].reshape(-1, op.channels, op.height, op.width)


@forward_node.register
def _add(op: ops.Add, sources: list[Tensor], module: Weights) -> Tensor:
    return sources[0] + sources[1]


@forward_node.register
def _concat(op: ops.Concat, sources: list[Tensor], module: Weights) -> Tensor:
    return torch.cat(sources, dim=1)


@forward_node.register
def _expectation(op: ops.Expectation, sources: list[Tensor], module: Weights) -> Tensor:
    support = module.weight(op.support)
    return torch.softmax(sources[0].view(sources[0].size(0), -1, len(support)), dim=2) @ support


@forward_node.register
def _gru(op: ops.GRU, sources: list[Tensor], module: Weights) -> Tensor:
    of_input, of_memory, memory = sources
    units = memory.size(1)
    gates = torch.sigmoid(of_input[:, : 2 * units] + of_memory[:, : 2 * units])
    reset, keep = gates[:, :units], gates[:, units:]
    fresh = torch.tanh(of_input[:, 2 * units :] + reset * of_memory[:, 2 * units :])
    return (1 - keep) * fresh + keep * memory


@forward_node.register
def _dueling(op: ops.Dueling, sources: list[Tensor], module: Weights) -> Tensor:
    value, advantage = sources
    return value + advantage - advantage.mean(dim=1, keepdim=True)

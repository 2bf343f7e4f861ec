"""A whole policy as a torch module: integers are computed in float32, which holds them exactly to 2^24."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.bridge.torch_module import forward_node
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node, Q
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

TARGET = "executorch"
_REAL: tuple[type[ops.Op], ...] = (
    ops.Linear, ops.Conv2d, ops.Activation, ops.LayerNorm, ops.Flatten, ops.ChannelShuffle, ops.Slice, ops.Unflatten,
    ops.Add, ops.Concat, ops.Dueling, ops.Expectation, ops.Tanh,
)  # fmt: skip


class PolicyModule(nn.Module):
    """``obs[1, *O] → q float32[1, A], action int64[1]``; masked policies take ``mask bool[1, A]``, too, and answer −1
    where it allows no action.

    Raises:
        UnsupportedOpError: there is no such op in torch.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._constants: dict[str, str] = {}
        for node in graph.nodes:
            if type(node.op) not in _LAYERS and type(node.op) not in _REAL:
                raise UnsupportedOpError(node.op.kind, TARGET, "rewrite the network without it or use another target")
            for name in node.op.weight_names():
                self.keep(name, graph.weights[name])

    def keep(self, name: str, value: Array) -> None:
        """Hold an array, as float32, under this name."""
        if name not in self._constants:
            self._constants[name] = f"constant_{len(self._constants)}"
            self.register_buffer(self._constants[name], torch.tensor(np.asarray(value, np.float32)))

    def weight(self, name: str) -> Tensor:
        """See `nimbleq.bridge.torch_module.Weights`."""
        value: Tensor = getattr(self, self._constants[name])
        return value

    def forward(self, obs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See the class."""
        tensors: dict[str, Any] = {self.graph.obs_name: obs.float(), MASK: mask}
        for node in self.graph.nodes:
            sources = [tensors[name] for name in node.inputs]
            layer = _LAYERS.get(type(node.op))
            made = forward_node(node.op, sources, self) if layer is None else layer(self, node, node.op, *sources)
            tensors[node.output] = made
        return tensors[Q], tensors[ACTION]


def _along(module: PolicyModule, value: Array, node: Node) -> Tensor:
    """A parameter of each channel, shaped for the input of ``node``."""
    rank = len(module.graph.types[node.inputs[0]].shape)
    return torch.tensor(np.asarray(value, np.float32).reshape((-1,) + (1,) * (rank - 1)))


def _affine(module: PolicyModule, _: Node, op: ops.Affine, x: Tensor) -> Tensor:
    return x * module.weight(op.scale) + module.weight(op.shift)


def _quantize(module: PolicyModule, node: Node, op: ops.Quantize, x: Tensor) -> Tensor:
    weights, kind = module.graph.weights, Int(op.bits, op.signed)
    level = torch.floor(x * _along(module, weights[op.inverse_scale], node) + 0.5)
    return torch.clamp(level + _along(module, op.zero_points(weights), node), kind.low, kind.high)


def _requantize(module: PolicyModule, node: Node, op: ops.Requantize, x: Tensor) -> Tensor:
    weights = module.graph.weights
    factor = np.ldexp(op.multipliers(weights).astype(np.float64), -weights[op.shift])
    return torch.clamp(torch.floor(x * _along(module, factor, node) + 0.5) + op.zero_point, op.low, op.high)


def _dequantize(module: PolicyModule, node: Node, op: ops.Dequantize, x: Tensor) -> Tensor:
    weights = module.graph.weights
    x = x - _along(module, op.zero_points(weights), node)
    return x if op.scale is None else x * _along(module, weights[op.scale], node)


def _pool(module: PolicyModule, _: Node, op: ops.Pool, x: Tensor) -> Tensor:
    if op.function == "max":
        return nn.functional.max_pool2d(x, op.kernel, op.stride, op.padding)
    mean = nn.functional.avg_pool2d(x, op.kernel, op.stride, op.padding)
    return mean * float(op.kernel[0] * op.kernel[1]) if op.function == "sum" else mean


def _oblique_tree(module: PolicyModule, _: Node, op: ops.ObliqueTree, x: Tensor) -> Tensor:
    seen = nn.functional.linear(x, module.weight(op.split))
    return _leaf(module, op, seen > module.weight(op.threshold))


def _axis_tree(module: PolicyModule, _: Node, op: ops.AxisTree, x: Tensor) -> Tensor:
    columns = torch.tensor(module.graph.weights[op.feature].astype(np.int64))
    return _leaf(module, op, torch.index_select(x, 1, columns) > module.weight(op.threshold))


def _leaf(module: PolicyModule, op: ops.ObliqueTree | ops.AxisTree, right: Tensor) -> Tensor:
    """What the leaf gives with which all splits above it agree."""
    leaf = module.graph.weights[op.leaf]
    turns, left = (torch.tensor(part, dtype=torch.float32) for part in ops.tree_turns(len(leaf) - 1))
    rows = np.eye(op.actions)[leaf] if leaf.ndim == 1 else leaf
    agreeing = nn.functional.linear(right.float(), turns.T.contiguous(), left)
    reached = (agreeing >= ops.tree_depth(len(leaf) - 1)).float()
    return nn.functional.linear(reached, torch.tensor(rows.T.astype(np.float32).copy()))


def _argmax(module: PolicyModule, _: Node, op: ops.ArgMax, x: Tensor, mask: Tensor | None = None) -> Tensor:
    if mask is None:
        return x.argmax(dim=1)
    best = torch.where(mask, x, torch.full_like(x, -torch.inf)).argmax(dim=1)
    return torch.where(mask.any(dim=1), best, torch.full_like(best, -1))


_LAYERS: Mapping[type[ops.Op], Callable[..., Tensor]] = {
    ops.Affine: _affine,
    ops.Quantize: _quantize,
    ops.Requantize: _requantize,
    ops.Dequantize: _dequantize,
    ops.Pool: _pool,
    ops.ObliqueTree: _oblique_tree,
    ops.AxisTree: _axis_tree,
    ops.ArgMax: _argmax,
}
"""Op → how it is computed, where the bridge does not know it or means a trainable one."""

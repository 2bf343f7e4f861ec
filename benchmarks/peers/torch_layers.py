"""A graph as layers of PyTorch: what tools that look for layers can read."""

from __future__ import annotations

from typing import Any

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array


def layers(graph: Graph) -> Any:
    """``torch.nn.Sequential`` of a graph without branches.

    Raises:
        NotImplementedError: it branches, or has an op that is no layer here.
    """
    import torch
    from torch import nn

    class Scale(nn.Module):
        def __init__(self, scale: Array, shift: Array) -> None:
            super().__init__()
            self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float32)))
            self.register_buffer("shift", torch.from_numpy(np.asarray(shift, np.float32)))

        def forward(self, x: Any) -> Any:
            return x.float() * self.scale + self.shift

    made: list[Any] = []
    tensor, weights = graph.obs_name, graph.weights
    for node in graph.nodes:
        if isinstance(node.op, ops.ArgMax):
            continue
        if node.inputs != (tensor,):
            raise NotImplementedError(f"{node.op.kind} branches")
        match node.op:
            case ops.Affine():
                made.append(Scale(weights[node.op.scale], weights[node.op.shift]))
            case ops.Linear():
                outputs, inputs = weights[node.op.weight].shape
                made.append(_filled(nn.Linear(inputs, outputs, node.op.bias is not None), node.op, graph))
            case ops.Conv2d():
                outputs, each, rows, cols = weights[node.op.weight].shape
                layer = nn.Conv2d(
                    each * node.op.groups,
                    outputs,
                    (rows, cols),
                    node.op.stride,
                    node.op.padding,
                    groups=node.op.groups,
                    bias=node.op.bias is not None,
                )
                made.append(_filled(layer, node.op, graph))
            case ops.Activation(function="relu"):
                made.append(nn.ReLU())
            case ops.LayerNorm():
                norm = nn.LayerNorm(graph.types[tensor].shape, node.op.eps, node.op.weight is not None)
                if node.op.weight is not None and node.op.bias is not None:
                    norm.weight.data, norm.bias.data = (
                        torch.tensor(weights[n]) for n in (node.op.weight, node.op.bias)
                    )
                made.append(norm)
            case ops.Flatten():
                made.append(nn.Flatten())
            case _:
                raise NotImplementedError(f"{node.op.kind} is no layer here")
        tensor = node.output
    if not isinstance(graph.obs_type.qtype, Float32) and not isinstance(made[0], Scale):
        made.insert(0, Scale(np.ones(()), np.zeros(())))
    return nn.Sequential(*made).eval()


def _filled(layer: Any, op: ops.Linear | ops.Conv2d, graph: Graph) -> Any:
    import torch

    layer.weight.data = torch.tensor(graph.weights[op.weight])
    if op.bias is not None:
        layer.bias.data = torch.tensor(graph.weights[op.bias])
    return layer

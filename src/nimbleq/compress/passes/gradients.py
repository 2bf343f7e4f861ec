"""Gradients of single states at given activations and weights, for importances.

The loss of a state is ``−log softmax(Q/τ)[a]`` with the teacher's greedy action ``a``, among legal actions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nimbleq.bridge.torch_graph import GraphModule, to_module
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import temperature
from nimbleq.compress.states import legal_values
from nimbleq.graph import ops
from nimbleq.graph.branches import parts
from nimbleq.graph.graph import Graph, Q
from nimbleq.types import Array

_STATES = 2048
"""Gradients of this many states are enough to rank units."""
_CHUNK = 128


def activation_gradients(graph: Graph, seen: Labelled) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Chunks of states: tensor → ``[B, *shape]`` its values, and the gradient of each state's loss there."""
    module = to_module(graph)
    for tensors in _chunks(module, seen):
        values = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
        yield values, {name: _gradient(tensor) for name, tensor in tensors.items()}


def fisher(graph: Graph, seen: Labelled) -> dict[str, Array]:
    """Weight → ``E[g²]`` over single states, the diagonal of the empirical Fisher matrix, of Linear and Conv2d.

    No two nodes may share weights.
    """
    module = to_module(graph)
    total: dict[str, Array] = {}
    states = 0
    for tensors in _chunks(module, seen):
        for node in graph.nodes:
            if isinstance(node.op, ops.Linear | ops.Conv2d):
                delta = torch.from_numpy(_gradient(tensors[node.output]))
                shape = graph.weights[node.op.weight].shape
                square, over_bias = _square_gradients(node.op, shape, tensors[node.inputs[0]].detach(), delta)
                total[node.op.weight] = total.get(node.op.weight, 0.0) + square.reshape(shape).double().numpy()
                if node.op.bias is not None:
                    total[node.op.bias] = total.get(node.op.bias, 0.0) + over_bias.double().numpy()
        states += len(tensors[Q])
    return {name: square / states for name, square in total.items()}


def _square_gradients(
    op: ops.Linear | ops.Conv2d, shape: tuple[int, ...], x: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over states of the squared gradient of each weight and bias, from the layer's input and its gradient."""
    if isinstance(op, ops.Linear):
        return delta.square().T @ x.square(), delta.square().sum(dim=0)
    rows, cols = op.padding
    padded = F.pad(x, (cols, cols, rows, rows), value=float(op.pad_value))
    windows = F.unfold(padded, shape[2:], stride=op.stride).reshape(len(x), op.groups, -1, delta[0, 0].numel())
    sums = delta.reshape(len(x), op.groups, -1, delta[0, 0].numel())
    gradient = torch.einsum("bgop,bgkp->bgok", sums, windows)  # of each state
    return gradient.square().sum(dim=0), delta.sum(dim=(2, 3)).square().sum(dim=0)


def _chunks(module: GraphModule, seen: Labelled) -> Iterator[dict[str, Tensor]]:
    """All tensors of the graph after the backward pass, a chunk of states at a time."""
    legal = legal_values(seen.q, seen.states.mask)
    tau = temperature(legal, DistillConfig(), seen.branches)
    for start in range(0, min(len(seen.obs), _STATES), _CHUNK):
        part = slice(start, start + _CHUNK)
        tensors = module.tensors(torch.from_numpy(np.ascontiguousarray(seen.obs[part])).float())
        for tensor in tensors.values():
            if tensor.requires_grad:
                tensor.retain_grad()
        logits = tensors[Q] / tau
        if seen.states.mask is not None:
            logits = logits.masked_fill(torch.from_numpy(~seen.states.mask[part]), -torch.inf)
        sides = [
            F.cross_entropy(logits[:, one], torch.from_numpy(legal[part, one].argmax(axis=1)), reduction="sum")
            for one in parts(seen.branches or legal.shape[1:])
        ]
        torch.stack(sides).sum().backward()  # type: ignore[no-untyped-call]
        yield tensors


def _gradient(tensor: Tensor) -> Array:
    return np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()

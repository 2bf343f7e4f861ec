"""Distillation with a batch normalisation behind every removable unit and an L1 price on its scales [1708.06519]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.bridge.torch_graph import GraphModule, from_module, to_module
from nimbleq.compress.passes.fit_torch import one_thread, train
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import make_targets
from nimbleq.compress.passes.units import FIXED, Units, with_biases
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

PRICE = 0.3
"""Of the mean scale (as a share of what it was at first), beside the loss of distillation."""
_LR_SHARE = 0.2
"""Of the step size of distillation: the student is trained already."""
_EPS = 1e-5
_STATISTICS = 4096


@dataclass(frozen=True, eq=False)
class Slimmed:
    """Attributes:
    graph: of the same shape, the normalisations folded into the layers.
    scales: output of each layer that had one → γ of its units.
    """

    graph: Graph
    scales: Mapping[str, Array]


class _Normalised(nn.Module):
    """A student with a batch normalisation behind some of its layers, by the statistics of each batch.

    Attributes:
        scales, shifts: γ and β of each layer, in the order of ``outputs``.
    """

    def __init__(self, inner: GraphModule, statistics: Mapping[str, tuple[Array, Array]]) -> None:
        super().__init__()
        self.inner, self.outputs = inner, tuple(statistics)
        found = [[torch.tensor(part, dtype=torch.float32) for part in statistics[name]] for name in self.outputs]
        self.shifts = nn.ParameterList([nn.Parameter(mean) for mean, _ in found])
        self.scales = nn.ParameterList([nn.Parameter(deviation) for _, deviation in found])
        self.first = [float(deviation.mean()) for _, deviation in found]

    def forward(self, obs: Tensor) -> Tensor:
        """``obs[B, *O] → q: float32[B, A]``."""
        return self.inner.tensors(obs, self._normalise)[Q]

    def _normalise(self, node: Node, made: Tensor) -> Tensor:
        if node.output not in self.outputs:
            return made
        at, axes = self.outputs.index(node.output), tuple(axis for axis in range(made.ndim) if axis != 1)
        shape = (1, -1, *(1 for _ in axes[1:]))
        mean, variance = made.mean(dim=axes, keepdim=True), made.var(dim=axes, keepdim=True, unbiased=False)
        unit: Tensor = (made - mean) / torch.sqrt(variance + _EPS)
        scaled: Tensor = unit * self.scales[at].view(shape) + self.shifts[at].view(shape)
        return scaled

    def price(self) -> Tensor:
        """The L1 price: `PRICE` while no scale has changed."""
        shares = [scale.abs().mean() / first for scale, first in zip(self.scales, self.first, strict=True)]
        return PRICE * torch.stack(shares).mean()


def slim(graph: Graph, units: Units, seen: Labelled, config: DistillConfig, seed: int) -> Slimmed:
    """Train ``graph`` towards the teacher's values of ``seen``; the normalisations start as what changes nothing.

    A layer with one unit, or one whose weights two nodes share, gets none.
    """
    graph = with_biases(graph)
    statistics = _statistics(graph, _normalised(graph, units), seen.obs[:_STATISTICS])
    if not statistics:
        return Slimmed(graph, {})
    inner = to_module(graph)
    module = _Normalised(inner, statistics)
    with one_thread():
        targets, lr = make_targets([seen], config), _LR_SHARE * config.lr
        parameters = list(module.parameters())
        train(graph, module, parameters, targets, config, 2 * config.updates, lr, seed, price=module.price)
    scales = [scale.detach().numpy() for scale in module.scales]
    shifts = [shift.detach().numpy() for shift in module.shifts]
    values = dict(zip(module.outputs, zip(scales, shifts, strict=True), strict=True))
    folded = _folded(from_module(graph, inner), values, seen.obs[:_STATISTICS])
    return Slimmed(folded, dict(zip(module.outputs, scales, strict=True)))


def _normalised(graph: Graph, units: Units) -> list[Node]:
    """The layers that get a normalisation."""
    names = [name for node in graph.nodes for name in node.op.weight_names()]
    return [
        node
        for node in graph.nodes
        if isinstance(node.op, ops.Linear | ops.Conv2d)
        and (units.of[node.output] != FIXED).all()
        and len(units.of[node.output]) > 1
        and names.count(node.op.weight) == 1
    ]


def _statistics(graph: Graph, nodes: list[Node], obs: Array) -> dict[str, tuple[Array, Array]]:
    """Output of each node → mean and deviation of each of its units over states and pixels."""
    if not nodes:
        return {}
    tensors, found = trace(graph, obs), {}
    for node in nodes:
        rows = tensors[node.output].reshape(len(obs), graph.types[node.output].shape[0], -1).astype(np.float64)
        found[node.output] = rows.mean(axis=(0, 2)), np.sqrt(rows.var(axis=(0, 2)) + _EPS)
    return found


def _folded(graph: Graph, values: Mapping[str, tuple[Array, Array]], obs: Array) -> Graph:
    """``graph`` with each normalisation folded into the layer before it, in order, each with the statistics that its
    input has once those before it are folded."""
    for output, (scale, shift) in values.items():
        node = graph.producer(output)
        assert node is not None
        assert isinstance(node.op, ops.Linear | ops.Conv2d)
        assert node.op.bias is not None
        mean, deviation = _statistics(graph, [node], obs)[output]
        factor = scale / deviation
        weight, bias = graph.weights[node.op.weight], graph.weights[node.op.bias]
        changed = {
            node.op.weight: (weight * factor.reshape(-1, *(1 for _ in weight.shape[1:]))).astype(np.float32),
            node.op.bias: ((bias - mean) * factor + shift).astype(np.float32),
        }
        graph = graph.with_weights(changed)
    return graph

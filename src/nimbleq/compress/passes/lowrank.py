"""Low rank: a layer becomes two or three thinner ones that keep a share of what its outputs do on visited states.

The outputs decide, not the weights alone: projecting them on the leading eigenvectors of their covariance over
visited states is the SVD of ``W·C^½`` (``C`` the covariance of the inputs), the least squared error of any matrix of
that rank [Yuan et al. 2312.05821; Drone, Chen et al. 2021]. A k×k convolution gets a 1×1 convolution after it, before
it, or both (Tucker-2 [Kim et al. 1511.06530]).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import trace
from nimbleq.graph.rewrites.edit import float64_parameters, float_layer, fresh, rebuild
from nimbleq.types import Array

_CHUNK = 1024
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the channels (or features) of a tensor over states and pixels: mean ``[C]``, second moment ``[C, C]``."""

    mean: Array
    second: Array

    @property
    def covariance(self) -> Array:
        """``[C, C]``."""
        return np.asarray(self.second - np.outer(self.mean, self.mean))


def low_rank(graph: Graph, obs: Array, energy: float) -> Graph:
    """``graph`` with every float Linear and ungrouped Conv2d factorised where that takes fewer weights.

    Args:
        graph: float; fold it first.
        obs: ``[K, *O]`` visited states.
        energy: share of the variance of each layer's outputs (and, of a convolution's inputs, of what they contribute)
            that the kept directions carry, in (0, 1].
    """
    layers = [node for node in graph.nodes if _factorisable(graph, node)]
    names = {name for node in layers for name in (node.inputs[0], node.output)}
    moments = _moments(graph, obs, names)
    for node in layers:
        if graph.weights[node.op.weight_names()[0]].shape[2:] in ((), (1, 1)):
            graph = _split_outputs(graph, node, moments, energy)
        else:
            graph = _tucker(graph, node, moments, energy)
    return graph


def _factorisable(graph: Graph, node: Node) -> bool:
    op = float_layer(graph, node)
    return op is not None and (isinstance(op, ops.Linear) or op.groups == 1)


def _moments(graph: Graph, obs: Array, names: set[str]) -> dict[str, Moments]:
    """Moments of the named tensors, in a stream."""
    mean: dict[str, Array] = {}
    second: dict[str, Array] = {}
    count: dict[str, int] = dict.fromkeys(names, 0)
    for start in range(0, len(obs), _CHUNK):
        values = trace(graph, obs[start : start + _CHUNK])
        for name in names:
            rows = np.moveaxis(values[name], 1, -1).reshape(-1, values[name].shape[1]).astype(np.float64)
            mean[name] = mean.get(name, 0.0) + rows.sum(axis=0)
            second[name] = second.get(name, 0.0) + rows.T @ rows
            count[name] += len(rows)
    return {name: Moments(mean[name] / count[name], second[name] / count[name]) for name in names}


def _leading(symmetric: Array, energy: float) -> tuple[Array, Array]:
    """Eigenvectors ``[C, r]`` (and values) that carry ``energy`` of the trace, the largest first; at least one."""
    values, vectors = np.linalg.eigh(symmetric)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    carried = np.cumsum(values) / max(float(values.sum()), _TINY)
    rank = min(int(np.searchsorted(carried, energy - 1e-9)) + 1, len(values))
    return vectors[:, :rank], values[:rank]


def _split_outputs(graph: Graph, node: Node, moments: dict[str, Moments], energy: float) -> Graph:
    """``W·x + b`` as ``U·(Uᵀ·W·x) + …``: one thinner layer of the same kind, then a Linear or a 1×1 convolution."""
    op = node.op
    assert isinstance(op, ops.Linear | ops.Conv2d)
    weight, bias = float64_parameters(graph, op)
    vectors, values = _leading(moments[node.output].covariance, energy)
    rank = vectors.shape[1]
    if rank * (len(weight) + weight[0].size) >= weight.size:
        return graph
    thin, wide, bias = _projected(weight, bias, moments[node.output].mean, vectors, values)
    last: ops.Linear | ops.Conv2d = ops.Linear("", "")
    if isinstance(op, ops.Conv2d):
        last, wide = ops.Conv2d("", ""), wide[:, :, None, None]
    return _replaced(graph, node, [(op, thin, None), (last, wide, bias)])


def _projected(weight: Array, bias: Array, mean: Array, vectors: Array, values: Array) -> tuple[Array, Array, Array]:
    """Thin weight, wide matrix ``[out, r]`` and bias of outputs projected on ``vectors`` around their mean.

    What is between has variance 1, so that one scale suits all of it when it is quantized.
    """
    deviation = np.sqrt(np.maximum(values, _TINY * max(float(values.max()), _TINY)))
    thin = np.tensordot(vectors.T / deviation[:, None], weight, axes=1)
    wide = vectors * deviation
    return thin, wide, vectors @ (vectors.T @ (bias - mean)) + mean


def _tucker(graph: Graph, node: Node, moments: dict[str, Moments], energy: float) -> Graph:
    """The cheapest of a 1×1 convolution before, after, on both sides, and none."""
    op = node.op
    assert isinstance(op, ops.Conv2d)
    weight, bias = float64_parameters(graph, op)
    out, channels, rows, cols = weight.shape
    into, back = _input_factor(weight, moments[node.inputs[0]].second, energy)
    vectors, values = _leading(moments[node.output].covariance, energy)
    r_in, r_out, taps = len(into), vectors.shape[1], rows * cols
    sizes = {
        (False, False): weight.size,
        (True, False): r_in * channels + out * r_in * taps,
        (False, True): r_out * channels * taps + out * r_out,
        (True, True): r_in * channels + r_out * r_in * taps + out * r_out,
    }
    before, after = min(sizes, key=lambda which: sizes[which])
    layers: list[tuple[ops.Linear | ops.Conv2d, Array, Array | None]] = []
    core = weight
    if before:
        layers.append((ops.Conv2d("", None), into[:, :, None, None], None))
        core = np.einsum("oikl,ir->orkl", weight, back)
    if after:
        core, wide, bias = _projected(core, bias, moments[node.output].mean, vectors, values)
        layers += [(op, core, None), (ops.Conv2d("", ""), wide[:, :, None, None], bias)]
    elif before:
        layers.append((op, core, bias))
    return _replaced(graph, node, layers) if layers else graph


def _input_factor(weight: Array, second: Array, energy: float) -> tuple[Array, Array]:
    """``into [r, I]`` and ``back [I, r]``: input channels as ``back·into·x`` lose least of what the weights make of
    them (the SVD of ``W·S`` with ``S² = E[x·xᵀ]``, pixels taken as uncorrelated)."""
    values, basis = np.linalg.eigh(second)
    root = np.sqrt(np.maximum(values, _TINY * max(float(values.max()), _TINY)))
    scale, inverse = (basis * root) @ basis.T, (basis / root) @ basis.T
    flat = np.moveaxis(weight, 1, -1).reshape(-1, weight.shape[1]) @ scale
    vectors, _ = _leading(flat.T @ flat, energy)
    return vectors.T @ inverse, scale @ vectors


def _replaced(graph: Graph, node: Node, layers: list[tuple[ops.Linear | ops.Conv2d, Array, Array | None]]) -> Graph:
    """``graph`` with ``layers`` (op, weight, bias) in a row in place of ``node``."""
    stem, source = node.op.weight_names()[0], node.inputs[0]
    nodes: list[Node] = []
    weights: dict[str, Array] = {}
    for index, (op, weight, bias) in enumerate(layers):
        names = fresh(graph, f"{stem}.{index}"), fresh(graph, f"{stem}.{index}.bias")
        weights[names[0]] = weight.astype(np.float32)
        if bias is not None:
            weights[names[1]] = bias.astype(np.float32)
        output = node.output if index == len(layers) - 1 else fresh(graph, f"{node.output}.rank{index}")
        made = replace(op, weight=names[0], bias=None if bias is None else names[1])
        nodes.append(Node(made, (source,), output))
        source = output
    return rebuild(graph, {node.output: tuple(nodes)}, weights)


@dataclass(frozen=True)
class LowRank:
    """Every layer at the rank that carries this share of its outputs' variance, where that is smaller; inexact, so
    distil afterwards."""

    energy: float

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return low_rank(graph, context.from_teacher().obs, self.energy)

    def __str__(self) -> str:
        return f"low rank {self.energy:g}"


def _parse(setting: str) -> LowRank:
    try:
        energy = float(setting)
    except ValueError:
        energy = 0.0
    if not 0 < energy <= 1:
        raise ConfigError(f"lowrank takes the share of the variance to keep, above 0 and at most 1, not {setting!r}")
    return LowRank(energy)


ROW = PassRow(_parse, "split layers into thinner ones that keep this share of their outputs' variance", "0.95")

"""int8 weights with a scale for each output, which a policy acts with and is saved with; activations stay float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.formats import BF16, INT8
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.weight import Storage
from nimbleq.types import Array

_LEVELS = 127


def codes_and_scale(weight: Array) -> tuple[Array, Array]:
    """``int8 [out, …]`` and ``float32[out]`` (bf16 numbers): ``codes · scale`` is near ``weight [out, …]``."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scale = BF16.decode(BF16.encode(np.where(largest > 0, largest / _LEVELS, 1).astype(np.float32)))
    across = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.rint(weight / across), -_LEVELS, _LEVELS).astype(np.int8), scale


def rounded(weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weights of a network as int8 holds them; biases and buffers (one axis) stay as they are."""
    made = {}
    for name, weight in weights.items():
        if weight.ndim < 2:
            made[name] = weight
            continue
        codes, scale = codes_and_scale(weight)
        made[name] = codes * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return made


def with_int8(graph: Graph) -> Graph:
    """A float policy whose Linear and Conv2d have int8 weights: integer sums of floats, then scale and bias."""
    nodes: list[Node] = []
    weights = dict(graph.weights)
    storage = dict[str, Storage]()
    for node in graph.nodes:
        if not isinstance(node.op, ops.Linear | ops.Conv2d):
            nodes.append(node)
            continue
        assert node.op.bias is not None, "every layer of a QNetwork has a bias"
        codes, scale = codes_and_scale(weights.pop(node.op.weight))
        bias = weights.pop(node.op.bias)
        across = (len(codes),) + (1,) * (len(graph.types[node.output].shape) - 1)
        sums = f"{node.output}_sums"
        names = {part: f"{sums}.{part}" for part in ("weight", "scale", "bias")}
        weights |= {names["weight"]: codes, names["scale"]: scale.reshape(across), names["bias"]: bias.reshape(across)}
        storage |= {names["weight"]: Storage(INT8), names["scale"]: Storage(BF16)}
        nodes += [
            Node(replace(node.op, weight=names["weight"], bias=None), node.inputs, sums),
            Node(ops.Affine(names["scale"], names["bias"]), (sums,), node.output),
        ]
    return Graph(graph.inputs, tuple(nodes), graph.outputs, weights, storage)

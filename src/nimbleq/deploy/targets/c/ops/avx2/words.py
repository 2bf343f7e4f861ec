"""Which bytes AVX2 code stores as int16, and in which order.

Those of small layers, whose readers would only widen them again. Pairs of inputs that are both zero are passed over, so
units that are often zero together stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nimbleq.deploy.targets.c.ops.avx2.quads import FEW_OUTPUTS, by_inputs, pairs_fit, quads
from nimbleq.deploy.targets.c.ops.avx2.store import highest, is_high, stores_bytes
from nimbleq.deploy.targets.c.ops.layer import pad_to
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.encodings import DENSE
from nimbleq.graph.formats import Int
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import interpret
from nimbleq.types import Array

MOST = 64
"""Elements of such a tensor."""
WALKED_INPUTS = 32
"""From this many inputs on, skipping pairs that are zero pays for finding them."""
SAMPLES = 256
"""Observations on which it is seen which units are zero together."""
_MOST_MACS = 1 << 27
"""Up to so much work for that."""


def words(graph: Graph) -> Mapping[str, Array]:
    """Vectors of bytes that come from a Quantize or a layer's sums and are read as 16-bit integers only.

    Returns:
        Tensor → which of its elements is stored at each place.
    """
    names = [node.output for node in graph.nodes if _small(graph, node.output) and _writes(graph, node)]
    found = {name: np.arange(graph.types[name].size) for name in names}
    walked = [name for name in names if len(found[name]) >= WALKED_INPUTS and not _quantized(graph, name)]
    if walked and cost(graph).macs * SAMPLES <= _MOST_MACS:
        found |= {name: _neighbours(values == 0) for name, values in _sampled(graph, walked).items()}
    return found


def _quantized(graph: Graph, tensor: str) -> bool:
    producer = graph.producer(tensor)
    return producer is not None and isinstance(producer.op, ops.Quantize)


def _sampled(graph: Graph, tensors: Sequence[str]) -> dict[str, Array]:
    """Values of tensors on random observations, which fill the range that they are quantized from."""
    rng, kind = np.random.default_rng(0), graph.obs_type
    shape = (SAMPLES, *kind.shape)
    if kind.qtype.is_integer:
        obs = rng.integers(0, 256, shape).astype(np.uint8)
    else:
        obs = rng.normal(size=shape).astype(np.float32)
        for node in graph.consumers(graph.obs_name):
            if isinstance(node.op, ops.Quantize):
                obs = _spread(graph, node.op, obs)
    needed, nodes = set(tensors), list[Node]()
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.insert(0, node)
    inputs = {name: kind for name, kind in graph.inputs.items() if name in needed}
    part = replace(graph, inputs=inputs, nodes=tuple(nodes), outputs=tuple(tensors))
    return interpret(part, obs)


def _spread(graph: Graph, op: ops.Quantize, normal: Array) -> Array:
    """Normal numbers of deviation 1 as observations whose levels have three deviations on each side of the middle."""
    kind = Int(op.bits, op.signed)
    levels = (kind.low + kind.high) / 2 + normal * (kind.high - kind.low) / 6
    zero = 0 if op.zero_point is None else _aligned(graph.weights[op.zero_point], normal)
    return np.asarray((levels - zero) / _aligned(graph.weights[op.inverse_scale], normal), np.float32)


def _aligned(parameter: Array, obs: Array) -> Array:
    """A ``(1,)`` or per-first-axis parameter beside ``obs[N, *O]``."""
    return parameter.reshape(-1, *[1] * (obs.ndim - 2))


def _neighbours(zero: Array) -> Array:
    """An order of units in which those that are zero together, ``zero[N, units]``, are pairs: the best pairs first."""
    together = zero.T.astype(np.int64) @ zero.astype(np.int64)
    np.fill_diagonal(together, -1)
    order: list[int] = []
    for _ in range(zero.shape[1] // 2):
        pair = np.unravel_index(together.argmax(), together.shape)
        order += [int(unit) for unit in pair]
        together[list(pair)] = together[:, list(pair)] = -1
    return np.array(order + sorted(set(range(zero.shape[1])) - set(order)))


def _small(graph: Graph, tensor: str) -> bool:
    kind, readers = graph.types[tensor], graph.consumers(tensor)
    if not kind.qtype.is_integer or kind.qtype.bits > 8 or len(kind.shape) != 1 or kind.size > MOST:
        return False
    return tensor not in graph.outputs and bool(readers) and all(_widens(graph, node, tensor) for node in readers)


def _widens(graph: Graph, node: Node, tensor: str) -> bool:
    """Whether it is a dense integer layer whose weights do not allow products of bytes."""
    op = node.op
    if not isinstance(op, ops.Linear) or not graph.types[node.output].qtype.is_integer:
        return False
    if graph.stored(op.weight).encoding != DENSE:
        return False
    weight, kind = graph.weights[op.weight], graph.types[tensor].qtype
    if kind.low < 0:
        return True
    high = highest(graph, tensor)
    if len(weight) <= FEW_OUTPUTS and not any(
        isinstance(each.op, ops.Requantize) for each in graph.consumers(node.output)
    ):
        return not pairs_fit(pad_to(weight, weight.shape[1] + weight.shape[1] % 2), high)
    return quads(*by_inputs(weight), high) is None


def _writes(graph: Graph, node: Node) -> bool:
    """Whether the code that makes it can write int16."""
    op = node.op
    if isinstance(op, ops.Quantize):
        return not graph.types[node.inputs[0]].qtype.is_integer
    producer = graph.producer(node.inputs[0]) if isinstance(op, ops.Requantize) else None
    if producer is None or not isinstance(producer.op, ops.Linear) or node.inputs[0] in graph.outputs:
        return False
    assert isinstance(op, ops.Requantize)
    return len(graph.consumers(node.inputs[0])) == 1 and stores_bytes(graph, op) and is_high(graph, op)

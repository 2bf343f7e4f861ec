"""What a layer's integer inputs can be at most, and how its sums leave the registers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.ops.sums import real_weights
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def highest(graph: Graph, tensor: str) -> int:
    """Largest value that an integer tensor can hold: tighter than its type where a Requantize clamps."""
    producer = graph.producer(tensor)
    if producer is not None and isinstance(producer.op, ops.Requantize):
        return producer.op.high
    if producer is not None and isinstance(producer.op, ops.Flatten):
        return highest(graph, producer.inputs[0])
    return int(graph.types[tensor].qtype.high)


@dataclass(frozen=True)
class Store:
    """How a layer's sums are stored.

    Attributes:
        mode: an NQ_ constant of `native/kernels/avx2/store.h`.
        multiplier, shift: int32 ``[out]``, as the mode wants them; None when the sums are stored as they are.
        rest: the scalar arguments of the kernels after those.
    """

    mode: str
    multiplier: Array | None
    shift: Array | None
    rest: str


def store(layer: Layer, count: int) -> Store:
    """The `Store` of the ``count`` outputs of a layer."""
    if layer.step.epilogue is None:
        return Store("NQ_ACCUMULATOR", None, None, "0, 0, 0")
    op = layer.step.epilogue.op
    assert isinstance(op, ops.Requantize)
    multiplier, shift = (np.broadcast_to(part, (count,)) for part in _scale(layer.layout.graph, op))
    rest = f"{op.zero_point}, {op.low}, {op.high}"
    if shift.min() >= 33:
        return Store("NQ_BYTES_HIGH", multiplier, shift - 33, rest)
    return Store("NQ_BYTES", multiplier, shift, rest)


def _scale(graph: Graph, op: ops.Requantize) -> tuple[Array, Array]:
    """Multiplier and shift; a power of two alone as one with a multiplier, of the same value."""
    shift = graph.weights[op.shift]
    if op.multiplier is not None:
        return graph.weights[op.multiplier], shift
    raised = np.minimum(30, 62 - shift)
    return np.left_shift(1, raised).astype(np.int32), shift + raised


def stores_bytes(graph: Graph, op: ops.Requantize) -> bool:
    """Whether the vector code can requantize so: into bytes, with scaled values that fit 32 bits."""
    return op.bits <= 8 and bool(_scale(graph, op)[1].min() >= 31)


def bias_of(layer: Layer, count: int) -> Array:
    """int32 or float32 ``[count]``, zeros where the layer has none."""
    if layer.op.bias is not None:
        return layer.weight(layer.op.bias)
    return np.zeros(count, np.float32 if real_weights(layer) else np.int32)


def with_slack(multiplier: Array) -> Array:
    """Multipliers in one row with an entry more: kernels read odd ones from the second on."""
    return np.append(multiplier, np.zeros(1, multiplier.dtype))


def pad_shift(shift: Array, extent: int) -> Array:
    """Shifts with harmless padding."""
    return np.concatenate([shift, np.full(extent - len(shift), 33, np.int32)])

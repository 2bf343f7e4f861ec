"""What a layer's integer inputs can be at most, and how its sums leave the registers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
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


_LAST = 7
"""Bits of the last, rounding shift: with more of them, a result of 8 bits would not fit its 16."""


@dataclass(frozen=True)
class Store:
    """How a layer's sums are stored: what becomes an `nq_store` of `native/kernels/avx2/store.h`.

    Attributes:
        mode: an NQ_ constant of `native/kernels/avx2/store.h`.
        multiplier: int32 ``[out]``; None when the sums are stored as they are.
        shift: int32 ``[out]``, as the mode wants it; None where nothing is left to shift.
        rounding: int16 ``[out]``, the factors of a rounding shift; None where the mode has none.
        rest: zero point, lowest and highest value.
    """

    mode: str
    multiplier: Array | None
    shift: Array | None
    rounding: Array | None
    rest: str

    def value(self, multiplier: str = "0", shift: str = "0", rounding: str = "0") -> str:
        """The C value, of addresses of its arrays."""
        return f"(nq_store){{{self.mode}, {multiplier}, {shift}, {rounding}, {self.rest}}}"


def store(layer: Layer, count: int) -> Store:
    """The `Store` of the ``count`` outputs of a layer."""
    if layer.step.epilogue is None:
        return Store("NQ_ACCUMULATOR", None, None, None, "0, 0, 0")
    op = layer.step.epilogue.op
    assert isinstance(op, ops.Requantize)
    order = layer.layout.words.get(layer.step.output, np.arange(count))
    multiplier, shift = (np.broadcast_to(part, (count,))[order] for part in _scale(layer.layout.graph, op))
    rest = f"{op.zero_point}, {op.low}, {op.high}"
    if not is_high(layer.layout.graph, op):
        return Store("NQ_BYTES", multiplier, shift, None, rest)
    last = np.minimum(shift - 32, _LAST)
    less, rounding = shift - 32 - last, (1 << 15 - last).astype(np.int16)
    mode = "NQ_WORDS" if layer.step.output in layer.layout.words else "NQ_BYTES_HIGH"
    return Store(mode, multiplier, less if less.any() else None, rounding, rest)


def is_high(graph: Graph, op: ops.Requantize) -> bool:
    """Whether the low half of a product with the multiplier cannot reach the result."""
    return bool(_scale(graph, op)[1].min() >= 33)


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


def packed(rounding: Array, extent: int) -> Array:
    """Factors of ``extent`` outputs in the order in which `vpackssdw` leaves each 16 of them, padded."""
    whole = -(-extent // 16) * 16
    filled = np.concatenate([rounding, np.full(whole - len(rounding), 1, np.int16)])
    return filled.reshape(-1, 2, 2, 4).transpose(0, 2, 1, 3).reshape(-1)


def with_slack(multiplier: Array) -> Array:
    """Multipliers in one row with an entry more: kernels read odd ones from the second on."""
    return np.append(multiplier, np.zeros(1, multiplier.dtype))


def pad_shift(shift: Array, extent: int) -> Array:
    """Shifts with harmless padding."""
    return np.concatenate([shift, np.full(extent - len(shift), 33, np.int32)])


def tile_scales(layer: Layer, how: Store, groups: int, start: int, width: int, tile: str, group: str = "g") -> str:
    """How an integer kernel stores one tile."""
    if how.multiplier is None:
        return how.value()
    m = layer.constant(f"multiplier{tile}", with_slack(per_group(how.multiplier, groups, start, width)))
    entries = [f"{m} + {group} * {width}", "0", "0"]
    if how.shift is not None:
        s = layer.constant(f"shift{tile}", per_group(how.shift, groups, start, width, filler=33))
        entries[1] = f"{s} + {group} * {width}"
    if how.rounding is not None:
        lines = [packed(line, width) for line in how.rounding.reshape(groups, -1)[:, start : start + width]]
        r = layer.constant(f"rounding{tile}", np.stack(lines))
        entries[2] = f"{r} + {group} * {len(lines[0])}"
    return how.value(*entries)


def per_group(values: Array, groups: int, start: int, width: int, filler: int = 0) -> Array:
    """``[group][width]`` of a per-channel parameter, for one channel tile."""
    tile = values.reshape(groups, -1)[:, start : start + width]
    if filler:
        return np.stack([pad_shift(line, width) for line in tile])
    return pad_to(tile, width)

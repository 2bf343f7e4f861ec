"""What integer layers share: what their input may hold, and how their sums are stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.writer import Writer
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import Int, TensorType
from nimbleq.types import Array


def check_int_source(kind: TensorType, op: str) -> None:
    """Raises `UnsupportedOpError` when the values do not fit int16."""
    assert isinstance(kind.qtype, Int)
    if kind.qtype.low < -(2**15) or kind.qtype.high >= 2**15:
        raise UnsupportedOpError(op, "c", f"its input is {kind}; int8 kernels take at most 15 bits (16 signed)")


def highest(writer: Writer, tensor: str) -> int:
    """Largest value that an integer tensor can hold: tighter than its type where a Requantize clamps."""
    producer = writer.graph.producer(tensor)
    if producer is not None and isinstance(producer.op, ops.Requantize):
        return producer.op.high
    if producer is not None and isinstance(producer.op, ops.Flatten):
        return highest(writer, producer.inputs[0])
    kind = writer.type(tensor).qtype
    assert isinstance(kind, Int)
    return kind.high


@dataclass(frozen=True)
class Store:
    """How a layer's sums leave the registers.

    Attributes:
        mode: an NQ_ constant of `native/kernels/avx2/store.h`.
        multiplier, shift: int32 ``[out]``; None when the sums are stored as they are.
        rest: the scalar arguments of the kernels after those.
    """

    mode: str
    multiplier: Array | None
    shift: Array | None
    rest: str


def store(writer: Writer, epilogue: Node | None, count: int) -> Store:
    """The `Store` of ``count`` outputs."""
    if epilogue is None:
        return Store("NQ_ACCUMULATOR", None, None, "0, 0, 0")
    assert isinstance(epilogue.op, ops.Requantize)
    op, weights = epilogue.op, writer.graph.weights
    multiplier = np.broadcast_to(weights[op.multiplier], (count,))
    shift = np.broadcast_to(weights[op.shift], (count,))
    mode = "NQ_BYTES_HIGH" if shift.min() >= 33 else "NQ_BYTES"
    return Store(mode, multiplier, shift, f"{op.zero_point}, {op.low}, {op.high}")


def pad_shift(shift: Array, extent: int) -> Array:
    """Shifts with harmless padding."""
    return np.concatenate([shift, np.full(extent - len(shift), 33, np.int32)])

"""Linear layers in C: weights packed for the register tiles of `native/kernels/linear_*.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy import c_plan, c_text
from nimbleq.deploy.c_ops.writer import Writer, pad_to
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import Int, TensorType
from nimbleq.types import Array

TILE = 8
"""Accumulator registers of a tile (vectors of 8)."""
FEW_OUTPUTS = 8
"""Up to this many outputs the vectors run along the inputs instead."""
SPARSE_INPUTS = 32
"""From this many inputs on, skipping zero rows pays for finding them."""


def linear(writer: Writer, node: Node, epilogue: Node | None) -> list[str]:
    """Lines of one Linear, its epilogue included."""
    assert isinstance(node.op, ops.Linear)
    weight = _columns(writer, node.inputs[0], writer.graph.weights[node.op.weight])
    if weight.dtype == np.float32:
        return _float(writer, node, node.op, weight, epilogue)
    return _int(writer, node, node.op, weight, epilogue)


def _columns(writer: Writer, source: str, weight: Array) -> Array:
    """Columns in the order in which the source is stored."""
    producer = writer.graph.producer(source)
    if source not in writer.free_flattens or producer is None or producer.inputs[0] == writer.raw_obs:
        return weight
    shape = writer.type(producer.inputs[0]).shape
    if not c_plan.is_image(TensorType(shape)):
        return weight
    return weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)


def activation_arguments(epilogue: Node | None) -> str:
    """The last three arguments of a float kernel."""
    if epilogue is None:
        return "NQ_LINEAR, 0.0f, 0.0f"
    assert isinstance(epilogue.op, ops.Activation)
    op = epilogue.op
    if op.function == "relu":
        return "NQ_RELU, 0.0f, 0.0f"
    if op.function == "leaky_relu":
        return f"NQ_LEAKY_RELU, {c_text.number(op.slope)}, 0.0f"
    limit = np.finfo(np.float32).max
    low, high = (c_text.number(float(np.clip(np.float32(bound), -limit, limit))) for bound in (op.low, op.high))
    return f"NQ_CLIP, {low}, {high}"


def _float(writer: Writer, node: Node, op: ops.Linear, weight: Array, epilogue: Node | None) -> list[str]:
    source, output = node.inputs[0], (epilogue or node).output
    n_out, n_in = weight.shape
    writer.use("linear_f32")
    x, y, act = writer.variables[source], writer.variables[output], activation_arguments(epilogue)
    bias = np.zeros(n_out, np.float32) if op.bias is None else writer.graph.weights[op.bias]
    lines = []
    if writer.c_type(source) != "float":
        lines = [
            f"float *const real = {writer.take_scratch('float', n_in)};",
            f"for (int i = 0; i < {n_in}; ++i) real[i] = (float){x}[i];",
        ]
        x = "real"
    if n_out <= FEW_OUTPUTS and n_in >= 16:
        stride = -(-n_in // 8) * 8
        w = writer.constant("w", pad_to(weight, stride))
        b = writer.constant("b", bias)
        return [*lines, f"nq_linear_dot_f32({x}, {w}, {b}, {y}, {n_in}, {n_out}, {stride}, {act});"]
    vectors = -(-n_out // 8)
    rows = pad_to(weight, vectors * 8, axis=0).T
    tiles = [rows[:, start : start + 8 * TILE] for start in range(0, vectors * 8, 8 * TILE)]
    w = writer.constant("w", np.concatenate([np.ascontiguousarray(tile).reshape(-1) for tile in tiles]))
    b = writer.constant("b", pad_to(bias, vectors * 8))
    sparse = source in writer.sparse and n_in >= SPARSE_INPUTS and vectors >= 4
    row, count = "0", str(n_in)
    if sparse:
        value, row, count = "value", "row", "count"
        lines += [
            f"float *const value = {writer.take_scratch('float', n_in + 8)};",
            f"int32_t *const row = {writer.take_scratch('int32_t', n_in + 8)};",
            f"const int count = nq_nonzero_f32({x}, {n_in}, value, row);",
        ]
        x = value
    done = 0
    for tile in tiles:
        T = tile.shape[1] // 8
        lines.append(
            f"nq_linear_tile_f32({x}, {row}, {count}, {w} + {done * n_in}, {b} + {done}, {y} + {done}, "
            f"{T}, {max(1, TILE // T)}, {int(sparse)}, {act});"
        )
        done += tile.shape[1]
    return lines


def check_int_source(kind: TensorType, op: str) -> None:
    """Raises `UnsupportedOpError` when the values do not fit int16."""
    assert isinstance(kind.qtype, Int)
    if kind.qtype.low < -(2**15) or kind.qtype.high >= 2**15:
        raise UnsupportedOpError(op, "c", f"its input is {kind}; int8 kernels take at most 15 bits (16 signed)")


def requantize_arrays(writer: Writer, epilogue: Node, count: int) -> tuple[str, Array, Array, str]:
    """How to store ``count`` channels, their multipliers and shifts, and the scalar arguments after them."""
    assert isinstance(epilogue.op, ops.Requantize)
    op, weights = epilogue.op, writer.graph.weights
    multiplier = np.broadcast_to(weights[op.multiplier], (count,))
    shift = np.broadcast_to(weights[op.shift], (count,))
    store = "NQ_BYTES_HIGH" if shift.min() >= 33 else "NQ_BYTES"
    return store, multiplier, shift, f"{op.zero_point}, {op.low}, {op.high}"


def pad_shift(shift: Array, extent: int) -> Array:
    """Shifts with harmless padding."""
    return np.concatenate([shift, np.full(extent - len(shift), 33, np.int32)])


def _int(writer: Writer, node: Node, op: ops.Linear, weight: Array, epilogue: Node | None) -> list[str]:
    source, output = node.inputs[0], (epilogue or node).output
    check_int_source(writer.type(source), "Linear")
    n_out, n_in = weight.shape
    writer.use("requantize", "linear_i8")
    x, y = writer.variables[source], writer.variables[output]
    bias = np.zeros(n_out, np.int32) if op.bias is None else writer.graph.weights[op.bias]
    few = epilogue is None and n_out <= FEW_OUTPUTS
    sparse = not few and source in writer.sparse and n_in >= SPARSE_INPUTS and writer.c_type(source) == "uint8_t"
    lines = [f"int16_t *const value = {writer.take_scratch('int16_t', n_in + 8)};"]
    even = n_in + n_in % 2
    row, count = "0", str(even)
    if sparse:
        row, count = "row", "count"
        lines += [
            f"int32_t *const row = {writer.take_scratch('int32_t', n_in + 8)};",
            f"const int count = nq_nonzero_u8({x}, {n_in}, value, row);",
        ]
    else:
        lines.append(f"for (int i = 0; i < {n_in}; ++i) value[i] = (int16_t){x}[i];")
        lines += [f"value[{n_in}] = 0;"] if n_in % 2 else []
    if few:
        stride = -(-n_in // 16) * 16
        w, b = writer.constant("w", pad_to(weight, stride)), writer.constant("b", bias)
        return [*lines, f"nq_linear_dot_i8(value, {w}, {b}, {y}, {n_in}, {n_out}, {stride});"]
    width = -(-n_out // 16) * 16
    rows = pad_to(pad_to(weight, width, axis=0), even).T
    tiles = [rows[:, start : start + 8 * TILE] for start in range(0, width, 8 * TILE)]
    w = writer.constant("w", np.concatenate([np.ascontiguousarray(tile).reshape(-1) for tile in tiles]))
    b = writer.constant("b", pad_to(bias, width))
    store, multiplier, shift, rest = "NQ_ACCUMULATOR", "0", "0", "0, 0, 0"
    if epilogue is not None:
        store, multipliers, shifts, rest = requantize_arrays(writer, epilogue, n_out)
        multiplier = writer.constant("m", pad_to(multipliers, width))
        shift = writer.constant("s", pad_shift(shifts, width))
    done = 0
    for tile in tiles:
        m, s = (name if name == "0" else f"{name} + {done}" for name in (multiplier, shift))
        lines.append(
            f"nq_linear_tile_i8(value, {row}, {count}, {w} + {done * even}, {b} + {done}, {y} + {done}, "
            f"{tile.shape[1] // 16}, {int(sparse)}, {store}, {m}, {s}, {rest});"
        )
        done += tile.shape[1]
    return lines

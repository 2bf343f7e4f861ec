"""Linear layers for AVX2: weights packed for the register tiles of `native/kernels/avx2/linear_*.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c import plan as c_plan
from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.ops.dense_int import int_linear
from nimbleq.deploy.targets.c.ops.writer import Writer, pad_to
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import TensorType
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
    weight = columns(writer, node.inputs[0], writer.graph.weights[node.op.weight])
    if weight.dtype == np.float32:
        return _float(writer, node, node.op, weight, epilogue)
    return int_linear(writer, node, weight, epilogue)


def columns(writer: Writer, source: str, weight: Array) -> Array:
    """``weight [out, in]`` with its columns in the order in which the source is stored."""
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
    writer.use("avx2/linear_f32")
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

"""Integer linear layers for AVX2: which kernel, and weights packed for it.

Bytes are multiplied as bytes where the weights prove that this is exact (`c_ops.quads`), otherwise as 16-bit integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.integer import check_int_source, highest, pad_shift, store
from nimbleq.deploy.targets.c.ops.quads import Quads, any_pair_fits, pairs_fit, quads
from nimbleq.deploy.targets.c.ops.writer import Writer, pad_to
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.types import Array

TILE = 64
"""Outputs of a tile: eight accumulator registers."""
WIDENED_INPUTS = 64
"""Up to this many inputs, weights are stored as int16: twice the bytes, half the work."""
FEW_OUTPUTS = 8
"""Up to this many outputs the vectors run along the inputs instead."""
SPARSE_INPUTS = 96
"""From this many inputs on, skipping zero rows pays for finding them, where bytes are multiplied."""
SPARSE_INPUTS_16 = 32
"""The same for 16-bit products."""


def int_linear(writer: Writer, node: Node, weight: Array, epilogue: Node | None) -> list[str]:
    """Lines of one Linear, its epilogue included; ``weight`` has its columns in stored order."""
    assert isinstance(node.op, ops.Linear)
    source = node.inputs[0]
    check_int_source(writer.type(source), "Linear")
    n_out, n_in = weight.shape
    bias = np.zeros(n_out, np.int32) if node.op.bias is None else writer.graph.weights[node.op.bias]
    layer = _Layer(writer, writer.variables[source], (epilogue or node).output, weight, bias, epilogue)
    is_bytes = writer.c_type(source) == "uint8_t"
    # Whole groups of inputs are read: the arena has room for that, the caller's observation has not.
    high = highest(writer, source) if is_bytes and layer.x != "obs" else None
    if epilogue is None and n_out <= FEW_OUTPUTS:
        return _few(layer, high)
    sparse = is_bytes and source in writer.sparse
    if high is not None:
        if sparse and n_in >= SPARSE_INPUTS and any_pair_fits(weight, high):
            return _rows(layer)
        steps = pad_to(weight, -(-n_in // 4) * 4).reshape(n_out, -1, 4).transpose(1, 0, 2)
        proven = quads(steps, 4 * np.arange(len(steps)), high)
        if proven is not None:
            return _quads(layer, proven)
    if not sparse and n_in <= WIDENED_INPUTS:
        return _widened(layer)
    return _words(layer, sparse and n_in >= SPARSE_INPUTS_16)


@dataclass(frozen=True)
class _Layer:
    """One layer: ``x`` is a C expression, ``weight`` is ``[out, in]``."""

    writer: Writer
    x: str
    output: str
    weight: Array
    bias: Array
    epilogue: Node | None

    def values(self, element: str, kernel: str) -> list[str]:
        """Lines that compress the inputs to their non-zeros: ``value``, ``row``, ``count``."""
        n_in, take = self.weight.shape[1], self.writer.take_scratch
        return [
            f"{element} *const value = {take(element, n_in + 8)};",
            f"int32_t *const row = {take('int32_t', n_in + 8)};",
            f"const int count = {kernel}({self.x}, {n_in}, value, row);",
        ]

    def wide(self, even: int) -> list[str]:
        """Lines that widen the inputs to int16, zeros appended up to ``even``: ``value``."""
        n_in = self.weight.shape[1]
        return [
            f"int16_t *const value = {self.writer.take_scratch('int16_t', n_in + 8)};",
            f"for (int i = 0; i < {n_in}; ++i) value[i] = (int16_t){self.x}[i];",
            *(f"value[{i}] = 0;" for i in range(n_in, even)),
        ]

    def tiles(self, kernel: str, weights: Array, unit: int) -> list[str]:
        """One call per tile of outputs.

        Args:
            kernel: the call up to the output pointer.
            weights: ``[rows, width, ...]``, ``width`` a multiple of ``unit`` and at least the layer's.
            unit: outputs counted by the kernel as one.
        """
        writer, width = self.writer, weights.shape[1]
        parts = [weights[:, start : start + TILE] for start in range(0, width, TILE)]
        w = writer.constant("w", np.concatenate([np.ascontiguousarray(part).reshape(-1) for part in parts]))
        b = writer.constant("b", pad_to(self.bias, width))
        how = store(writer, self.epilogue, len(self.bias))
        scales = []
        if how.multiplier is not None and how.shift is not None:
            scales = [
                writer.constant("m", pad_to(how.multiplier, width)),
                writer.constant("s", pad_shift(how.shift, width)),
            ]
        y, lines, done, begin = writer.variables[self.output], [], 0, 0
        for part in parts:
            m, s = (f"{name} + {done}" for name in scales) if scales else ("0", "0")
            lines.append(
                f"{kernel}, {y} + {done}, {w} + {begin}, {b} + {done}, {part.shape[1] // unit}, "
                f"{how.mode}, {m}, {s}, {how.rest});"
            )
            done, begin = done + part.shape[1], begin + part.size
        return lines


def _few(layer: _Layer, high: int | None) -> list[str]:
    """Dot products."""
    writer, (n_out, n_in) = layer.writer, layer.weight.shape
    padded = pad_to(layer.weight, -(-n_in // 32) * 32)
    proven = high is not None and pairs_fit(padded, high)
    w, b, y = writer.constant("w", padded), writer.constant("b", layer.bias), writer.variables[layer.output]
    sizes = f"{n_in}, {n_out}, {padded.shape[1]}"
    if proven:
        writer.use("avx2/quads_u8")
        return [f"nq_linear_dot_u8({layer.x}, {w}, {b}, {y}, {sizes});"]
    writer.use("avx2/linear_i8")
    return [*layer.wide(n_in), f"nq_linear_dot_i8(value, {w}, {b}, {y}, {sizes});"]


def _rows(layer: _Layer) -> list[str]:
    """Bytes, rows of non-zero inputs only."""
    layer.writer.use("avx2/rows_u8")
    n_out, n_in = layer.weight.shape
    columns = pad_to(layer.weight.T, -(-n_out // 32) * 32)
    # The kernel's unpacking takes output 8 j + 4 h + i of 32 from byte 16 h + 4 j + i.
    columns = columns.reshape(n_in, -1, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(n_in, -1)
    lines = layer.values("uint8_t", "nq_nonzero_bytes")
    return lines + layer.tiles("nq_linear_rows_u8(value, row, count", columns, 32)


def _quads(layer: _Layer, proven: Quads) -> list[str]:
    """Bytes, all inputs."""
    layer.writer.use("avx2/quads_u8")
    weights = pad_to(proven.weights, -(-len(layer.bias) // 16) * 16, axis=1)
    offset = layer.writer.constant("o", proven.offsets)
    return layer.tiles(f"nq_linear_quads_u8({layer.x}, {offset}, {len(weights)}", weights, 8)


def _widened(layer: _Layer) -> list[str]:
    """16-bit products of all inputs, weights widened beforehand."""
    layer.writer.use("avx2/conv_i8")
    n_out, n_in = layer.weight.shape
    even = n_in + n_in % 2
    pairs = pad_to(pad_to(layer.weight, even), -(-n_out // 16) * 16, axis=0).astype(np.int16)
    pairs = pairs.reshape(len(pairs), -1, 2).transpose(1, 0, 2)
    return layer.wide(even) + layer.tiles(f"nq_linear_pairs_i8(value, {even}", pairs, 8)


def _words(layer: _Layer, sparse: bool) -> list[str]:
    """16-bit products, weights stored as bytes."""
    layer.writer.use("avx2/linear_i8")
    n_out, n_in = layer.weight.shape
    even = n_in + n_in % 2
    rows = pad_to(pad_to(layer.weight, -(-n_out // 16) * 16, axis=0), even).T
    if sparse:
        lines = layer.values("int16_t", "nq_nonzero_u8")
        return lines + layer.tiles("nq_linear_tile_i8(value, row, count, 1", rows, 16)
    return layer.wide(even) + layer.tiles(f"nq_linear_tile_i8(value, 0, {even}, 0", rows, 16)

"""Integer linear layers for AVX2: which kernel, and weights packed for it.

Bytes are multiplied as bytes where the weights prove that this is exact (`quads`), otherwise as 16-bit integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.layout import BYTES
from nimbleq.deploy.targets.c.ops.avx2 import blocks
from nimbleq.deploy.targets.c.ops.avx2.quads import (
    FEW_OUTPUTS,
    Products,
    Quads,
    any_pair_fits,
    by_inputs,
    pairs_fit,
    quads,
)
from nimbleq.deploy.targets.c.ops.avx2.scatter import of_linear, scatter
from nimbleq.deploy.targets.c.ops.avx2.store import Store, bias_of, highest, packed, pad_shift, store, with_slack
from nimbleq.deploy.targets.c.ops.avx2.words import WALKED_INPUTS
from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
from nimbleq.deploy.targets.c.ops.sums import check_int_source
from nimbleq.types import Array

TILE = 64
"""Outputs of a tile: eight accumulator registers."""
WIDENED_INPUTS = 64
"""Up to this many inputs, weights are stored as int16: twice the bytes, half the work."""
SPARSE_INPUTS = 96
"""From this many inputs on, skipping zero rows pays for finding them, where bytes are multiplied."""
WIDEN = {"uint8_t": "nq_widen_u8", "int8_t": "nq_widen_i8"}
"""Kernels for bytes in the arena, which has room for whole vectors."""


def int_linear(layer: Layer, weight: Array, products: Products) -> list[str]:
    """Lines of a Linear, its epilogue included; ``weight`` has its columns in stored order, but for words."""
    check_int_source(layer)
    n_out, n_in = weight.shape
    words, bias = layer.layout.words, bias_of(layer, n_out)
    if layer.source in words:
        weight = weight[:, words[layer.source]]
    if layer.step.output in words:
        weight, bias = weight[words[layer.step.output]], bias[words[layer.step.output]]
    dense = _Dense(layer, weight, bias, products)
    found = blocks.paying(layer, weight, blocks.INT)
    if found is not None:
        return _blocks(dense, found)
    grid = of_linear(layer, weight)
    if grid is not None:
        return scatter(layer, grid, bias)
    is_bytes = layer.source_element == "uint8_t"
    # Whole groups of inputs are read: the arena has room for that, the caller's observation has not.
    in_arena = layer.layout.in_arena(layer.source)
    high = highest(layer.layout.graph, layer.source) if is_bytes and in_arena else None
    if layer.step.epilogue is None and n_out <= FEW_OUTPUTS:
        return _few(dense, high)
    sparse = layer.source in layer.layout.sparse
    if high is not None:
        if sparse and n_in >= SPARSE_INPUTS and not products.exact and any_pair_fits(weight, high):
            return _rows(dense)
        proven = quads(*by_inputs(weight), high, products)
        if proven is not None:
            return _quads(dense, proven)
    if n_in <= WIDENED_INPUTS:
        return _walked(dense) if sparse and dense.is_words and n_in >= WALKED_INPUTS else _widened(dense)
    return _bytes(dense, sparse and is_bytes)


@dataclass(frozen=True)
class _Dense:
    """An integer Linear: ``weight`` is ``[out, in]``, ``bias`` ``[out]``."""

    layer: Layer
    weight: Array
    bias: Array
    products: Products

    @property
    def x(self) -> str:
        """C expression of the inputs."""
        return self.layer.x

    @property
    def is_words(self) -> bool:
        """Whether the inputs are stored as int16, in whole vectors."""
        return self.layer.source in self.layer.layout.words

    def values(self, element: str, kernel: str) -> list[str]:
        """Lines that compress the inputs to their non-zeros: ``value``, ``row``, ``count``."""
        n_in = self.weight.shape[1]
        value, row = self.layer.buffer("value", element, n_in + 8), self.layer.buffer("row", "int32_t", n_in + 8)
        return [f"const int count = {kernel}({self.x}, {n_in}, {value}, {row});"]

    def wide(self, even: int) -> list[str]:
        """Lines that widen the inputs to int16: ``value``. Up to ``even`` can be read; behind words stands anything."""
        layer, n_in = self.layer, self.weight.shape[1]
        if self.is_words:
            return [f"const int16_t *const value = {self.x};"]
        value = layer.buffer("value", "int16_t", -(-n_in // 16) * 16)
        beyond = [f"{value}[{i}] = 0;" for i in range(n_in, even)]
        if layer.source_element in WIDEN and layer.layout.in_arena(layer.source):
            layer.use("avx2/widen8")
            return [f"{WIDEN[layer.source_element]}({self.x}, {n_in}, {value});", *beyond]
        return [f"for (int i = 0; i < {n_in}; ++i) {value}[i] = (int16_t){self.x}[i];", *beyond]

    def scales(self, how: Store, width: int) -> list[str]:
        """Multipliers, shifts and roundings of ``width`` outputs; nothing where sums are stored as they are."""
        if how.multiplier is None:
            return []
        layer, shift, rounding = self.layer, how.shift, how.rounding
        return [
            layer.constant("multiplier", with_slack(pad_to(how.multiplier, width))),
            "0" if shift is None else layer.constant("shift", pad_shift(shift, width)),
            "0" if rounding is None else layer.constant("rounding", packed(rounding, width)),
        ]

    def tiles(self, kernel: str, weights: Array, unit: int) -> list[str]:
        """One call per tile of outputs.

        Args:
            kernel: the call up to the output pointer.
            weights: ``[rows, width, ...]``, ``width`` a multiple of ``unit`` and at least the layer's.
            unit: outputs counted by the kernel as one.
        """
        layer, width = self.layer, weights.shape[1]
        parts = [weights[:, start : start + TILE] for start in range(0, width, TILE)]
        w = layer.constant("weight", np.concatenate([np.ascontiguousarray(part).reshape(-1) for part in parts]))
        b = layer.constant("bias", pad_to(self.bias, width))
        how = store(layer, len(self.bias))
        scales = self.scales(how, width)
        y, lines, done, begin = layer.y, [], 0, 0
        for part in parts:
            stored = how.value(*("0" if name == "0" else f"{name} + {done}" for name in scales))
            lines.append(f"{kernel}, {y} + {done}, {w} + {begin}, {b} + {done}, {part.shape[1] // unit}, {stored});")
            done, begin = done + part.shape[1], begin + part.size
        return lines


def _few(dense: _Dense, high: int | None) -> list[str]:
    """Dot products."""
    layer, (n_out, n_in) = dense.layer, dense.weight.shape
    if dense.is_words:
        layer.use("avx2/dot_i16")
        padded = pad_to(dense.weight, -(-n_in // 16) * 16).astype(np.int16)
        w, b = layer.constant("weight", padded), layer.constant("bias", dense.bias)
        return [f"nq_linear_dot_i16({dense.x}, {w}, {b}, {layer.y}, {padded.shape[1]}, {n_out});"]
    padded = pad_to(dense.weight, -(-n_in // 32) * 32)
    proven = high is not None and (dense.products.exact or pairs_fit(padded, high))
    w, b, y = layer.constant("weight", padded), layer.constant("bias", dense.bias), layer.y
    sizes = f"{n_in}, {n_out}, {padded.shape[1]}"
    if proven:
        layer.use("avx2/quads_u8", dense.products.kernel)
        return [f"nq_linear_dot_u8({dense.x}, {w}, {b}, {y}, {sizes});"]
    layer.use("avx2/linear_i8")
    return [*dense.wide(n_in), f"nq_linear_dot_i8(value, {w}, {b}, {y}, {sizes});"]


def _blocks(dense: _Dense, found: blocks.Blocks) -> list[str]:
    """16-bit products of the blocks that are there."""
    layer = dense.layer
    layer.use("avx2/blocks_i8")
    groups = -(-len(dense.bias) // blocks.INT.height)
    pairs = found.weights.reshape(-1, blocks.INT.unroll, blocks.INT.height) if len(found.weights) > 1 else found.weights
    arrays = ("column", found.columns), ("twos", found.counts), ("weight", np.swapaxes(pairs, -1, -2))
    names = ", ".join(layer.constant(label, values) for label, values in arrays)
    b, how = layer.constant("bias", pad_to(dense.bias, groups * blocks.INT.height)), store(layer, len(dense.bias))
    stored, size = how.value(*dense.scales(how, groups * blocks.INT.height)), BYTES[layer.element]
    lines = dense.wide(dense.weight.shape[1])
    return [
        *lines,
        f"nq_linear_blocks_i8(value, {names}, {b}, {layer.y}, {groups}, {size}, {stored});",
    ]


def _rows(dense: _Dense) -> list[str]:
    """Bytes, rows of non-zero inputs only."""
    dense.layer.use("avx2/rows_u8")
    n_out, n_in = dense.weight.shape
    columns = pad_to(dense.weight.T, -(-n_out // 32) * 32)
    # The kernel's unpacking takes output 8 j + 4 h + i of 32 from byte 16 h + 4 j + i.
    columns = columns.reshape(n_in, -1, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(n_in, -1)
    lines = dense.values("uint8_t", "nq_nonzero_bytes")
    return lines + dense.tiles("nq_linear_rows_u8(value, row, count", columns, 32)


def _quads(dense: _Dense, proven: Quads) -> list[str]:
    """Bytes, all inputs."""
    dense.layer.use("avx2/quads_u8", dense.products.kernel)
    weights = pad_to(proven.weights, -(-len(dense.bias) // 16) * 16, axis=1)
    steps = np.arange(len(weights))
    in_order = not weights[proven.offsets != 4 * steps].any()  # a step of zeros at the end may read anything
    offset = "0" if in_order else dense.layer.constant("offset", proven.offsets)
    return dense.tiles(f"nq_linear_quads_u8({dense.x}, {offset}, {len(weights)}", weights, 8)


def _widened(dense: _Dense) -> list[str]:
    """16-bit products of all inputs, weights widened beforehand."""
    dense.layer.use("avx2/conv_i8")
    even = dense.weight.shape[1] + dense.weight.shape[1] % 2
    return dense.wide(even) + dense.tiles(f"nq_linear_pairs_i8(value, {even}", _pairs(dense.weight), 8)


def _walked(dense: _Dense) -> list[str]:
    """The same without pairs of inputs that are zero."""
    dense.layer.use("avx2/walk_i8")
    lines = [f"const uint32_t there = nq_pairs_there({dense.x}, {dense.weight.shape[1]});"]
    return lines + dense.tiles(f"nq_linear_walk_i8({dense.x}, there", _pairs(dense.weight), 8)


def _pairs(weight: Array) -> Array:
    """int16 ``[in / 2, out, 2]`` of ``weight [out, in]``, padded."""
    n_out, n_in = weight.shape
    padded = pad_to(pad_to(weight, n_in + n_in % 2), -(-n_out // 16) * 16, axis=0).astype(np.int16)
    return padded.reshape(len(padded), -1, 2).transpose(1, 0, 2)


def _bytes(dense: _Dense, sparse: bool) -> list[str]:
    """16-bit products, weights stored as bytes."""
    dense.layer.use("avx2/linear_i8")
    n_in = dense.weight.shape[1]
    even = n_in + n_in % 2
    weights = two_outputs(pad_to(dense.weight, even))
    if sparse:
        lines = [*dense.values("int16_t", "nq_nonzero_u8"), "const int32_t sum = nq_sum_i16(value, count);"]
        return lines + dense.tiles("nq_linear_tile_i8(value, row, count, sum, 1", weights, 32)
    weights = weights.reshape(even // 2, 2, -1, 2, 2, 4, 2).transpose(0, 2, 4, 3, 5, 1, 6).reshape(even // 2, -1, 2)
    # The sum of all that is multiplied: a lane of two zero weights is not zero.
    lines = [*dense.wide(even), f"const int32_t sum = nq_sum_i16(value, {even});"]
    return lines + dense.tiles(f"nq_linear_tile_i8(value, 0, {even}, sum, 0", weights, 32)


def two_outputs(weight: Array) -> Array:
    """int8 ``[in, width]`` of ``weight [out, in]``, two outputs in a lane as `nq_linear_tile_i8` takes them apart.

    Of 32 outputs number ``16 s + 8 h + 4 i + j`` is byte ``s`` (the first with 128 added) of lane ``8 i + 4 h + j``.
    """
    n_out, n_in = weight.shape
    rows = pad_to(weight, -(-n_out // 32) * 32, axis=0).T.reshape(n_in, -1, 2, 2, 2, 4)
    rows = rows.transpose(0, 1, 4, 3, 5, 2).copy()
    rows[..., 0] ^= -128
    return rows.reshape(n_in, -1)

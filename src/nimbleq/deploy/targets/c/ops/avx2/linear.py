"""Linear layers for AVX2: weights packed for the register tiles of `native/kernels/avx2/linear_f32.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.ops.activation import activation_arguments
from nimbleq.deploy.targets.c.ops.avx2 import blocks
from nimbleq.deploy.targets.c.ops.avx2.linear_int import int_linear
from nimbleq.deploy.targets.c.ops.avx2.quads import Products
from nimbleq.deploy.targets.c.ops.avx2.scatter import of_linear, scatter
from nimbleq.deploy.targets.c.ops.avx2.store import bias_of
from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
from nimbleq.deploy.targets.c.ops.sums import columns, real_weights
from nimbleq.types import Array

TILE = 8
"""Vectors of 8 outputs of a tile; its accumulators fill half of the registers of AVX2."""
FEW_OUTPUTS = 8
"""Up to this many outputs the vectors run along the inputs instead."""
SPARSE_INPUTS = 32
"""From this many inputs on, skipping zero rows pays for finding them."""
LEAST_VECTORS = 4
"""From this many vectors of outputs on."""
WALKED_INPUTS = 64
"""Up to this many, which are zero are the bits of one word, and no list is made."""


def linear(products: Products, layer: Layer) -> list[str]:
    """Lines of a Linear, its epilogue included."""
    return _float(layer, columns(layer)) if real_weights(layer) else int_linear(layer, columns(layer), products)


def _float(layer: Layer, weight: Array) -> list[str]:
    n_out, n_in = weight.shape
    weight = weight.astype(np.float32)
    layer.use("avx2/linear_f32")
    x, y, act = layer.x, layer.y, activation_arguments(layer.step.epilogue)
    bias, vectors, lines = bias_of(layer, n_out), -(-n_out // 8), list[str]()
    found = blocks.paying(layer, weight, blocks.FLOAT)
    grid = of_linear(layer, weight) if found is None and vectors < LEAST_VECTORS else None
    if grid is not None:
        return scatter(layer, grid)
    if layer.source_element != "float":
        real = layer.buffer("real", "float", n_in)
        lines = [f"for (int i = 0; i < {n_in}; ++i) {real}[i] = (float){x}[i];"]
        x = real
    if found is not None:
        layer.use("avx2/blocks_f32")
        arrays = ("column", found.columns), ("fours", found.counts), ("weight", found.weights)
        names = ", ".join(layer.constant(label, values) for label, values in arrays)
        b, groups = layer.constant("bias", pad_to(bias, -(-n_out // 8) * 8)), -(-n_out // 8)
        return [*lines, f"nq_linear_blocks_f32({x}, {names}, {b}, {y}, {groups}, {act});"]
    if n_out <= FEW_OUTPUTS and n_in >= 16:
        stride = -(-n_in // 8) * 8
        w = layer.constant("weight", pad_to(weight, stride))
        b = layer.constant("bias", bias)
        return [*lines, f"nq_linear_dot_f32({x}, {w}, {b}, {y}, {n_in}, {n_out}, {stride}, {act});"]
    rows = pad_to(weight, vectors * 8, axis=0).T
    tiles = [rows[:, start : start + 8 * TILE] for start in range(0, vectors * 8, 8 * TILE)]
    w = layer.constant("weight", np.concatenate([np.ascontiguousarray(tile).reshape(-1) for tile in tiles]))
    b = layer.constant("bias", pad_to(bias, vectors * 8))
    sparse = layer.source in layer.layout.sparse and n_in >= SPARSE_INPUTS and vectors >= LEAST_VECTORS
    whole = x != "obs" or n_in % 8 == 0  # the caller's observation ends where it ends
    if sparse and n_in <= WALKED_INPUTS and whole:
        layer.use("avx2/walk_f32")
        kernel = f"nq_linear_walk_f32({x}, there"
        lines.append(f"const uint64_t there = nq_there_f32({x}, {n_in});")
        return lines + [
            f"{kernel}, {w} + {start * n_in}, {b} + {start}, {y} + {start}, {tile.shape[1] // 8}, {act});"
            for start, tile in zip(range(0, vectors * 8, 8 * TILE), tiles, strict=True)
        ]
    row, count = "0", str(n_in)
    if sparse:
        value, row = layer.buffer("value", "float", n_in + 8), layer.buffer("row", "int32_t", n_in + 8)
        count = "count"
        lines.append(f"const int count = nq_nonzero_f32({x}, {n_in}, {value}, {row});")
        x = value
    done = 0
    for tile in tiles:
        T = tile.shape[1] // 8
        lines.append(
            f"nq_linear_tile_f32({x}, {row}, {count}, {w} + {done * n_in}, {b} + {done}, {y} + {done}, "
            f"{T}, {int(sparse)}, {act});"
        )
        done += tile.shape[1]
    return lines

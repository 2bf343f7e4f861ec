"""Convolutions for AVX2, on ``(H, W, C)``: weights packed for the tiles of `native/kernels/avx2/conv_*.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.ops.activation import activation_arguments
from nimbleq.deploy.targets.c.ops.avx2.quads import Products, Quads, quads
from nimbleq.deploy.targets.c.ops.avx2.scatter import of_conv2d, scatter
from nimbleq.deploy.targets.c.ops.avx2.store import bias_of, highest, per_group, store, tile_scales
from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
from nimbleq.deploy.targets.c.ops.sums import check_int_source, real_weights
from nimbleq.types import Array

PIXELS = 6
"""Output pixels of a tile of 16-bit products; with two vectors of channels they fill 12 of 16 registers."""


def conv2d(products: Products, layer: Layer) -> list[str]:
    """Lines of a Conv2d, its epilogue included."""
    if not real_weights(layer):
        check_int_source(layer)
    grid = of_conv2d(layer)
    if grid is not None:
        return scatter(layer, grid)
    if real_weights(layer):
        layer.use("avx2/conv_f32")
        return _tiles(layer, real=True)
    proven = _proven(layer, products)
    if proven is not None:
        layer.use("avx2/quads_u8", products.kernel)
        return _bytes(layer, proven)
    layer.use("avx2/conv_i8")
    return _tiles(layer, real=False)


def _tiles(layer: Layer, real: bool) -> list[str]:
    """One call per tile of output channels: float32 products, or 16-bit ones."""
    op, weight = layer.op, layer.weight(layer.op.weight)
    in_channels, _, width = layer.source_type.shape
    channels, rows, cols = layer.node_type.shape
    _, group_in, kh, kw = weight.shape
    x, lines = _bordered(layer, "float" if real else "int16_t")
    # One group: (kx, channel) is contiguous in memory, so both are one run.
    kxn, run = (1, kw * group_in) if op.groups == 1 else (kw, group_in)
    group_out = channels // op.groups
    bias = bias_of(layer, channels)
    pixels = "" if real else f"{min(PIXELS, rows * cols)}, "
    padded_width = width + 2 * op.padding[1]
    for start in range(0, group_out, 16):
        keep = min(16, group_out - start)
        vectors = -(-keep // 8)
        tile = _tile(start, group_out)
        packed = _packed(weight.astype(np.float32) if real else weight, op.groups, start, vectors * 8, kxn, run, real)
        w = layer.constant(f"weight{tile}", packed)
        b = layer.constant(f"bias{tile}", per_group(bias, op.groups, start, vectors * 8))
        step = packed.size // op.groups
        geometry = (
            f"{rows}, {cols}, {channels}, {padded_width}, {op.stride[0]}, {op.stride[1]}, {in_channels}, "
            f"{pixels}{vectors}, {kh}, {kxn}, {run}, {keep}"
        )
        if real:
            kernel, last = "nq_conv_f32", activation_arguments(layer.step.epilogue)
        else:
            kernel, last = "nq_conv_i8", tile_scales(layer, store(layer, channels), op.groups, start, vectors * 8, tile)
        lines.append(
            f"for (int g = 0; g < {op.groups}; ++g) {kernel}({x} + g * {group_in}, "
            f"{layer.y} + g * {group_out} + {start}, {w} + g * {step}, {b} + g * {vectors * 8}, {geometry}, {last});"
        )
    return lines


def _tile(start: int, channels: int) -> str:
    """What tells the constants of one tile of 16 channels from those of the others; nothing where there is one."""
    return f"_{start // 16}" if channels > 16 else ""


def _proven(layer: Layer, products: Products) -> list[Quads] | None:
    """Weights of byte products, per tile; None where those are not exact or the inputs do not come in fours."""
    op, weight, source = layer.op, layer.weight(layer.op.weight), layer.source
    run = weight.shape[3] * layer.source_type.shape[0]
    if op.groups != 1 or run % 4 or layer.source_element != "uint8_t":
        return None
    high = max(highest(layer.layout.graph, source), op.pad_value if op.padding != (0, 0) else 0)
    offsets = (np.arange(weight.shape[2])[:, None] * _line(layer) + np.arange(0, run, 4)).reshape(-1)
    steps = weight.transpose(2, 3, 1, 0).reshape(len(offsets), 4, len(weight)).transpose(0, 2, 1)
    tiles = [quads(steps[:, start : start + 16], offsets, high, products) for start in range(0, len(weight), 16)]
    found = [tile for tile in tiles if tile is not None]
    return found if len(found) == len(tiles) else None


def _line(layer: Layer) -> int:
    """Elements of one row of the source with its border."""
    channels, _, width = layer.source_type.shape
    return int((width + 2 * layer.op.padding[1]) * channels)


def _bytes(layer: Layer, proven: list[Quads]) -> list[str]:
    """One call per tile of output channels: products of bytes."""
    op, in_channels = layer.op, layer.source_type.shape[0]
    channels, rows, cols = layer.node_type.shape
    x, lines = _bordered(layer, "uint8_t")
    bias, how = bias_of(layer, channels), store(layer, channels)
    for index, quad in enumerate(proven):
        start, keep = 16 * index, quad.weights.shape[1]
        vectors, tile = -(-keep // 8), _tile(start, channels)
        w = layer.constant(f"weight{tile}", pad_to(quad.weights, vectors * 8, axis=1))
        b = layer.constant(f"bias{tile}", per_group(bias, 1, start, vectors * 8))
        o = layer.constant(f"offset{tile}", quad.offsets)
        lines.append(
            f"nq_conv_u8({x}, {layer.y} + {start}, {w}, {b}, {o}, {len(quad.offsets)}, {rows}, {cols}, {channels}, "
            f"{op.stride[0] * _line(layer)}, {op.stride[1] * in_channels}, {vectors}, "
            f"{keep}, {tile_scales(layer, how, 1, start, vectors * 8, tile, group='0')});"
        )
    return lines


def _bordered(layer: Layer, element: str) -> tuple[str, list[str]]:
    """The source as ``element`` with its border: C expression, and the lines that make it."""
    channels, height, width = layer.source_type.shape
    (pad_y, pad_x), x = layer.op.padding, layer.x
    if layer.source_element == element and not (pad_y or pad_x):
        return x, []
    line, count = width * channels, (height + 2 * pad_y) * (width + 2 * pad_x) * channels
    # One entry of slack: the last pair of an odd run reads one past its end (against a zero weight).
    bordered = layer.buffer("bordered", element, count + 1)
    lines = []
    if pad_y or pad_x:
        lines.append(f"for (int i = 0; i < {count}; ++i) {bordered}[i] = {layer.op.pad_value};")
    lines += [
        f"for (int r = 0; r < {height}; ++r)",
        f"    for (int i = 0; i < {line}; ++i)",
        f"        {bordered}[(r + {pad_y}) * {line + 2 * pad_x * channels} + {pad_x * channels} + i] = "
        f"({element}){x}[r * {line} + i];",
    ]
    if element == "int16_t":
        lines.append(f"{bordered}[{count}] = 0;")
    return bordered, lines


def _packed(weight: Array, groups: int, start: int, width: int, kxn: int, run: int, real: bool) -> Array:
    """``[group][kh][kxn][run][width]`` (float) or ``[group][kh][kxn][pairs][width][2]`` (int8) of one channel tile."""
    channels, group_in, kh, kw = weight.shape
    grouped = weight.reshape(groups, channels // groups, group_in, kh, kw)[:, start : start + width]
    lines = grouped.transpose(0, 3, 4, 2, 1).reshape(groups, kh, kxn, run, -1)
    lines = pad_to(lines, width)
    if real:
        return lines
    pairs = pad_to(lines, -(-run // 2) * 2, axis=3).reshape(groups, kh, kxn, -1, 2, width)
    return pairs.transpose(0, 1, 2, 3, 5, 4).astype(np.int16)

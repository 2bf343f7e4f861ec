"""First layers of binary observations for AVX2: each input that is not 0 adds its weights, the others cost nothing.

Nothing is assumed of the values, so that the sums are those of the dense kernels, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.activation import activation_arguments
from nimbleq.deploy.targets.c.ops.avx2.store import bias_of, store, tile_scales
from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
from nimbleq.deploy.targets.c.ops.sums import real_weights
from nimbleq.types import Array

LEAST = 32
"""Inputs from which on it pays to look for those that are not 0."""
LARGEST_GRID = 12_288
"""Bytes that the sums of a convolution may take."""
_AT_ONCE = 256
"""Inputs of a vector that are looked at before their weights are added."""
_TILE = 16
"""Sums that are stored at once."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where each input's weights and sums are. Inputs are read ``row`` by row: of an image, or so many of a vector.

    Attributes:
        weights: ``[input channel][line][run]``.
        lines, run, step: lines of weights of an input, their length, and how far apart their sums are.
        row: inputs read at once.
        row_step, row_weights: how much further the sums and the weights of the next row are.
        place, begin: where an input of the first row finds its first sum and its weights; None: at 0, and at ``k·run``.
        pixels, first: sums of all outputs and of the room around them, and the first output's, in pixels of ``width``.
        rows, cols: of the output.
    """

    weights: Array
    lines: int
    run: int
    step: int
    row: int
    row_step: int = 0
    row_weights: int = 0
    place: Array | None = None
    begin: Array | None = None
    pixels: int = 1
    first: int = 0
    rows: int = 1
    cols: int = 1

    def places(self, inputs: int) -> Array:
        """``int32[inputs]`` where each input finds its first sum."""
        each = np.zeros(self.row, np.int32) if self.place is None else self.place
        rows = np.arange(-(-inputs // self.row))[:, None] * self.row_step
        return np.asarray((rows + each).reshape(-1)[:inputs], np.int32)

    def begins(self, inputs: int) -> Array:
        """``int32[inputs]`` where its weights begin."""
        each = np.arange(self.row) * self.run if self.begin is None else self.begin
        rows = np.arange(-(-inputs // self.row))[:, None] * self.row_weights
        return np.asarray((rows + each).reshape(-1)[:inputs], np.int32)


def of_conv2d(layer: Layer, unit: int = 8) -> Grid | None:
    """The grid of a Conv2d that reads a binary observation, its pixels multiples of ``unit`` sums; None where it is
    better multiplied densely."""
    op, (channels, height, width) = layer.op, layer.source_type.shape
    out, rows, cols = layer.node_type.shape
    _, _, kh, kw = layer.weight(op.weight).shape
    (above, beside), wide = op.padding, -(-out // unit) * unit
    line, pixels = width + kw - 1, (height + kh - 1) * (width + kw - 1)
    plain = op.groups == 1 and op.stride == (1, 1) and above < kh and beside < kw and op.pad_value == 0
    fits = 4 * pixels * wide <= LARGEST_GRID and layer.source_element in ("uint8_t", "float")
    if layer.source not in layer.layout.bits or not (plain and fits) or layer.source_type.size < LEAST:
        return None
    weights = layer.weight(op.weight)[:, :, ::-1, ::-1].transpose(1, 2, 3, 0)
    return Grid(
        pad_to(weights, wide), kh, kw * wide, line * wide, width * channels, line * wide,
        place=np.repeat(np.arange(width) * wide, channels).astype(np.int32),
        begin=np.tile(np.arange(channels) * (kh * kw * wide), width).astype(np.int32),
        pixels=pixels, first=(kh - 1 - above) * line + kw - 1 - beside, rows=rows, cols=cols,
    )  # fmt: skip


def of_linear(layer: Layer, weight: Array, unit: int = 8) -> Grid | None:
    """That of a Linear with ``weight [out, in]``, its columns as the source is stored."""
    out, inputs = weight.shape
    if layer.source not in layer.layout.bits or inputs < LEAST or layer.source_element not in ("uint8_t", "float"):
        return None
    wide, row = -(-out // unit) * unit, min(inputs, _AT_ONCE)
    return Grid(pad_to(weight.T, wide), 1, wide, wide, row, 0, row * wide)


def scatter(layer: Layer, grid: Grid, bias: Array | None = None) -> list[str]:
    """Lines of the layer, its epilogue included; ``bias`` where it is not stored as the layer has it."""
    real, channels, x = real_weights(layer), layer.node_type.shape[0], layer.x
    number, element, kind = (np.float32, "float", "f32") if real else (np.int32, "int32_t", "i8")
    wide, inputs = -(-channels // 8) * 8, layer.source_type.size
    layer.use("avx2/places_u8", f"avx2/scatter_{kind}")
    if layer.source_element == "float":
        layer.use("avx2/linear_f32")
    bias = pad_to(bias_of(layer, channels) if bias is None else bias, wide)
    w, b = layer.constant("weight", grid.weights.astype(number)), layer.constant("bias", bias)
    place = "0" if grid.place is None else layer.constant("place", grid.place)
    begin = "0" if grid.begin is None else layer.constant("begin", grid.begin)
    sums, value = layer.buffer("sums", element, grid.pixels * wide), layer.buffer("value", element, grid.row + 8)
    row = layer.buffer("row", "int32_t", grid.row + 8)
    some = f"{inputs} - k < {grid.row} ? {inputs} - k : {grid.row}" if inputs % grid.row else f"{grid.row}"
    if layer.source_element == "float":
        found = [f"const int count = nq_nonzero_f32({x} + k, {some}, {value}, {row});"]
    else:
        found = [
            f"const int count = nq_places_u8({x} + k, {some}, {row});",
            f"for (int i = 0; i < count; ++i) {value}[i] = ({element}){x}[k + {row}[i]];",
        ]
    weights, to = (f"{name} + k / {grid.row} * {step}" for name, step in ((w, grid.row_weights), (sums, grid.row_step)))
    geometry = f"{grid.lines}, {grid.run}, {grid.step}"
    lines = [
        f"nq_begin_{'f32' if real else 'i32'}({sums}, {b}, {grid.pixels}, {wide});",
        f"for (int k = 0; k < {inputs}; k += {grid.row}) {{",
        *(f"    {line}" for line in found),
        f"    nq_scatter_{kind}({value}, {row}, count, {place}, {begin}, {weights}, {to}, {geometry});",
        "}",
    ]
    start, outputs = f"{sums} + {grid.first * wide}", f"{grid.rows}, {grid.cols}, {channels}, {wide}, {grid.step}"
    if real:
        return [*lines, f"nq_end_f32({start}, {layer.y}, {outputs}, {activation_arguments(layer.step.epilogue)});"]
    how = store(layer, channels)
    for at in range(0, channels, _TILE):
        keep, tile = min(_TILE, channels - at), f"_{at // _TILE}" if channels > _TILE else ""
        vectors = -(-keep // 8)
        scales = tile_scales(layer, how, 1, at, 8 * vectors, tile, group="0")
        lines.append(f"nq_end_i8({start} + {at}, {layer.y} + {at}, {outputs}, {vectors}, {keep}, {scales});")
    return lines

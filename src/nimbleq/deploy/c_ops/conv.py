"""Convolutions in C, on ``(H, W, C)``: weights packed for the pixel × channel tiles of `native/kernels/conv_*.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.c_ops.dense import activation_arguments, check_int_source, pad_shift, requantize_arrays
from nimbleq.deploy.c_ops.writer import Writer, pad_to
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.types import Array

PIXELS = 6
"""Output pixels of a tile; with two vectors of channels they fill 12 of 16 registers."""


def conv2d(writer: Writer, node: Node, epilogue: Node | None) -> list[str]:
    """Lines of one Conv2d, its epilogue included."""
    op = node.op
    assert isinstance(op, ops.Conv2d)
    weight = writer.graph.weights[op.weight]
    real = weight.dtype == np.float32
    source, output = node.inputs[0], (epilogue or node).output
    if real:
        writer.use("conv_f32")
    else:
        check_int_source(writer.type(source), "Conv2d")
        writer.use("requantize", "conv_i8")
    in_channels, _, width = writer.type(source).shape
    channels, rows, cols = writer.type(node.output).shape
    _, group_in, kh, kw = weight.shape
    x, lines = _bordered(writer, op, source, "float" if real else "int16_t")
    # One group: (kx, channel) is contiguous in memory, so both are one run.
    kxn, run = (1, kw * group_in) if op.groups == 1 else (kw, group_in)
    group_out = channels // op.groups
    bias = np.zeros(channels, weight.dtype if real else np.int32) if op.bias is None else writer.graph.weights[op.bias]
    pixels = min(PIXELS, rows * cols)
    padded_width = width + 2 * op.padding[1]
    y = writer.variables[output]
    for start in range(0, group_out, 16):
        keep = min(16, group_out - start)
        vectors = -(-keep // 8)
        packed = _packed(weight, op.groups, start, vectors * 8, kxn, run, real)
        w = writer.constant("w", packed)
        b = writer.constant("b", _per_group(bias, op.groups, start, vectors * 8))
        step = packed.size // op.groups
        offset = f"g * {vectors * 8}"
        geometry = (
            f"{rows}, {cols}, {channels}, {padded_width}, {op.stride[0]}, {op.stride[1]}, {in_channels}, "
            f"{pixels}, {vectors}, {kh}, {kxn}, {run}, {keep}"
        )
        if real:
            call = (
                f"nq_conv_f32({x} + g * {group_in}, {y} + g * {group_out} + {start}, {w} + g * {step}, "
                f"{b} + {offset}, {geometry}, {activation_arguments(epilogue)});"
            )
        else:
            store, scales = "NQ_ACCUMULATOR", "0, 0, 0, 0, 0"
            if epilogue is not None:
                store, multipliers, shifts, rest = requantize_arrays(writer, epilogue, channels)
                m = writer.constant("m", _per_group(multipliers, op.groups, start, vectors * 8))
                s = writer.constant("s", _per_group(shifts, op.groups, start, vectors * 8, filler=33))
                scales = f"{m} + {offset}, {s} + {offset}, {rest}"
            call = (
                f"nq_conv_i8({x} + g * {group_in}, {y} + g * {group_out} + {start}, {w} + g * {step}, "
                f"{b} + {offset}, {geometry}, {store}, {scales});"
            )
        lines.append(f"for (int g = 0; g < {op.groups}; ++g) {call}")
    return lines


def _bordered(writer: Writer, op: ops.Conv2d, source: str, element: str) -> tuple[str, list[str]]:
    """The source as ``element`` with its border: C expression, and the lines that make it."""
    channels, height, width = writer.type(source).shape
    (pad_y, pad_x), x = op.padding, writer.variables[source]
    if writer.c_type(source) == element and not (pad_y or pad_x):
        return x, []
    line, count = width * channels, (height + 2 * pad_y) * (width + 2 * pad_x) * channels
    # One entry of slack: the last pair of an odd run reads one past its end (against a zero weight).
    lines = [f"{element} *const bordered = {writer.take_scratch(element, count + 1)};"]
    if pad_y or pad_x:
        lines.append(f"for (int i = 0; i < {count}; ++i) bordered[i] = {op.pad_value};")
    lines += [
        f"for (int r = 0; r < {height}; ++r)",
        f"    for (int i = 0; i < {line}; ++i)",
        f"        bordered[(r + {pad_y}) * {line + 2 * pad_x * channels} + {pad_x * channels} + i] = "
        f"({element}){x}[r * {line} + i];",
    ]
    if element == "int16_t":
        lines.append(f"bordered[{count}] = 0;")
    return "bordered", lines


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


def _per_group(values: Array, groups: int, start: int, width: int, filler: int = 0) -> Array:
    """``[group][width]`` of a per-channel parameter, for one channel tile."""
    tile = values.reshape(groups, -1)[:, start : start + width]
    if filler:
        return np.stack([pad_shift(line, width) for line in tile])
    return pad_to(tile, width)

"""Convolutions for AVX2, on ``(H, W, C)``: weights packed for the tiles of `native/kernels/avx2/conv_*.h`."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.ops.dense import activation_arguments
from nimbleq.deploy.targets.c.ops.integer import Store, check_int_source, highest, pad_shift, store
from nimbleq.deploy.targets.c.ops.quads import quads
from nimbleq.deploy.targets.c.ops.writer import Writer, pad_to
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.types import Array

PIXELS = 6
"""Output pixels of a tile; with two vectors of channels they fill 12 of 16 registers."""
BYTE_PIXELS = 4
"""The same where bytes are multiplied, which takes more registers for weights."""


def conv2d(writer: Writer, node: Node, epilogue: Node | None) -> list[str]:
    """Lines of one Conv2d, its epilogue included."""
    op = node.op
    assert isinstance(op, ops.Conv2d)
    weight = writer.graph.weights[op.weight]
    real = weight.dtype == np.float32
    source, output = node.inputs[0], (epilogue or node).output
    if real:
        writer.use("avx2/conv_f32")
    else:
        check_int_source(writer.type(source), "Conv2d")
        lines = _bytes(writer, node, op, weight, epilogue)
        if lines is not None:
            return lines
        writer.use("avx2/conv_i8")
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
            scales = _scales(writer, store(writer, epilogue, channels), op.groups, start, vectors * 8)
            call = (
                f"nq_conv_i8({x} + g * {group_in}, {y} + g * {group_out} + {start}, {w} + g * {step}, "
                f"{b} + {offset}, {geometry}, {scales});"
            )
        lines.append(f"for (int g = 0; g < {op.groups}; ++g) {call}")
    return lines


def _bytes(writer: Writer, node: Node, op: ops.Conv2d, weight: Array, epilogue: Node | None) -> list[str] | None:
    """Lines of a convolution that multiplies bytes; None where that is not exact or the inputs do not come in fours."""
    source, y = node.inputs[0], writer.variables[(epilogue or node).output]
    in_channels, _, width = writer.type(source).shape
    channels, rows, cols = writer.type(node.output).shape
    kh, kw = weight.shape[2:]
    run = kw * in_channels
    if op.groups != 1 or run % 4 or writer.c_type(source) != "uint8_t":
        return None
    padded = op.padding != (0, 0)
    high = max(highest(writer, source), op.pad_value if padded else 0)
    line = (width + 2 * op.padding[1]) * in_channels
    offsets = (np.arange(kh)[:, None] * line + np.arange(0, run, 4)).reshape(-1)
    steps = weight.transpose(2, 3, 1, 0).reshape(len(offsets), 4, channels).transpose(0, 2, 1)
    proven = [quads(steps[:, start : start + 16], offsets, high) for start in range(0, channels, 16)]
    if any(tile is None for tile in proven):
        return None
    writer.use("avx2/quads_u8")
    x, lines = _bordered(writer, op, source, "uint8_t")
    bias = np.zeros(channels, np.int32) if op.bias is None else writer.graph.weights[op.bias]
    how = store(writer, epilogue, channels)
    for start, tile in zip(range(0, channels, 16), proven, strict=True):
        assert tile is not None
        keep = tile.weights.shape[1]
        vectors = -(-keep // 8)
        w = writer.constant("w", pad_to(tile.weights, vectors * 8, axis=1))
        b = writer.constant("b", _per_group(bias, 1, start, vectors * 8))
        o = writer.constant("o", tile.offsets)
        lines.append(
            f"nq_conv_u8({x}, {y} + {start}, {w}, {b}, {o}, {len(tile.offsets)}, {rows}, {cols}, {channels}, "
            f"{op.stride[0] * line}, {op.stride[1] * in_channels}, {min(BYTE_PIXELS, rows * cols)}, {vectors}, {keep}, "
            f"{_scales(writer, how, 1, start, vectors * 8, group='0')});"
        )
    return lines


def _scales(writer: Writer, how: Store, groups: int, start: int, width: int, group: str = "g") -> str:
    """The arguments of an integer kernel from the way of storing on."""
    if how.multiplier is None or how.shift is None:
        return f"{how.mode}, 0, 0, {how.rest}"
    m = writer.constant("m", _per_group(how.multiplier, groups, start, width))
    s = writer.constant("s", _per_group(how.shift, groups, start, width, filler=33))
    return f"{how.mode}, {m} + {group} * {width}, {s} + {group} * {width}, {how.rest}"


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

"""float32 ops, and the ops that only move data, as ONNX nodes (the same in every form)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nimbleq.deploy.targets.onnx.build import CHOICES, TARGET, Build, is_byte, level_offset
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.branches import parts
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import FLOAT32, QType

Emit = Callable[[Build, Node, Any], None]
"""``(build, node, node.op)``: adds the nodes of one op."""


def _affine(build: Build, node: Node, op: ops.Affine) -> None:
    # The interpreter rounds once, from double. Before a Quantize one bit can decide a level; elsewhere float32 will do.
    feeds_quantize = any(isinstance(reader.op, ops.Quantize) for reader in build.graph.consumers(node.output))
    dtype = np.float64 if build.exact and feeds_quantize else np.float32
    qtype = build.qtype(node.inputs[0])
    x = build.source(node)
    if dtype == np.float64 or qtype.is_integer:
        x = build.cast(x, dtype)
    if offset := level_offset(qtype):
        x = build.add("Sub", x, build.constant(offset, dtype, f"{node.output}/offset"))
    weights = build.graph.weights
    scaled = build.add("Mul", x, build.constant(weights[op.scale], dtype, f"{node.output}/scale"))
    shift = build.constant(weights[op.shift], dtype, f"{node.output}/shift")
    if dtype == np.float64:
        build.cast(build.add("Add", scaled, shift), np.float32, out=node.output)
    else:
        build.add("Add", scaled, shift, out=node.output)


def _linear(build: Build, node: Node, op: ops.Linear) -> None:
    build.add("Gemm", numbers(build, node), *_parameters(build, node, op), out=node.output, transB=1)


def _conv2d(build: Build, node: Node, op: ops.Conv2d) -> None:
    x, attributes = convolution_input(build, node, op, numbers(build, node), FLOAT32)
    build.add("Conv", x, *_parameters(build, node, op), out=node.output, **attributes)


def numbers(build: Build, node: Node) -> str:
    """The input as float32, also where it is stored as levels (a raw image whose /255 is in the weights)."""
    qtype, x = build.qtype(node.inputs[0]), build.source(node)
    if not qtype.is_integer:
        return x
    x = build.cast(x, np.float32)
    if offset := level_offset(qtype):
        x = build.add("Sub", x, build.constant(offset, np.float32, f"{node.output}/offset"))
    return x


def _parameters(build: Build, node: Node, op: ops.Linear | ops.Conv2d) -> list[str]:
    weights = build.graph.weights
    names = [build.constant(weights[op.weight], np.float32, f"{node.output}/weight")]
    if op.bias is not None or (build.opset < 11 and isinstance(op, ops.Linear)):  # Gemm had to have one
        bias = np.zeros(len(weights[op.weight]), np.float32) if op.bias is None else weights[op.bias]
        names.append(build.constant(bias, np.float32, f"{node.output}/bias"))
    return names


def convolution_input(build: Build, node: Node, op: ops.Conv2d, x: str, qtype: QType) -> tuple[str, dict[str, Any]]:
    """What a convolution reads, and its attributes: a border that is not zero is padded before.

    Args:
        x: ONNX name of the input.
        qtype: its number format.
    """
    rows, cols = op.padding
    pads = [rows, cols, rows, cols]
    if op.pad_value and any(pads):
        build.needs(11, node)
        dtype = np.uint8 if qtype.is_integer else np.float32
        extents = build.constant([0, 0, rows, cols, 0, 0, rows, cols], np.int64, f"{node.output}/pads")
        border = build.constant(op.pad_value + level_offset(qtype), dtype, f"{node.output}/border")
        x, pads = build.add("Pad", x, extents, border), [0, 0, 0, 0]
    kernel = list(build.graph.weights[op.weight].shape[2:])
    return x, {"kernel_shape": kernel, "strides": list(op.stride), "pads": pads, "group": op.groups}


def _activation(build: Build, node: Node, op: ops.Activation) -> None:
    x = build.source(node)
    if op.function == "relu":
        build.add("Relu", x, out=node.output)
    elif op.function == "leaky_relu":
        build.add("LeakyRelu", x, out=node.output, alpha=float(op.slope))
    elif build.opset < 11:
        build.add("Clip", x, out=node.output, min=float(op.low), max=float(op.high))
    else:
        bounds = (build.constant(value, np.float32, f"{node.output}/bound") for value in (op.low, op.high))
        build.add("Clip", x, *bounds, out=node.output)


def _tanh(build: Build, node: Node, op: ops.Tanh) -> None:
    build.add("Tanh", build.source(node), out=node.output)


def _layer_norm(build: Build, node: Node, op: ops.LayerNorm) -> None:
    weights, shape = build.graph.weights, build.graph.types[node.output].shape
    if build.opset < 17:
        _layer_norm_in_steps(build, node, op)
        return
    scale = np.ones(shape, np.float32) if op.weight is None else weights[op.weight]
    parameters = [build.constant(scale, np.float32, f"{node.output}/weight")]
    if op.bias is not None:
        parameters.append(build.constant(weights[op.bias], np.float32, f"{node.output}/bias"))
    build.add("LayerNormalization", build.source(node), *parameters, out=node.output, axis=1, epsilon=float(op.eps))


def _layer_norm_in_steps(build: Build, node: Node, op: ops.LayerNorm) -> None:
    weights, axes = build.graph.weights, list(range(1, len(build.graph.types[node.output].shape) + 1))
    x = build.source(node)
    y = build.add("Sub", x, build.reduce("ReduceMean", x, axes))
    variance = build.reduce("ReduceMean", build.add("Mul", y, y), axes)
    eps = build.constant(op.eps, np.float32, f"{node.output}/eps")
    deviation = build.add("Sqrt", build.add("Add", variance, eps))
    steps = [("Div", deviation)]
    for kind, name in (("Mul", op.weight), ("Add", op.bias)):
        if name is not None:
            steps.append((kind, build.constant(weights[name], np.float32, f"{node.output}/{kind}")))
    for index, (kind, other) in enumerate(steps):
        y = build.add(kind, y, other, out=node.output if index == len(steps) - 1 else None)


def _pool(build: Build, node: Node, op: ops.Pool) -> None:
    (rows, cols), x = op.padding, build.source(node)
    window: dict[str, Any] = {
        "kernel_shape": list(op.kernel),
        "strides": list(op.stride),
        "pads": [rows, cols, rows, cols],
    }
    if op.function == "sum":
        _pool_sum(build, node, op)
    elif op.function == "average":
        build.add("AveragePool", x, out=node.output, count_include_pad=1, **window)
    elif build.qtype(node.inputs[0]).is_integer and build.opset < 12:
        build.needs(12, node)
    elif build.exact and build.qtype(node.inputs[0]).bits > 8 and build.qtype(node.inputs[0]).is_integer:
        # MaxPool does not take int32; doubles hold every int32.
        build.cast(build.add("MaxPool", build.cast(x, np.float64), **window), np.int32, out=node.output)
    else:
        build.add("MaxPool", x, out=node.output, **window)


def _pool_sum(build: Build, node: Node, op: ops.Pool) -> None:
    channels, area = build.graph.types[node.output].shape[0], op.kernel[0] * op.kernel[1]
    if area * build.qtype(node.inputs[0]).largest >= 1 << 24:
        raise UnsupportedOpError("Pool sum", TARGET, "its sums leave what float32 holds exactly: a smaller window")
    ones = build.constant(np.ones((channels, 1, *op.kernel)), np.float32, f"{node.output}/ones")
    total = build.add(
        "Conv", numbers(build, node), ones, kernel_shape=list(op.kernel), strides=list(op.stride), group=channels
    )
    if build.exact:
        build.cast(total, np.int32, out=node.output)
    else:
        build.set_stored(node, total)


def _flatten(build: Build, node: Node, _: ops.Flatten) -> None:
    build.add("Flatten", build.source(node), out=node.output, axis=1)


def _channel_shuffle(build: Build, node: Node, op: ops.ChannelShuffle) -> None:
    channels, height, width = build.graph.types[node.output].shape
    split = build.constant([0, op.groups, channels // op.groups, height, width], np.int64, f"{node.output}/split")
    joined = build.constant([0, channels, height, width], np.int64, f"{node.output}/joined")
    dealt = build.add("Transpose", build.add("Reshape", build.source(node), split), perm=[0, 2, 1, 3, 4])
    build.add("Reshape", dealt, joined, out=node.output)


def _slice(build: Build, node: Node, op: ops.Slice) -> None:
    build.needs(10, node)
    bounds = [
        build.constant([value], np.int64, f"{node.output}/{name}")
        for name, value in (("start", op.start), ("stop", op.stop), ("axis", 1))
    ]
    build.add("Slice", build.stored[node.inputs[0]], *bounds, out=node.output)


def _unflatten(build: Build, node: Node, op: ops.Unflatten) -> None:
    shape = build.constant([0, op.channels, op.height, op.width], np.int64, f"{node.output}/shape")
    build.add("Reshape", build.stored[node.inputs[0]], shape, out=node.output)


def _add(build: Build, node: Node, _: ops.Add) -> None:
    build.add("Add", build.source(node, 0), build.source(node, 1), out=node.output)


def _concat(build: Build, node: Node, _: ops.Concat) -> None:
    build.add("Concat", *(build.stored[name] for name in node.inputs), out=node.output, axis=1)


def _dueling(build: Build, node: Node, _: ops.Dueling) -> None:
    value, advantage = build.source(node, 0), build.source(node, 1)
    total = build.add("Add", value, advantage)
    build.add("Sub", total, build.reduce("ReduceMean", advantage, [1]), out=node.output)


def _expectation(build: Build, node: Node, op: ops.Expectation) -> None:
    support = build.graph.weights[op.support]
    rows = build.constant([0, -1, len(support)], np.int64, f"{node.output}/rows")
    mass = build.add("Softmax", build.add("Reshape", build.source(node), rows), axis=2)
    column = build.constant(support[:, None], np.float32, f"{node.output}/support")
    build.add("Flatten", build.add("MatMul", mass, column), out=node.output, axis=1)


def _argmax(build: Build, node: Node, _: ops.ArgMax) -> None:
    x, masked = build.source(node), len(node.inputs) == 2
    if masked:
        x = _legal(build, node, x)
    # The first of equals, which is what older opsets do by themselves.
    ties = {"select_last_index": 0} if build.opset >= 12 else {}
    best = build.add("ArgMax", x, out=None if masked else node.output, axis=1, keepdims=0, **ties)
    if masked:
        flags = build.cast(build.source(node, 1), np.int32)
        some = build.cast(build.reduce("ReduceMax", flags, [1], keepdims=0), np.bool_)
        build.add("Where", some, best, build.constant(-1, np.int64, f"{node.output}/none"), out=node.output)


def _branch_argmax(build: Build, node: Node, op: ops.BranchArgMax) -> None:
    """The index, and beside it ``CHOICES int64[batch, D]``, its digits."""
    build.needs(10, node)
    masked, x, place = len(node.inputs) == 2, build.source(node), node.output
    ties: dict[str, Any] = {"select_last_index": 0} if build.opset >= 12 else {}
    values = _legal(build, node, x) if masked else x
    flags = build.cast(build.source(node, 1), np.int32) if masked else ""
    index, legal, columns = "", "", []
    column = build.constant([-1, 1], np.int64, f"{place}/column")
    axis = build.constant([1], np.int64, f"{place}/axis")
    for at, (count, part) in enumerate(zip(op.branches, parts(op.branches), strict=True)):
        bounds = [build.constant([end], np.int64, f"{place}/{at}.{end}") for end in (part.start, part.stop)]
        choice = build.add("ArgMax", build.add("Slice", values, *bounds, axis), axis=1, keepdims=0, **ties)
        columns.append(build.add("Reshape", choice, column))
        if index:
            index = build.add("Mul", index, build.constant(count, np.int64, f"{place}/{at}.count"))
        index = build.add("Add", index, choice) if index else choice
        if masked:
            some = build.reduce("ReduceMax", build.add("Slice", flags, *bounds, axis), [1], keepdims=0)
            some = build.cast(some, np.bool_)
            legal = build.add("And", legal, some) if legal else some
    build.add("Concat", *columns, out=CHOICES, axis=1)
    if masked:
        build.add("Where", legal, index, build.constant(-1, np.int64, f"{place}/none"), out=place)
    else:
        build.add("Identity", index, out=place)


def _gru(build: Build, node: Node, _: ops.GRU) -> None:
    build.needs(10, node)
    of_input, of_memory, memory = (build.source(node, at) for at in range(3))
    units, axis = build.graph.types[node.output].size, build.constant([1], np.int64, f"{node.output}/axis")
    ends = [build.constant([at * units], np.int64, f"{node.output}/{at}") for at in range(4)]

    def third(x: str, at: int) -> str:
        return build.add("Slice", x, ends[at], ends[at + 1], axis)

    reset, keep = (build.add("Sigmoid", build.add("Add", third(of_input, at), third(of_memory, at))) for at in (0, 1))
    fresh = build.add("Tanh", build.add("Add", third(of_input, 2), build.add("Mul", reset, third(of_memory, 2))))
    one = build.constant(1, np.float32, f"{node.output}/one")
    renewed = build.add("Mul", build.add("Sub", one, keep), fresh)
    build.add("Add", renewed, build.add("Mul", keep, memory), out=node.output)


def _legal(build: Build, node: Node, x: str) -> str:
    """``x`` with the lowest value that there is where the mask forbids, and a higher one elsewhere."""
    real = not build.qtype(node.inputs[0]).is_integer or not build.exact
    if real:
        x = build.cast(x, np.float32)
        x = build.add("Max", x, build.constant(np.finfo(np.float32).min, np.float32, f"{node.output}/least"))
        lowest = build.constant(-np.inf, np.float32, f"{node.output}/lowest")
    else:
        x = build.cast(x, np.int64)
        lowest = build.constant(np.iinfo(np.int64).min, np.int64, f"{node.output}/lowest")
    return build.add("Where", build.source(node, 1), x, lowest)


def _dequantize(build: Build, node: Node, op: ops.Dequantize) -> None:
    weights, tensor = build.graph.weights, node.inputs[0]
    qtype, x = build.qtype(tensor), build.source(node)
    zero = build.along_first(op.zero_points(weights), tensor)
    if not is_byte(qtype):
        if zero.any():
            zero_point = build.constant(zero, np.int64, f"{node.output}/zero_point")
            x = build.add("Sub", build.cast(x, np.int64), zero_point)
        x = build.cast(x, np.float32)
    else:
        x = build.cast(x, np.float32)
        if (zero + level_offset(qtype)).any():
            zero_point = build.constant(zero + level_offset(qtype), np.float32, f"{node.output}/zero_point")
            x = build.add("Sub", x, zero_point)
    if op.scale is None:
        build.set_stored(node, x)
        return
    scale = build.constant(build.along_first(weights[op.scale], tensor), np.float32, f"{node.output}/scale")
    build.add("Mul", x, scale, out=node.output)


FLOAT: Mapping[type[ops.Op], Emit] = {
    ops.Affine: _affine,
    ops.Linear: _linear,
    ops.Conv2d: _conv2d,
    ops.Activation: _activation,
    ops.Tanh: _tanh,
    ops.LayerNorm: _layer_norm,
    ops.Pool: _pool,
    ops.Flatten: _flatten,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Slice: _slice,
    ops.Unflatten: _unflatten,
    ops.Add: _add,
    ops.Concat: _concat,
    ops.Dueling: _dueling,
    ops.GRU: _gru,
    ops.Expectation: _expectation,
    ops.ArgMax: _argmax,
    ops.BranchArgMax: _branch_argmax,
    ops.Dequantize: _dequantize,
}
"""Op → its emitter."""

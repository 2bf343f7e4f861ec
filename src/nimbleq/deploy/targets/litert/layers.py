"""Ops of the layer graph as operators of LiteRT. Integers are computed in float32, which holds them exactly to 2^24."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nimbleq.deploy.targets.litert.build import Build
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

Emit = Callable[[Build, Node, Any], int]
"""``(build, node, node.op)``: adds the operators of one op, returns the tensor that they make."""
_VALID = 1  # Padding.VALID


def _affine(build: Build, node: Node, op: ops.Affine) -> int:
    scale, shift = (build.along(build.graph.weights[name], node.inputs[0]) for name in (op.scale, op.shift))
    return build.binary("ADD", build.binary("MUL", build.source(node), scale), shift)


def _linear(build: Build, node: Node, op: ops.Linear) -> int:
    weights = build.graph.weights
    return build.linear(build.source(node), weights[op.weight], None if op.bias is None else weights[op.bias])


def _padded(build: Build, x: int, padding: tuple[int, int], value: float) -> int:
    rows, cols = padding
    if not (rows or cols):
        return x
    one, height, width, channels = build.shape(x)
    extents = build.constant([[0, 0], [rows, rows], [cols, cols], [0, 0]], "int32")
    shape = (one, height + 2 * rows, width + 2 * cols, channels)
    return build.add("PADV2", [x, extents, build.constant(np.float32(value))], shape, "PadV2Options")


def _windows(build: Build, x: int, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """Height and width of what windows give."""
    height, width = build.shape(x)[1:3]
    return (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1


def _conv2d(build: Build, node: Node, op: ops.Conv2d) -> int:
    weights = build.graph.weights
    weight = weights[op.weight].astype(np.float32)
    bias = np.zeros(len(weight)) if op.bias is None else weights[op.bias]
    x = _padded(build, build.source(node), op.padding, op.pad_value)
    channels, out = build.shape(x)[3], len(weight)
    size = _windows(build, x, weight.shape[2:], op.stride)
    stride: dict[str, Any] = {"padding": _VALID, "strideH": op.stride[0], "strideW": op.stride[1]}
    shape = (1, *size, out)
    if op.groups == channels > 1:
        filters = build.constant(np.transpose(weight[:, 0], (1, 2, 0))[None])
        each: dict[str, Any] = {"depthMultiplier": out // channels}
        inputs = [x, filters, build.constant(bias)]
        return build.add("DEPTHWISE_CONV_2D", inputs, shape, "DepthwiseConv2DOptions", **stride, **each)
    filters = build.constant(np.transpose(_whole(weight, op.groups), (0, 2, 3, 1)))
    return build.add("CONV_2D", [x, filters, build.constant(bias)], shape, "Conv2DOptions", **stride)


def _whole(weight: Array, groups: int) -> Array:
    """The filters of all groups with zeros for the channels of the others."""
    out, inner = weight.shape[:2]
    whole = np.zeros((out, inner * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        whole[rows, group * inner : (group + 1) * inner] = weight[rows]
    return whole


def _pool(build: Build, node: Node, op: ops.Pool) -> int:
    maximal = op.function == "max"
    border = float(np.finfo(np.float32).min) if maximal else 0.0
    x = _padded(build, build.source(node), op.padding, border)
    size = _windows(build, x, op.kernel, op.stride)
    kind = "MAX_POOL_2D" if maximal else "AVERAGE_POOL_2D"
    window: dict[str, Any] = {
        "padding": _VALID, "strideH": op.stride[0], "strideW": op.stride[1],
        "filterHeight": op.kernel[0], "filterWidth": op.kernel[1],
    }  # fmt: skip
    pooled = build.add(kind, [x], (1, *size, build.shape(x)[3]), "Pool2DOptions", **window)
    return build.binary("MUL", pooled, np.float32(op.kernel[0] * op.kernel[1])) if op.function == "sum" else pooled


def _activation(build: Build, node: Node, op: ops.Activation) -> int:
    x = build.source(node)
    if op.function == "relu":
        return build.add("RELU", [x], build.shape(x))
    if op.function == "leaky_relu":
        return build.add("LEAKY_RELU", [x], build.shape(x), "LeakyReluOptions", alpha=float(op.slope))
    return build.clamp(x, op.low, op.high)


def _layer_norm(build: Build, node: Node, op: ops.LayerNorm) -> int:
    x, weights = build.source(node), build.graph.weights
    axes = list(range(1, len(build.shape(x))))
    centred = build.binary("SUB", x, build.reduce("MEAN", x, axes))
    variance = build.reduce("MEAN", build.binary("MUL", centred, centred), axes)
    spread = build.binary("ADD", variance, np.float32(op.eps))
    y = build.binary("MUL", centred, build.add("RSQRT", [spread], build.shape(spread)))
    for kind, name in (("MUL", op.weight), ("ADD", op.bias)):
        if name is not None:
            y = build.binary(kind, y, build.along(weights[name], node.inputs[0]))
    return y


def _flatten(build: Build, node: Node, _: ops.Flatten) -> int:
    x = build.source(node)
    first = build.transpose(x, (0, 3, 1, 2)) if len(build.shape(x)) == 4 else x
    return build.reshape(first, (1, build.graph.types[node.output].size))


def _unflatten(build: Build, node: Node, op: ops.Unflatten) -> int:
    return build.transpose(build.reshape(build.source(node), (1, op.channels, op.height, op.width)), (0, 2, 3, 1))


def _channel_shuffle(build: Build, node: Node, op: ops.ChannelShuffle) -> int:
    x = build.source(node)
    _, height, width, channels = build.shape(x)
    split = build.reshape(x, (height * width, op.groups, channels // op.groups))
    return build.reshape(build.transpose(split, (0, 2, 1)), (1, height, width, channels))


def _slice(build: Build, node: Node, op: ops.Slice) -> int:
    x = build.source(node)
    shape = build.shape(x)
    start = [0] * (len(shape) - 1) + [op.start]
    size = [*shape[:-1], op.stop - op.start]
    return build.add(
        "SLICE", [x, build.constant(start, "int32"), build.constant(size, "int32")], size, "SliceOptions"
    )  # fmt: skip


def _concat(build: Build, node: Node, _: ops.Concat) -> int:
    parts = [build.stored[name] for name in node.inputs]
    shape = [*build.shape(parts[0])[:-1], sum(build.shape(part)[-1] for part in parts)]
    return build.add("CONCATENATION", parts, shape, "ConcatenationOptions", axis=len(shape) - 1)


def _add(build: Build, node: Node, _: ops.Add) -> int:
    return build.binary("ADD", build.source(node, 0), build.source(node, 1))


def _dueling(build: Build, node: Node, _: ops.Dueling) -> int:
    value, advantage = build.source(node, 0), build.source(node, 1)
    return build.binary("SUB", build.binary("ADD", value, advantage), build.reduce("MEAN", advantage, [1]))


def _expectation(build: Build, node: Node, op: ops.Expectation) -> int:
    support = build.graph.weights[op.support]
    rows = build.reshape(build.source(node), (1, build.graph.types[node.output].size, len(support)))
    mass = build.add("SOFTMAX", [rows], build.shape(rows), "SoftmaxOptions", beta=1.0)
    return build.reduce("SUM", build.binary("MUL", mass, support), [2], keep=False)


def _quantize(build: Build, node: Node, op: ops.Quantize) -> int:
    weights, tensor, kind = build.graph.weights, node.inputs[0], Int(op.bits, op.signed)
    x = build.binary("MUL", build.source(node), build.along(weights[op.inverse_scale], tensor))
    x = build.floor(build.binary("ADD", x, np.float32(0.5)))
    x = build.binary("ADD", x, build.along(op.zero_points(weights), tensor))
    return build.clamp(x, kind.low, kind.high)


def _requantize(build: Build, node: Node, op: ops.Requantize) -> int:
    weights = build.graph.weights
    factor = np.ldexp(op.multipliers(weights).astype(np.float64), -weights[op.shift])
    x = build.binary("MUL", build.source(node), build.along(factor, node.inputs[0]))
    x = build.floor(build.binary("ADD", x, np.float32(0.5)))
    x = build.binary("ADD", x, np.float32(op.zero_point)) if op.zero_point else x
    return build.clamp(x, op.low, op.high)


def _dequantize(build: Build, node: Node, op: ops.Dequantize) -> int:
    weights, tensor, x = build.graph.weights, node.inputs[0], build.source(node)
    zero = op.zero_points(weights)
    x = build.binary("SUB", x, build.along(zero, tensor)) if zero.any() else x
    return x if op.scale is None else build.binary("MUL", x, build.along(weights[op.scale], tensor))


def _oblique_tree(build: Build, node: Node, op: ops.ObliqueTree) -> int:
    sums = build.linear(build.source(node), build.graph.weights[op.split])
    return _leaves(build, node, sums, build.graph.weights[op.threshold], op.leaf)


def _axis_tree(build: Build, node: Node, op: ops.AxisTree) -> int:
    feature = build.graph.weights[op.feature]
    columns = build.constant(feature, "int32")
    seen = build.add("GATHER", [build.source(node), columns], (1, len(feature)), "GatherOptions", axis=1)
    return _leaves(build, node, seen, build.graph.weights[op.threshold], op.leaf)


def _leaves(build: Build, node: Node, seen: int, threshold: Array, name: str) -> int:
    """What the leaf gives with which all splits above it agree."""
    leaf = build.graph.weights[name]
    splits, actions = len(leaf) - 1, build.graph.types[node.output].size
    turns, left = ops.tree_turns(splits)
    bound = build.constant(threshold)
    right = build.add("GREATER", [seen, bound], (1, splits), "GreaterOptions", "bool")
    agreeing = build.linear(build.cast(right, "float32"), turns.T, left)
    depth = build.constant(np.full((1, 1), ops.tree_depth(splits)))
    reached = build.add("GREATER_EQUAL", [agreeing, depth], (1, splits + 1), "GreaterEqualOptions", "bool")
    rows = np.eye(actions)[leaf] if leaf.ndim == 1 else leaf.astype(np.float64)
    return build.linear(build.cast(reached, "float32"), rows.T)


def _argmax(build: Build, node: Node, _: ops.ArgMax) -> int:
    x, masked = build.source(node), len(node.inputs) == 2
    if masked:
        mask = build.source(node, 1)
        least = build.constant(np.full(build.shape(x), -np.inf))
        x = build.add("SELECT_V2", [mask, x, least], build.shape(x), "SelectV2Options")
    codes = build.schema.TensorType
    inputs = [x, build.constant(1, "int32")]
    best = build.add("ARG_MAX", inputs, (1,), "ArgMaxOptions", "int32", outputType=codes.INT32)
    if not masked:
        return best
    some = build.reduce("REDUCE_ANY", mask, [1], keep=False)
    inputs = [some, best, build.constant(np.full(1, -1), "int32")]
    return build.add("SELECT_V2", inputs, (1,), "SelectV2Options", "int32")


LAYERS: Mapping[type[ops.Op], Emit] = {
    ops.Affine: _affine,
    ops.Linear: _linear,
    ops.Conv2d: _conv2d,
    ops.Pool: _pool,
    ops.Activation: _activation,
    ops.LayerNorm: _layer_norm,
    ops.Flatten: _flatten,
    ops.Unflatten: _unflatten,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Slice: _slice,
    ops.Concat: _concat,
    ops.Add: _add,
    ops.Dueling: _dueling,
    ops.Expectation: _expectation,
    ops.Quantize: _quantize,
    ops.Requantize: _requantize,
    ops.Dequantize: _dequantize,
    ops.ObliqueTree: _oblique_tree,
    ops.AxisTree: _axis_tree,
    ops.ArgMax: _argmax,
}
"""Op → its emitter."""

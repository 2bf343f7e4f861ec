"""Op → the function that adds its instructions: `LOWERED`. What each computes is fixed by `nimbleq.graph.kernels`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nimbleq.deploy.prebuilt.lowering import Lowering, periods
from nimbleq.deploy.prebuilt.program import BYTES, F32
from nimbleq.deploy.prebuilt.sums import activation, conv2d, linear
from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.layer import as_stored
from nimbleq.deploy.targets.c.ops.sums import check_int_source
from nimbleq.graph import ops
from nimbleq.graph.ops import tree_depth
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

Lower = Callable[[Lowering], None]


def _affine(step: Lowering) -> None:
    kind, x = step.layer.source_type, step.as_type(F32)
    parts = [step.weight(name) for name in (step.op.scale, step.op.shift)]
    if is_image(kind) and all(part.size == 1 or part.shape == (kind.shape[0], 1, 1) for part in parts):
        parts = [part.reshape(-1) for part in parts]
    else:
        whole = [as_stored(np.broadcast_to(part, kind.shape)).reshape(-1) for part in parts]
        parts = [part.reshape(-1) if part.size == 1 else full for part, full in zip(parts, whole, strict=True)]
    period, constants = periods(parts, kind.size)
    step.each("affine", x=x, period=period, constants=constants)


def _activation(step: Lowering) -> None:
    function, reals = activation(step.op)
    step.each("activate", function=function, reals=reals)


def _tanh(step: Lowering) -> None:
    step.each("tanh")


def _layer_norm(step: Lowering) -> None:
    names = (step.op.weight, step.op.bias)
    stored = [None if name is None else as_stored(step.weight(name)) for name in names]
    step.each("layer_norm", reals=(step.op.eps,), constants=stored)


def _pool(step: Lowering) -> None:
    op, (channels, height, width) = step.op, step.layer.source_type.shape
    _, rows, cols = step.layer.node_type.shape
    function = ("max", "average", "sum").index(op.function)
    sizes = (function, step.type_x, channels, height, width, rows, cols, *op.kernel, *op.stride, *op.padding)
    step.add("pool", step.x, step.y, sizes)


def _permute(step: Lowering, repeat: int, rows: int, cols: int) -> None:
    step.add("permute", step.x, step.y, (BYTES[step.type_x], repeat, rows, cols))


def _flatten(step: Lowering) -> None:
    if step.x != step.y:
        channels, height, width = step.layer.source_type.shape
        _permute(step, 1, height * width, channels)


def _unflatten(step: Lowering) -> None:
    channels, height, width = step.layer.node_type.shape
    _permute(step, 1, channels, height * width)


def _channel_shuffle(step: Lowering) -> None:
    channels, height, width = step.layer.node_type.shape
    _permute(step, height * width, step.op.groups, channels // step.op.groups)


def _add(step: Lowering) -> None:
    step.each("add", other=step.place(step.layer.step.node.inputs[1]))


def _dueling(step: Lowering) -> None:
    step.each("dueling", other=step.place(step.layer.step.node.inputs[1]))


def _concat(step: Lowering) -> None:
    kind = step.layer.node_type
    image, done, item = is_image(kind), 0, BYTES[step.type_x]
    outer, total = (kind.shape[1] * kind.shape[2], kind.shape[0]) if image else (1, kind.size)
    for name in step.layer.step.node.inputs:
        part = step.kind(name).shape[0] if image else step.kind(name).size
        step.add("copy", step.place(name), step.y, (item, outer, part, 0, part, done, total))
        done += part


def _slice(step: Lowering) -> None:
    step.add("copy", step.x, step.y, (BYTES[step.type_x], 1, step.layer.count, step.op.start, 0, 0, 0))


def _expectation(step: Lowering) -> None:
    support = step.weight(step.op.support)
    step.each("expectation", atoms=len(support), constants=[support])


def _quantize(step: Lowering) -> None:
    number = Int(step.op.bits, step.op.signed)
    period, (inverse, zero) = step.per_channel(step.op.inverse_scale, step.op.zero_point, missing=(1, 0))
    constants = [inverse.astype(np.float32), zero.astype(np.int32)]
    step.each("quantize", step.type_y, period=period, low=number.low, high=number.high, constants=constants)


def _dequantize(step: Lowering) -> None:
    period, (scale, zero) = step.per_channel(step.op.scale, step.op.zero_point, missing=(1, 0))
    step.each("dequantize", period=period, constants=[scale.astype(np.float32), zero.astype(np.int32)])


def _requantize(step: Lowering) -> None:
    op = step.op
    period, parts = step.per_channel(op.multiplier, op.shift, missing=(1, 0))
    step.each(
        "requantize", step.type_y, constants=[part.astype(np.int32) for part in parts],
        period=period, zero_point=op.zero_point, low=op.low, high=op.high,
    )  # fmt: skip


def _oblique_tree(step: Lowering) -> None:
    split, threshold = step.weight(step.op.split), step.weight(step.op.threshold)
    real = split.dtype == np.float32
    if not real:
        check_int_source(step.layer)
    number = np.float32 if real else np.int32
    _tree(step, split.shape[1], len(split), real, [split.astype(number), threshold.astype(number)])


def _axis_tree(step: Lowering) -> None:
    feature, threshold = step.weight(step.op.feature), step.weight(step.op.threshold)
    constants: list[Array] = [feature.astype(np.int32), threshold.astype(np.float64)]
    _tree(step, step.layer.source_type.size, len(feature), threshold.dtype == np.float32, constants)


def _tree(step: Lowering, features: int, splits: int, real: bool, constants: list[Array]) -> None:
    leaf = step.weight(step.op.leaf)
    number = np.int32 if leaf.dtype != np.float32 else np.float32
    sizes = (
        features, tree_depth(splits), int(real), step.layer.count, int(leaf.ndim == 1), step.type_x, step.type_y,
    )  # fmt: skip
    step.add(
        step.op.kind.lower().replace("tree", "_tree"), step.x, step.y, sizes, (), [*constants, leaf.astype(number)]
    )


def _argmax(step: Lowering) -> None:
    masked = len(step.layer.step.node.inputs) == 2
    step.add("argmax", step.x, step.x, (step.layer.source_type.size, step.type_x, int(masked)))


LOWERED: Mapping[type[ops.Op], Lower] = {
    ops.Affine: _affine,
    ops.Linear: linear,
    ops.Conv2d: conv2d,
    ops.Activation: _activation,
    ops.Tanh: _tanh,
    ops.LayerNorm: _layer_norm,
    ops.Pool: _pool,
    ops.Flatten: _flatten,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Add: _add,
    ops.Concat: _concat,
    ops.Slice: _slice,
    ops.Unflatten: _unflatten,
    ops.Dueling: _dueling,
    ops.Expectation: _expectation,
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Requantize: _requantize,
    ops.ObliqueTree: _oblique_tree,
    ops.AxisTree: _axis_tree,
    ops.ArgMax: _argmax,
}

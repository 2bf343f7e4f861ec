"""The semantics of every op in numpy: a function of batched arrays, with the weights prepared once.

Integer layers compute exactly. Their sums provably fit int32 (see `ops.accumulator_bound`), so they go through BLAS in
float32 where every partial sum is below 2²⁴ and in float64 otherwise: exact, and many times faster than integer matmul.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.branches import join, parts
from nimbleq.graph.few_inputs import LEAST, rows_added
from nimbleq.graph.ops import Weights, accumulator_bound
from nimbleq.graph.tensor import FLOAT32, INT32, Int, TensorType
from nimbleq.types import Array

Kernel = Callable[..., Array]
"""Batched inputs → batched output: float32, or int32 for any integer format."""


@singledispatch
def kernel(op: ops.Op, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    """The function of ``op``, for inputs of the types ``sources``."""
    raise AssertionError(f"{op.kind} has no semantics")


@kernel.register
def _affine(op: ops.Affine, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    scale, shift = weights[op.scale].astype(np.float64), weights[op.shift].astype(np.float64)

    def affine(x: Array) -> Array:
        y: Array = x * scale
        y += shift
        return y.astype(np.float32)

    return affine


@kernel.register
def _linear(op: ops.Linear, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return linear_of(op, weights, sources)


def linear_of(op: ops.Linear, weights: Weights, sources: tuple[TensorType, ...], first: bool = False) -> Kernel:
    """The function of a Linear; the ``first`` one reads the observation, which may be zeros but for a few."""
    compute, result = _arithmetic(op, weights, sources[0])
    matrix: Array = weights[op.weight].T.astype(compute, order="C")
    bias: Array | None = None if op.bias is None else weights[op.bias].astype(compute)

    def linear(x: Array) -> Array:
        y: Array = x.astype(compute, copy=False) @ matrix
        if bias is not None:
            y += bias
        return y.astype(result, copy=False)

    return rows_added(linear, matrix, bias, result) if first and len(matrix) >= LEAST else linear


def _arithmetic(op: ops.Linear | ops.Conv2d, weights: Weights, source: TensorType) -> tuple[type, type]:
    """Number formats of the computation and of the result."""
    weight = weights[op.weight]
    if weight.dtype == FLOAT32.dtype or not source.qtype.is_integer:
        return np.float32, np.float32
    bound = accumulator_bound(weight, None if op.bias is None else weights[op.bias], source.qtype)
    return np.float32 if bound < 1 << 24 else np.float64, np.int32


@kernel.register
def _conv2d(op: ops.Conv2d, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    compute, result = _arithmetic(op, weights, sources[0])
    out, _, *extent = weights[op.weight].shape
    grouped_kernels = weights[op.weight].reshape(op.groups, out // op.groups, -1)
    matrices: Array = grouped_kernels.transpose(0, 2, 1).astype(compute, order="C")
    bias: Array | None = None if op.bias is None else weights[op.bias].astype(compute).reshape(-1, 1, 1)

    def conv2d(x: Array) -> Array:
        source: Array = x.astype(compute, copy=False)
        seen = windows(source, (extent[0], extent[1]), op.stride, op.padding, op.pad_value)
        batch, _, rows, cols = seen.shape[:4]
        grouped = seen.reshape(batch, op.groups, -1, rows, cols, extent[0] * extent[1])
        columns = grouped.transpose(1, 0, 3, 4, 2, 5).reshape(op.groups, batch * rows * cols, -1)
        product = (columns @ matrices).reshape(op.groups, batch, rows, cols, -1)
        y: Array = product.transpose(1, 0, 4, 2, 3).reshape(batch, out, rows, cols)
        if bias is not None:
            y += bias
        return y.astype(result, copy=False)

    return conv2d


def windows(
    source: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], fill: float
) -> Array:
    """``[B, C, rows, cols, kh, kw]`` sliding windows of the padded image."""
    if any(padding):
        batch, channels, height, width = source.shape
        up, left = padding
        padded = np.full((batch, channels, height + 2 * up, width + 2 * left), fill, source.dtype)
        padded[:, :, up : up + height, left : left + width] = source
        source = padded
    view = np.lib.stride_tricks.sliding_window_view(source, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


@kernel.register
def _activation(op: ops.Activation, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    zero, slope, low, high = (np.float32(value) for value in (0, op.slope, op.low, op.high))
    if op.function == "relu":
        return lambda x: np.maximum(x, zero)
    if op.function == "leaky_relu":
        return lambda x: np.where(x < zero, x * slope, x)
    return lambda x: np.minimum(np.maximum(x, low), high)


@kernel.register
def _tanh(op: ops.Tanh, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return np.tanh


@kernel.register
def _layer_norm(op: ops.LayerNorm, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    axes = tuple(range(1, len(sources[0].shape) + 1))
    count, eps = np.float32(sources[0].size), np.float32(op.eps)
    weight = None if op.weight is None else weights[op.weight]
    bias = None if op.bias is None else weights[op.bias]

    def layer_norm(x: Array) -> Array:
        y: Array = x - np.add.reduce(x, axes, keepdims=True) / count
        y -= np.add.reduce(y, axes, keepdims=True) / count  # what rounding left of the mean: √eps would divide it
        y /= np.sqrt(np.add.reduce(y * y, axes, keepdims=True) / count + eps)
        if weight is not None:
            y *= weight
        if bias is not None:
            y += bias
        return y

    return layer_norm


@kernel.register
def _pool(op: ops.Pool, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    if op.function == "average":
        # Zeros of the padding count as entries, as with torch's count_include_pad=True.
        return lambda x: windows(x, op.kernel, op.stride, op.padding, 0).mean(axis=(4, 5), dtype=np.float32)
    if op.function == "sum":
        return lambda x: windows(x, op.kernel, op.stride, op.padding, 0).sum(axis=(4, 5), dtype=np.int32)
    lowest = INT32.low if sources[0].qtype.is_integer else -np.inf
    return lambda x: windows(x, op.kernel, op.stride, op.padding, lowest).max(axis=(4, 5))


@kernel.register
def _flatten(op: ops.Flatten, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda x: x.reshape(len(x), -1)


@kernel.register
def _channel_shuffle(op: ops.ChannelShuffle, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    channels, *extent = sources[0].shape

    def channel_shuffle(x: Array) -> Array:
        dealt = x.reshape(len(x), op.groups, channels // op.groups, *extent).swapaxes(1, 2)
        return dealt.reshape(len(x), channels, *extent)

    return channel_shuffle


@kernel.register
def _slice(op: ops.Slice, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda x: x[:, op.start : op.stop]


@kernel.register
def _unflatten(op: ops.Unflatten, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda x: x.reshape(len(x), op.channels, op.height, op.width)


@kernel.register
def _add(op: ops.Add, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda x, y: x + y


@kernel.register
def _concat(op: ops.Concat, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda *arrays: np.concatenate(arrays, axis=1)


@kernel.register
def _expectation(op: ops.Expectation, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    support = weights[op.support]

    def expectation(x: Array) -> Array:
        rows = x.reshape(len(x), -1, len(support))
        mass: Array = np.exp(rows - rows.max(axis=2, keepdims=True))
        y: Array = np.add.reduce(mass * support, 2) / np.add.reduce(mass, 2)
        return y

    return expectation


@kernel.register
def _dueling(op: ops.Dueling, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    return lambda value, advantage: value + advantage - advantage.mean(axis=1, keepdims=True, dtype=np.float32)


@kernel.register
def _oblique_tree(op: ops.ObliqueTree, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    # Products of float32 and sums of int32 are exact in float64; accumulate adds in the order that the op fixes.
    split, threshold = (weights[name].astype(np.float64) for name in (op.split, op.threshold))
    leaf = _leaf_rows(weights[op.leaf], op.actions)

    def oblique_tree(x: Array) -> Array:
        wide = x.astype(np.float64)

        def goes_right(node: Array) -> Array:
            right: Array = np.add.accumulate(wide * split[node], axis=1)[:, -1] > threshold[node]
            return right

        return leaf[_walk(goes_right, len(x), len(split))]

    return oblique_tree


@kernel.register
def _axis_tree(op: ops.AxisTree, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    feature, threshold = weights[op.feature].astype(np.int64), weights[op.threshold].astype(np.float64)
    leaf = _leaf_rows(weights[op.leaf], op.actions)

    def axis_tree(x: Array) -> Array:
        rows = np.arange(len(x))

        def goes_right(node: Array) -> Array:
            right: Array = x[rows, feature[node]] > threshold[node]
            return right

        return leaf[_walk(goes_right, len(x), len(feature))]

    return axis_tree


def _walk(goes_right: Callable[[Array], Array], count: int, splits: int) -> Array:
    """``int64[count]`` leaf that each row reaches in a complete tree."""
    node = np.zeros(count, np.int64)
    for _ in range(ops.tree_depth(splits)):
        node = 2 * node + 1 + goes_right(node)
    return node - splits


def _leaf_rows(leaf: Array, actions: int) -> Array:
    """``[L, A]`` what each leaf gives."""
    if leaf.ndim == 1:
        return np.eye(actions, dtype=np.float32)[leaf]
    return leaf.astype(np.float32 if leaf.dtype == FLOAT32.dtype else np.int32)


@kernel.register
def _argmax(op: ops.ArgMax, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    if len(sources) == 1:
        return lambda x: x.argmax(axis=1).astype(np.int32)
    lowest = np.iinfo(np.int64).min if sources[0].qtype.is_integer else -np.inf

    def argmax(x: Array, mask: Array) -> Array:
        legal = mask != 0
        if not legal.any(axis=1).all():
            raise GraphError("the mask allows no action: at least one has to be legal")
        wide = x.astype(np.int64) if sources[0].qtype.is_integer else x
        # A legal action of value -inf (or NaN) still wins over illegal ones.
        best: Array = np.where(legal, wide, lowest).argmax(axis=1)
        chosen = np.take_along_axis(legal, best[:, None], axis=1)[:, 0]
        return np.where(chosen, best, legal.argmax(axis=1)).astype(np.int32)

    return argmax


@kernel.register
def _branch_argmax(op: ops.BranchArgMax, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    one = _argmax(ops.ArgMax(), weights, sources)

    def choose(*given: Array) -> Array:
        choices = [one(*(array[:, part] for array in given)) for part in parts(op.branches)]
        return join(choices, op.branches).astype(np.int32)

    return choose


@kernel.register
def _gru(op: ops.GRU, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    units = sources[2].size

    def remember(of_input: Array, of_memory: Array, memory: Array) -> Array:
        both = of_input[:, : 2 * units] + of_memory[:, : 2 * units]
        with np.errstate(over="ignore"):
            gates = 1 / (1 + np.exp(-both))
        reset, keep = gates[:, :units], gates[:, units:]
        fresh = np.tanh(of_input[:, 2 * units :] + reset * of_memory[:, 2 * units :])
        kept: Array = (1 - keep) * fresh + keep * memory
        return kept

    return remember


@kernel.register
def _quantize(op: ops.Quantize, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    qtype = Int(op.bits, op.signed)
    inverse_scale = _along_first(weights[op.inverse_scale], sources[0]).astype(np.float64)
    zero_point = _along_first(op.zero_points(weights), sources[0]).astype(np.float64)

    def quantize(x: Array) -> Array:
        level: Array = np.floor(x * inverse_scale + 0.5) + zero_point
        # fmax takes the number when the other is NaN.
        return np.minimum(np.fmax(level, qtype.low), qtype.high).astype(np.int32)

    return quantize


@kernel.register
def _dequantize(op: ops.Dequantize, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    scale = _along_first(op.scales(weights), sources[0]).astype(np.float32)
    zero_point = _along_first(op.zero_points(weights), sources[0]).astype(np.int64)

    def dequantize(x: Array) -> Array:
        y: Array = (x - zero_point).astype(np.float32)
        y *= scale
        return y

    return dequantize


@kernel.register
def _requantize(op: ops.Requantize, weights: Weights, sources: tuple[TensorType, ...]) -> Kernel:
    multiplier = _along_first(op.multipliers(weights), sources[0]).astype(np.int64)
    shift = _along_first(weights[op.shift], sources[0]).astype(np.int64)
    half = np.int64(1) << (shift - 1)

    def requantize(x: Array) -> Array:
        y: Array = x * multiplier
        y += half
        y >>= shift
        y += op.zero_point
        return np.minimum(np.maximum(y, op.low), op.high).astype(np.int32)

    return requantize


def _along_first(parameter: Array, source: TensorType) -> Array:
    """A ``(1,)`` or ``(C,)`` parameter shaped to broadcast along the first axis after the batch."""
    return parameter.reshape((-1,) + (1,) * (len(source.shape) - 1))

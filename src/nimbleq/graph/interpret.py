"""The oracle: what every op means, in numpy. C, ONNX and hardware are checked against this.

Every function takes and gives arrays with a leading batch axis. Integer ops compute exactly; where the sums fit into the
53 bits of a double they go through BLAS, which is exact there and many times faster than numpy's integer matmul.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph
from nimbleq.graph.ops import Weights
from nimbleq.graph.tensor import Float32, Int
from nimbleq.types import Array


def interpret(graph: Graph, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    """All outputs of ``graph``.

    Args:
        inputs: the observation ``[B, *O]``, or one array per graph input by name.

    Returns:
        Output name → array with the batch axis first; integers come as int32.

    Raises:
        GraphError: an input is missing or has the wrong shape.
    """
    tensors = trace(graph, inputs)
    return {name: tensors[name] for name in graph.outputs}


def trace(graph: Graph, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    """Every tensor of the graph, by name; see `interpret`."""
    named = {graph.obs_name: inputs} if isinstance(inputs, np.ndarray) else inputs
    tensors: dict[str, Array] = {}
    for name, kind in graph.inputs.items():
        if name not in named:
            raise GraphError(f"input {name!r} is missing")
        array = np.asarray(named[name])
        if array.shape[1:] != kind.shape:
            raise GraphError(f"input {name!r} has shape {array.shape}, expected (B, {', '.join(map(str, kind.shape))})")
        tensors[name] = array.astype(np.float32 if isinstance(kind.qtype, Float32) else np.int32)
    for node in graph.nodes:
        sources = tuple(tensors[name] for name in node.inputs)
        tensors[node.output] = evaluate_op(node.op, sources, graph.weights)
    return tensors


@dataclass(frozen=True)
class GraphPolicy:
    """The greedy policy ``obs[B, *O] → action int64[B]`` that a graph describes; pickles, so workers can play it."""

    graph: Graph

    def __call__(self, obs: Array) -> Array:
        return interpret(self.graph, obs)[ACTION].astype(np.int64)


@singledispatch
def evaluate_op(op: ops.Op, sources: tuple[Array, ...], weights: Weights) -> Array:
    """One op on batched arrays: float32, or int32 for any integer format."""
    raise AssertionError(f"{op.kind} has no semantics")


def _bias(op: ops.Linear | ops.Conv2d, weights: Weights) -> Array | float:
    return 0.0 if op.bias is None else weights[op.bias]


@evaluate_op.register
def _affine(op: ops.Affine, sources: tuple[Array, ...], weights: Weights) -> Array:
    scale, shift = weights[op.scale].astype(np.float64), weights[op.shift].astype(np.float64)
    return (sources[0].astype(np.float64) * scale + shift).astype(np.float32)


@evaluate_op.register
def _linear(op: ops.Linear, sources: tuple[Array, ...], weights: Weights) -> Array:
    weight = weights[op.weight]
    if weight.dtype == np.float32:
        return (sources[0].astype(np.float32) @ weight.T + _bias(op, weights)).astype(np.float32)
    total = sources[0].astype(np.float64) @ weight.T.astype(np.float64) + _bias(op, weights)
    return total.astype(np.int64).astype(np.int32)


@evaluate_op.register
def _conv2d(op: ops.Conv2d, sources: tuple[Array, ...], weights: Weights) -> Array:
    weight = weights[op.weight]
    real = weight.dtype == np.float32
    compute = np.float32 if real else np.float64
    source = sources[0].astype(compute)
    windows = _windows(source, weight.shape[2:], op.stride, op.padding, op.pad_value)
    batch, channels, rows, cols = windows.shape[:4]
    out, group_in = weight.shape[:2]
    grouped = windows.reshape(batch, op.groups, group_in, rows, cols, -1)
    columns = grouped.transpose(1, 0, 3, 4, 2, 5).reshape(op.groups, batch * rows * cols, -1)
    kernels = weight.reshape(op.groups, out // op.groups, -1).astype(compute)
    product = columns @ kernels.transpose(0, 2, 1)
    image = product.reshape(op.groups, batch, rows, cols, -1).transpose(1, 0, 4, 2, 3).reshape(batch, out, rows, cols)
    total = image + np.reshape(_bias(op, weights), (-1, 1, 1))
    return total.astype(np.float32) if real else total.astype(np.int64).astype(np.int32)


def _windows(
    source: Array, kernel: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int], fill: float
) -> Array:
    """``[B, C, rows, cols, kh, kw]`` sliding windows of the padded image."""
    border = ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)
    padded = np.pad(source, border, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


@evaluate_op.register
def _activation(op: ops.Activation, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    if op.function == "relu":
        return np.maximum(x, np.float32(0))
    if op.function == "leaky_relu":
        return np.where(x < 0, x * np.float32(op.slope), x)
    return np.minimum(np.maximum(x, np.float32(op.low)), np.float32(op.high))


@evaluate_op.register
def _layer_norm(op: ops.LayerNorm, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True, dtype=np.float32)
    variance = np.square(centred).mean(axes, keepdims=True, dtype=np.float32)
    y = centred / np.sqrt(variance + np.float32(op.eps))
    if op.weight is not None:
        y = y * weights[op.weight]
    if op.bias is not None:
        y = y + weights[op.bias]
    return y.astype(np.float32)


@evaluate_op.register
def _pool(op: ops.Pool, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    if op.function == "max":
        lowest = -np.inf if x.dtype == np.float32 else np.iinfo(np.int32).min
        return _windows(x, op.kernel, op.stride, op.padding, lowest).max(axis=(4, 5))
    return _windows(x, op.kernel, op.stride, op.padding, 0.0).mean(axis=(4, 5), dtype=np.float32)


@evaluate_op.register
def _flatten(op: ops.Flatten, sources: tuple[Array, ...], weights: Weights) -> Array:
    return sources[0].reshape(len(sources[0]), -1)


@evaluate_op.register
def _add(op: ops.Add, sources: tuple[Array, ...], weights: Weights) -> Array:
    return sources[0] + sources[1]


@evaluate_op.register
def _concat(op: ops.Concat, sources: tuple[Array, ...], weights: Weights) -> Array:
    return np.concatenate(sources, axis=1)


@evaluate_op.register
def _dueling(op: ops.Dueling, sources: tuple[Array, ...], weights: Weights) -> Array:
    value, advantage = sources
    return value + advantage - advantage.mean(axis=1, keepdims=True, dtype=np.float32)


@evaluate_op.register
def _quantize(op: ops.Quantize, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    qtype = Int(op.bits, op.signed)
    inverse_scale = _along_first(weights[op.inverse_scale], x).astype(np.float64)
    zero_point = _along_first(weights[op.zero_point], x)
    level = np.floor(x.astype(np.float64) * inverse_scale + 0.5) + zero_point
    return np.clip(level, qtype.low, qtype.high).astype(np.int32)


@evaluate_op.register
def _dequantize(op: ops.Dequantize, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    offset = x.astype(np.int64) - _along_first(weights[op.zero_point], x)
    return offset.astype(np.float32) * _along_first(weights[op.scale], x)


@evaluate_op.register
def _requantize(op: ops.Requantize, sources: tuple[Array, ...], weights: Weights) -> Array:
    (x,) = sources
    multiplier = _along_first(weights[op.multiplier], x).astype(np.int64)
    shift = _along_first(weights[op.shift], x).astype(np.int64)
    scaled = (x.astype(np.int64) * multiplier + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(scaled + op.zero_point, op.low, op.high).astype(np.int32)


def _along_first(parameter: Array, x: Array) -> Array:
    """A ``(1,)`` or ``(C,)`` parameter shaped to broadcast along the first axis after the batch."""
    return parameter.reshape((-1,) + (1,) * (x.ndim - 2))


@evaluate_op.register
def _argmax(op: ops.ArgMax, sources: tuple[Array, ...], weights: Weights) -> Array:
    return sources[0].argmax(axis=1).astype(np.int32)

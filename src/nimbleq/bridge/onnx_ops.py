"""ONNX ops as ops of the layer graph ★: a function an op, and a line in `RULES`.

A rule gets the op's attributes and inputs: a tensor of the graph by name (without its batch axis), a constant as an
array, None where an optional input is left out. It returns the name of its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nimbleq.bridge import onnx_shapes as shapes
from nimbleq.bridge.onnx_making import Attributes, Making, Unfit
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.types import Array


def _without_batch(making: Making, tensor: str, array: Array) -> Array:
    """A constant that broadcasts to a tensor with its batch axis, without that axis."""
    rank = len(making.types[tensor].shape)
    if array.ndim > rank + 1 or (array.ndim == rank + 1 and array.shape[0] != 1):
        raise Unfit(f"a constant of shape {array.shape} would change the tensor's shape")
    array = array.reshape(array.shape[1:]) if array.ndim == rank + 1 else array
    while array.ndim and array.shape[0] == 1 and array.ndim > 1:
        array = array[0]
    return array


def _bias_of(making: Making, tensor: str, array: Array) -> bool:
    """Make ``array`` the bias of the layer that made ``tensor``, if that has none yet and nothing else reads it."""
    if tensor not in making.once or making.nodes[-1].output != tensor:
        return False
    node = making.nodes[-1]
    if not isinstance(node.op, ops.Linear) or node.op.bias is not None:
        return False
    size = making.types[tensor].size
    bias = making.weight("bias", np.broadcast_to(array, (size,)))
    making.nodes[-1] = Node(ops.Linear(node.op.weight, bias), node.inputs, node.output)
    return True


def _add(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if isinstance(left, str) and isinstance(right, str):
        return making.emit(ops.Add(), *_alike(making, left, right))
    tensor, array = (left, right) if isinstance(left, str) else (right, left)
    shift = _without_batch(making, tensor, array)
    return tensor if _bias_of(making, tensor, shift) else making.affine(tensor, np.ones(()), shift)


def _alike(making: Making, *tensors: str) -> list[str]:
    """Two tensors in float32; one of a single number is repeated where the other is a vector."""
    size = max(making.types[tensor].size for tensor in tensors)
    made = []
    for tensor in map(making.as_float, tensors):
        if making.types[tensor].shape == (1,) and size > 1:
            tensor = making.emit(ops.Linear(making.weight("repeat", np.ones((size, 1)))), tensor)
        made.append(tensor)
    return made


def _sub(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if isinstance(left, str) and isinstance(right, str):
        minus = making.affine(right, -np.ones(()), np.zeros(()))
        return making.emit(ops.Add(), *_alike(making, left, minus))
    if isinstance(left, str):
        return making.affine(left, np.ones(()), -_without_batch(making, left, right).astype(np.float64))
    return making.affine(right, -np.ones(()), _without_batch(making, right, left))


def _mul(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if isinstance(left, str) and isinstance(right, str):
        raise Unfit("it multiplies two tensors that depend on the observation")
    tensor, array = (left, right) if isinstance(left, str) else (right, left)
    return making.affine(tensor, _without_batch(making, tensor, array), np.zeros(()))


def _div(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if isinstance(right, str):
        raise Unfit("it divides by a tensor that depends on the observation")
    divisor = _without_batch(making, left, right).astype(np.float64)
    if not divisor.all():
        raise Unfit("it divides by 0")
    return making.affine(left, 1 / divisor, np.zeros(()))


def _matmul(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if not isinstance(left, str) or isinstance(right, str) or right.ndim != 2:
        raise Unfit("it must multiply the observation's rows by a constant matrix from the right")
    return making.emit(ops.Linear(making.weight("weight", right.T)), _vector(making, left))


def _gemm(making: Making, attributes: Attributes, left: Any, right: Any, bias: Any = None) -> str:
    if not isinstance(left, str) or isinstance(right, str) or isinstance(bias, str) or attributes.get("transA"):
        raise Unfit("it must multiply the observation's rows by a constant matrix from the right")
    matrix = (right if attributes.get("transB") else right.T) * np.float64(attributes.get("alpha", 1.0))
    weight = making.weight("weight", matrix)
    if bias is None:
        return making.emit(ops.Linear(weight), _vector(making, left))
    shift = np.broadcast_to(bias * np.float64(attributes.get("beta", 1.0)), (1, len(matrix)))[0]
    return making.emit(ops.Linear(weight, making.weight("bias", shift)), _vector(making, left))


def _vector(making: Making, tensor: str) -> str:
    tensor = making.as_float(tensor)
    if len(making.types[tensor].shape) != 1:
        raise Unfit(f"it multiplies {making.types[tensor]}: flatten it first")
    return tensor


def _conv(making: Making, attributes: Attributes, source: Any, kernel: Any, bias: Any = None) -> str:
    if not isinstance(source, str) or isinstance(kernel, str) or kernel.ndim != 4:
        raise Unfit("only two-dimensional convolutions with constant weights are understood")
    stride, padding = _geometry(attributes)
    weight = making.weight("weight", kernel)
    shift = None if bias is None else making.weight("bias", bias)
    groups = int(attributes.get("group", 1))
    return making.emit(ops.Conv2d(weight, shift, stride, padding, groups), making.as_float(source))


def _geometry(attributes: Attributes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride and padding of a window."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    plain = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not attributes.get("ceil_mode")
    if not plain or set(attributes.get("dilations", (1, 1))) != {1} or len(pads) != 4 or pads[:2] != pads[2:]:
        raise Unfit("only windows without dilation, with the same padding on both sides, are understood")
    row, col = attributes.get("strides", (1, 1))
    return (int(row), int(col)), (int(pads[0]), int(pads[1]))


def _pool(function: Any) -> Callable[..., str]:
    def pool(making: Making, attributes: Attributes, source: Any) -> str:
        stride, padding = _geometry(attributes)
        if function == "average" and any(padding) and not attributes.get("count_include_pad"):
            raise Unfit("an average over a padded border must count the padding (count_include_pad)")
        row, col = attributes["kernel_shape"]
        return making.emit(ops.Pool(function, (int(row), int(col)), stride, padding), making.as_float(source))

    return pool


def _global_average(making: Making, attributes: Attributes, source: Any) -> str:
    _, rows, cols = making.types[source].shape
    return making.emit(ops.Pool("average", (rows, cols), (1, 1)), making.as_float(source))


def _batch_norm(making: Making, attributes: Attributes, source: Any, *parts: Any) -> str:
    gain, shift, mean, variance = (np.asarray(part, np.float64) for part in parts)
    scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    along = (-1,) + (1,) * (len(making.types[source].shape) - 1)
    return making.affine(source, scale.reshape(along), (shift - mean * scale).reshape(along))


def _layer_norm(making: Making, attributes: Attributes, source: Any, gain: Any, shift: Any = None) -> str:
    source = making.as_float(source)
    shape = making.types[source].shape
    if attributes.get("axis", -1) not in (1, -len(shape)):
        raise Unfit("it must normalise all of an observation's numbers together (axis 1)")
    weight = making.weight("weight", np.broadcast_to(gain, shape))
    bias = None if shift is None else making.weight("bias", np.broadcast_to(shift, shape))
    return making.emit(ops.LayerNorm(weight, bias, float(attributes.get("epsilon", 1e-5))), source)


def _reduce_mean(making: Making, attributes: Attributes, source: Any, axes: Any = None) -> str:
    source = making.as_float(source)
    shape = making.types[source].shape
    given = np.asarray(attributes.get("axes", ()) if axes is None else axes).reshape(-1)
    along = sorted(int(axis) % (len(shape) + 1) for axis in given)
    if along == [1] and len(shape) == 1 and attributes.get("keepdims", 1):
        return making.emit(ops.Linear(making.weight("mean", np.full((1, shape[0]), 1 / shape[0]))), source)
    if along == [2, 3] and len(shape) == 3:
        pooled = making.emit(ops.Pool("average", shape[1:], (1, 1)), source)
        return pooled if attributes.get("keepdims", 1) else making.emit(ops.Flatten(), pooled)
    raise Unfit("the graph has means of a vector (keepdims 1) and of an image's pixels")


def _relu(making: Making, attributes: Attributes, source: Any) -> str:
    return making.emit(ops.Activation("relu"), making.as_float(source))


def _leaky_relu(making: Making, attributes: Attributes, source: Any) -> str:
    return making.emit(ops.Activation("leaky_relu", slope=attributes.get("alpha", 0.01)), making.as_float(source))


def _clip(making: Making, attributes: Attributes, source: Any, low: Any = None, high: Any = None) -> str:
    most = float(np.finfo(np.float32).max)
    ends = [attributes.get(name, end) if given is None else np.asarray(given).item()
            for name, end, given in (("min", -most, low), ("max", most, high))]  # fmt: skip
    return making.emit(ops.Activation("clip", low=float(ends[0]), high=float(ends[1])), making.as_float(source))


def _same(making: Making, attributes: Attributes, source: Any, *_: Any) -> str:
    return str(source)


def _cast(making: Making, attributes: Attributes, source: Any) -> str:
    if attributes.get("to") != 1:
        raise Unfit("only to float32")
    return making.as_float(source)


RULES: dict[str, Callable[..., Any]] = {
    "Add": _add, "AveragePool": _pool("average"), "BatchNormalization": _batch_norm, "Cast": _cast, "Clip": _clip,
    "Concat": shapes.concat, "Conv": _conv, "Div": _div, "Dropout": _same, "Flatten": shapes.flatten, "Gemm": _gemm,
    "GlobalAveragePool": _global_average, "Identity": _same, "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu, "MatMul": _matmul, "MaxPool": _pool("max"), "Mul": _mul, "ReduceMean": _reduce_mean,
    "Relu": _relu, "Reshape": shapes.reshape, "Slice": shapes.part, "Squeeze": shapes.squeeze, "Sub": _sub,
    "Transpose": shapes.transpose,
}  # fmt: skip
"""ONNX op → rule."""


def _constant(attributes: Attributes) -> Array:
    import onnx

    if "value" in attributes:
        return np.asarray(onnx.numpy_helper.to_array(attributes["value"]))
    (value,) = attributes.values()
    return np.asarray(value)


_NUMBERS = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}
"""ONNX's number of an element type → numpy's type."""

CONSTANT_OPS: dict[str, Callable[..., Array]] = {
    "Cast": lambda attributes, x: x.astype(_NUMBERS[attributes["to"]]),
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "Constant": _constant,
    "Gather": lambda attributes, x, at: np.take(x, np.asarray(at).astype(np.int64), axis=attributes.get("axis", 0)),
    "Identity": lambda _, x: x,
    "Neg": lambda _, x: -x,
    "Transpose": lambda attributes, x: x.transpose(attributes.get("perm")),
    "Unsqueeze": lambda attributes, x, axes=None: np.expand_dims(
        x, tuple(int(a) for a in np.asarray(attributes["axes"] if axes is None else axes).reshape(-1))
    ),
}
"""ONNX op → what it gives for constants."""

"""ONNX ops as ops of the layer graph ★: a function an op, and a line in `RULES`.

A rule gets the op's attributes and inputs: a tensor of the graph by name (without its batch axis), a constant as an
array, None where an optional input is left out. It returns the name of its result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import FLOAT32, TensorType
from nimbleq.types import Array

Attributes = Mapping[str, Any]


class Unfit(Exception):  # noqa: N818 (the text says what does not fit; it becomes the tail of a one-line error)
    """The op is used in a way that the graph cannot express."""


@dataclass
class Making:
    """The graph so far.

    Attributes:
        arrays: ONNX name → constant.
        tensors: ONNX name → tensor of the graph.
        types: of the graph's tensors.
        once: tensors of the graph that one ONNX node reads.
    """

    arrays: dict[str, Array]
    tensors: dict[str, str]
    types: dict[str, TensorType]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    prefix: str = ""

    def enter(self, name: str) -> None:
        """What is made next belongs to the ONNX tensor ``name``."""
        self.prefix = f"{len(self.nodes)}.{name}"

    def emit(self, op: ops.Op, *inputs: str, **weights: Array) -> str:
        """Append a node whose weights are named after it."""
        self.weights |= weights
        output = f"{self.prefix}.{len(self.nodes)}"
        self.types[output] = op.infer(tuple(self.types[name] for name in inputs), self.weights)
        self.nodes.append(Node(op, inputs, output))
        return output

    def weight(self, name: str, array: Array) -> str:
        """Keep a float32 weight; returns its name."""
        single = np.asarray(array, np.float64).astype(np.float32)
        if not np.isfinite(single).all():
            raise Unfit("it has a weight that is not a finite float32")
        full = f"{self.prefix}.{len(self.nodes)}.{name}"
        self.weights[full] = single
        return full

    def as_float(self, tensor: str) -> str:
        """``tensor`` in float32."""
        if self.types[tensor].qtype == FLOAT32:
            return tensor
        return self.affine(tensor, np.ones(()), np.zeros(()))

    def affine(self, tensor: str, scale: Array, shift: Array) -> str:
        """``tensor·scale + shift``, whose shapes have no batch axis."""
        scale_name, shift_name = self.weight("scale", scale), self.weight("shift", shift)
        return self.emit(ops.Affine(scale_name, shift_name), tensor)


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
        return making.emit(ops.Add(), making.as_float(left), making.as_float(right))
    tensor, array = (left, right) if isinstance(left, str) else (right, left)
    shift = _without_batch(making, tensor, array)
    return tensor if _bias_of(making, tensor, shift) else making.affine(tensor, np.ones(()), shift)


def _sub(making: Making, attributes: Attributes, left: Any, right: Any) -> str:
    if isinstance(left, str) and isinstance(right, str):
        minus = making.affine(right, -np.ones(()), np.zeros(()))
        return making.emit(ops.Add(), making.as_float(left), minus)
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


def _relu(making: Making, attributes: Attributes, source: Any) -> str:
    return making.emit(ops.Activation("relu"), making.as_float(source))


def _leaky_relu(making: Making, attributes: Attributes, source: Any) -> str:
    return making.emit(ops.Activation("leaky_relu", slope=attributes.get("alpha", 0.01)), making.as_float(source))


def _clip(making: Making, attributes: Attributes, source: Any, low: Any = None, high: Any = None) -> str:
    most = float(np.finfo(np.float32).max)
    ends = [attributes.get(name, end) if given is None else np.asarray(given).item()
            for name, end, given in (("min", -most, low), ("max", most, high))]  # fmt: skip
    return making.emit(ops.Activation("clip", low=float(ends[0]), high=float(ends[1])), making.as_float(source))


def _flatten(making: Making, attributes: Attributes, source: Any) -> str:
    if attributes.get("axis", 1) != 1:
        raise Unfit("it must keep the batch axis (axis 1)")
    return source if len(making.types[source].shape) == 1 else making.emit(ops.Flatten(), source)


def _reshape(making: Making, attributes: Attributes, source: Any, shape: Any) -> str:
    sides = [int(side) for side in np.asarray(shape).reshape(-1)]
    size, own = making.types[source].size, making.types[source].shape
    known = prod(side for side in sides[1:] if side > 0)
    wanted = tuple(size // known if side == -1 else side for side in sides[1:])
    if sides[:1] not in ([-1], [0], [1]) or prod(wanted) != size or 0 in wanted:
        raise Unfit(f"to {sides}: it must keep the batch axis")
    return _as_shape(making, source, own, wanted)


def _as_shape(making: Making, source: str, own: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if wanted == own:
        return source
    flat = source if len(own) == 1 else making.emit(ops.Flatten(), source)
    if len(wanted) == 1:
        return flat
    if len(wanted) == 3:
        return making.emit(ops.Unflatten(*wanted), flat)
    raise Unfit(f"to {wanted}: the graph has vectors and images (C, H, W)")


def _squeeze(making: Making, attributes: Attributes, source: Any, axes: Any = None) -> str:
    own = making.types[source].shape
    given = attributes.get("axes") if axes is None else np.asarray(axes).reshape(-1)
    if given is None:
        raise Unfit("it must name its axes, without the batch axis")
    drop = {int(axis) % (len(own) + 1) for axis in given}
    if 0 in drop:
        raise Unfit("it must keep the batch axis")
    return _as_shape(making, source, own, tuple(side for at, side in enumerate(own, 1) if at not in drop))


def _concat(making: Making, attributes: Attributes, *sources: Any) -> str:
    if attributes.get("axis") != 1 or not all(isinstance(source, str) for source in sources):
        raise Unfit("it must join tensors along the first axis after the batch (axis 1)")
    return making.emit(ops.Concat(), *sources)


def _same(making: Making, attributes: Attributes, source: Any, *_: Any) -> str:
    return str(source)


def _cast(making: Making, attributes: Attributes, source: Any) -> str:
    if attributes.get("to") != 1:
        raise Unfit("only to float32")
    return making.as_float(source)


RULES: dict[str, Callable[..., str]] = {
    "Add": _add, "AveragePool": _pool("average"), "BatchNormalization": _batch_norm, "Cast": _cast, "Clip": _clip,
    "Concat": _concat, "Conv": _conv, "Div": _div, "Dropout": _same, "Flatten": _flatten, "Gemm": _gemm,
    "GlobalAveragePool": _global_average, "Identity": _same, "LeakyRelu": _leaky_relu, "MatMul": _matmul,
    "MaxPool": _pool("max"), "Mul": _mul, "Relu": _relu, "Reshape": _reshape, "Squeeze": _squeeze, "Sub": _sub,
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
    "Identity": lambda _, x: x,
    "Neg": lambda _, x: -x,
    "Transpose": lambda attributes, x: x.transpose(attributes.get("perm")),
    "Unsqueeze": lambda attributes, x, axes=None: np.expand_dims(
        x, tuple(int(a) for a in np.asarray(attributes["axes"] if axes is None else axes).reshape(-1))
    ),
}
"""ONNX op → what it gives for constants."""

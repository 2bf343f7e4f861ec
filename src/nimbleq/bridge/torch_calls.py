"""Functions and tensor methods of torch → ops, the dueling head in its usual spellings among them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from nimbleq.bridge import torch_layers as layers
from nimbleq.bridge.lowering import (
    Batch,
    Centred,
    Lowering,
    Mean,
    Rows,
    Shape,
    Tensor,
    ValueMinusMean,
    ValuePlus,
    to_array,
)
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.tensor import Float32

_FLOAT32_LIMIT = float(torch.finfo(torch.float32).max)


def add(low: Lowering, a: Any, b: Any, *, alpha: float = 1) -> Any:
    """``a + b``."""
    if alpha != 1:
        raise low.unsupported(f"add with alpha {alpha}", "multiply by a constant first")
    if not isinstance(a, Tensor) and isinstance(b, Tensor):
        a, b = b, a
    match a, b:
        case Tensor(), Tensor():
            shapes = low.type_of(a).shape, low.type_of(b).shape
            if shapes[0] != shapes[1] and (1,) in shapes:
                return ValuePlus(a, b) if shapes[0] == (1,) else ValuePlus(b, a)
            return low.add(ops.Add(), layers.as_float(low, a), layers.as_float(low, b))
        case Tensor(), Centred(of) if low.type_of(a).shape == (1,):
            return low.add(ops.Dueling(), a, of)
        case Tensor(), ValueMinusMean(value, advantage) if a == advantage:
            return low.add(ops.Dueling(), value, advantage)
        case Tensor(), _ if not low.holds_tensor(b):
            return _affine(low, a, b, 1.0, b)
    raise _no_arithmetic(low, "add")


def sub(low: Lowering, a: Any, b: Any, *, alpha: float = 1) -> Any:
    """``a − b``."""
    if alpha != 1:
        raise low.unsupported(f"sub with alpha {alpha}", "multiply by a constant first")
    match a, b:
        case Tensor(), Mean(of, keep=True) if a == of:
            return Centred(of)
        case Tensor(), Mean(of, keep=True) if low.type_of(a).shape == (1,):
            return ValueMinusMean(a, of)
        case ValuePlus(value, advantage), Mean(of, keep=True) if of == advantage:
            return low.add(ops.Dueling(), value, advantage)
        case Tensor(), Tensor() if low.type_of(a).shape == low.type_of(b).shape:
            return low.add(ops.Add(), layers.as_float(low, a), low.affine(b, -1.0, 0.0))
        case Tensor(), _ if not low.holds_tensor(b):
            return _affine(low, a, b, 1.0, -to_array(b))
        case _, Tensor() if not low.holds_tensor(a):
            return _affine(low, b, a, -1.0, a)
    raise _no_arithmetic(low, "sub")


def mul(low: Lowering, a: Any, b: Any) -> Any:
    """``a · b`` where one is constant."""
    match a, b:
        case Tensor(), _ if not low.holds_tensor(b):
            return _affine(low, a, b, b, 0.0)
        case _, Tensor() if not low.holds_tensor(a):
            return _affine(low, b, a, a, 0.0)
    raise _no_arithmetic(low, "mul")


def div(low: Lowering, a: Any, b: Any) -> Any:
    """``a / b`` by a constant (true division: gives float32 also from integers)."""
    if isinstance(a, Tensor) and not low.holds_tensor(b):
        divisor = to_array(b).astype("float64")
        return low.affine(a, 1 / divisor, 0.0)
    raise _no_arithmetic(low, "div")


def neg(low: Lowering, x: Any) -> Any:
    """``−x``."""
    return mul(low, x, -1.0)


def _no_arithmetic(low: Lowering, op: str) -> UnsupportedOpError:
    return low.unsupported(
        op,
        "arithmetic is: a tensor with a constant, the sum or difference of two tensors of one shape, "
        "and the dueling head v + a - a.mean(1, keepdim=True)",
    )


def _affine(low: Lowering, x: Tensor, operand: Any, scale: Any, shift: Any) -> Tensor:
    """``x·scale + shift``, refused where torch would have kept integers."""
    whole = not operand.is_floating_point() if isinstance(operand, torch.Tensor) else isinstance(operand, int)
    if whole and not isinstance(low.type_of(x).qtype, Float32):
        raise low.unsupported("integer arithmetic on the observation", "call .float() on it first")
    return low.affine(x, scale, shift)


def mean(low: Lowering, x: Tensor, dim: Any = None, keepdim: bool = False, keepdims: bool = False) -> Any:
    """Mean over a vector (for a dueling head) or over an image's pixels (global average pooling)."""
    shape, dims = low.type_of(x).shape, (dim,) if isinstance(dim, int) else tuple(dim or ())
    axes = {axis % (len(shape) + 1) for axis in dims}
    if shape == (1,) and axes == {1} and (keepdim or keepdims):
        return layers.as_float(low, x)
    if len(shape) == 1 and axes == {1}:
        return Mean(x, keepdim or keepdims)
    if len(shape) == 3 and axes == {2, 3}:
        pooled = layers.pool(low, x, "average", shape[1:], None, 0, ceil_mode=False)
        return pooled if keepdim or keepdims else low.add(ops.Flatten(), pooled)
    raise low.unsupported(
        f"mean over axes {dim}", "means are over a vector's features (dueling) or an image's pixels (2, 3)"
    )


def unsqueeze(low: Lowering, x: Any, dim: int) -> Any:
    """The kept axis of a mean."""
    if isinstance(x, Mean) and not x.keep and dim in (1, -1):
        return Mean(x.of, True)
    raise low.unsupported("unsqueeze", "keep the shapes that the layers give")


def relu(low: Lowering, x: Tensor, inplace: bool = False) -> Tensor:
    """``F.relu``."""
    return layers.activation(low, x, ops.Activation("relu"))


def relu6(low: Lowering, x: Tensor, inplace: bool = False) -> Tensor:
    """``F.relu6``."""
    return clamp(low, x, 0.0, 6.0)


def leaky_relu(low: Lowering, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``F.leaky_relu``."""
    return layers.activation(low, x, ops.Activation("leaky_relu", slope=float(negative_slope)))


def hardtanh(low: Lowering, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``F.hardtanh``."""
    return clamp(low, x, min_val, max_val)


def clamp(low: Lowering, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``torch.clamp`` to numbers."""
    bounds = [None if bound is None else to_array(bound) for bound in (min, max)]
    if any(bound is not None and bound.size != 1 for bound in bounds):
        raise low.unsupported("clamp with a bound for each element", "clamp to two numbers")
    least, most = (None if bound is None else float(bound.item()) for bound in bounds)
    if least == 0 and most is None:
        return relu(low, x)
    low_bound = -_FLOAT32_LIMIT if least is None else least
    return layers.activation(
        low, x, ops.Activation("clip", low=low_bound, high=_FLOAT32_LIMIT if most is None else most)
    )


def clamp_min(low: Lowering, x: Tensor, min: Any) -> Tensor:
    """``torch.clamp_min``."""
    return clamp(low, x, min)


def clamp_max(low: Lowering, x: Tensor, max: Any) -> Tensor:
    """``torch.clamp_max``."""
    return clamp(low, x, None, max)


def cat(low: Lowering, tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """``torch.cat`` of features or channels."""
    sources = [layers.as_float(low, x) for x in low.tensors(tensors, "cat")]
    if dim not in (1, -len(low.type_of(sources[0]).shape)):
        raise low.unsupported(f"cat along axis {dim}", "join along axis 1: features or channels")
    return low.add(ops.Concat(), *sources)


def reshape(low: Lowering, x: Tensor, *shape: Any) -> Any:
    """``view`` and ``reshape`` to one vector per observation, or to one row of logits per action."""
    target = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    kind = low.type_of(x)
    if len(target) == 3 and len(kind.shape) == 1 and (isinstance(target[0], Batch) or target[0] == -1):
        count = kind.size // target[2] if target[1] == -1 else target[1]
        if count * target[2] == kind.size:
            return Rows(x, int(target[2]))
    if len(target) == 4 and len(kind.shape) == 1 and (isinstance(target[0], Batch) or target[0] == -1):
        return low.add(ops.Unflatten(*(int(side) for side in target[1:])), x)
    vector = len(target) == 2 and target[1] in (-1, kind.size) and (target[1] != -1 or target[0] != -1)
    if not vector or not (isinstance(target[0], Batch) or target[0] == -1):
        raise low.unsupported(f"a reshape to {target}", "reshape to (batch, features), or use nn.Flatten")
    return low.add(ops.Flatten(), x)


def softmax(low: Lowering, x: Any, dim: int | None = None) -> Any:
    """``torch.softmax`` of histograms of returns."""
    if not isinstance(x, Rows) or x.softmax or dim not in (2, -1):
        raise low.unsupported("softmax", _HISTOGRAM)
    return Rows(x.of, x.size, softmax=True)


def matmul(low: Lowering, x: Any, support: Any) -> Tensor:
    """``probabilities @ support``: the mean of histograms of returns."""
    if not isinstance(x, Rows) or not x.softmax or low.holds_tensor(support) or to_array(support).shape != (x.size,):
        raise low.unsupported("matmul", f"use nn.Linear; {_HISTOGRAM}")
    return low.add(ops.Expectation(low.weight(support, "support")), layers.as_float(low, x.of))


_HISTOGRAM = "of a distributional head, softmax(x.view(batch, actions, atoms), 2) @ support can be expressed"


def size(low: Lowering, x: Tensor, dim: int | None = None) -> Any:
    """``x.size()``, ``x.size(0)``."""
    return Shape(x) if dim is None else getitem(low, Shape(x), dim)


def attribute(low: Lowering, x: Tensor, name: str) -> Any:
    """``x.shape`` and ``x.ndim``."""
    if name == "shape":
        return Shape(x)
    if name == "ndim":
        return len(low.type_of(x).shape) + 1
    raise low.unsupported(
        f"the attribute {name!r} of a tensor", "write the network without asking tensors about themselves"
    )


def getitem(low: Lowering, x: Any, index: Any) -> Any:
    """``x.shape[0]``; tensors themselves are not sliced."""
    if isinstance(x, Shape) and isinstance(index, int | slice):
        extents = (Batch(), *low.type_of(x.of).shape)
        return extents[index]
    part = isinstance(index, tuple) and len(index) == 2 and index[0] == slice(None) and isinstance(index[1], slice)
    if part and not isinstance(x, Shape) and index[1].step in (None, 1):
        start, stop, _ = index[1].indices(low.type_of(x).size)
        return low.add(ops.Slice(start, stop), x)
    raise low.unsupported("indexing of a tensor", "give whole tensors to the layers")


def adaptive_avg_pool2d(low: Lowering, x: Tensor, output_size: Any) -> Tensor:
    """``F.adaptive_avg_pool2d``."""
    return layers.adaptive_pool(low, x, "average", output_size)


def adaptive_max_pool2d(low: Lowering, x: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """``F.adaptive_max_pool2d``."""
    if return_indices:
        raise low.unsupported("adaptive_max_pool2d with indices", "use return_indices=False")
    return layers.adaptive_pool(low, x, "max", output_size)


def to_float(low: Lowering, x: Tensor) -> Tensor:
    """``x.float()``."""
    return layers.as_float(low, x)


def to(low: Lowering, x: Tensor, *targets: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    """``x.to(...)``: float32, or another device."""
    wanted = [value for value in (*targets, dtype) if isinstance(value, torch.dtype)]
    wanted += [value.dtype for value in targets if isinstance(value, torch.Tensor)]
    if any(value != torch.float32 for value in wanted):
        raise low.unsupported(f"a cast to {wanted[0]}", "the graph computes in float32: call .float()")
    return layers.as_float(low, x) if wanted else x


def same(low: Lowering, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What changes nothing at inference: dropout, ``contiguous``, ``detach`` …"""
    return x


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": add, "sub": sub, "mul": mul, "multiply": mul, "subtract": sub, "div": div, "divide": div, "true_divide": div,
    "neg": neg, "mean": mean,
}  # fmt: skip
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "relu": relu, "clamp": clamp, "clip": clamp, "clamp_min": clamp_min, "clamp_max": clamp_max,
    "flatten": layers.flatten, "reshape": reshape, "unsqueeze": unsqueeze, "softmax": softmax, "matmul": matmul,
}  # fmt: skip

METHODS: dict[str, Callable[..., Any]] = {
    **_ARITHMETIC, **_ELEMENTWISE, "add_": add, "sub_": sub, "mul_": mul, "div_": div, "relu_": relu, "clamp_": clamp,
    "view": reshape, "size": size, "float": to_float, "to": to, "type": to, "contiguous": same, "detach": same,
    "clone": same,
}  # fmt: skip
"""Tensor method → how it is lowered."""

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{getattr(torch, name): handler for name, handler in (_ARITHMETIC | _ELEMENTWISE).items()},
    operator.add: add, operator.iadd: add, operator.sub: sub, operator.isub: sub, operator.mul: mul,
    operator.imul: mul, operator.truediv: div, operator.itruediv: div, operator.neg: neg, operator.getitem: getitem,
    getattr: attribute, operator.matmul: matmul, F.softmax: softmax,
    F.relu: relu, F.relu6: relu6, F.leaky_relu: leaky_relu, F.hardtanh: hardtanh,
    F.linear: layers.linear, F.conv2d: layers.conv2d, F.layer_norm: layers.layer_norm, F.batch_norm: layers.batch_norm,
    F.max_pool2d: layers.max_pool2d, torch.max_pool2d: layers.max_pool2d, F.avg_pool2d: layers.avg_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d, F.adaptive_max_pool2d: adaptive_max_pool2d,
    F.dropout: same, F.dropout1d: same, F.dropout2d: same,
    torch.cat: cat, torch.concat: cat, torch.concatenate: cat,
}  # fmt: skip
"""Function → how it is lowered."""

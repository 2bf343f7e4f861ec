"""Elementwise ops: arithmetic with constants and with each other, activations, normalisation by stored statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nimbleq.bridge.aten.algebra import normal, plus, regroup, rows, times
from nimbleq.bridge.aten.builder import Builder, compact, elementwise
from nimbleq.bridge.aten.values import BATCH, Expr, Scaled, Softmax, Value, in_order, plain
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.types import Array

_FLOAT32_LIMIT = float(np.finfo(np.float32).max)
_MIXED = "it mixes the observations of a batch: compute each by itself"


def add(builder: Builder, a: Any, b: Any, *, alpha: float = 1) -> Value:
    """``a + alpha·b``."""
    if isinstance(b, Value):
        b = mul(builder, b, alpha) if alpha != 1 else b
        return _sum(builder, a, b) if isinstance(a, Value) else _shifted(builder, b, a)
    return _shifted(builder, a, to_array(b) * alpha)


def sub(builder: Builder, a: Any, b: Any, *, alpha: float = 1) -> Value:
    """``a − alpha·b``."""
    return add(builder, a, b, alpha=-alpha)


def rsub(builder: Builder, a: Any, b: Any, alpha: float = 1) -> Value:
    """``b − alpha·a``."""
    return sub(builder, b, a, alpha=alpha)


def neg(builder: Builder, x: Value) -> Value:
    """``−x``."""
    return mul(builder, x, -1.0)


def mul(builder: Builder, a: Any, b: Any) -> Value:
    """``a·b``, one of them constant."""
    if isinstance(a, Value) and isinstance(b, Value):
        raise GraphError("the graph has no product of two tensors that depend on the observation")
    value, constant = (a, b) if isinstance(a, Value) else (b, a)
    value, scale = _with_constant(value, constant)
    return _float(builder, Value(value.layout, times(_unshifted(builder, value.expr), scale)))


def div(builder: Builder, a: Any, b: Any) -> Value:
    """``a/b``, ``b`` constant."""
    if isinstance(b, Value):
        raise GraphError("the graph cannot divide by a tensor that depends on the observation")
    return mul(builder, a, 1 / to_array(b))


def relu(builder: Builder, x: Value) -> Value:
    """``max(x, 0)``."""
    return activation(builder, x, ops.Activation("relu"))


def leaky_relu(builder: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    """``x``, or ``x·slope`` where it is negative."""
    return activation(builder, x, ops.Activation("leaky_relu", slope=float(negative_slope)))


def prelu(builder: Builder, x: Value, weight: Any) -> Value:
    """``relu(x) − w·relu(−x)``: a slope per channel."""
    return sub(builder, relu(builder, x), mul(builder, relu(builder, neg(builder, x)), weight))


def hardtanh(builder: Builder, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    """``x`` within bounds."""
    return clamp(builder, x, min_val, max_val)


def clamp(builder: Builder, x: Value, min: Any = None, max: Any = None) -> Value:
    """``x`` within bounds; those may be arrays, or tensors that depend on the observation."""
    if any(value is not None and not isinstance(value, int | float) for value in (min, max)):
        bounded = x if min is None else maximum(builder, x, min)
        return bounded if max is None else minimum(builder, bounded, max)
    if max is None and min == 0:
        return relu(builder, x)
    bottom = -_FLOAT32_LIMIT if min is None else float(min)
    top = _FLOAT32_LIMIT if max is None else float(max)
    return activation(builder, x, ops.Activation("clip", low=bottom, high=top))


def clamp_min(builder: Builder, x: Value, min: Any) -> Value:
    """``max(x, min)``."""
    return clamp(builder, x, min=min)


def clamp_max(builder: Builder, x: Value, max: Any) -> Value:
    """``min(x, max)``."""
    return clamp(builder, x, max=max)


def maximum(builder: Builder, a: Any, b: Any) -> Value:
    """``max(a, b) = b + relu(a − b)``."""
    return add(builder, b, relu(builder, sub(builder, a, b)))


def minimum(builder: Builder, a: Any, b: Any) -> Value:
    """``min(a, b) = b − relu(b − a)``."""
    return sub(builder, b, relu(builder, sub(builder, b, a)))


def where(builder: Builder, condition: Any, a: Any, b: Any) -> Value:
    """``a`` where a constant condition holds, else ``b``."""
    if isinstance(condition, Value):
        raise GraphError("the graph cannot select by a condition on the observation")
    chosen = to_array(condition)
    left = mul(builder, a, chosen) if isinstance(a, Value) else np.where(chosen, to_array(a), 0.0)
    right = mul(builder, b, 1 - chosen) if isinstance(b, Value) else np.where(chosen, 0.0, to_array(b))
    return add(builder, left, right)


def absolute(builder: Builder, x: Value) -> Value:
    """``|x| = relu(x) + relu(−x)``."""
    return add(builder, relu(builder, x), relu(builder, neg(builder, x)))


def tanh(builder: Builder, x: Value) -> Value:
    """The hyperbolic tangent."""
    return activation(builder, x, ops.Tanh())


def activation(builder: Builder, x: Value, op: ops.Activation | ops.Tanh) -> Value:
    """An elementwise function."""
    x, tensor = elementwise(builder, x)
    return Value(x.layout, plain(builder.add(op, tensor)))


def batch_norm(
    builder: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> tuple[Value, None, None]:
    """BatchNorm with its running statistics: an Affine per channel. ``momentum`` matters only in training."""
    scale = 1 / np.sqrt(to_array(variance) + eps)
    scale = scale if weight is None else scale * to_array(weight)
    shift = (0.0 if bias is None else to_array(bias)) - to_array(mean) * scale
    shape = (-1,) + (1,) * (x.layout.ndim - 2)
    return add(builder, mul(builder, x, scale.reshape(shape)), shift.reshape(shape)), None, None


def to_copy(builder: Builder, x: Value, *, dtype: Any = None, **options: Any) -> Value:
    """A cast between real number formats, which are all float32 here; or to another device."""
    if dtype is None or (x.is_integer and not dtype.is_floating_point):
        return x
    if not dtype.is_floating_point:
        raise GraphError(f"the graph computes in float32, it has no cast to {dtype}")
    return _float(builder, x)


def softmax(builder: Builder, x: Value, dim: int, half_to_float: bool = False) -> Value:
    """Softmax over an axis; the product that follows decides which op it becomes."""
    return _softmax(builder, x, dim, log=False)


def log_softmax(builder: Builder, x: Value, dim: int, half_to_float: bool = False) -> Value:
    """The logarithm of `softmax`."""
    return _softmax(builder, x, dim, log=True)


def exponential(builder: Builder, x: Value) -> Value:
    """``exp`` of a log-softmax."""
    if isinstance(x.source, Softmax) and x.source.log:
        return Value(x.layout, plain(Softmax(x.source.logits, x.source.atoms, log=False)))
    raise GraphError("the graph has exp in a softmax only")


def _softmax(builder: Builder, x: Value, dim: int, log: bool) -> Value:
    moved = np.moveaxis(x.layout, dim, -1)
    layout, index = regroup(np.ascontiguousarray(moved), x.expr.size)
    atoms = layout.shape[-1]
    if np.any(layout[..., -1] - layout[..., 0] != atoms - 1):
        raise GraphError(_MIXED)
    tensor = builder.as_float(builder.flat(builder.materialize(builder.flattened(rows(x.expr, index, (len(index),))))))
    return Value(np.moveaxis(layout, -1, dim), plain(Softmax(tensor, atoms, log)))


def _sum(builder: Builder, a: Value, b: Value) -> Value:
    shape = np.broadcast_shapes(a.layout.shape, b.layout.shape)
    a, b = (normal(Value(np.broadcast_to(x.layout, shape), _float(builder, x).expr)) for x in (a, b))
    size = a.expr.size
    at = np.empty(BATCH * size, np.int64)
    at[a.layout.reshape(-1)] = b.layout.reshape(-1)
    index = at.reshape(BATCH, size) - np.arange(BATCH)[:, None] * size
    if b.expr.size != size or np.any(index != index[0]) or index.min() < 0 or index.max() >= size:
        raise GraphError(_MIXED)
    return Value(a.layout, plus(a.expr, rows(b.expr, index[0], a.expr.shape)))


def _shifted(builder: Builder, x: Value, constant: Any) -> Value:
    value, shift = _with_constant(x, constant)
    expr = _unshifted(builder, value.expr)
    return _float(builder, Value(value.layout, Expr(expr.shape, expr.terms, expr.shift + shift)))


def _unshifted(builder: Builder, expr: Expr) -> Expr:
    """``expr``, or the tensor that it is: ``(x − mean)·s`` is not ``s·x − s·mean`` where x is large (torch computes the
    difference first)."""
    elementwise_only = all(isinstance(term, Scaled) and not isinstance(term.source, Softmax) for term in expr.terms)
    return plain(builder.materialize(expr)) if expr.is_shifted and elementwise_only and expr.terms else expr


def _float(builder: Builder, x: Value) -> Value:
    """``x``; made of integers, as the float32 tensor that it is."""
    if not x.is_integer:
        return x
    value = normal(x)
    return Value(value.layout, plain(builder.as_float(builder.materialize(value.expr))))


def _with_constant(x: Value, constant: Any) -> tuple[Value, Array]:
    """``x`` broadcast against a constant, and the constant as its expression sees it."""
    array = to_array(constant)
    if array.ndim == 0:
        return x, array
    shape = np.broadcast_shapes(x.layout.shape, array.shape)
    value = normal(Value(np.ascontiguousarray(np.broadcast_to(x.layout, shape)), x.expr))
    entries = np.empty(BATCH * value.expr.size)
    entries[value.layout.reshape(-1)] = np.broadcast_to(array, shape).reshape(-1)
    each = entries.reshape(BATCH, -1)
    if np.any(each != each[0]):
        raise GraphError("it adds or multiplies another constant for each observation of a batch")
    return value, compact(each[0].reshape(value.expr.shape))


def constant_value(constant: Any) -> Value:
    """A constant ``[B, *shape]`` as a value without terms."""
    array = to_array(constant)
    if array.ndim == 0 or array.shape[0] != BATCH or np.any(array != array[0]):
        raise GraphError("a constant must be the same for every observation of a batch")
    return in_order(Expr(array.shape[1:], (), array[0]))


def to_array(value: Any) -> Array:
    """A torch tensor, array or number as float64."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, np.float64)

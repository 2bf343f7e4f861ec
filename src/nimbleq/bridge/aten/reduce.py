"""Sums, means, maxima and normalisation over axes of one observation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from nimbleq.bridge.aten.algebra import MAX_MATRIX, mapped, rows
from nimbleq.bridge.aten.builder import Builder, tensor_value
from nimbleq.bridge.aten.elementwise import add, maximum, minimum, mul, to_array
from nimbleq.bridge.aten.shapes import joined
from nimbleq.bridge.aten.values import Tensor, Value, in_order
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.types import Array

_MAX_GROUPS = 64
_MIXED = "it mixes the observations of a batch: compute each by itself"


def mean(builder: Builder, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """The mean over axes."""
    axes = _axes(x, dim)
    if x.layout.ndim == 4 and axes in ((2, 3), (1,)):
        image = builder.image(x)
        if image is not None:
            return _image_mean(builder, builder.as_float(image), axes, keepdim)
    count = prod(x.layout.shape[axis] for axis in axes)
    return mul(builder, total(builder, x, dim, keepdim), 1 / count)


def _image_mean(builder: Builder, image: Tensor, axes: tuple[int, ...], keepdim: bool) -> Value:
    channels, height, width = image.shape
    if axes == (2, 3):
        made = builder.add(ops.Pool("average", (height, width), (height, width)), image)
        return tensor_value(made) if keepdim else in_order(tensor_value(made).expr, (channels,))
    weight = builder.weight(np.full((1, channels, 1, 1), 1 / channels), builder.origin(None, "mean"))
    made = builder.add(ops.Conv2d(weight), image)
    return tensor_value(made) if keepdim else in_order(tensor_value(made).expr, (height, width))


def total(builder: Builder, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """The sum over axes."""
    if x.is_integer:
        raise GraphError("integer arithmetic: call .float() on the observation first")
    axes = _axes(x, dim)
    layout = _last(x.layout, axes)
    owner = layout // x.expr.size
    if np.any(owner != owner[..., :1]):
        raise GraphError(_MIXED)
    # Outputs in the order of their observations, each the row of a matrix.
    outputs = owner[..., 0].reshape(-1)
    order = np.argsort(outputs, kind="stable")
    size = len(order) // len(np.unique(outputs))
    places = (layout % x.expr.size).reshape(len(order), -1)[order].reshape(-1, size, layout.shape[-1])
    if np.any(np.sort(places, axis=2) != np.sort(places[:1], axis=2)):
        raise GraphError(_MIXED)
    if size * x.expr.size > MAX_MATRIX:
        raise GraphError(f"the graph can do this only as a matrix, and {size} x {x.expr.size} is too large")
    matrix = np.zeros((size, x.expr.size))
    np.add.at(matrix, (np.arange(size)[:, None], places[0]), 1.0)
    made = np.empty(len(order), np.int64)
    made[order] = np.arange(len(order))
    shape = [1 if at in axes else extent for at, extent in enumerate(x.layout.shape) if keepdim or at not in axes]
    return Value(made.reshape(shape), mapped(x.expr, matrix, (size,)))


def amax(builder: Builder, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    """The maximum over axes."""
    axes = _axes(x, dim)
    image = builder.image(x) if x.layout.ndim == 4 and axes == (2, 3) else None
    if image is not None:
        made = tensor_value(builder.add(ops.Pool("max", image.shape[1:], image.shape[1:]), image))  # type: ignore[arg-type]
        return made if keepdim else in_order(made.expr, image.shape[:1])
    return _tournament(builder, x, axes, keepdim, maximum)


def amin(builder: Builder, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    """The minimum over axes."""
    return _tournament(builder, x, _axes(x, dim), keepdim, minimum)


def max_dim(builder: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, None]:
    """The maximum along an axis, without its index."""
    return amax(builder, x, dim, keepdim), None


def min_dim(builder: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, None]:
    """The minimum along an axis, without its index."""
    return amin(builder, x, dim, keepdim), None


def _tournament(builder: Builder, x: Value, axes: tuple[int, ...], keepdim: bool, better: Any) -> Value:
    layout = _last(x.layout, axes)
    if np.any(layout // x.expr.size != layout[..., :1] // x.expr.size):
        raise GraphError(_MIXED)
    value = Value(layout, x.expr)
    while value.layout.shape[-1] > 1:
        half = value.layout.shape[-1] // 2
        pairs = better(
            builder, Value(value.layout[..., :half], value.expr), Value(value.layout[..., half : 2 * half], value.expr)
        )
        if value.layout.shape[-1] % 2:
            pairs = joined([pairs, Value(value.layout[..., -1:], value.expr)], -1)
        value = pairs
    shape = [1 if at in axes else extent for at, extent in enumerate(x.layout.shape) if keepdim or at not in axes]
    return Value(value.layout.reshape(shape), value.expr)


def layer_norm(
    builder: Builder, x: Value, normalized_shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> tuple[Value, None, None]:
    """LayerNorm over the last axes: one op, or one for each of a few rows."""
    expr = builder.aligned(x)
    count = expr.size // prod(normalized_shape)
    if count == 1:
        tensor = builder.as_float(builder.materialize(expr))
        names = [
            None
            if value is None
            else builder.weight(to_array(value).reshape(tensor.shape), builder.origin(value, name))
            for value, name in ((weight, "weight"), (bias, "bias"))
        ]
        made = tensor_value(builder.add(ops.LayerNorm(names[0], names[1], eps), tensor))
        return in_order(made.expr, expr.shape), None, None
    return _scaled(builder, _in_groups(builder, x, count, eps), weight, bias), None, None


def group_norm(
    builder: Builder, x: Value, weight: Any, bias: Any, batch: int, channels: int, pixels: int, groups: int, eps: float
) -> tuple[Value, None, None]:
    """A LayerNorm for each group of channels [1803.08494]."""
    shape = (-1,) + (1,) * (x.layout.ndim - 2)
    scale, shift = (None if value is None else to_array(value).reshape(shape) for value in (weight, bias))
    return _scaled(builder, _in_groups(builder, x, groups, eps), scale, shift), None, None


def _scaled(builder: Builder, x: Value, weight: Array | None, bias: Array | None) -> Value:
    x = x if weight is None else mul(builder, x, weight)
    return x if bias is None else add(builder, x, bias)


def _in_groups(builder: Builder, x: Value, count: int, eps: float) -> Value:
    expr = builder.aligned(x)
    if count > _MAX_GROUPS:
        raise GraphError(f"it normalises {count} parts apart, the graph's LayerNorm spans an observation")
    shape = (expr.shape[0] // count, *expr.shape[1:]) if expr.shape[0] % count == 0 else (expr.size // count,)
    parts = [
        builder.add(ops.LayerNorm(eps=eps), builder.as_float(builder.materialize(rows(expr, index, shape))))
        for index in np.arange(expr.size).reshape(count, -1)
    ]
    made = parts[0] if count == 1 else builder.add(ops.Concat(), *parts)
    return in_order(tensor_value(made).expr, expr.shape)


def _axes(x: Value, dim: Any) -> tuple[int, ...]:
    rank = x.layout.ndim
    chosen = range(rank) if dim is None or dim in ([], ()) else [dim] if isinstance(dim, int) else dim
    return tuple(sorted(int(axis) % rank for axis in chosen))


def _last(layout: Array, axes: tuple[int, ...]) -> Array:
    """``layout`` with ``axes`` as one last axis."""
    others = [axis for axis in range(layout.ndim) if axis not in axes]
    moved = layout.transpose(*others, *axes)
    return np.ascontiguousarray(moved).reshape(*(layout.shape[axis] for axis in others), -1)

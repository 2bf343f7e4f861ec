"""Ops that move elements: views and the like run on layouts; joining and padding make new expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nimbleq.bridge.aten.algebra import full, normal, plus, rows
from nimbleq.bridge.aten.builder import Builder, tensor_value
from nimbleq.bridge.aten.elementwise import constant_value
from nimbleq.bridge.aten.values import Expr, Softmax, Value, in_order
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.types import Array


def move(target: Any, args: Any, kwargs: Any) -> Any:
    """An op that only moves elements: torch applies it to the layout."""
    values = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Value)]
    if len(values) != 1:
        raise GraphError("it must be given one tensor that depends on the observation")
    (value,) = values
    layout = torch.from_numpy(value.layout.astype(np.float64))  # not every op moves integers
    moved = target(
        *[layout if arg is value else arg for arg in args],
        **{name: layout if arg is value else arg for name, arg in kwargs.items()},
    )
    if isinstance(moved, torch.Tensor):
        return Value(moved.long().contiguous().numpy(), value.expr)
    return tuple(Value(each.long().contiguous().numpy(), value.expr) for each in moved)


def cat(builder: Builder, tensors: Sequence[Any], dim: int = 0) -> Value:
    """Join along an axis: Concat along the first axis of an observation, else a selection of elements."""
    values = [value if isinstance(value, Value) else constant_value(value) for value in tensors]
    if len(values) == 1:
        return values[0]
    rank = values[0].layout.ndim
    if dim % rank == 1 and rank in (2, 4) and all(isinstance(value, Value) for value in tensors):
        parts = [_whole(builder, value) for value in values]
        if all(part is not None for part in parts):
            integer = all(part.is_integer for part in parts if part is not None)
            made = [part if integer else builder.as_float(part) for part in parts if part is not None]
            return tensor_value(builder.add(ops.Concat(), *made))
    return joined(values, dim)


def _whole(builder: Builder, value: Value) -> Any:
    if any(isinstance(term.source, Softmax) for term in value.expr.terms):
        return None
    if value.layout.ndim == 4:
        return builder.image(value)
    return builder.vector(value)


def joined(values: Sequence[Value], dim: int) -> Value:
    """The values joined along an axis."""
    layouts, whole = _together(values)
    return normal(Value(np.concatenate(layouts, axis=dim), whole))


def _together(values: Sequence[Value]) -> tuple[list[Array], Expr]:
    """One expression of the elements of all values, the sum of what each is in its place, and their layouts in it."""
    values = [normal(value) for value in values]
    size = sum(value.expr.size for value in values)
    layouts, whole, start = [], Expr((size,), (), np.zeros(())), 0
    for value in values:
        count = value.expr.size
        index = np.full(size, -1)
        index[start : start + count] = np.arange(count)
        whole = plus(whole, rows(value.expr, index, (size,)))
        layouts.append(value.layout // count * size + value.layout % count + start)
        start += count
    return layouts, whole


def slice_scatter(builder: Builder, x: Any, part: Any, *where: Any, **options: Any) -> Value:
    """``x`` with a slice replaced: an in-place write to a slice."""
    return _scattered(torch.ops.aten.slice_scatter, x, part, where, options)


def select_scatter(builder: Builder, x: Any, part: Any, *where: Any, **options: Any) -> Value:
    """``x`` with one index of an axis replaced."""
    return _scattered(torch.ops.aten.select_scatter, x, part, where, options)


def _scattered(target: Any, x: Any, part: Any, where: Any, options: Any) -> Value:
    values = [value if isinstance(value, Value) else constant_value(value) for value in (x, part)]
    layouts, whole = _together(values)
    made = target(*(torch.from_numpy(np.array(layout)) for layout in layouts), *where, **options)
    return normal(Value(made.contiguous().numpy(), whole))


def copy(builder: Builder, x: Any, source: Any, non_blocking: bool = False) -> Any:
    """``source`` in the shape of ``x``."""
    shape = x.layout.shape if isinstance(x, Value) else tuple(x.shape)
    if not isinstance(source, Value):
        return source.expand(shape)
    return Value(np.array(np.broadcast_to(source.layout, shape)), source.expr)


def pad(builder: Builder, x: Value, widths: Sequence[int], value: float = 0.0) -> Value:
    """Constants around the last axes; negative widths cut."""
    expr = builder.aligned(x)
    index = torch.arange(expr.size).reshape(1, *expr.shape)
    padded = torch.constant_pad_nd(index, list(widths), -1)
    if padded.shape[0] != 1:
        raise GraphError("it pads the batch")
    places = padded.reshape(-1).numpy()
    made = rows(expr, places, tuple(padded.shape[1:]))
    border = float(value) * (places < 0).reshape(made.shape)
    return in_order(Expr(made.shape, made.terms, full(made.shift, made.shape).reshape(made.shape) + border))


def sym_size(builder: Builder, x: Any, dim: int) -> int:
    """An extent; the batch is `BATCH`."""
    return int(x.layout.shape[dim] if isinstance(x, Value) else x.shape[dim])


def full_like(builder: Builder, x: Value, value: float, **options: Any) -> torch.Tensor:
    """A constant of the shape of ``x``."""
    return torch.full(x.layout.shape, float(value))

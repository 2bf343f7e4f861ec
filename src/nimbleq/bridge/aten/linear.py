"""Linear ops: products with constant matrices, convolutions, averages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nimbleq.bridge.aten import convolve
from nimbleq.bridge.aten.algebra import MAX_MATRIX, mapped, regroup, rows
from nimbleq.bridge.aten.builder import Builder, tensor_value
from nimbleq.bridge.aten.elementwise import add, mul, to_array
from nimbleq.bridge.aten.values import Expr, Gathered, Softmax, Value, in_order
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.types import Array

Pair = tuple[int, int]
_TWO = "the graph has no product of two tensors that depend on the observation"


def pair(value: Any) -> Pair:
    """``3``, ``[3]`` or ``[3, 5]`` as a pair."""
    both = [value] * 2 if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)
    return int(both[0]), int(both[1])


def addmm(builder: Builder, bias: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    """``beta·bias + alpha·a @ b``."""
    if beta == alpha == 1 and isinstance(bias, Tensor) and bias.ndim == 1 and _is_layer(a, b):
        return _layer(builder, a, b, bias)
    product = mm(builder, a, b)
    product = product if alpha == 1 else mul(builder, product, alpha)
    scaled = mul(builder, bias, beta) if isinstance(bias, Value) else to_array(bias) * beta
    return add(builder, product, scaled)


def mm(builder: Builder, a: Any, b: Any) -> Value:
    """``a @ b`` of matrices, one of them constant."""
    if isinstance(a, Value) and isinstance(b, Value):
        raise GraphError(_TWO)
    if isinstance(b, Value):
        product = mm(builder, Value(np.ascontiguousarray(b.layout.T), b.expr), a.T)
        return Value(np.ascontiguousarray(product.layout.T), product.expr)
    return _layer(builder, a, b, None) if _is_layer(a, b) else _rows_times(a, to_array(b))


def bmm(builder: Builder, a: Any, b: Any) -> Value:
    """``a[i] @ b[i]``, one of them constant and the same for all ``i``."""
    if isinstance(a, Value) and isinstance(b, Value):
        raise GraphError(_TWO)
    if isinstance(b, Value):
        product = bmm(builder, Value(np.ascontiguousarray(b.layout.transpose(0, 2, 1)), b.expr), a.transpose(1, 2))
        return Value(np.ascontiguousarray(product.layout.transpose(0, 2, 1)), product.expr)
    matrices = to_array(b)
    if np.any(matrices != matrices[0]):
        raise GraphError("its matrices differ within the batch: use one linear layer for each")
    batch, height, width = a.layout.shape
    product = mm(builder, Value(a.layout.reshape(batch * height, width), a.expr), b[0])
    return Value(product.layout.reshape(batch, height, -1), product.expr)


def _is_layer(a: Any, b: Any) -> bool:
    """Whether ``a @ b`` is a fully connected layer on one vector per observation."""
    if not isinstance(a, Value) or isinstance(b, Value) or any(isinstance(t.source, Softmax) for t in a.expr.terms):
        return False
    owner = a.layout // max(a.expr.size, 1)
    return a.layout.ndim == 2 and bool(np.all(owner == np.arange(len(a.layout))[:, None]))


def _layer(builder: Builder, x: Value, weight: Any, bias: Any) -> Value:
    names = builder.weight(to_array(weight).T, builder.origin(weight, "weight"))
    offset = None if bias is None else builder.weight(to_array(bias), builder.origin(bias, "bias"))
    return tensor_value(builder.add(ops.Linear(names, offset), builder.as_float(builder.vector(x))))


def _rows_times(x: Value, matrix: Array) -> Value:
    """``x[p, n] @ matrix[n, k]`` where several rows belong to one observation."""
    layout, index = regroup(x.layout, x.expr.size)
    inner, outer = matrix.shape
    if np.any(layout[:, -1] - layout[:, 0] != inner - 1):
        raise GraphError("it mixes the observations of a batch: compute each by itself")
    count = len(index) // inner
    if count * inner * count * outer > MAX_MATRIX:
        raise GraphError(f"a matrix of {count * outer} x {count * inner} is too large: use convolutions or layers")
    expr = mapped(rows(x.expr, index, (len(index),)), np.kron(np.eye(count), matrix.T), (count * outer,))
    first = layout[:, 0] // inner * outer
    return Value(first[:, None] + np.arange(outer), expr)


def linear_map(builder: Builder, x: Value, function: Callable[[Tensor], Tensor]) -> Value:
    """A linear function of ``[B, *shape]`` as its matrix.

    Raises:
        GraphError: that matrix is too large.
    """
    expr = builder.aligned(x)
    offset = function(torch.zeros(1, *expr.shape, dtype=torch.float64))
    shape = tuple(offset.shape[1:])
    if offset.numel() * expr.size > MAX_MATRIX:
        raise GraphError(
            f"the graph can do this only as a matrix, and {offset.numel()} x {expr.size} is too large; it has no "
            "transpose: an image must be given with its channels first"
        )
    basis = torch.eye(expr.size, dtype=torch.float64).reshape(expr.size, *expr.shape)
    matrix = (function(basis) - offset).reshape(expr.size, -1).T.numpy()
    result = mapped(expr, np.ascontiguousarray(matrix), shape)
    return in_order(Expr(shape, result.terms, result.shift + offset[0].numpy()))


def convolution(
    builder: Builder, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    """A convolution of an image; other kinds as a matrix."""
    if not isinstance(x, Value) or isinstance(weight, Value) or isinstance(bias, Value):
        raise GraphError("its weights depend on the observation")
    if not transposed and weight.ndim == 4:
        result = _conv2d(builder, x, weight, bias, pair(stride), pair(padding), pair(dilation), groups)
        if result is not None:
            return result
    double = weight.double(), None if bias is None else bias.double()
    return linear_map(
        builder, x,
        lambda t: torch.convolution(t, *double, stride, padding, dilation, transposed, output_padding, groups),
    )  # fmt: skip


def _conv2d(
    builder: Builder, x: Value, weight: Tensor, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Value | None:
    kernel = _dilated(to_array(weight), dilation)
    offset = None if bias is None else builder.weight(to_array(bias), builder.origin(bias, "bias"))
    joined = _padded_kernel(builder.aligned(x), kernel, stride, padding, groups)
    if joined is not None:
        source, moved = joined
        name = builder.weight(moved.weight, builder.origin(weight, "weight"))
        op = ops.Conv2d(name, offset, moved.stride, moved.padding, groups)
        return tensor_value(builder.add(op, builder.as_float(source)))
    image = builder.image(x)
    if image is None:
        return None
    name = builder.weight(kernel, builder.origin(weight, "weight"))
    return tensor_value(builder.add(ops.Conv2d(name, offset, stride, padding, groups), builder.as_float(image)))


def _padded_kernel(expr: Expr, kernel: Array, stride: Pair, padding: Pair, groups: int) -> Any:
    """The image without its zero padding, and the kernel that includes the padding."""
    term = expr.terms[0] if len(expr.terms) == 1 and not expr.is_shifted else None
    if not isinstance(term, Gathered):
        return None
    shift = convolve.shift_of(term, expr.shape)
    source = term.source
    if shift is None or source.shape[0] != expr.shape[0] or np.any(shift.channel != np.arange(expr.shape[0])):
        return None
    ends = shift.row.max() + expr.shape[1] < source.shape[1] or shift.col.max() + expr.shape[2] < source.shape[2]
    if isinstance(source, Softmax) or np.any(shift.scale != 1) or max(shift.row.max(), shift.col.max()) > 0 or ends:
        return None
    wider = convolve.Shift(shift.channel, shift.row - padding[0], shift.col - padding[1], shift.stride, shift.scale)
    extents = (
        (size + 2 * pad - window) // step + 1
        for size, pad, window, step in zip(expr.shape[1:], padding, kernel.shape[2:], stride, strict=True)
    )
    shape = (len(kernel), *extents)
    moved = convolve.moved(kernel, wider, source.shape, shape, stride, groups)
    return None if moved is None else (source, moved)


def _dilated(kernel: Array, dilation: Pair) -> Array:
    """The kernel with zeros between its entries."""
    if dilation == (1, 1):
        return kernel
    rows, cols = ((size - 1) * step + 1 for size, step in zip(kernel.shape[2:], dilation, strict=True))
    wide = np.zeros((*kernel.shape[:2], rows, cols))
    wide[:, :, :: dilation[0], :: dilation[1]] = kernel
    return wide


def avg_pool2d(
    builder: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Value:  # fmt: skip
    """Averages of windows."""
    kernel = pair(kernel_size)
    step, pad = pair(stride) if stride else kernel, pair(padding)

    def whole(t: Tensor) -> Tensor:
        return F.avg_pool2d(t, kernel, step, pad, ceil_mode, count_include_pad, divisor_override)

    image = builder.image(x) if x.layout.ndim == 4 else None
    if image is None or (ceil_mode and not _ceil_is_floor(x.layout.shape[-2:], kernel, step, pad)):
        return linear_map(builder, x, whole)
    pooled = tensor_value(builder.add(ops.Pool("average", kernel, step, pad), builder.as_float(image)))
    ones = torch.ones(1, 1, *image.shape[1:], dtype=torch.float64)
    share = (whole(ones) / F.avg_pool2d(ones, kernel, step, pad)).numpy()
    return mul(builder, pooled, share) if np.any(share != 1) else pooled


def max_pool2d(
    builder: Builder, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Value, None]:  # fmt: skip
    """Maxima of windows, without their indices."""
    kernel, pad = pair(kernel_size), pair(padding)
    step = pair(stride) if stride else kernel
    if pair(dilation) != (1, 1):
        raise GraphError("a dilated max-pool has no graph form: use dilation 1")
    if ceil_mode and not _ceil_is_floor(x.layout.shape[-2:], kernel, step, pad):
        raise GraphError(
            "max-pooling with ceil_mode: use ceil_mode=False (pad the image where the last windows matter)"
        )
    return _pooled(builder, x, "max", kernel, step, pad), None


def adaptive_avg_pool2d(builder: Builder, x: Value, output_size: Any) -> Value:
    """Averages of windows that share an image evenly."""
    windows = _adaptive_windows(x.layout.shape[-2:], output_size)
    if windows is None or x.layout.ndim != 4 or builder.image(x) is None:
        return linear_map(builder, x, lambda t: F.adaptive_avg_pool2d(t, output_size))
    return _pooled(builder, x, "average", *windows, (0, 0))


def adaptive_max_pool2d(builder: Builder, x: Value, output_size: Any) -> tuple[Value, None]:
    """Maxima of windows that share an image evenly."""
    windows = _adaptive_windows(x.layout.shape[-2:], output_size)
    if windows is None:
        raise GraphError("its windows differ in size: choose divisors of the image")
    return _pooled(builder, x, "max", *windows, (0, 0)), None


def _pooled(
    builder: Builder, x: Value, function: Literal["max", "average"], kernel: Pair, stride: Pair, padding: Pair
) -> Value:
    image = builder.image(x)
    if image is None:
        raise GraphError("it pools a tensor that is not an image of the graph")
    op = ops.Pool(function, kernel, stride, padding)
    return tensor_value(builder.add(op, builder.as_float(image) if function == "average" else image))


def _ceil_is_floor(extents: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> bool:
    sizes = zip(extents, kernel, stride, padding, strict=True)
    return all((size + 2 * pad - window) % step == 0 for size, window, step, pad in sizes)


def _adaptive_windows(extents: tuple[int, ...], wanted: Any) -> tuple[Pair, Pair] | None:
    windows = [_adaptive_window(size, count) for size, count in zip(extents, pair(wanted), strict=True)]
    if windows[0] is None or windows[1] is None:
        return None
    return (windows[0][0], windows[1][0]), (windows[0][1], windows[1][1])


def _adaptive_window(size: int, count: int) -> Pair | None:
    """The one ``(kernel, stride)`` that all windows share, as torch places them, or None."""
    starts = [at * size // count for at in range(count)]
    ends = [-(-(at + 1) * size // count) for at in range(count)]
    sizes = {end - start for start, end in zip(starts, ends, strict=True)}
    steps = {after - before for before, after in pairwise(starts)} or {size}
    return (sizes.pop(), steps.pop()) if len(sizes) == len(steps) == 1 and 0 not in steps else None

"""ONNX ops on tables ``(rows, columns)`` of one observation, of which the graph has only what ends in a vector.

A table is a vector read row by row: the quantiles or the histograms of several actions. Means over an axis are a Linear
op; a softmax along the rows, times a support and added up, is an Expectation (C51).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nimbleq.bridge.onnx_making import Attributes, Making, Table, Unfit
from nimbleq.graph import ops
from nimbleq.types import Array


def _softmax(making: Making, attributes: Attributes, table: Table) -> Table:
    if table.is_softmax or attributes.get("axis", -1) not in (-1, 2):
        raise Unfit("it must run along the last axis of the logits")
    return replace(table, is_softmax=True)


def _mul(making: Making, attributes: Attributes, left: Any, right: Any) -> Table:
    table, support = (left, right) if isinstance(left, Table) else (right, left)
    if not isinstance(support, np.ndarray) or not table.is_softmax or table.support is not None:
        raise Unfit("the graph multiplies only a softmax, by a constant support")
    return replace(table, support=_support(support, table))


def _support(values: Array, table: Table) -> Array:
    if values.size != table.columns or values.shape[-1:] not in ((table.columns,), (1,)):
        raise Unfit(f"the support has {values.size} values for {table.columns} atoms")
    return values.reshape(-1)


def _matmul(making: Making, attributes: Attributes, table: Any, support: Any) -> str:
    if not isinstance(table, Table) or not isinstance(support, np.ndarray) or not table.is_softmax:
        raise Unfit("the graph multiplies only a softmax, by a constant support")
    if support.ndim != 1:
        raise Unfit("the support must be a vector")
    return _expectation(making, replace(table, support=_support(support, table)))


def _expectation(making: Making, table: Table) -> str:
    assert table.support is not None
    return making.emit(ops.Expectation(making.weight("support", table.support)), table.vector)


def _sum(making: Making, attributes: Attributes, table: Table, axes: Any = None) -> str:
    if _axis(attributes, axes) != 2 or table.support is None:
        return _reduced(making, attributes, table, axes, 1.0)
    if attributes.get("keepdims", 1):
        raise Unfit("it must drop the axis that it adds up (keepdims 0)")
    return _expectation(making, table)


def _mean(making: Making, attributes: Attributes, table: Table, axes: Any = None) -> str:
    axis = _axis(attributes, axes)
    return _reduced(making, attributes, table, axes, 1 / (table.rows if axis == 1 else table.columns))


def _reduced(making: Making, attributes: Attributes, table: Table, axes: Any, share: float) -> str:
    """The sums along one axis, times ``share``, as a Linear op."""
    axis = _axis(attributes, axes)
    if table.is_softmax or axis not in (1, 2) or attributes.get("keepdims", 1):
        raise Unfit("of a table the graph has only sums and means along one axis, which is dropped (keepdims 0)")
    rows, columns = table.rows, table.columns
    matrix = np.kron(np.eye(rows), np.ones((1, columns))) if axis == 2 else np.kron(np.ones((1, rows)), np.eye(columns))
    return making.emit(ops.Linear(making.weight("weight", matrix * share)), table.vector)


def _axis(attributes: Attributes, axes: Any) -> int:
    """The only axis, the batch axis being 0."""
    given = np.asarray(attributes.get("axes", ()) if axes is None else axes).reshape(-1)
    return int(given[0]) % 3 if len(given) == 1 else -1


def _reshape(making: Making, attributes: Attributes, table: Table, shape: Any) -> str:
    sides = [int(side) for side in np.asarray(shape).reshape(-1)]
    if table.is_softmax or len(sides) != 2 or sides[1] not in (-1, table.rows * table.columns):
        raise Unfit("a table can only become a vector again")
    return table.vector


ROW_RULES: Mapping[str, Callable[..., Any]] = {
    "Flatten": lambda making, attributes, table: _reshape(making, attributes, table, [1, -1]),
    "Identity": lambda making, attributes, table: table,
    "MatMul": _matmul, "Mul": _mul, "ReduceMean": _mean, "ReduceSum": _sum, "Reshape": _reshape, "Softmax": _softmax,
}  # fmt: skip
"""ONNX op → rule, where an input is a `Table`."""

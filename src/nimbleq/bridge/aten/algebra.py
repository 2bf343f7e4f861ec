"""Exact algebra of exported tensors.

Views, broadcasts, means and products with constants become nodes only when an op needs a tensor of the graph. So all
spellings of ``v + a - a.mean(1)`` are the same value.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from nimbleq.bridge.aten.values import BATCH, Dense, Expr, Gathered, Scaled, Term, Value
from nimbleq.errors import GraphError
from nimbleq.types import Array

MAX_MATRIX = 1 << 22
"""Most elements of a matrix for a linear op."""


def full(array: Array, shape: tuple[int, ...]) -> Array:
    """``array`` broadcast to ``shape``, flattened."""
    flat: Array = np.broadcast_to(array, shape).reshape(-1)
    return flat


def rows(expr: Expr, index: Array, shape: tuple[int, ...]) -> Expr:
    """The elements ``index`` of ``expr`` (−1: zero), as an expression of ``shape``."""
    if shape == expr.shape and np.array_equal(index, np.arange(expr.size)):
        return expr
    terms = tuple(_simple(_term_rows(term, expr.shape, index), shape) for term in expr.terms)
    shift = full(expr.shift, expr.shape)[index] * (index >= 0) if expr.is_shifted else np.zeros(1)
    return Expr(shape, terms, shift.reshape(shape if shift.size > 1 else ()))


def mapped(expr: Expr, matrix: Array, shape: tuple[int, ...]) -> Expr:
    """``matrix @ expr``, ``matrix: float64[prod(shape), m]``.

    Raises:
        GraphError: the product has more than `MAX_MATRIX` elements.
    """
    terms = tuple(_simple(Dense(term.source, _product(matrix, term, expr.shape)), shape) for term in expr.terms)
    return Expr(shape, terms, (matrix @ full(expr.shift, expr.shape)).reshape(shape))


def plus(left: Expr, right: Expr) -> Expr:
    """The sum of two expressions of one shape."""
    terms = list(left.terms)
    for term in right.terms:
        at = next((i for i, other in enumerate(terms) if other.source == term.source), None)
        if at is None:
            terms.append(term)
        else:
            terms[at] = _joined(terms[at], term, left.shape)
    return Expr(left.shape, tuple(terms), left.shift + right.shift)


def times(expr: Expr, scale: Array) -> Expr:
    """``expr·scale`` elementwise; ``scale`` broadcasts to the expression's shape."""
    flat = full(scale, expr.shape)
    terms: list[Term] = []
    for term in expr.terms:
        match term:
            case Scaled(source, own):
                terms.append(Scaled(source, own * scale))
            case Gathered(source, index, own):
                terms.append(Gathered(source, index, own * flat))
            case Dense(source, matrix):
                terms.append(Dense(source, matrix * flat[:, None]))
    return Expr(expr.shape, tuple(terms), expr.shift * scale)


def regroup(layout: Array, size: int) -> tuple[Array, Array]:
    """A layout with each observation's elements together, and their indices in the old layout.

    Raises:
        GraphError: the tensor holds different elements for different observations.
    """
    flat = layout.reshape(-1)
    owner = flat // size
    if flat.size % BATCH or np.any(np.bincount(owner, minlength=BATCH) != flat.size // BATCH):
        raise GraphError("it mixes the observations of a batch: compute each by itself")
    order = np.argsort(owner, kind="stable")
    index = (flat % size)[order].reshape(BATCH, -1)
    if np.any(index != index[0]):
        raise GraphError("it mixes the observations of a batch: compute each by itself")
    grouped = np.empty_like(flat)
    grouped[order] = np.arange(flat.size)
    return grouped.reshape(layout.shape), index[0]


def is_bijective(value: Value) -> bool:
    """Whether the tensor holds every element of its expression once."""
    flat = value.layout.reshape(-1)
    return flat.size == BATCH * value.expr.size and int(np.bincount(flat, minlength=flat.size).max()) == 1


def normal(value: Value) -> Value:
    """The same tensor with an expression of exactly its elements."""
    if is_bijective(value):
        return value
    layout, index = regroup(value.layout, value.expr.size)
    return Value(layout, rows(value.expr, index, per_observation(layout)))


def per_observation(layout: Array) -> tuple[int, ...]:
    """Shape of one observation's part of a grouped layout: without the batch where that is the first axis."""
    first = layout.ndim > 0 and np.array_equal(layout.reshape(-1), np.arange(layout.size))
    return layout.shape[1:] if first and layout.shape[0] == BATCH else (layout.size // BATCH,)


def reshaped(expr: Expr, shape: tuple[int, ...]) -> Expr:
    """The same elements, in the same order, under another shape."""
    if shape == expr.shape:
        return expr
    return rows(replace(expr, shape=expr.shape), np.arange(expr.size), shape)


def matrix_of(term: Term, shape: tuple[int, ...]) -> Array:
    """A term of an expression of ``shape`` as ``float64[m, n]``."""
    size = prod(term.source.shape)
    match term:
        case Dense(_, matrix):
            return matrix
        case Scaled(_, scale):
            picked = Gathered(term.source, np.arange(size), full(scale, shape))
        case Gathered():
            picked = term
    _check_size(len(picked.index), size)
    matrix = np.zeros((len(picked.index), size))
    used = np.flatnonzero(picked.index >= 0)
    matrix[used, picked.index[used]] = picked.scale[used]
    return matrix


def _term_rows(term: Term, shape: tuple[int, ...], index: Array) -> Term:
    used = index >= 0
    match term:
        case Scaled(source, scale):
            return Gathered(source, index, full(scale, shape)[index] * used)
        case Gathered(source, own, scale):
            return Gathered(source, np.where(used, own[index], -1), scale[index] * used)
        case Dense(source, matrix):
            _check_size(len(index), matrix.shape[1])
            return Dense(source, matrix[index] * used[:, None])


def _product(matrix: Array, term: Term, shape: tuple[int, ...]) -> Array:
    size = prod(term.source.shape)
    _check_size(len(matrix), size)
    match term:
        case Scaled(_, scale):
            return matrix * full(scale, shape)
        case Gathered(_, index, scale):
            product = np.zeros((size + 1, len(matrix)))  # the last row collects index −1
            np.add.at(product, index, (matrix * scale).T)
            return product[:size].T
        case Dense(_, own):
            result: Array = matrix @ own
            return result


def _joined(left: Term, right: Term, shape: tuple[int, ...]) -> Term:
    if isinstance(left, Scaled) and isinstance(right, Scaled):
        return Scaled(left.source, left.scale + right.scale)
    return _simple(Dense(left.source, matrix_of(left, shape) + matrix_of(right, shape)), shape)


def _simple(term: Term, shape: tuple[int, ...]) -> Term:
    """The map as an elementwise scale or a selection of elements, if it is one."""
    size = prod(term.source.shape)
    if isinstance(term, Dense):
        used = term.matrix != 0
        if int(used.sum(axis=1).max(initial=0)) > 1:
            return term
        index = np.where(used.any(axis=1), used.argmax(axis=1), -1)
        term = Gathered(term.source, index, term.matrix[np.arange(len(index)), index] * (index >= 0))
    if isinstance(term, Gathered) and shape == term.source.shape and np.array_equal(term.index, np.arange(size)):
        return Scaled(term.source, term.scale.reshape(shape))
    return term


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_MATRIX:
        raise GraphError(f"the graph can express it only as a matrix, and one of {height} x {width} is too large")

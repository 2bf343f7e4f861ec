"""Linear on observations that are nearly all zeros (one-hot, boards): the rows of the others are added up.

Only values are looked at, so that the sums are the same whoever declares what: of integers exactly, of float32 up to
the order in which they are added.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nimbleq.types import Array

LEAST = 64
"""Inputs of a layer for which it can pay to look."""
_SHARE = 16
"""It pays when at most one of so many is not zero."""


def rows_added(
    dense: Callable[[Array], Array], matrix: Array, bias: Array | None, result: type
) -> Callable[..., Array]:
    """``dense``, or for nearly empty ``x [B, in]`` the same sums of the few rows of ``matrix [in, out]`` that count."""

    def linear(x: Array) -> Array:
        if np.count_nonzero(x) * _SHARE > x.size:
            return dense(x)
        line, column = np.nonzero(x)
        y = np.zeros((len(x), matrix.shape[1]), matrix.dtype) if bias is None else np.tile(bias, (len(x), 1))
        if len(line):
            products = matrix[column] * x[line, column].astype(matrix.dtype)[:, None]
            lines, first = np.unique(line, return_index=True)
            y[lines] += np.add.reduceat(products, first, axis=0)
        return y.astype(result, copy=False)

    return linear

"""Linear layers for AVX2 with sparse weights: blocks of outputs that are zero are left out, where that pays.

Up to the measured share of blocks (`benchmarks/cases/sparse.py`) that is faster than the dense kernels; above it,
weights are unpacked. Which encoding the model stores makes no difference here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer, pad_to
from nimbleq.deploy.targets.c.ops.sparse import is_sparse
from nimbleq.types import Array


@dataclass(frozen=True)
class Shape:
    """Blocks of ``height`` outputs × 1 input, ``unroll`` of them at a time; they pay up to ``share`` of all blocks."""

    height: int
    unroll: int
    share: float


FLOAT = Shape(8, 4, 0.35)
INT = Shape(16, 2, 0.35)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Attributes:
    columns: uint16, the input of each block.
    counts: uint16 ``[groups]``, how many times ``unroll`` blocks each group of outputs has.
    weights: ``[blocks, height]``.
    """

    columns: Array
    counts: Array
    weights: Array


def paying(layer: Layer, weight: Array, shape: Shape) -> Blocks | None:
    """The blocks of a sparsely stored ``weight [out, in]``; None where the dense kernel is faster."""
    if not is_sparse(layer) or weight.shape[1] > np.iinfo(np.uint16).max:
        return None
    grouped = pad_to(weight, -(-len(weight) // shape.height) * shape.height, axis=0)
    grouped = grouped.reshape(-1, shape.height, weight.shape[1]).transpose(0, 2, 1)
    present = np.asarray(grouped.any(axis=2))
    if present.mean() > shape.share:
        return None
    columns, counts, weights = [], [], []
    for lines, there in zip(grouped, present, strict=True):
        found = np.flatnonzero(there)
        missing = -len(found) % shape.unroll
        columns.append(np.append(found, np.zeros(missing, np.int64)))
        weights.append(pad_to(lines[found], len(found) + missing, axis=0))
        counts.append(len(columns[-1]) // shape.unroll)
    return Blocks(
        _some(np.concatenate(columns).astype(np.uint16)), np.array(counts, np.uint16), _some(np.concatenate(weights))
    )


def _some(values: Array) -> Array:
    """C has no empty arrays."""
    return values if len(values) else np.zeros((1, *values.shape[1:]), values.dtype)

"""Optimal brain surgeon [Hassibi & Stork 1993; OBC, 2208.11580]: a layer's exact second-order error, and its repair.

For a layer ``y = W x + b`` the squared error of ``y`` over states has the Hessian ``H = E[(x − x̄)(x − x̄)ᵀ]``, the same
for each output; the bias takes the mean. Columns of ``x`` are inputs, or the entries of a convolution's window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import trace
from nimbleq.graph.kernels import windows
from nimbleq.types import Array

_CHUNK = 256
_ROWS = 20_000
"""Windows of a convolution that are looked at, at most."""
DAMPING = 0.01
"""Of the mean diagonal, added to it, as in OBC."""


@dataclass(frozen=True, eq=False)
class Hessian:
    """Attributes:
    matrix: ``float64[d, d]`` covariance of the columns (second moment where there is no bias to take the mean), damped.
    mean: ``float64[d]`` of the columns (0 where there is no bias).
    """

    matrix: Array
    mean: Array


def hessians(graph: Graph, obs: Array) -> dict[str, Hessian]:
    """Output of each Linear and ungrouped Conv2d → its Hessian over ``obs [K, *O]``, in a stream."""
    nodes = [node for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d) and _whole(node)]
    counts, firsts, seconds = dict.fromkeys((n.output for n in nodes), 0), dict[str, Array](), dict[str, Array]()
    for start in range(0, len(obs), _CHUNK):
        tensors = trace(graph, obs[start : start + _CHUNK])
        for node in nodes:
            if counts[node.output] < _ROWS:
                rows = _columns(graph, node, tensors[node.inputs[0]])
                counts[node.output] += len(rows)
                firsts[node.output] = firsts.get(node.output, 0.0) + rows.sum(axis=0)
                seconds[node.output] = seconds.get(node.output, 0.0) + rows.T @ rows
    return {node.output: _hessian(node, counts, firsts, seconds) for node in nodes}


def _whole(node: Node) -> bool:
    return not isinstance(node.op, ops.Conv2d) or node.op.groups == 1


def _columns(graph: Graph, node: Node, source: Array) -> Array:
    """``float64[n, d]`` what each use of the layer multiplies with its weights."""
    if not isinstance(node.op, ops.Conv2d):
        return source.astype(np.float64)
    kernel = graph.weights[node.op.weight].shape[2:]
    seen = windows(source.astype(np.float64), kernel, node.op.stride, node.op.padding, node.op.pad_value)
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, seen.shape[1] * kernel[0] * kernel[1])


def _hessian(node: Node, counts: dict[str, int], firsts: dict[str, Array], seconds: dict[str, Array]) -> Hessian:
    count, assumed = counts[node.output], node.op
    assert isinstance(assumed, ops.Linear | ops.Conv2d)
    mean = firsts[node.output] / count if assumed.bias is not None else np.zeros(len(firsts[node.output]))
    matrix = seconds[node.output] / count - np.outer(mean, mean)
    damping = DAMPING * float(np.trace(matrix)) / len(matrix)
    return Hessian(matrix + max(damping, 1e-12) * np.eye(len(matrix)), mean)


def without_columns(weight: Array, bias: Array | None, gone: Array, hessian: Hessian) -> tuple[Array, Array | None]:
    """Weight ``[out, d]`` and bias without some columns (now 0), the others adjusted by least squares.

    Args:
        gone: ``bool[d]``.
    """
    left, lost = np.flatnonzero(~gone), np.flatnonzero(gone)
    changed = weight * ~gone
    if len(left) and len(lost):  # x_lost ≈ mean_lost + B (x_left − mean_left) with B = H_lost,left H_left,left⁻¹
        system, wanted = hessian.matrix[np.ix_(left, left)], hessian.matrix[np.ix_(left, lost)]
        changed[:, left] += (np.linalg.solve(system, wanted) @ weight[:, lost].T).T
    return changed, None if bias is None else bias + (weight - changed) @ hessian.mean


def removal_errors(weight: Array, mask: Array, hessian: Hessian) -> Array:
    """``float64[out, d]`` squared error of the layer's sum when this entry goes and its row is repaired:
    ``w² / [H⁻¹]ᵢᵢ`` with ``H`` of the row's present entries; 0 where nothing is present.

    Args:
        mask: ``bool[out, d]`` the entries that are present.
    """
    errors = np.zeros(weight.shape)
    for part, rows, inverse in _inverses(mask, hessian):
        diagonal = np.diagonal(inverse, axis1=1, axis2=2)
        errors[rows, part] = np.where(mask[rows, part], weight[rows, part] ** 2 / diagonal, 0.0)
    return errors


def repaired(weight: Array, bias: Array | None, mask: Array, hessian: Hessian) -> tuple[Array, Array | None]:
    """Weight and bias whose row sums are, by least squares, what they were before the entries outside ``mask`` went.

    Args:
        weight: ``[out, d]``.
        mask: ``bool[out, d]`` the entries that stay.
    """
    changed = weight * mask
    for part, rows, inverse in _inverses(mask, hessian):
        lost = np.where(mask[rows, part], 0.0, weight[rows, part])
        wanted = (lost @ hessian.matrix[part, part]) * mask[rows, part]
        changed[rows, part] += np.einsum("rij,rj->ri", inverse, wanted) * mask[rows, part]
    return changed, None if bias is None else bias + (weight - changed) @ hessian.mean


_EXACT = 1e11
"""Multiplications that the inverses of a layer may take; above, H is taken as blocks on its diagonal."""
_BLOCK = 128


def _inverses(mask: Array, hessian: Hessian) -> Iterator[tuple[slice, slice, Array]]:
    """Columns, rows, and ``[rows, d, d]`` the inverse of H among each row's present columns (1 on the diagonal of the
    others)."""
    count, width = mask.shape
    block = width if 2.0 * count * width**3 <= _EXACT else _BLOCK
    for start in range(0, width, block):
        part = slice(start, min(start + block, width))
        matrix = hessian.matrix[part, part]
        at_once = max(1, (1 << 22) // len(matrix) ** 2)
        for first in range(0, count, at_once):
            rows = slice(first, min(first + at_once, count))
            present = mask[rows, part]
            alike = present[:1] if (present == present[0]).all() else present
            both = alike[:, :, None] & alike[:, None, :]
            inverse = np.linalg.inv(np.where(both, matrix, np.eye(len(matrix))))
            yield part, rows, np.broadcast_to(inverse, (len(present), *matrix.shape))

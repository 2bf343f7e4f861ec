"""Bounds of linear functions of a network's outputs over boxes of inputs: backward linear bounds (CROWN).

Zhang et al. 2018 [1811.00866]. Every sum's interval comes from the same backward pass. Rounding is inside: a computed
sum may differ from the real one by the layer's slack times its magnitude, and that is subtracted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nimbleq.compress.robust.network import TINY, Network
from nimbleq.compress.robust.relax import Lines, lines
from nimbleq.types import Array


class Bounded(NamedTuple):
    """Lower bounds float64 ``[B, R]`` of rows, and the factors ``[B, R, n]`` of the inputs they were found with."""

    lower: Array
    slopes: Array


class Relaxed(NamedTuple):
    """One layer over a batch of boxes: lines of its function, and the slack of its sums ``[B, n]``."""

    lines: Lines
    slack: Array


def relax(network: Network, low: Array, high: Array) -> list[Relaxed]:
    """Every layer's lines over the boxes ``[low, high]``, both ``[B, n]``."""
    done: list[Relaxed] = []
    values = [(low, high)]
    for layer in network.layers:
        size: Array = np.broadcast_to(np.abs(layer.bias) + TINY, (len(low), layer.size)).copy()
        least: Array = np.broadcast_to(layer.bias, size.shape).copy()
        most: Array = least.copy()
        for source, matrix in zip(layer.sources, layer.matrices, strict=True):
            start, end = values[source]
            middle, radius = 0.5 * (end + start) @ matrix.T, 0.5 * (end - start) @ np.abs(matrix).T
            least += middle - radius
            most += middle + radius
            size += np.maximum(np.abs(start), np.abs(end)) @ np.abs(matrix).T
        slack = layer.slack * size
        least, most = least - slack, most + slack
        if done:
            rows = dict(zip(layer.sources, layer.matrices, strict=True))
            own = np.arange(layer.size)
            for sign, bound in ((1.0, least), (-1.0, most)):
                signed = {source: sign * matrix for source, matrix in rows.items()}
                better = backward(network, done, low, high, signed, sign * layer.bias).lower[:, own] - slack
                bound[...] = np.maximum(least, better) if sign > 0 else np.minimum(most, -better)
        if layer.integer:
            least, most = np.ceil(least), np.floor(most)
        most = np.maximum(most, least)
        done.append(Relaxed(lines(layer.function, least, most), slack))
        values.append((done[-1].lines.low, done[-1].lines.high))
    return done


def backward(
    network: Network, relaxed: list[Relaxed], low: Array, high: Array, rows: dict[int, Array], constant: Array
) -> Bounded:
    """Lower bounds of ``Σ_k rows[k]·values of layer k + constant`` over the boxes.

    Args:
        relaxed: at least the layers in ``rows`` and those before.
        rows: layer → factors ``[R, its size]``.
        constant: ``[R]``.
    """
    count = len(constant)
    factors: dict[int, Array] = {k: np.broadcast_to(f, (len(low), *f.shape)) for k, f in rows.items()}
    total: Array = np.broadcast_to(constant, (len(low), count)).copy()
    for index in range(len(relaxed), 0, -1):
        if index not in factors:
            continue
        factor, layer, at = factors.pop(index), network.layers[index - 1], relaxed[index - 1]
        up = factor >= 0
        total += (factor * np.where(up, at.lines.below_at[:, None], at.lines.above_at[:, None])).sum(axis=2)
        sums = factor * np.where(up, at.lines.below[:, None], at.lines.above[:, None])
        total += sums @ layer.bias - (np.abs(sums) * at.slack[:, None]).sum(axis=2)
        for source, matrix in zip(layer.sources, layer.matrices, strict=True):
            factors[source] = factors.get(source, 0.0) + sums @ matrix
    slopes = np.asarray(factors.get(0, np.zeros((len(low), count, network.inputs))))
    total += np.where(slopes >= 0, slopes * low[:, None], slopes * high[:, None]).sum(axis=2)
    return Bounded(total, slopes)

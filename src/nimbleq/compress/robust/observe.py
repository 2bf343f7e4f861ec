"""From the inputs of a network back to an observation."""

from __future__ import annotations

import numpy as np

from nimbleq.compress.robust.subject import Levels, Subject
from nimbleq.types import Array


def observed(subject: Subject, inputs: Array, ends: tuple[Array, Array]) -> Array | None:
    """``[1, F]`` an observation between ``ends`` at which the network has these inputs; None if there is none.

    Args:
        inputs: float64 ``[n]``.
        ends: the first and the last observation of the box, ``[F]`` in the type of the policy's input.
    """
    if subject.levels is None:
        point = inputs.astype(ends[0].dtype)
        return np.asarray(np.clip(point, ends[0], ends[1]))[None]
    return _with_levels(subject.levels, inputs, ends)


def _with_levels(levels: Levels, wanted: Array, ends: tuple[Array, Array]) -> Array | None:
    """An observation between ``ends`` that becomes these levels: bisection over the float32 numbers."""
    low, high = _ordered(ends[0]), _ordered(ends[1])
    first, last = (levels.of(end[None])[0] for end in ends)
    sign = np.where(first <= last, 1, -1)
    own = levels.feature
    while (low[own] < high[own]).any():
        middle = (low + high) // 2
        enough = sign * (levels.of(_unordered(middle)[None])[0] - wanted) >= 0
        high[own] = np.where(enough, middle[own], high[own])
        low[own] = np.where(enough, low[own], np.minimum(middle[own] + 1, high[own]))
    obs = _unordered(high)[None]
    return obs if np.array_equal(levels.of(obs)[0], wanted) else None


def _ordered(values: Array) -> Array:
    """float32 numbers as integers in the same order."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _unordered(order: Array) -> Array:
    """The inverse of `_ordered`."""
    bits = np.where(order < 0, -order | 0x80000000, order).astype(np.uint32)
    return bits.view(np.float32)

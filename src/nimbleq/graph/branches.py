"""Actions of several dimensions: one choice in each, all of them together one number.

A network has the values of all dimensions side by side, ``A`` in all. What it chooses is one index: its digits, of
which the last changes first, are the choices. So an action stays a number in training, replay, artefacts and on
every target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from nimbleq.types import Array

MOST = (1 << 31) - 1
"""Most combinations: an action is an int32 everywhere."""


def parts(branches: Sequence[int]) -> tuple[slice, ...]:
    """Which of the ``A`` values are of which dimension."""
    ends = np.cumsum([0, *branches]).tolist()
    return tuple(slice(start, stop) for start, stop in pairwise(ends))


def combinations(actions: int, branches: Sequence[int]) -> int:
    """How many actions there are: ``actions`` where there is a single choice (``branches`` is empty)."""
    return prod(branches) if branches else actions


def join(choices: Sequence[Array], branches: Sequence[int]) -> Array:
    """``int64[B]`` of the choices ``int[B]`` of each dimension."""
    index = np.zeros_like(np.asarray(choices[0], np.int64))
    for choice, count in zip(choices, branches, strict=True):
        index = index * count + choice
    return index


def split(index: Array, branches: Sequence[int]) -> Array:
    """``int64[*, D]`` the choices of ``index: int[*]``."""
    digits, left = [], np.asarray(index, np.int64)
    for count in reversed(branches):
        digits.append(left % count)
        left = left // count
    return np.stack(digits[::-1], axis=-1)


def places(index: Array, branches: Sequence[int] = ()) -> Array:
    """``int64[B, D]`` which of the ``A`` values the action ``index: int[B]`` chooses, one of each dimension."""
    if not branches:
        return np.asarray(index, np.int64)[:, None]
    columns: Array = split(index, branches) + np.cumsum([0, *branches[:-1]])
    return columns


def best(q: Array, branches: Sequence[int] = (), mask: Array | None = None) -> Array:
    """``int64[B]`` the legal action of the highest values in ``q: float[B, A]``; ties go to the lowest index.

    Args:
        branches: sizes of the dimensions (empty: there is a single choice).
        mask: ``bool[B, A]``, True at least once in each dimension of a row (None: every choice is legal).
    """
    among = q if mask is None else np.where(mask, q, -np.inf)
    if not branches:
        return np.asarray(among.argmax(axis=1))
    return join([among[:, part].argmax(axis=1) for part in parts(branches)], branches)


def value(q: Array, branches: Sequence[int] = (), mask: Array | None = None) -> Array:
    """``float[B]`` of a state: the highest legal value in ``q: float[B, A]``, averaged over dimensions."""
    among = q if mask is None else np.where(mask, q, np.asarray(-np.inf, q.dtype))
    if not branches:
        return np.asarray(among.max(axis=1))
    return np.asarray(np.mean([among[:, part].max(axis=1) for part in parts(branches)], axis=0, dtype=q.dtype))


def nowhere_legal(mask: Array, branches: Sequence[int] = ()) -> Array:
    """``bool[B]`` whether ``mask: bool[B, A]`` leaves nothing to choose, in some dimension."""
    if not branches:
        branches = mask.shape[1:]
    some = np.stack([mask[:, part].any(axis=1) for part in parts(branches)])
    return np.asarray(~some.all(axis=0))

"""Choosing among legal actions only. ``mask: bool[B, A]`` is True where an action is legal, at least once a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from nimbleq.graph.branches import join, parts
from nimbleq.types import Array

MANY = 1 << 31
"""Draws for `nth_legal` come from 0 … MANY − 1: uniform over up to thousands of actions within 1 in a million."""


def nth_legal(mask: Array, draws: Array, branches: Sequence[int] = ()) -> Array:
    """``int64[B]`` the legal action number ``draws mod (legal actions)`` of each row; ``draws: int64[B]``.

    Args:
        branches: sizes of the action's dimensions (empty: it is a single choice).
    """
    choices, left = [], draws
    for part in parts(branches or mask.shape[1:]):
        flags = mask[:, part]
        count = flags.sum(axis=1)
        choices.append((flags.cumsum(axis=1) > (left % count)[:, None]).argmax(axis=1))
        left = left // count
    return join(choices, branches) if branches else choices[0]


def best_legal(q: Array, mask: Array) -> Array:
    """``int64[B]`` the legal action of the highest value in ``q: float[B, A]``; ties go to the lowest index."""
    return cast(Array, np.where(mask, q, -np.inf).argmax(axis=1))

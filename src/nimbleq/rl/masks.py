"""Choosing among legal actions only. ``mask: bool[B, A]`` is True where an action is legal, at least once a row."""

from __future__ import annotations

from typing import cast

import numpy as np

from nimbleq.types import Array

MANY = 1 << 31
"""Draws for `nth_legal` come from 0 … MANY − 1: uniform over up to thousands of actions within 1 in a million."""


def nth_legal(mask: Array, draws: Array) -> Array:
    """``int64[B]`` the legal action number ``draws mod (legal actions)`` of each row; ``draws: int64[B]``."""
    wanted = draws % mask.sum(axis=1)
    return cast(Array, (mask.cumsum(axis=1) > wanted[:, None]).argmax(axis=1))


def best_legal(q: Array, mask: Array) -> Array:
    """``int64[B]`` the legal action of the highest value in ``q: float[B, A]``; ties go to the lowest index."""
    return cast(Array, np.where(mask, q, -np.inf).argmax(axis=1))

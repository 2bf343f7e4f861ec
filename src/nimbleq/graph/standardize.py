"""How far features vary, as what to divide them by: for networks in training and for students alike."""

from __future__ import annotations

import numpy as np

from nimbleq.types import Array

_SMALLEST, _RELATIVE = 1e-4, 1e-6
"""Deviations below which a feature counts as (nearly) constant: absolute, and beside its mean (float32's rounding)."""


def divisors(mean: Array, deviation: Array, smallest: float = _SMALLEST) -> Array:
    """``float64[...]`` what to divide each centred feature by: its deviation; infinity for one that never varied.

    Below a floor ``f`` it is ``f²/deviation``. So the less a feature varied, the less it counts: a value that it never
    had before (a flag that rises, a drifting sensor) cannot be blown up beyond what training has seen, as division by
    the deviation or by the floor would.

    Args:
        mean, deviation: of each feature, float64.
        smallest: the floor, in the features' own units; a millionth of a feature's mean where that is larger.
    """
    floor = np.maximum(smallest, _RELATIVE * np.abs(mean))
    with np.errstate(divide="ignore", over="ignore"):
        shrunk = floor * (floor / np.asarray(deviation, np.float64))
    return np.where(deviation < floor, shrunk, deviation)

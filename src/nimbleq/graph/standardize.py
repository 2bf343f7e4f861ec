"""Divisors that standardise features, for networks in training and for students."""

from __future__ import annotations

import numpy as np

from nimbleq.types import Array

_SMALLEST, _RELATIVE = 1e-4, 1e-6
"""Deviations below which a feature counts as constant: absolute, and relative to its mean (float32's rounding)."""


def divisors(mean: Array, deviation: Array, smallest: float = _SMALLEST) -> Array:
    """``float64[...]`` divisor of each centred feature: its deviation, or infinity if it never varied.

    Below a floor ``f`` it is ``f²/deviation``. So the less a feature varied, the less it counts: a new value (a flag
    that rises, a drifting sensor) is not amplified beyond what training has seen, as it would be by division by the
    deviation or by the floor.

    Args:
        mean, deviation: of each feature, float64.
        smallest: the floor, in the features' own units; a millionth of a feature's mean where that is larger.
    """
    floor = np.maximum(smallest, _RELATIVE * np.abs(mean))
    with np.errstate(divide="ignore", over="ignore"):
        shrunk = floor * (floor / np.asarray(deviation, np.float64))
    return np.where(deviation < floor, shrunk, deviation)

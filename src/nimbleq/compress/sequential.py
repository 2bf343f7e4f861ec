"""Statistics of a group-sequential one-sided test: quantiles, alpha spending, boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, erf, log, sqrt
from statistics import NormalDist

import numpy as np

from nimbleq.types import Array

_NORMAL = NormalDist()
_TAIL = 8.5
_GRID = 1501


def normal_quantile(probability: float) -> float:
    """``z`` with ``P(N(0, 1) ≤ z) = probability``."""
    return _NORMAL.inv_cdf(probability)


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t; Cornish–Fisher expansion, Abramowitz & Stegun 26.7.5 (error < 1e-3 from 10 degrees)."""
    z = normal_quantile(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def spent(alpha: float, fraction: float) -> float:
    """Alpha spent when ``fraction`` of the episodes are seen: Lan & DeMets 1983, O'Brien–Fleming type.

    ``α*(t) = 2 − 2Φ(z_{1−α/2}/√t)``: almost nothing early, all of ``alpha`` at the end.
    """
    return min(alpha, 2 - 2 * _NORMAL.cdf(normal_quantile(1 - alpha / 2) / sqrt(fraction)))


def boundaries(alpha: float, fractions: Sequence[float]) -> tuple[float, ...]:
    """Nominal one-sided level of each look, such that all looks together err with probability ``alpha``.

    The density of the score that has not crossed yet is carried from look to look by numerical integration
    (Armitage, McPherson & Rowe 1969).

    Args:
        alpha: total.
        fractions: share of the planned episodes at each look, increasing, the last one 1.
    """
    levels: list[float] = []
    grid, density, past, used = np.zeros(1), np.ones(1), 0.0, 0.0
    for fraction in fractions:
        increment, deviation = spent(alpha, fraction) - used, sqrt(fraction - past)
        low, high = -_TAIL, _TAIL
        for _ in range(60):
            middle = (low + high) / 2
            crossing = float(density @ _upper_tail((middle * sqrt(fraction) - grid) / deviation))
            low, high = (middle, high) if crossing > increment else (low, middle)
        levels.append(1 - _NORMAL.cdf(high))
        following = np.linspace(-_TAIL * sqrt(fraction), high * sqrt(fraction), _GRID)
        kernel = np.exp(-0.5 * ((following[:, None] - grid) / deviation) ** 2) / (deviation * sqrt(2 * np.pi))
        density = (kernel @ density) * (following[1] - following[0])
        density[[0, -1]] /= 2  # trapezoid rule
        grid, past, used = following, fraction, spent(alpha, fraction)
    return tuple(levels)


def _upper_tail(z: Array) -> Array:
    return np.array([0.5 - 0.5 * erf(value / sqrt(2)) for value in z])


def floor_episodes(keep: float, alpha: float) -> int:
    """Fewest episodes that can support a claim at all: ``⌈ln α / ln keep⌉``, 299 for 0.99 at 5 %.

    A student that fails totally in a share ``1 − keep`` of its episodes has lost the whole margin. With fewer episodes
    it would show no failure at all with probability above ``alpha``.
    """
    return ceil(log(alpha) / log(keep)) if keep < 1 else 1


def lower_bound(sample: Array, level: float, deviation: float | None = None) -> float:
    """One-sided lower confidence bound of the mean of ``sample`` ``[n]`` at error ``level``.

    Student's t, moved down further where the sample is skewed to the left: a t interval is too hopeful about rare
    large losses (Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations").

    Args:
        sample: at least two values.
        level: chance that the bound lies above the mean, e.g. 0.05.
        deviation: standard deviation to use when it is larger than the sample's own.
    """
    n, own = len(sample), float(sample.std(ddof=1))
    t = student_quantile(1 - level, n - 1)
    bound = float(sample.mean()) - t * max(own, deviation or 0.0) / sqrt(n)
    if own > 0:
        third = float(np.mean((sample - sample.mean()) ** 3))
        bound += min(0.0, third * (1 + 2 * t * t) / (6 * own * own * n))
    return bound

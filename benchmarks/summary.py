"""What a few seeds say: median, interquartile mean, bootstrap intervals, ratios of pairs. Pure functions of numpy.

A time that was never reached is ``inf``; it takes part in medians and leaves no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from nimbleq.types import Array

EXACT = 6
"""Up to so many values every resample is enumerated (6⁶ = 46,656); more are drawn at random."""
RESAMPLES = 20_000


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else (low + high) / 2


def iqm(values: Sequence[float]) -> float:
    """Mean of the middle half, the values at its edges counted in part [2108.13264, section 4.3]."""
    ordered = np.sort(np.asarray(values, float))
    edges = np.clip(np.arange(len(ordered) + 1) / len(ordered), 0.25, 0.75)
    share = np.diff(edges) * 2
    used = share > 0
    return float(ordered[used] @ share[used])


def interval95(values: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of ``statistic`` (Efron 1979); exact for up to `EXACT` values, repeatable."""
    count = len(values)
    picks: Array
    if count <= EXACT:
        picks = np.array(list(product(range(count), repeat=count)))
    else:
        picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    array = np.asarray(values, float)
    found = np.sort([statistic(row) for row in array[picks]])
    return float(found[int(0.025 * (len(found) - 1))]), float(found[-1 - int(0.025 * (len(found) - 1))])


def summary(values: Sequence[float]) -> dict[str, Any]:
    """JSON values: count, median, IQM, 95 % intervals of both, worst and best; None stands for infinity."""
    low, high = interval95(values, median)
    iqm_low, iqm_high = interval95(values, iqm)
    told = {
        "count": len(values), "median": median(values), "median_ci95": [low, high], "iqm": iqm(values),
        "iqm_ci95": [iqm_low, iqm_high], "least": min(values), "most": max(values),
    }  # fmt: skip
    return {name: finite(value) for name, value in told.items()}


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Median over the pairs of ``theirs ÷ ours`` with its 95 % interval over pairs, and the range of the pairs."""
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "median": median(pairs), "ci95": list(interval95(pairs, median)), "least": min(pairs), "most": max(pairs),
        "pairs": len(pairs),
    }  # fmt: skip


def finite(value: Any) -> Any:
    """JSON has no infinity: None in its place."""
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value

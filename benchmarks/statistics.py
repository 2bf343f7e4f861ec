"""Statistics of few values: median, interquartile mean, bootstrap intervals, ratios of pairs, shares.

A time that was never reached is ``inf``; it takes part in medians and leaves no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import Any

import numpy as np

from nimbleq.types import Array

EXACT = 6
"""Up to so many values every resample is enumerated (6⁶ = 46,656); more are drawn at random."""
RESAMPLES = 20_000
PAIRS = 5
"""So many interleaved pairs at least, whose median is a ratio that is shown."""


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
    found = {
        "count": len(values), "median": median(values), "median_ci95": [low, high], "iqm": iqm(values),
        "iqm_ci95": [iqm_low, iqm_high], "least": min(values), "most": max(values),
    }  # fmt: skip
    return {name: finite(value) for name, value in found.items()}


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(values))


def interleaved(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """``rounds`` times of each timer, taken in turns, so that a slow spell of the machine meets them all."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer())
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Median over the pairs of ``theirs ÷ ours`` with its 95 % interval over pairs, and the range of the pairs."""
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "median": median(pairs), "ci95": list(interval95(pairs, median)), "least": min(pairs), "most": max(pairs),
        "pairs": len(pairs),
    }  # fmt: skip


@dataclass(frozen=True)
class Share:
    """``hits`` of ``count``, with Wilson's 95 % interval."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """The proportion."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 1927."""
        n, p, z = self.count, self.share, 1.96
        middle, half = (p + z * z / (2 * n)), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"hits": self.hits, "count": self.count, "share": self.share, "interval95": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.1%} ({low:.1%} to {high:.1%})"


def finite(value: Any) -> Any:
    """JSON has no infinity: None in its place."""
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value

"""Durations counted in buckets of 3 %: adding one allocates nothing, however many there are."""

from __future__ import annotations

import math
from array import array

import numpy as np

_FINE = 5
_SIZE = 1 << _FINE
BUCKETS = 1216
"""Up to 2⁴¹ ns."""


def edges() -> list[int]:
    """The smallest duration of each bucket, in nanoseconds, and the end of the last one."""
    return [
        index if index < 2 * _SIZE else (index % _SIZE + _SIZE) << (index // _SIZE - 1) for index in range(BUCKETS + 1)
    ]


class Histogram:
    """Attributes:
    counts: of each bucket.
    worst: the largest duration, exact, in nanoseconds.
    """

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * BUCKETS))
        self.worst = 0

    def add(self, ns: int) -> None:
        """Count a duration."""
        ns = max(ns, 0)
        if ns > self.worst:
            self.worst = ns
        shift = max(ns.bit_length() - _FINE - 1, 0)
        self.counts[min(shift * _SIZE + (ns >> shift), BUCKETS - 1)] += 1

    def percentile(self, share: float) -> float:
        """The duration that ``share`` of all do not exceed, in nanoseconds, at most 3 % too large; 0 without any."""
        counts = np.frombuffer(self.counts, np.uint64)
        total = int(counts.sum())
        if total == 0:
            return 0.0
        rank = max(1, math.ceil(share * total))
        bucket = int(np.searchsorted(counts.cumsum(), rank))
        return float(min(edges()[bucket + 1] - 1, self.worst))

    def summary(self) -> dict[str, float]:
        """Microseconds: p50, p99, p99.9 and the worst."""
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return {name: self.percentile(share) / 1e3 for name, share in shares.items()} | {"worst": self.worst / 1e3}

    def drawn(self) -> dict[str, list[float]]:
        """The buckets from the first to the last that hold something: ``edges_us`` and ``counts``."""
        held = np.flatnonzero(np.frombuffer(self.counts, np.uint64))
        if not len(held):
            return {"edges_us": [], "counts": []}
        first, last = int(held[0]), int(held[-1])
        return {
            "edges_us": [edge / 1e3 for edge in edges()[first : last + 2]],
            "counts": [float(count) for count in self.counts[first : last + 1]],
        }

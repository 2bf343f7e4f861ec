"""Histograms of tensors in one pass over batches: they widen when a value falls outside, nothing else is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nimbleq.types import Array

BINS = 2048


@dataclass
class Counter:
    """Weighted counts of values in `BINS` equal bins whose range doubles, two bins into one, as often as it must.

    Attributes:
        counts: ``float64[BINS]``.
        start: where the first bin begins.
        width: of one bin; 0 before there are two different values.
    """

    counts: Array = field(default_factory=lambda: np.zeros(BINS))
    start: float = 0.0
    width: float = 0.0
    _seen: bool = False

    def add(self, values: Array, weights: Array | None) -> None:
        """Count finite ``float64[N]`` values, each as much as its weight (None: 1)."""
        low, high = float(values.min()), float(values.max())
        if not self._seen:
            self.start, self._seen = low, True
        if self.width == 0.0:
            self._spread(low, high)
        self._widen(low, high)
        if self.width == 0.0:
            self.counts[0] += len(values) if weights is None else weights.sum()
            return
        place = np.minimum(((values - self.start) / self.width).astype(np.int64), BINS - 1)
        self.counts += np.bincount(place, weights, minlength=BINS)

    def _spread(self, low: float, high: float) -> None:
        """A width for values that differ; what was counted before was one value, at ``start``."""
        low, high = min(low, self.start), max(high, self.start)
        width = (high - low) / BINS
        if width == 0.0 or low + width == low or high + width == high:
            return
        held, self.width = self.counts[0], width
        place = min(int((self.start - low) / width), BINS - 1)
        self.counts[:] = 0.0
        self.counts[place], self.start = held, low

    def _widen(self, low: float, high: float) -> None:
        while self.width > 0.0 and (low < self.start or high > self.start + BINS * self.width):
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS)
            if low < self.start:
                self.start -= BINS * self.width
                self.counts[BINS // 2 :] = pairs
            else:
                self.counts[: BINS // 2] = pairs
            self.width *= 2.0


@dataclass(frozen=True, eq=False)
class Histogram:
    """Distribution of one tensor, or of one entry of an observation.

    Attributes:
        low, high: the extremes, exactly.
        counts: ``float64[2048]``, of the values.
        start, width: bin ``i`` holds values from ``start + i·width`` on.
        magnitudes: ``float64[2048]``, of the absolute values, in bins of ``magnitude_width`` from 0.
        magnitude_width: see ``magnitudes``.
    """

    low: float
    high: float
    counts: Array
    start: float
    width: float
    magnitudes: Array
    magnitude_width: float

    @property
    def centres(self) -> Array:
        """``float64[2048]`` the middle of each bin, no further out than the extremes."""
        middles = self.start + (np.arange(BINS) + 0.5) * self.width
        return np.asarray(np.clip(middles, self.low, self.high))


@dataclass
class Observer:
    """Makes a `Histogram` from batches."""

    low: float = np.inf
    high: float = -np.inf
    values: Counter = field(default_factory=Counter)
    magnitudes: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.magnitudes.add(np.zeros(1), np.zeros(1))  # magnitudes are counted from 0

    def add(self, values: Array, weights: Array | None) -> None:
        """See `Counter.add`."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.values.add(values, weights)
        self.magnitudes.add(np.abs(values), weights)

    def histogram(self) -> Histogram:
        """Of everything that was added."""
        signed, absolute = self.values, self.magnitudes
        return Histogram(
            self.low, self.high, signed.counts, signed.start, signed.width, absolute.counts, absolute.width
        )

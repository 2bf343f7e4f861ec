"""Ranges of activations, measured in a stream: batches come and go, only extremes and histograms stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array

_BINS = 2048
_CHUNK = 2048
_PERCENTILE = 99.99
_CLIP_RATIOS = np.linspace(0.4, 1.0, 31)


@dataclass(frozen=True)
class Range:
    """What 8-bit levels have to cover: ``low`` and ``high``, each ``[C]`` (one, or one per observation feature)."""

    low: Array
    high: Array


@dataclass(frozen=True)
class Histogram:
    """Distribution of one tensor.

    Attributes:
        low, high: ``[C]`` extremes.
        counts: ``int64[C, 2048]`` in equal bins from ``low`` to ``high``.
    """

    low: Array
    high: Array
    counts: Array


def histograms(
    graph: Graph, obs: Array, tensors: Sequence[str], per_feature: Sequence[str] = ()
) -> dict[str, Histogram]:
    """Histograms of ``tensors`` over ``obs [K, *O]``, in two passes of small batches.

    Args:
        per_feature: those of the tensors whose entries are counted each by itself (vector observations).
    """
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    for values in _batches(graph, obs, tensors, per_feature):
        for name, rows in values.items():
            smallest, largest = rows.min(axis=1), rows.max(axis=1)
            low[name] = np.minimum(low.get(name, smallest), smallest)
            high[name] = np.maximum(high.get(name, largest), largest)
    counts = {name: np.zeros((len(low[name]), _BINS), np.int64) for name in tensors}
    for values in _batches(graph, obs, tensors, per_feature):
        for name, rows in values.items():
            width = np.maximum(high[name] - low[name], 1e-30)[:, None]
            bins = np.minimum(((rows - low[name][:, None]) / width * _BINS).astype(np.int64), _BINS - 1)
            for channel, index in enumerate(bins):
                counts[name][channel] += np.bincount(index, minlength=_BINS)
    return {name: Histogram(low[name], high[name], counts[name]) for name in tensors}


def _batches(
    graph: Graph, obs: Array, tensors: Sequence[str], per_feature: Sequence[str]
) -> Iterator[dict[str, Array]]:
    """Each tensor's values as ``float64[C, samples]``, batch by batch."""
    for start in range(0, len(obs), _CHUNK):
        made = trace(graph, obs[start : start + _CHUNK])
        yield {name: _rows(made[name], name in per_feature) for name in tensors}


def _rows(values: Array, per_feature: bool) -> Array:
    flat = values.reshape(len(values), -1).astype(np.float64)
    return flat.T if per_feature else flat.reshape(1, -1)


def _centres(low: float, high: float) -> Array:
    return low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS


def _minmax(low: float, high: float, counts: Array, levels: int) -> tuple[float, float]:
    """Everything that was seen."""
    return low, high


def _percentile(low: float, high: float, counts: Array, levels: int) -> tuple[float, float]:
    """All but 0.01 % at either end."""
    share = np.cumsum(counts) / counts.sum()
    outside = (100 - _PERCENTILE) / 100
    first = int(np.searchsorted(share, outside, side="right"))
    last = int(np.searchsorted(share, 1 - outside))
    step = (high - low) / _BINS
    return low + first * step, low + (min(last, _BINS - 1) + 1) * step


def _least_squares(low: float, high: float, counts: Array, levels: int) -> tuple[float, float]:
    """Both ends shrunk by the factor that minimises the mean squared error of rounding plus clipping."""
    centres = _centres(low, high)
    best, ends = np.inf, (low, high)
    for ratio in _CLIP_RATIOS[::-1]:
        bottom, top = low * ratio if low < 0 else low, high * ratio if high > 0 else high
        if not bottom < top:
            continue
        step = (top - bottom) / levels
        rounded = np.clip(np.round((centres - bottom) / step), 0, levels) * step + bottom
        error = float(counts @ (rounded - centres) ** 2)
        if error < best:
            best, ends = error, (bottom, top)
    return ends


Method = Callable[[float, float, Array, int], tuple[float, float]]
"""``(low, high, counts, levels) → (low, high)``: extremes and histogram of a tensor (or feature) → what is covered."""
METHODS: dict[str, Method] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _least_squares,
}
"""Name → calibration method."""


def choose_range(histogram: Histogram, method: str, levels: int = 255) -> Range:
    """The range that ``method``, a name in `METHODS`, picks for ``levels`` steps."""
    ends = [
        METHODS[method](low, high, counts, levels)
        for low, high, counts in zip(histogram.low, histogram.high, histogram.counts, strict=True)
    ]
    return Range(np.array([end[0] for end in ends]), np.array([end[1] for end in ends]))


def calibrate(
    graph: Graph, obs: Array, tensors: Sequence[str], per_feature: Sequence[str], method: str
) -> dict[str, Range]:
    """Ranges of ``tensors`` over ``obs [K, *O]``.

    Args:
        per_feature: those of the tensors that have one range for each entry.
        method: a name in `METHODS`.
    """
    measured = histograms(graph, obs, tensors, per_feature)
    ranges = {name: choose_range(histogram, method) for name, histogram in measured.items()}
    # Zero is kept representable inside the network: it is what padding means and where ReLU rests.
    return {
        name: extent if name in per_feature else Range(np.minimum(extent.low, 0), np.maximum(extent.high, 0))
        for name, extent in ranges.items()
    }

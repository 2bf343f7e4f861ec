"""How a range is picked from a histogram: `METHODS`. A new way is a function and a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.quantize.histogram import BINS, Histogram
from nimbleq.types import Array

_OUTSIDE = 1e-4
_CLIP_RATIOS = np.linspace(0.4, 1.0, 31)
_SMOOTHING = 1e-4

Ends = tuple[float, float]
"""The lowest and the highest value that levels have to cover."""


def minmax(seen: Histogram, levels: int) -> Ends:
    """Everything that was seen."""
    return seen.low, seen.high


def percentile(seen: Histogram, levels: int) -> Ends:
    """All but 0.01 % at either end."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    first = int(np.searchsorted(share, _OUTSIDE, side="right"))
    last = int(np.searchsorted(share, 1 - _OUTSIDE))
    low, high = seen.start + first * seen.width, seen.start + (min(last, BINS - 1) + 1) * seen.width
    return max(low, seen.low), min(high, seen.high)


def least_squares(seen: Histogram, levels: int) -> Ends:
    """Both ends shrunk by the factor that minimises the mean squared error of rounding plus clipping."""
    centres = seen.centres
    best, ends = np.inf, (seen.low, seen.high)
    for ratio in _CLIP_RATIOS[::-1]:
        bottom = seen.low * (ratio if seen.low < 0 else 1.0)
        top = seen.high * (ratio if seen.high > 0 else 1.0)
        if not bottom < top:
            continue
        step = (top - bottom) / levels
        rounded = np.clip(np.round((centres - bottom) / step), 0, levels) * step + bottom
        error = float(seen.counts @ (rounded - centres) ** 2)
        if error < best:
            best, ends = error, (bottom, top)
    return ends


def kullback_leibler(seen: Histogram, levels: int) -> Ends:
    """The threshold of |x| after which the clipped and rounded distribution is nearest to the true one, as TensorRT
    finds it (S. Migacz, "8-bit inference with TensorRT", GTC 2017).

    Candidates are the first ``i`` of 2,048 bins, from the number of levels (half of them where there are negative
    values) to 2,047. P is those bins with everything beyond added to the last; Q the bins alone, in that many levels,
    each spread evenly over the bins of it that P has something in. Both are smoothed, so that no logarithm is infinite.
    """
    count = levels + 1 if seen.low >= 0 else (levels + 1) // 2
    if seen.magnitude_width == 0.0 or count >= BINS:
        return seen.low, seen.high
    sizes = np.arange(count, BINS)
    threshold = (sizes[np.argmin(divergences(seen.magnitudes, sizes, count))] + 0.5) * seen.magnitude_width
    return max(seen.low, -threshold), min(seen.high, threshold)


def divergences(counts: Array, sizes: Array, levels: int) -> Array:
    """``float64[K]`` KL(P ‖ Q) for each number of bins in ``sizes [K]``, as `kullback_leibler` says.

    Bins that Q has emptied, and P too, are alike after smoothing. What is left is a sum over levels: in one of them all
    of Q's bins are equal, so only the mass that P has there matters.
    """
    size = sizes[:, None]
    edges = np.arange(levels + 1) * size // levels
    upto, filled = (np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, counts > 0))
    entropy = np.concatenate([[0.0], np.cumsum(_times_log(counts))])
    mass, places = np.diff(upto[edges], axis=1), np.diff(filled[edges], axis=1)
    total, inside, last = counts.sum(), upto[sizes], counts[sizes - 1]
    beyond = total - inside
    of_p = mass.copy()
    of_p[:, -1] += beyond
    places[:, -1] += (last == 0) & (beyond > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        full_q = np.where(mass > 0, places, 0.0).sum(axis=1)
        shrunk_p, shrunk_q = (1 - _SMOOTHING * (1 - full / sizes) for full in (places.sum(axis=1), full_q))
        log_q = np.where(
            mass > 0,
            np.log(shrunk_q[:, None] * mass / places / inside[:, None]),
            np.log(_SMOOTHING / sizes)[:, None],
        )
        own = entropy[sizes] - _times_log(last) + _times_log(last + beyond) + total * np.log(shrunk_p / total)
        found = shrunk_p / total * (own - np.where(of_p > 0, of_p * log_q, 0.0).sum(axis=1))
    return np.where(inside > 0, found, np.inf)


def _times_log(counts: Array) -> Array:
    """``x·log x``, 0 at 0."""
    return np.asarray(counts * np.log(np.where(counts > 0, counts, 1.0)))


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Attributes:
        choose: ``(histogram, levels) → ends``; ``levels`` is the number of steps between them.
        by_gap: a state counts as much as its action gap is wide: rare states where much is at stake are not a tail.
    """

    choose: Callable[[Histogram, int], Ends]
    by_gap: bool = False


METHODS: dict[str, Method] = {
    "minmax": Method(minmax),
    "percentile": Method(percentile),
    "mse": Method(least_squares),
    "kl": Method(kullback_leibler),
    "mse-gap": Method(least_squares, by_gap=True),
    "kl-gap": Method(kullback_leibler, by_gap=True),
}
"""Name → how ranges of activations are picked."""

"""Lines below and above a layer's function, where its sums are known to lie in an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nimbleq.compress.robust.network import Function
from nimbleq.types import Array


class Lines(NamedTuple):
    """``below·a + below_at ≤ f(a) ≤ above·a + above_at`` for the sums ``a`` in the interval; all float64 ``[B, n]``.

    ``low`` and ``high`` are the least and the largest ``f(a)``.
    """

    below: Array
    below_at: Array
    above: Array
    above_at: Array
    low: Array
    high: Array


def lines(f: Function, low: Array, high: Array) -> Lines:
    """Lines for sums in ``[low, high]``, both ``[B, n]``.

    Where the function has a corner inside, the upper line (of a convex part) is the chord, and the lower one has the
    slope of the side that is longer. Rounding moves a line by half a level, unless a constant is closer.

    Source: Zhang et al. 2018 [1811.00866], extended to clamps and rounding.
    """
    if f.eps is not None:
        return _divided(f.eps, low, high)
    start, end = low * f.scale + f.zero, high * f.scale + f.zero
    L, H = f.low, f.high
    first, last = _clamped(f, start), _clamped(f, end)
    under, over = start < L, end > H  # part of the interval lies below, above the clamp
    low_corner, high_corner = under & (end > L), over & (start < H)
    dead, full = under & ~low_corner, over & ~high_corner
    width = np.maximum(end - start, 1e-300)
    chord = np.where(end > start, (last - first) / width, 0.0)
    middle = 0.5 * (start + end)
    with np.errstate(invalid="ignore", divide="ignore"):
        to_top = (H - L) / (H - start)  # from the start to the upper corner
        to_end = (H - L) / (end - L)  # from the lower corner to the end
        longer_low, longer_high = end - L > L - start, H - start > end - H
    flat = np.where(dead, f.slope, np.where(full, 0.0, 1.0))
    above = np.where(
        high_corner,
        np.where(low_corner, np.where(middle < H, to_top, 0.0), np.where(longer_high, 1.0, 0.0)),
        np.where(low_corner, chord, flat),
    )
    below = np.where(
        low_corner,
        np.where(high_corner, np.where(middle > L, to_end, 0.0), np.where(longer_low, 1.0, f.slope)),
        np.where(high_corner, chord, flat),
    )
    # Each line goes through a corner, or through the start of the interval.
    above_x, above_y = np.where(high_corner, H, start), np.where(high_corner, H, first)
    below_x, below_y = np.where(low_corner, L, start), np.where(low_corner, L, first)
    above_at, below_at = above_y - above * above_x, below_y - below * below_x
    least, most = (f.at(low), f.at(high)) if f.rounds else (first, last)
    if f.rounds:
        above_at, below_at = above_at + 0.5, below_at - 0.5
        flatter = above * middle + above_at >= most
        above, above_at = np.where(flatter, 0.0, above), np.where(flatter, most, above_at)
        flatter = below * middle + below_at <= least
        below, below_at = np.where(flatter, 0.0, below), np.where(flatter, least, below_at)
    return Lines(below * f.scale, below_at + below * f.zero, above * f.scale, above_at + above * f.zero, least, most)


def _divided(eps: float, low: Array, high: Array) -> Lines:
    """Lines of ``a·g``, where ``g = 1/√(mean a² + eps)`` lies in an interval: monotone in ``g`` for each sign of a."""
    squares = np.minimum(low**2, high**2) * ((low > 0) | (high < 0)), np.maximum(low**2, high**2)
    most, least = (1 / np.sqrt(part.mean(axis=1, keepdims=True) + eps) for part in squares)
    top, bottom = np.where(high > 0, most, least) * high, np.where(low > 0, least, most) * low
    width = np.where(high > low, high - low, 1.0)
    # The larger of a·least and a·most is convex in a, the smaller concave: chords enclose them.
    at_low, at_high = np.where(low > 0, most, least) * low, np.where(high > 0, least, most) * high
    above, below = (top - at_low) / width, (at_high - bottom) / width
    limit = np.sqrt(low.shape[1])  # no entry is larger when all squares have the mean 1
    return Lines(
        below, bottom - below * low, above, at_low - above * low,
        np.maximum(bottom, -limit), np.minimum(top, limit),
    )  # fmt: skip


def _clamped(f: Function, t: Array) -> Array:
    """The function without rounding, of ``t = scale·a + zero``."""
    below = f.low + f.slope * (t - f.low) if f.low > -np.inf else t
    return np.where(t < f.low, below, np.minimum(t, f.high))

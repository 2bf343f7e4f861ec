"""Episode seeds. Every purpose draws from an interval of its own, so the seeds that chose a policy never certify it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from nimbleq.types import Array

Purpose = Literal[
    "train", "check", "final", "distill", "select", "pilot", "certify", "recertify", "watch", "random", "probe",
    "guard", "loop",
]  # fmt: skip
_PURPOSES: tuple[Purpose, ...] = (
    "train", "check", "final", "distill", "select", "pilot", "certify", "recertify", "watch", "random", "probe",
    "guard", "loop",
)  # fmt: skip
_SPAN = 1 << 27


def episode_seeds(purpose: Purpose, nonce: int, count: int, start: int = 0) -> Array:
    """``int64[count]`` distinct seeds below 2³¹, from the interval that belongs to ``purpose``.

    Args:
        purpose: what the episodes are for.
        nonce: separates streams of one purpose (a run's seed; fresh entropy for a re-check).
        count: how many.
        start: how many seeds of the stream are used already.
    """
    stream = np.random.SeedSequence([_PURPOSES.index(purpose), nonce]).generate_state(1, np.uint64)[0]
    # An odd stride walks the whole interval (a power of two) before it repeats.
    offset, stride = int(stream) % _SPAN, (int(stream) >> 32) | 1
    positions = (offset + stride * np.arange(start, start + count, dtype=np.int64)) % _SPAN
    return positions + _PURPOSES.index(purpose) * _SPAN


def moment_keys(seeds: Array, time: Array) -> Array:
    """SplitMix64 of (seed of an episode, time in it): ``uint64[L]``; observations are sampled by the lowest."""
    key = (seeds.astype(np.uint64) << np.uint64(32)) + time.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key ^ (key >> np.uint64(31)))

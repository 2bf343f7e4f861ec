"""Learning to act like another policy, beside the TD loss or in its place."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from nimbleq.rl.learners.learner import Learner
from nimbleq.types import Array, Batch

_SMALLEST = 1e-6


class Imitation(NamedTuple):
    """A policy π for the ``B`` states of a batch; the loss is the mean of ``weight · KL(π ‖ softmax(Q/τ))``.

    Attributes:
        probability: ``float32[B, A]``, −1 for an illegal action.
        weight: ``float32[B]``.
        temperature: τ.
    """

    probability: Array
    weight: Array
    temperature: float


class Imitator(Learner, Protocol):
    """A learner that can also imitate. `nimbleq.rl.learners.engine.Engine.imitates` says which engines' can."""

    def update_towards(self, batch: Batch, towards: Imitation) -> Array:
        """`update` with the divergence added to its loss."""
        ...

    def imitate(self, obs: Array, towards: Imitation) -> None:
        """One gradient step on the divergence alone; ``obs [B, *O]``."""
        ...

    def freeze(self, layers: int) -> None:
        """Let no update change the first ``layers`` that have weights; the head cannot be frozen."""
        ...


def soft_policy(q: Array, temperature: float, mask: Array | None = None) -> Array:
    """``softmax(Q/τ) float32[B, A]`` of ``q [B, A]`` over the legal actions of ``mask: bool[B, A]``, −1 for others."""
    among = q.astype(np.float64) / temperature
    if mask is not None:
        among = np.where(mask, among, -np.inf)
    soft = np.exp(among - among.max(axis=1, keepdims=True))
    soft /= soft.sum(axis=1, keepdims=True)
    return (soft if mask is None else np.where(mask, soft, -1.0)).astype(np.float32)


def gap_temperature(q: Array, share: float, mask: Array | None = None) -> float:
    """τ: ``share`` of the median action gap of ``q [B, A]``, so that half of the states are a clear choice."""
    among = q if mask is None else np.where(mask, q, -np.inf)
    if among.shape[1] < 2:
        return 1.0
    top = np.partition(among, -2, axis=1)
    gaps = top[:, -1] - top[:, -2]
    gaps = gaps[np.isfinite(gaps)]  # with a single legal action there is no choice
    return max(share * float(np.median(gaps)), _SMALLEST) if len(gaps) else 1.0


def values_of(q: Array, action: Array) -> Array:
    """``Q(s, a) [B]`` of ``q [B, A]`` and ``action: int64[B]``."""
    chosen: Array = q[np.arange(len(q)), action]
    return chosen

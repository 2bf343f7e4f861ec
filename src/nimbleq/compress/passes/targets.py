"""What a student is fitted to, and which states each gradient step draws; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.states import action_gap, legal_values
from nimbleq.graph.branches import parts as of_dimensions
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Targets:
    """The teacher's values on parts that lie one after the other, ``K`` states in all.

    Attributes:
        obs: ``[K, *O]``.
        probability: ``float32[K, A]`` softmax(Q_T/τ) over legal actions, 0 for others.
        advantage: ``float32[K, A]`` Q_T/τ minus its mean over legal actions, 0 for others.
        legal: ``bool[K, A]`` (None: every action, always).
        temperature: τ.
        sizes: states of each part; a batch draws equally from each.
        branches: sizes of the action's dimensions, each with a softmax and a mean of its own (empty: it is a single
            choice).
    """

    obs: Array
    probability: Array
    advantage: Array
    legal: Array | None
    temperature: float
    sizes: tuple[int, ...]
    branches: tuple[int, ...] = ()


def make_targets(parts: Sequence[Labelled], config: DistillConfig) -> Targets:
    """The targets of these parts; τ comes from the first, the states that the teacher visits."""
    branches = parts[0].branches
    if config.by_stake:
        parts = [_drawn(part, stakes(legal_values(part.q, part.states.mask), branches)) for part in parts]
    tau = temperature(legal_values(parts[0].q, parts[0].states.mask), config, branches)
    scaled = np.concatenate([part.q for part in parts]).astype(np.float64) / tau
    masks = [part.states.mask for part in parts if part.states.mask is not None]
    legal = np.concatenate(masks) if len(masks) == len(parts) else None
    counted = np.ones(scaled.shape, bool) if legal is None else legal
    sides = [_side(scaled[:, part], counted[:, part]) for part in of_dimensions(branches or scaled.shape[1:])]
    probability, advantage = (np.concatenate(side, axis=1).astype(np.float32) for side in zip(*sides, strict=True))
    return Targets(
        obs=np.concatenate([part.obs for part in parts]),
        probability=probability,
        advantage=advantage,
        legal=legal,
        temperature=tau,
        sizes=tuple(len(part.obs) for part in parts),
        branches=branches,
    )


def stakes(q: Array, branches: Sequence[int] = ()) -> Array:
    """``float64[K]`` best less worst value of the legal actions of ``q [K, A]`` (−∞: not legal), added up over the
    dimensions of the action."""
    worst = np.where(np.isfinite(q), q, np.inf)
    dimensions = of_dimensions(branches or q.shape[1:])
    spans = [q[:, part].max(axis=1) - worst[:, part].min(axis=1) for part in dimensions]
    return np.asarray(np.sum(spans, axis=0, dtype=np.float64))


def _drawn(part: Labelled, weight: Array) -> Labelled:
    """As many states of a part, each as often as its ``weight [K]`` says (evenly spaced: nothing is left to chance)."""
    total = weight.cumsum()
    if not total[-1] > 0:
        return part
    at = (np.arange(len(weight)) + 0.5) / len(weight) * total[-1]
    rows = np.minimum(total.searchsorted(at, side="right"), len(weight) - 1)
    return replace(part, states=part.states[rows], q=part.q[rows])


def _side(scaled: Array, counted: Array) -> tuple[Array, Array]:
    """Probability and advantage of one dimension, ``[K, n]``."""
    among = np.where(counted, scaled, -np.inf)
    soft = np.exp(among - among.max(axis=1, keepdims=True))
    mean = np.mean(scaled, axis=1, keepdims=True, where=counted)
    return soft / soft.sum(axis=1, keepdims=True), (scaled - mean) * counted


def temperature(q: Array, config: DistillConfig, branches: Sequence[int] = ()) -> float:
    """τ: ``config.temperature`` median action gaps, so that half of the states are a clear choice.

    Args:
        q: ``[K, A]``, −∞ for an action that is not legal.
        branches: sizes of the action's dimensions, whose gaps all count (empty: it is a single choice).
    """
    gaps = np.concatenate([action_gap(q[:, part]) for part in of_dimensions(branches or q.shape[1:])])
    gaps = gaps[np.isfinite(gaps)]  # with a single legal action there is no choice
    return max(config.temperature * float(np.median(gaps)), 1e-6) if len(gaps) else 1.0


def draws(sizes: Sequence[int], share: int, seed: int, first: int, updates: int) -> Array:
    """``int64[updates, share·parts]`` states of the updates from ``first`` on, ``share`` from each part.

    Number n of the stream is splitmix64 of ``seed`` and n, so that any engine can make any batch by itself; the native
    one does (`random_at` in native/distill/step.c).
    """
    batch = share * len(sizes)
    with np.errstate(over="ignore"):
        z = np.arange(first * batch + 1, (first + updates) * batch + 1, dtype=np.uint64)
        z = np.uint64(seed) + z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    high = (z >> np.uint64(32)).reshape(updates, len(sizes), share)
    within = high * np.array(sizes, np.uint64)[:, None] >> np.uint64(32)
    picks: Array = within.astype(np.int64) + np.cumsum([0, *sizes[:-1]])[:, None]
    return picks.reshape(updates, batch)


def share_of(sizes: Sequence[int], config: DistillConfig) -> int:
    """States that a batch draws from each of so many parts."""
    return max(1, config.batch_size // len(sizes))

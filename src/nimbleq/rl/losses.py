"""What a Q-network is regressed on: pure functions of tensors. ``B`` batch, ``A`` actions.

``discount`` is ``γᵏ·(1 − terminated)`` throughout (see `nimbleq.types.Batch`), so none of them knows of n-step or of
time limits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """``r + γᵏ·(1 − terminated)·V(s')``, the one-step (n-step) Bellman target. All ``float32[B]``."""
    return reward + discount * next_value


def legal(next_q: Tensor, mask: Tensor | None) -> Tensor:
    """``next_q: [B, A]`` with −∞ where ``mask: bool[B, A]`` says that an action is not legal (None: all are)."""
    return next_q if mask is None else next_q.masked_fill(~mask, -torch.inf)


def max_value(next_q: Tensor) -> Tensor:
    """``max_a Q(s', a)`` [1312.5602 eq. 3]: ``[B, A] → [B]``."""
    return next_q.amax(dim=1)


def double_value(next_q: Tensor, selector_q: Tensor) -> Tensor:
    """``Q(s', argmax_a Q_selector(s', a))`` [1509.06461 eq. 4]: one net chooses, the other values.

    Args:
        next_q: ``[B, A]`` of the target net.
        selector_q: ``[B, A]`` of the online net.

    Returns:
        ``[B]``.
    """
    return next_q.gather(1, selector_q.argmax(dim=1, keepdim=True)).squeeze(1)


def squared(td_error: Tensor, weight: Tensor) -> Tensor:
    """``mean(w · δ²)``; ``td_error``, ``weight``: ``[B]`` (importance weights [1511.05952 §3.4])."""
    return (weight * td_error.square()).mean()


def huber(td_error: Tensor, weight: Tensor) -> Tensor:
    """``mean(w · h(δ))``, ``h(δ) = δ²/2`` where ``|δ| ≤ 1``, else ``|δ| − 1/2`` (error clipping of Nature 2015)."""
    size = td_error.abs()
    return (weight * torch.where(size <= 1, 0.5 * size.square(), size - 0.5)).mean()

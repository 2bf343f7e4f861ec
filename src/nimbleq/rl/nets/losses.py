"""What a Q-network is regressed on: pure functions of tensors.

``B`` batch, ``A`` actions, ``N`` atoms of a distribution.

``discount`` is ``γᵏ·(1 − terminated)`` throughout (see `nimbleq.types.Batch`), so none of them knows of n-step or of
time limits. A policy over the next actions is a pair: their probabilities, and what is added to the value of each.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NextPolicy = tuple[Tensor, Tensor]
"""Probability of each next action ``[B, A]``, and what its value gains ``[B, A]``."""


def legal(q: Tensor, mask: Tensor | None) -> Tensor:
    """``q: [B, A]`` with −∞ where ``mask: bool[B, A]`` says that an action is not legal (None: all are)."""
    return q if mask is None else q.masked_fill(~mask, -torch.inf)


def greedy(selector_q: Tensor) -> NextPolicy:
    """All weight on ``argmax_a Q(s', a)``, ``[B, A]``.

    Of the target net's values this is the maximum [1312.5602 eq. 3]; of the online net's, Double DQN
    [1509.06461 eq. 4].
    """
    best = selector_q.argmax(dim=1, keepdim=True)
    return torch.zeros_like(selector_q).scatter_(1, best, 1.0), torch.zeros_like(selector_q)


def soft(selector_q: Tensor, tau: float) -> NextPolicy:
    """``π = softmax(Q/τ)``, each action gaining ``−τ·log π``: the soft value of [2007.14430 eq. 1].

    An action of value −∞ (see `legal`) has probability 0 and gains 0, the limit of ``π·log π``.
    """
    log_pi = F.log_softmax(selector_q / tau, dim=1)
    return log_pi.exp(), -tau * log_pi.masked_fill(log_pi.isneginf(), 0.0)


def munchausen_bonus(q: Tensor, action: Tensor, tau: float, clip: float) -> Tensor:
    """``max(τ·log π(a|s), l₀)`` with ``π = softmax(Q/τ)`` [2007.14430 §3]: ``[B, A]``, ``int64[B] → [B]``."""
    log_pi = F.log_softmax(q / tau, dim=1)
    return (tau * chosen(log_pi, action)).clamp_min(clip)


def chosen(values: Tensor, action: Tensor) -> Tensor:
    """The rows of ``action: int64[B]``: ``[B, A] → [B]``, ``[B, A, N] → [B, N]``."""
    return values[torch.arange(len(action), device=action.device), action]


def bellman_values(reward: Tensor, discount: Tensor, values: Tensor, policy: NextPolicy) -> Tensor:
    """``r + γᵏ·(1 − terminated)·Σ_a π_a·(Z(s', a) + gain_a)`` for each atom (N = 1: the Bellman target of Q).

    Args:
        reward, discount: ``[B]``.
        values: ``[B, A, N]`` of the target net.
        policy: see `NextPolicy`.

    Returns:
        ``[B, N]``.
    """
    probability, gain = policy
    following = (probability[..., None] * (values + gain[..., None])).sum(dim=1)
    return reward[:, None] + discount[:, None] * following


def bellman_projection(reward: Tensor, discount: Tensor, probs: Tensor, support: Tensor, policy: NextPolicy) -> Tensor:
    """The distribution of ``r + γᵏ·(Z(s', a') + gain)``, projected onto the support [1707.06887 alg. 1].

    Each atom's mass is shared between the two nearest atoms of ``support``, in proportion to their nearness; what lies
    outside goes to the ends. Actions are mixed, not averaged.

    Args:
        reward, discount: ``[B]``.
        probs: ``[B, A, N]`` of the target net.
        support: ``[N]`` ascending, evenly spaced.
        policy: see `NextPolicy`.

    Returns:
        ``[B, N]`` probabilities.
    """
    probability, gain = policy
    count, step = len(support), support[1] - support[0]
    mass = (probability[..., None] * probs).flatten(1)  # [B, A·N]
    moved = reward[:, None, None] + discount[:, None, None] * (support + gain[..., None])  # [B, A, N]
    place = ((moved.flatten(1) - support[0]) / step).clamp(0, count - 1)
    return _spread_in_order(place, mass, count) if place.is_cuda else _spread(place, mass, count)


def _spread(place: Tensor, mass: Tensor, count: int) -> Tensor:
    """``mass: [B, M]`` at the places ``[B, M]`` between 0 and count − 1 → on the whole numbers, ``[B, count]``."""
    below = place.floor().clamp(max=count - 2)
    above = place - below  # share of the atom above
    spread = torch.zeros(len(place), count, device=place.device)
    spread.scatter_add_(1, below.long(), mass * (1 - above))
    spread.scatter_add_(1, below.long() + 1, mass * above)
    return spread


def _spread_in_order(place: Tensor, mass: Tensor, count: int) -> Tensor:
    """`_spread`, added up in the same order every time, which a scatter on a GPU does not do."""
    apart = (place[..., None] - torch.arange(count, device=place.device)).abs()
    return torch.einsum("bm,bmn->bn", mass, (1 - apart).clamp_min(0))


def gaussian_histogram(value: Tensor, support: Tensor, smoothing: float) -> Tensor:
    """A Gaussian around each value, cut into bins and normalised [2403.03950 §3.1, HL-Gauss].

    Args:
        value: ``[B]``; what lies outside the support counts as its end.
        support: ``[N]`` centres of the bins, ascending, evenly spaced.
        smoothing: standard deviation, in bins.

    Returns:
        ``[B, N]`` probabilities, whose expectation is the value, up to what the ends cut off.
    """
    step = support[1] - support[0]
    edges = torch.cat((support - step / 2, support[-1:] + step / 2))  # [N + 1]
    near = value.clamp(support[0], support[-1])
    below = torch.erf((edges - near[:, None]) / (math.sqrt(2) * smoothing * step))  # twice the mass below, less one
    return below.diff(dim=1) / (below[:, -1:] - below[:, :1])


def cross_entropy(log_probs: Tensor, target: Tensor) -> Tensor:
    """``−Σ p·log q`` of ``target`` p and ``log_probs`` log q, both ``[B, N] → [B]`` [1707.06887 alg. 1]."""
    return (-target * log_probs).sum(dim=1)


def kl_divergence(log_probs: Tensor, target: Tensor) -> Tensor:
    """``Σ p·(log p − log q)``: `cross_entropy` without the target's own entropy, never negative: ``[B]``."""
    return torch.xlogy(target, target).sum(dim=1) - (target * log_probs).sum(dim=1)


def quantile_huber(quantiles: Tensor, fractions: Tensor, target: Tensor) -> Tensor:
    """``Σ_i mean_j |τ_i − 1[δ_ij < 0]|·h(δ_ij)``, ``δ_ij = target_j − quantile_i`` [1710.10044 eq. 10, κ = 1].

    Args:
        quantiles: ``[B, N]``.
        fractions: ``[B, N]`` or ``[N]``: τ.
        target: ``[B, M]``.

    Returns:
        ``[B]``.
    """
    delta = target[:, None, :] - quantiles[:, :, None]  # [B, N, M]
    tilt = (fractions[..., None] - (delta.detach() < 0).to(delta.dtype)).abs()
    return (tilt * huber(delta)).mean(dim=2).sum(dim=1)


def squared(td_error: Tensor) -> Tensor:
    """``δ²``."""
    return td_error.square()


def huber(td_error: Tensor) -> Tensor:
    """``h(δ) = δ²/2`` where ``|δ| ≤ 1``, else ``|δ| − 1/2`` (error clipping of Nature 2015)."""
    size = td_error.abs()
    return torch.where(size <= 1, 0.5 * size.square(), size - 0.5)


def weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """``mean(w · L)`` of ``[B]`` each (importance weights [1511.05952 §3.4])."""
    return (weight * loss).mean()

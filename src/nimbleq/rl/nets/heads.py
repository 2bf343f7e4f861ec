"""The loss of each kind of head: what ``network.head`` chooses between, composed of `nimbleq.rl.nets.losses`.

All of them combine with double, dueling, n-step, importance weights, noisy layers and Munchausen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nimbleq.config import LearnerConfig
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.network import QNetwork, midpoints


class Sample(NamedTuple):
    """A `nimbleq.types.Batch` as tensors, rewards scaled; see there."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    next_mask: Tensor | None = None
    mask: Tensor | None = None


class Errors(NamedTuple):
    """Attributes:
    loss: ``[B]``, with gradient.
    surprise: ``[B]`` ≥ 0, what priorities are made of, no gradient.
    """

    loss: Tensor
    surprise: Tensor


HeadLoss = Callable[[QNetwork, QNetwork, Sample, LearnerConfig, torch.Generator], Errors]
"""``(online, target, sample, config, generator) → Errors``."""


def q_loss(
    online: QNetwork, target: QNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """MSE or Huber of ``Q(s, a) − (r + discount·V(s'))``; the surprise is ``|TD error|``."""
    with torch.no_grad():
        next_q = target(sample.next_obs)  # [B, A]
        policy = _next_policy(online, target, sample, config, next_q)
        reward = _reward(sample, config, target)
        wanted = losses.bellman_values(reward, sample.discount, next_q[..., None], policy).squeeze(1)  # [B]
    return _regressed(online, sample, wanted, config)


def return_loss(
    online: QNetwork, target: QNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """`q_loss` of rewards that are whole returns, as PQN's [2407.04811]: no s' is looked at."""
    return _regressed(online, sample, sample.reward, config)


def _regressed(online: QNetwork, sample: Sample, wanted: Tensor, config: LearnerConfig) -> Errors:
    td_error = losses.chosen(online(sample.obs), sample.action) - wanted
    each = losses.huber(td_error) if config.loss == "huber" else losses.squared(td_error)
    return Errors(each, td_error.detach().abs())


def c51_loss(
    online: QNetwork, target: QNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Cross-entropy with the projected distribution; the surprise is the KL divergence, as Rainbow's [1710.02298]."""
    with torch.no_grad():
        probs = target.log_probs(sample.next_obs).exp()  # [B, A, N]
        policy = _next_policy(online, target, sample, config, probs @ target.support)
        reward = _reward(sample, config, target)
        wanted = losses.bellman_projection(reward, sample.discount, probs, target.support, policy)  # [B, N]
    log_probs = losses.chosen(online.log_probs(sample.obs), sample.action)
    return Errors(
        losses.cross_entropy(log_probs, wanted), losses.kl_divergence(log_probs.detach(), wanted).clamp_min(0)
    )


def quantile_loss(
    online: QNetwork, target: QNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Quantile Huber loss, at fixed (``qr``) or random fractions (``iqn``); the surprise is the means' difference."""
    with torch.no_grad():
        next_z = target.quantiles(sample.next_obs, _fractions(target, sample, generator))  # [B, A, N]
        policy = _next_policy(online, target, sample, config, target(sample.next_obs))
        reward = _reward(sample, config, target)
        wanted = losses.bellman_values(reward, sample.discount, next_z, policy)  # [B, N]
    fractions = _fractions(online, sample, generator)
    quantiles = losses.chosen(online.quantiles(sample.obs, fractions), sample.action)
    surprise = (wanted.mean(dim=1) - quantiles.detach().mean(dim=1)).abs()
    return Errors(losses.quantile_huber(quantiles, fractions, wanted), surprise)


HEADS: Mapping[str, HeadLoss] = {"q": q_loss, "c51": c51_loss, "qr": quantile_loss, "iqn": quantile_loss}
"""``network.head`` → its loss."""


def _fractions(network: QNetwork, sample: Sample, generator: torch.Generator) -> Tensor:
    """τ, ``[B, N]``."""
    shape = len(sample.action), network.config.atoms
    if network.config.head == "iqn":
        return torch.rand(shape, generator=generator, device=sample.reward.device)
    return midpoints(network.config.atoms, sample.reward.device).expand(shape)


def _next_policy(
    online: QNetwork, target: QNetwork, sample: Sample, config: LearnerConfig, next_q: Tensor
) -> losses.NextPolicy:
    """Who acts in s', legally: the target or, with ``double``, the online net; greedily or, with Munchausen, softly."""
    selector_q = online(sample.next_obs) if config.double and online is not target else next_q
    selector_q = losses.legal(selector_q, sample.next_mask)
    return losses.soft(selector_q, config.munchausen_tau) if config.munchausen else losses.greedy(selector_q)


def _reward(sample: Sample, config: LearnerConfig, target: QNetwork) -> Tensor:
    """``r``, with Munchausen ``r + α·max(τ·log π(a|s), l₀)``, π over the actions that are legal in s: ``[B]``."""
    if not config.munchausen:
        return sample.reward
    q = losses.legal(target(sample.obs), sample.mask)
    bonus = losses.munchausen_bonus(q, sample.action, config.munchausen_tau, config.munchausen_clip)
    return sample.reward + config.munchausen_alpha * bonus

"""What the targets of all heads share: who acts in the next state, and the reward with Munchausen's bonus."""

from __future__ import annotations

from torch import Tensor

from nimbleq.config import LearnerConfig
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.heads.headed import HeadedNetwork


def next_policy(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, next_q: Tensor
) -> losses.NextPolicy:
    """Who acts in s', legally: the target or, with ``double``, the online net; greedily or, with Munchausen, softly.

    ``next_q: [B, A]`` are the target net's values.
    """
    selector_q = online(sample.next_obs) if config.double and online is not target else next_q
    selector_q = losses.legal(selector_q, sample.next_mask)
    return losses.soft(selector_q, config.munchausen_tau) if config.munchausen else losses.greedy(selector_q)


def expected_target(online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig) -> Tensor:
    """``r + discount·V(s')`` of heads that learn a mean: ``[B]``."""
    next_q = target(sample.next_obs)  # [B, A]
    policy = next_policy(online, target, sample, config, next_q)
    reward = reward_of(sample, config, target)
    return losses.bellman_values(reward, sample.discount, next_q[..., None], policy).squeeze(1)


def reward_of(sample: Sample, config: LearnerConfig, target: HeadedNetwork) -> Tensor:
    """``r``, with Munchausen ``r + α·max(τ·log π(a|s), l₀)``, π over the actions that are legal in s: ``[B]``."""
    if not config.munchausen:
        return sample.reward
    q = losses.legal(target(sample.obs), sample.mask)
    bonus = losses.munchausen_bonus(q, sample.action, config.munchausen_tau, config.munchausen_clip)
    return sample.reward + config.munchausen_alpha * bonus

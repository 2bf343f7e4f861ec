"""The head ``c51``: a histogram of the return over fixed bins [1707.06887]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.rl.nets.heads.head import Errors, Sample
from nimbleq.rl.nets.heads.histogram import histogram_head, log_probs

if TYPE_CHECKING:
    import torch

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def _loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Cross-entropy with the projected distribution; the surprise is the KL divergence, as Rainbow's [1710.02298]."""
    import torch

    from nimbleq.rl.nets import losses
    from nimbleq.rl.nets.heads.td_target import next_policy, reward_of

    support = target.get_buffer("support")
    with torch.no_grad():
        probs = log_probs(target, sample.next_obs).exp()  # [B, A, N]
        policy = next_policy(online, target, sample, config, probs @ support)
        reward = reward_of(sample, config, target)
        td_target = losses.bellman_projection(reward, sample.discount, probs, support, policy)  # [B, N]
    chosen = losses.chosen(log_probs(online, sample.obs), sample.action)
    surprise = losses.kl_divergence(chosen.detach(), td_target).clamp_min(0)
    return Errors(losses.cross_entropy(chosen, td_target), surprise)


HEAD = histogram_head("c51", _loss)
